"""Which device of a device plugin each interface of a pod gets. Pure.

A network that names a resource (`device_pool` of DANM, ``k8s.v1.cni.cncf.io/resourceName`` of a
NetworkAttachmentDefinition) has its interfaces on devices that the kubelet gave to the pod: one for
each, the lowest id first, and never one for two.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from danmpy.api.specs import NetworkSpec, SegmentKind
from danmpy.attach.values import Backend, ClaimedDevice, InterfaceSpec
from danmpy.errors import IntentError, NotReadyError

SRIOV: Final = "sriov"
_OWN_ON_DEVICE: Final = frozenset({Backend.IPVLAN, Backend.MACVLAN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The devices that a pod was given: ids by resource, and of those that came by a ResourceClaim
    what they are called there, by resource and id.
    """

    ids: Mapping[str, Sequence[str]] = field(default_factory=dict)
    claimed: Mapping[tuple[str, str], ClaimedDevice] = field(default_factory=dict)

    def of(self, resource: str) -> tuple[str, ...]:
        """The ids of one resource, sorted, each once."""
        return tuple(sorted(set(self.ids.get(resource, ()))))

    def covers(self, wanted: Mapping[str, int]) -> bool:
        """Are these enough for so many of each resource?"""
        return all(len(self.of(resource)) >= need for resource, need in wanted.items())

    def joined(self, other: Offer) -> Offer:
        """These and the `other` ones."""
        ids = {key: (*self.of(key), *other.of(key)) for key in {*self.ids, *other.ids}}
        return Offer(ids=ids, claimed={**self.claimed, **other.claimed})


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldDevice:
    """A device that a standing interface of the same sandbox has."""

    interface: str
    resource: str
    device_id: str


def resource_of(network: NetworkSpec) -> str:
    """The resource of which each interface on `network` gets a device; empty: none."""
    return network.device_pool or network.resource


def wanted_devices(specs: Iterable[InterfaceSpec]) -> Mapping[str, int]:
    """How many devices of which resource `specs` need."""
    return Counter(filter(None, (resource_of(spec.network) for spec in specs)))


def with_devices(
    specs: Sequence[InterfaceSpec],
    offered: Offer | None,
    held: Iterable[HeldDevice] = (),
    *,
    subject: str,
) -> tuple[InterfaceSpec, ...]:
    """`specs` with a device each where the network names a resource.

    An interface that stands keeps what it has, so that an ADD that is repeated comes to the same,
    and so does one beside an interface that was plugged in later. `offered` is None when nobody
    knows the pod yet.

    Raises:
        IntentError: the pod was given fewer devices than its interfaces need.
        NotReadyError: it is not known yet which devices the pod was given.
    """
    wanted = wanted_devices(specs)
    if not wanted:
        return tuple(specs)
    if offered is None:
        raise NotReadyError(
            "the kubelet does not know this pod yet, and so not its devices",
            hint="the runtime tries again",
            subject=subject,
        )
    has = {(each.interface, each.resource): each.device_id for each in held}
    taken = {(resource, device) for (_, resource), device in has.items()}
    free = {
        resource: [each for each in offered.of(resource) if (resource, each) not in taken]
        for resource in wanted
    }
    given = []
    for spec in specs:
        resource = resource_of(spec.network)
        if not resource:
            given.append(spec)
            continue
        device = has.get((spec.name, resource), "")
        if device not in offered.of(resource):
            if not free[resource]:
                raise _too_few(spec, resource, wanted[resource], offered, subject)
            device = free[resource].pop(0)
        claimed = offered.claimed.get((resource, device))
        given.append(replace(spec, device_id=device, claimed=claimed))
    return tuple(given)


def _too_few(
    spec: InterfaceSpec, resource: str, wanted: int, offered: Offer, subject: str
) -> IntentError:
    got = len(offered.of(resource))
    return IntentError(
        f"interface {spec.index} on {spec.network.key}: no device of {resource} is left for it: "
        f"the pod's interfaces need {wanted} and the pod was given {got}",
        hint=f"set requests and limits of {resource} in the pod's containers to the number of its "
        "interfaces",
        subject=subject,
    )


def device_problem(network: NetworkSpec, backend: Backend) -> tuple[str, str] | None:
    """Why no interface on `network` can be made on a device of its pool, and the way out."""
    if not network.device_pool or network.segment is None:
        return None
    if backend in _OWN_ON_DEVICE:
        problem = (
            f"{backend} on device pool {network.device_pool} cannot be on the "
            f"{network.segment.kind} {network.segment.id}: it belongs to no certain NIC"
        )
        return problem, "use NetworkType sriov, whose devices carry a VLAN, or host_device"
    if network.segment.kind is not SegmentKind.VLAN:
        return (
            f"a device of {network.device_pool} carries a VLAN itself, and no VXLAN",
            "use vlan, or macvlan on host_device",
        )
    return None


def with_sriov_conf(network: NetworkSpec) -> NetworkSpec:
    """`network` with the configuration of the plugin ``sriov``, as DANM 4.3 derives it.

    The device comes at the attachment, and addresses with it. (DANM also names the physical
    function as ``master``; the plugin finds it from the device.)
    """
    plugin: dict[str, Any] = {"type": SRIOV, "capabilities": {"mac": True}}
    if network.segment is not None:
        plugin["vlan"] = network.segment.id
    document = {"name": network.network_id or network.key.name, "plugins": [plugin]}
    return replace(network, conf=json.dumps(document, separators=(",", ":")))
