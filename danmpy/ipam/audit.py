"""The questions that operators ask, answered straight from the tables; read-only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import Engine

from danmpy.api.specs import IPAddress, NetworkSpec, SegmentKey
from danmpy.clock import Clock, to_rfc3339
from danmpy.ipam.values import Json, Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class WhoAnswer:
    """Who held an address at `at`; `previous` and `next` are set only when nobody did.

    `holders` has more than one lease when networks that never meet use the same address.
    """

    at: int
    holders: tuple[Lease, ...]
    previous: Lease | None
    next: Lease | None
    database_time: int

    @property
    def holder(self) -> Lease | None:
        """The holder, the first by network where several networks use the address."""
        return self.holders[0] if self.holders else None

    def to_json(self) -> Json:
        """The whole answer as one JSON object."""
        return {
            "items": [lease.to_json() for lease in self.holders],
            "holder": self.holder.to_json() if self.holder else None,
            "previous": self.previous.to_json() if self.previous else None,
            "next": self.next.to_json() if self.next else None,
            "at": to_rfc3339(self.at),
            "database_time": to_rfc3339(self.database_time),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryFilter:
    """Which leases: every field that is set must match. Times bound the window [`since`, `until`).

    `pod` is a name or ``namespace/name``; `network` is ``Kind/namespace/name`` or an ending of it
    that starts at a slash (``blue/internal``, ``internal``). A lease matches the window when it was
    held at some moment in it.
    """

    address: IPAddress | None = None
    pod: str | None = None
    namespace: str | None = None
    network: str | None = None
    node: str | None = None
    mac: str | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events; see `HistoryFilter`. The window is over the time of recording."""

    address: IPAddress | None = None
    network: str | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """One entry of the ledger. `at` is when it was recorded, `effective_at` when it took effect."""

    seq: int
    at: int
    effective_at: int
    kind: str
    network: str
    domain: str
    address: str
    namespace: str
    pod: str
    pod_uid: str
    container_id: str
    interface: str
    node: str
    mac: str | None
    reason: str
    lease_id: int | None
    closed_id: int | None
    detail: Json
    digest: str
    sealed: bool

    def to_json(self) -> Json:
        """The entry as a JSON object; times in RFC 3339."""
        return {
            "seq": self.seq,
            "at": to_rfc3339(self.at),
            "effective_at": to_rfc3339(self.effective_at),
            "kind": self.kind,
            "network": self.network,
            "domain": self.domain,
            "address": self.address,
            "namespace": self.namespace,
            "pod": self.pod,
            "pod_uid": self.pod_uid,
            "container_id": self.container_id,
            "interface": self.interface,
            "node": self.node,
            "mac": self.mac,
            "reason": self.reason,
            "detail": self.detail,
            "digest": self.digest,
            "sealed": self.sealed,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolUsage:
    """The use of one family of a network; numbers of addresses.

    `capacity` is what dynamic requests can get in all. `held` is what this network has leased,
    `outside` the part of it that lies outside the pool (static). `free` is what a dynamic request
    could get now, so `capacity + outside == held + cooling + free` unless pools of one domain overlap.
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
    segment: SegmentKey | None
    v4: PoolUsage | None
    v6: PoolUsage | None

    def to_json(self) -> Json:
        """The network and its numbers as a JSON object."""
        return {
            "network": self.network,
            "parent": self.segment.parent if self.segment else None,
            "kind": str(self.segment.kind) if self.segment else None,
            "id": self.segment.id if self.segment else None,
            "v4": self.v4.to_json() if self.v4 else None,
            "v6": self.v6.to_json() if self.v6 else None,
        }


class Audit:
    """Reads leases, usage and the ledger.

    Raises (all methods):
        StoreError: the database cannot be used.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def database_time(self) -> int:
        """The clock that time stamps come from, in microseconds."""
        raise NotImplementedError

    def network_names(self) -> frozenset[str]:
        """Every network that ever had a lease: the names that ``--network`` knows and suggests."""
        raise NotImplementedError

    def who(
        self, address: IPAddress, *, network: str | None = None, at: int | None = None
    ) -> WhoAnswer:
        """Who held `address` at `at` (default: now)."""
        raise NotImplementedError

    def history(self, wanted: HistoryFilter) -> Iterator[Lease]:
        """The leases that match, ordered by address, then by time; read in pages as you go."""
        raise NotImplementedError

    def usage(
        self, networks: Iterable[NetworkSpec], *, at: int | None = None
    ) -> tuple[NetworkUsage, ...]:
        """The use of every given (resolved) network at `at` (default: now)."""
        raise NotImplementedError

    def events(self, wanted: EventFilter) -> Iterator[EventRecord]:
        """The ledger entries that match, in the order in which they were recorded."""
        raise NotImplementedError
