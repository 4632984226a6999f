"""Devices that a pod was given by dynamic resource allocation (resource.k8s.io). Pure.

A driver publishes its devices in ResourceSlices, the scheduler allocates some of them to a
ResourceClaim, and the pod names the claim. A device that a CNI plugin can use says so by two
attributes: ``k8s.cni.cncf.io/resourceName``, by which networks ask for it, and
``k8s.cni.cncf.io/deviceID``, what the plugin is told. Others are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from danmpy.attach.devices.assigning import Offer
from danmpy.attach.values import ClaimedDevice

GROUP: Final = "resource.k8s.io"
VERSIONS: Final = ("v1", "v1beta2", "v1beta1")
"""Newest first; what is read here is the same in all of them, but for ``basic`` in v1beta1."""

DEVICE_ID: Final = "k8s.cni.cncf.io/deviceID"
RESOURCE_NAME: Final = "k8s.cni.cncf.io/resourceName"

_Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDevice:
    """A device as drivers and claims name it."""

    driver: str
    pool: str
    device: str


def claim_names(pod: _Object) -> tuple[str, ...]:
    """The ResourceClaims of a pod object, each once.

    Those that were made from a template, or for an extended resource, have names that only the
    pod's status tells.
    """
    spec, status = _mapping(pod.get("spec")), _mapping(pod.get("status"))
    named = [
        *_listed(spec.get("resourceClaims")),
        *_listed(status.get("resourceClaimStatuses")),
        _mapping(status.get("extendedResourceClaimStatus")),
    ]
    names = (each.get("resourceClaimName") for each in named)
    return tuple(dict.fromkeys(name for name in names if isinstance(name, str) and name))


def allocated_devices(claim: _Object) -> tuple[PoolDevice, ...]:
    """What was allocated to a claim; nothing as long as nothing was."""
    allocation = _mapping(_mapping(claim.get("status")).get("allocation"))
    results = _listed(_mapping(allocation.get("devices")).get("results"))
    return tuple(
        PoolDevice(
            driver=str(each.get("driver", "")),
            pool=str(each.get("pool", "")),
            device=str(each.get("device", "")),
        )
        for each in results
    )


def offer_of(claims: Mapping[str, tuple[PoolDevice, ...]], slices: Iterable[_Object]) -> Offer:
    """The devices of `claims` (name -> what was allocated) that `slices` describe as devices for
    networks.

    Of a pool only the newest generation counts: while a driver replaces the slices of a pool, old
    ones are still there.
    """
    described = _described(slices)
    ids: dict[str, list[str]] = {}
    claimed: dict[tuple[str, str], ClaimedDevice] = {}
    for name, devices in claims.items():
        for device in devices:
            attributes = described.get(device)
            if attributes is None:
                continue
            resource, number = _text(attributes, RESOURCE_NAME), _text(attributes, DEVICE_ID)
            if not resource or not number or (resource, number) in claimed:
                continue
            ids.setdefault(resource, []).append(number)
            claimed[resource, number] = ClaimedDevice(
                claim=name, driver=device.driver, pool=device.pool, device=device.device
            )
    return Offer(ids=ids, claimed=claimed)


def _described(slices: Iterable[_Object]) -> dict[PoolDevice, _Object]:
    """The attributes of the devices of the newest generation of each pool."""
    newest: dict[tuple[str, str], tuple[int, dict[PoolDevice, _Object]]] = {}
    for each in slices:
        spec = _mapping(each.get("spec"))
        pool = _mapping(spec.get("pool"))
        driver, name = str(spec.get("driver", "")), str(pool.get("name", ""))
        generation = pool.get("generation")
        at = generation if isinstance(generation, int) else 0
        known, devices = newest.get((driver, name), (at, {}))
        if at < known:
            continue
        if at > known:
            devices = {}
        devices.update(_devices(spec, driver, name))
        newest[driver, name] = (at, devices)
    return {key: found for _, devices in newest.values() for key, found in devices.items()}


def _devices(spec: _Object, driver: str, pool: str) -> Iterator[tuple[PoolDevice, _Object]]:
    for each in _listed(spec.get("devices")):
        basic = _mapping(each.get("basic")) or each
        key = PoolDevice(driver=driver, pool=pool, device=str(each.get("name", "")))
        yield key, _mapping(basic.get("attributes"))


def _text(attributes: _Object, name: str) -> str:
    value = _mapping(attributes.get(name)).get("string")
    return value if isinstance(value, str) else ""


def _mapping(value: object) -> _Object:
    return value if isinstance(value, Mapping) else {}


def _listed(value: object) -> list[_Object]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []
