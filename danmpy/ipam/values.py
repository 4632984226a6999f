"""The values of this room: what is asked, what is held, what happened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Interface, IPv6Interface

from danmpy.api.specs import AddressAsk, AddressMode, Family, NetworkSpec
from danmpy.clock import to_rfc3339

IPInterface = IPv4Interface | IPv6Interface
Json = dict[str, object]


class EndReason(StrEnum):
    """Why a lease ended, in our own words; `LeaseStore.release` takes any other text as well."""

    RELEASED = "released"
    REBOUND = "rebound"
    REPLACED = "replaced"
    ROLLBACK = "rollback"
    COLLECTED = "collected"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseOwner:
    """Who asks: the pod, its sandbox and its node. `pod_uid` may be empty when nobody told it."""

    namespace: str
    pod: str
    pod_uid: str
    container_id: str
    node: str


_ABSENT = AddressAsk()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRequest:
    """The addresses that one interface asks for; only dynamic and static asks make leases.

    `network` is resolved: its `segment` is the assigned one, for the collision domain hangs on it.
    """

    interface: str
    network: NetworkSpec
    ip: AddressAsk = _ABSENT
    ip6: AddressAsk = _ABSENT
    mac: str | None = None

    def asks(self) -> Iterator[tuple[Family, AddressAsk]]:
        """The families that want an address, IPv4 first."""
        if self.ip.mode in _LEASED:
            yield 4, self.ip
        if self.ip6.mode in _LEASED:
            yield 6, self.ip6


_LEASED = frozenset({AddressMode.DYNAMIC, AddressMode.STATIC})


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One address in one hand for one time: the half-open interval [`from_`, `to`).

    Times are microseconds since the epoch; `to` is None while the lease is held. `network` is the
    text of its `NetworkKey`, `address` carries the prefix length of the subnet.
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
