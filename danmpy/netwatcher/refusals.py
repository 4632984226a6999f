"""Why networks do not get their device, in words that say the way out. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from danmpy.api.specs import (
    Condition,
    ConditionStatus,
    NetworkKey,
    NetworkKind,
    NetworkSpec,
    SegmentKey,
    SegmentKind,
)
from danmpy.kernel.hostlinks import HostFacts, VxlanAttributes
from danmpy.netwatcher.values import DEVICE_READY, PEERS_KNOWN, Reason


class Refusals:
    """Collects what is wrong with each network, while a look decides."""

    def __init__(self) -> None:
        self._conditions: dict[NetworkKey, list[Condition]] = defaultdict(list)
        self._refused: set[NetworkKey] = set()

    @property
    def conditions(self) -> Mapping[NetworkKey, tuple[Condition, ...]]:
        """Everything that was said."""
        return {key: tuple(items) for key, items in self._conditions.items()}

    def is_refused(self, key: NetworkKey) -> bool:
        """Is there a reason why pods cannot be attached to that network?"""
        return key in self._refused

    def no_host_device(self, network: NetworkSpec) -> None:
        """A dynamic backend without anything to stand on."""
        self._refuse(
            [network],
            Reason.NO_HOST_DEVICE,
            f"{network.backend} needs a device: set host_device, or vlan or vxlan with it",
        )

    def missing_parent(self, name: str, users: Iterable[NetworkSpec]) -> None:
        """The host device is not there."""
        self._refuse(
            users,
            Reason.MISSING_PARENT,
            f"this node has no device {name}: correct host_device, or plug it in",
        )

    def enslaved_parent(self, name: str, master: str, users: Iterable[NetworkSpec]) -> None:
        """The host device is a port: ipvlan and macvlan want the receive hook that a port uses."""
        self._refuse(
            users,
            Reason.BACKEND_CONFLICT,
            f"{name} is a port of {master}, so that the kernel allows neither ipvlan nor macvlan "
            "on it: use a vlan or vxlan on it, or take it out",
        )

    def no_vtep(self, parent: str, users: Iterable[NetworkSpec], *, lost: int = 0) -> None:
        """This node has no address on the parent for tunnels to end at.

        `lost` is the IP version of the tunnels when it has addresses of the other one alone.
        """
        message = f"{parent} has no global IPv4 or IPv6 address for tunnels to end at: give it one"
        if lost:
            other = f"IPv{10 - lost}"
            message = (
                f"{parent} has lost the IPv{lost} address that the tunnels end at: give it one, "
                f"or, to make the device anew over {other}, publish an {other} address in the "
                "Node's annotation danm.k8s.io/vteps"
            )
        self._refuse(users, Reason.NO_VTEP_ADDRESS, message)

    def not_on_ours(self, segment: SegmentKey, users: Collection[NetworkSpec]) -> bool:
        """The parent is a device of danmpy's: the wire of other networks, and no place for a
        NetworkAttachmentDefinition, which a tenant writes. Gives whether nobody is left.
        """
        tenants = {user.key: user.key.kind is NetworkKind.NAD for user in users}
        self._refuse(
            [user for user in users if tenants[user.key]],
            _taken(segment),
            f"{segment.parent} is the device of another network: set master to a NIC of the node",
        )
        return all(tenants.values())

    def one_device(
        self, segment: SegmentKey, other: SegmentKey, users: Iterable[NetworkSpec]
    ) -> None:
        """Two segments that are one wire, because their parents are two names of one device."""
        self._refuse(
            users,
            _taken(segment),
            f"{segment.parent} and {other.parent} are one device, so that this is the segment "
            f"{other}: use another id, or name the parent the same way to share it",
        )

    def wire_taken(
        self,
        segment: SegmentKey,
        vxlan: VxlanAttributes | None,
        holder: str,
        users: Iterable[NetworkSpec],
    ) -> None:
        """Somebody else has the VLAN id or VNI on this node."""
        if vxlan is None:
            message = (
                f"VLAN {segment.id} on {segment.parent} is already in use by {holder}: "
                "remove that link or choose another VLAN id"
            )
        else:
            message = (
                f"VNI {vxlan.vni} on UDP port {vxlan.port} is already in use by {holder}, and a "
                "node can have each VNI once: remove that or choose another VNI"
            )
        self._refuse(users, _taken(segment), message)

    def name_taken(self, name: str, host: HostFacts, users: Iterable[NetworkSpec]) -> None:
        """The device's name belongs to a link that we leave alone."""
        holder = host.named(name)
        whose = f" (an alternative name of {holder.name})" if holder and holder.name != name else ""
        self._refuse(
            users,
            Reason.NAME_TAKEN,
            f"a link called {name}{whose} is already there and danmpy did not make it for this: "
            "rename or remove it",
        )

    def mtu_too_big(self, network: NetworkSpec, needed: int, ceiling: int, carries: str) -> None:
        """The parent cannot carry the packets; `carries` says what it can."""
        what = f"mtu {needed}" if network.mtu == needed else f"IPv6 needs {needed} bytes, which"
        self._refuse(
            [network],
            Reason.MTU_TOO_BIG,
            f"{what} does not fit: {carries}; ask for {ceiling} at most, or raise the MTU of the "
            f"device by {needed - ceiling}",
        )

    def backend_conflict(
        self, network: NetworkSpec, where: str, hooks: tuple[str, str], winner: NetworkKey
    ) -> None:
        """Two backends that cannot share a device: `hooks` are the network's and the winner's."""
        self._refuse(
            [network],
            Reason.BACKEND_CONFLICT,
            f"{hooks[0]} cannot share {where} with the {hooks[1]} of {winner} (the kernel lets "
            "one kind use a device): use one NetworkType, or another segment",
        )

    def missing_peers(
        self, parent: str, family: int, missing: Iterable[str], users: Iterable[NetworkSpec]
    ) -> None:
        """Tunnel ends that are not known; pods of this node can still be attached."""
        condition = Condition(
            type=PEERS_KNOWN,
            status=ConditionStatus.FALSE,
            reason=Reason.MISSING_VTEP,
            message=f"no IPv{family} tunnel end on {parent} is known for {', '.join(missing)}, "
            "which therefore is not reached: publish one in the Node's annotation "
            "danm.k8s.io/vteps",
        )
        for network in users:
            self._conditions[network.key].append(condition)

    def _refuse(self, users: Iterable[NetworkSpec], reason: Reason, message: str) -> None:
        condition = Condition(
            type=DEVICE_READY, status=ConditionStatus.FALSE, reason=reason, message=message
        )
        for network in users:
            self._refused.add(network.key)
            self._conditions[network.key].append(condition)


def _taken(segment: SegmentKey) -> Reason:
    return Reason.VLAN_TAKEN if segment.kind is SegmentKind.VLAN else Reason.VNI_TAKEN
