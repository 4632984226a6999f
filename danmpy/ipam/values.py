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


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRequest:
    """The addresses that one interface asks for; only dynamic and static asks make leases.

    `network` is resolved: its `segment` is the assigned one, for the collision domain hangs on it.
    """

    interface: str
    network: NetworkSpec
    ip: AddressAsk = AddressAsk()
    ip6: AddressAsk = AddressAsk()
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
