"""The values of this room: what is asked, what is held, what happened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from ipaddress import IPv4Interface, IPv6Interface
from typing import Final

from danmpy.api.specs import AddressAsk, AddressMode, Family, NetworkSpec
from danmpy.clock import MICROSECONDS, to_rfc3339

IPInterface = IPv4Interface | IPv6Interface
Json = dict[str, object]

IMPORTED = "imported from "
"""How the note of a lease begins that was taken over from another tool (`ipam.adopting`)."""


FOR_THE_CLAIM: Final = 1000 * 365 * 86_400 * MICROSECONDS
"""How long an address rests whose IPAMClaim is there (microseconds): nobody says when that goes,
and when it does, the address is told to cool down like others (`ipam.unclaiming`)."""


def until(moment: int) -> str:
    """The end of a rest that ends at `moment`, as people are told it."""
    return (
        "as long as the claim exists" if moment >= FOR_THE_CLAIM else f"until {to_rfc3339(moment)}"
    )


class EndReason(StrEnum):
    """Why a lease ended, in our own words; `LeaseStore.release` takes any other text as well."""

    RELEASED = "released"
    REBOUND = "rebound"
    REPLACED = "replaced"
    ROLLBACK = "rollback"
    COLLECTED = "collected"
    BY_HAND = "by hand"
    UNRESERVED = "unreserved"
    RECLAIMED = "reclaimed"
    UNPLUGGED = "unplugged"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseOwner:
    """Who asks: the pod, its sandbox and its node. `pod_uid` may be empty when nobody told it.

    `claim` is the stable name, inside the namespace, that keeps the dynamic addresses of this pod
    for the next pod of that name; empty: they are nobody's when it goes. `quota` is how many
    addresses the pods of the namespace may hold together; None: as many as there are.
    """

    namespace: str
    pod: str
    pod_uid: str
    container_id: str
    node: str
    claim: str = ""
    quota: int | None = None


_ABSENT = AddressAsk()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRequest:
    """The addresses that one interface asks for; only dynamic and static asks make leases.

    `network` is resolved: its `segment` is the assigned one, for the collision domain hangs on it.
    `claim` keeps the addresses of this interface instead of the claim of the pod; with `IPAM_CLAIM`
    before it until somebody says that the object is gone.
    """

    interface: str
    network: NetworkSpec
    ip: AddressAsk = _ABSENT
    ip6: AddressAsk = _ABSENT
    mac: str | None = None
    claim: str = ""

    def asks(self) -> Iterator[tuple[Family, AddressAsk]]:
        """The families that want an address, IPv4 first."""
        if self.ip.is_leased:
            yield 4, self.ip
        if self.ip6.is_leased:
            yield 6, self.ip6


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One address in one hand for one time: the half-open interval [`from_`, `to`).

    Times are microseconds since the epoch; `to` is None while the lease is held. `network` is the
    text of its `NetworkKey`, `address` carries the prefix length of the subnet. `note`: what a
    reservation is for, or where a lease was imported from; then the pod may be unknown (empty), and
    the node as well. `shared_by`: the pods that move a shared virtual address among them, each
    as ``namespace/pattern``. `claim`: the name in the namespace that the address is kept for.
    """

    id: int
    network: str
    domain: str
    family: Family
    address: IPInterface
    interface: str
    namespace: str
    pod: str
    pod_uid: str
    container_id: str
    node: str
    mac: str | None
    mode: AddressMode
    from_: int
    to: int | None = None
    end_reason: str | None = None
    note: str = ""
    claim: str = ""
    shared_by: tuple[str, ...] = ()
    network_uid: str = ""

    @property
    def is_reservation(self) -> bool:
        """Does an operator hold it, and no pod?"""
        return self.mode is AddressMode.RESERVED

    @property
    def is_imported(self) -> bool:
        """Was it taken over from another tool, and not made for a pod that danmpy attached?"""
        return not self.is_reservation and self.note.startswith(IMPORTED)

    @property
    def holder(self) -> str:
        """Who holds it, as people are told: ``Pod/blue/web-0``, or a reservation and its note."""
        if self.is_reservation:
            return f"a reservation ({self.note})"
        if not self.pod:
            return f"container {self.container_id[:12]} ({self.note})"
        return f"Pod/{self.namespace}/{self.pod}"

    def is_shared_by(self, namespace: str, pod: str) -> bool:
        """Is this pod one of the group that moves the address?"""
        return any(fnmatchcase(f"{namespace}/{pod}", pattern) for pattern in self.shared_by)

    def to_json(self) -> Json:
        """The fields that scripts rely on; times in RFC 3339, UTC."""
        return {
            "address": str(self.address),
            "family": self.family,
            "network": self.network,
            "namespace": self.namespace,
            "pod": self.pod,
            "pod_uid": self.pod_uid,
            "container_id": self.container_id,
            "interface": self.interface,
            "node": self.node,
            "mac": self.mac,
            "mode": str(self.mode),
            "from": to_rfc3339(self.from_),
            "to": None if self.to is None else to_rfc3339(self.to),
            "end_reason": self.end_reason,
            "note": self.note,
            "claim": self.claim,
            "shared_by": list(self.shared_by),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolUsage:
    """The use of one family of a network; numbers of addresses.

    `capacity` is what dynamic requests can get in all. `held` is what this network has leased,
    `outside` the part of it that lies outside the pool (static). `free` is what a dynamic request
    could get now, so `capacity + outside == held + cooling + free` unless pools of one domain
    overlap.
    """

    cidr: str
    capacity: int
    held: int
    outside: int
    cooling: int
    free: int

    @property
    def percent(self) -> float:
        """How much of the capacity is not free, in percent, to one decimal."""
        used = self.capacity - self.free
        return round(100 * used / self.capacity, 1) if self.capacity else 100.0

    def to_json(self) -> Json:
        """The numbers as a JSON object."""
        return {
            "cidr": self.cidr,
            "capacity": self.capacity,
            "held": self.held,
            "outside": self.outside,
            "cooling": self.cooling,
            "free": self.free,
            "percent": self.percent,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkUsage:
    """The use of one network; a family is None where the network has no subnet of it."""

    network: str
    v4: PoolUsage | None
    v6: PoolUsage | None
