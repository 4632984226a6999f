"""The questions that operators ask, answered straight from the tables; read-only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Engine, and_, func, or_, select, tuple_

from danmpy.api.specs import IPAddress, NetworkKey, NetworkSpec
from danmpy.clock import Clock, to_rfc3339
from danmpy.db.engine import database_now, snapshot
from danmpy.ipam.findings import Finding
from danmpy.ipam.invariants import violations
from danmpy.ipam.rows import to_lease
from danmpy.ipam.schema import event, lease, pool, seal, segment_assignment
from danmpy.ipam.usage import usage_of, usage_of_all
from danmpy.ipam.values import Json, Lease, NetworkUsage, PoolUsage

__all__ = [
    "Audit",
    "EventFilter",
    "EventRecord",
    "HistoryFilter",
    "NetworkUsage",
    "PoolUsage",
    "WhoAnswer",
]

Expression = ColumnElement[bool]

_PAGE: Final = 1000
"""Rows of the first page. Each is a transaction of its own, so that no long one holds up the
database; each is bigger than the one before, because a filter may make every page a sort anew."""

_PAGE_MAX: Final = 16_000

_NETWORKS: Final = select(pool.c.network).union(select(segment_assignment.c.network))
_SEALED_BELOW: Final = select(func.coalesce(func.max(seal.c.txid_to), 0))
_BY_ADDRESS: Final = (lease.c.family, lease.c.address, lease.c.held_from, lease.c.id)


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
        with snapshot(self._engine) as connection:
            return database_now(connection, self._clock)

    def network_names(self) -> frozenset[str]:
        """Every network that ever had a lease or a segment: what ``--network`` knows."""
        with snapshot(self._engine) as connection:
            return frozenset(connection.execute(_NETWORKS).scalars())

    def who(
        self, address: IPAddress, *, network: str | None = None, at: int | None = None
    ) -> WhoAnswer:
        """Who held `address` at `at`; by default who holds it now, whatever the clock says."""
        with snapshot(self._engine) as connection:
            now = database_now(connection, self._clock)
            moment = now if at is None else at
            where = and_(
                lease.c.family == address.version,
                lease.c.address == address.packed,
                *_of_network(connection, lease.c.network, network),
            )
            held = select(lease).where(where, _held(at))
            holders = connection.execute(held.order_by(lease.c.network, lease.c.domain)).all()
            previous = following = None
            if not holders:
                ended = select(lease).where(where, lease.c.held_to <= moment)
                begun = select(lease).where(where, lease.c.held_from > moment)
                previous = _first(
                    connection, ended.order_by(lease.c.held_to.desc(), lease.c.id.desc())
                )
                following = _first(connection, begun.order_by(lease.c.held_from, lease.c.id))
        return WhoAnswer(
            at=moment,
            holders=tuple(map(to_lease, holders)),
            previous=previous,
            next=following,
            database_time=now,
        )

    def history(self, wanted: HistoryFilter) -> Iterator[Lease]:
        """The leases that match, ordered by address, then by time; read in pages as you go."""
        with snapshot(self._engine) as connection:
            where = _leases_of(connection, wanted)
        query = select(lease).where(*where).order_by(*_BY_ADDRESS)
        size = _PAGE
        while True:
            with snapshot(self._engine) as connection:
                rows = connection.execute(query.limit(size)).all()
            yield from map(to_lease, rows)
            if len(rows) < size:
                return
            last = rows[-1]
            after = tuple_(last.family, last.address, last.held_from, last.id)
            query = select(lease).where(*where, tuple_(*_BY_ADDRESS) > after).order_by(*_BY_ADDRESS)
            size = min(4 * size, _PAGE_MAX)

    def usage(
        self, networks: Iterable[NetworkSpec], *, at: int | None = None
    ) -> tuple[NetworkUsage, ...]:
        """The use of every given (resolved) network at `at` (default: now).

        The capacity is that of the networks as they are given, also when `at` is in the past.
        """
        with snapshot(self._engine) as connection:
            now = database_now(connection, self._clock)
            present = at is None or at >= now
            moment = now if at is None else at
            return tuple(usage_of(connection, item, moment, now=present) for item in networks)

    def usage_of_all(self, networks: Iterable[NetworkSpec]) -> Mapping[NetworkKey, NetworkUsage]:
        """The use of all given (resolved) networks now: for a thousand of them, again and again."""
        with snapshot(self._engine) as connection:
            return usage_of_all(connection, networks, database_now(connection, self._clock))

    def violations(self) -> tuple[Finding, ...]:
        """What must always be true of the tables and is not; empty in a sound database."""
        return violations(self._engine)

    def events(self, wanted: EventFilter) -> Iterator[EventRecord]:
        """The ledger entries that match, in the order in which they were recorded."""
        with snapshot(self._engine) as connection:
            where = _events_of(connection, wanted)
        query = select(event).where(*where).order_by(event.c.seq).limit(_PAGE)
        page = query
        while True:
            with snapshot(self._engine) as connection:
                sealed_below = connection.execute(_SEALED_BELOW).scalar_one()
                rows = connection.execute(page).all()
            for row in rows:
                yield _record(row, sealed_below)
            if len(rows) < _PAGE:
                return
            page = query.where(event.c.seq > rows[-1].seq)


def _held(at: int | None) -> Expression:
    """Was a lease held at `at`? An open one is held now, also when the clock was set back."""
    if at is None:
        return lease.c.held_to.is_(None)
    return and_(lease.c.held_from <= at, or_(lease.c.held_to.is_(None), lease.c.held_to > at))


def _first(connection: Connection, query: Any) -> Lease | None:
    row = connection.execute(query.limit(1)).first()
    return None if row is None else to_lease(row)


def _of_network(connection: Connection, column: Any, wanted: str | None) -> list[Expression]:
    """The condition for a network filter: its full names, so that indexes can be used."""
    if wanted is None:
        return []
    names = connection.execute(_NETWORKS).scalars()
    return [column.in_([name for name in names if f"/{name}".endswith(f"/{wanted}")])]


def _leases_of(connection: Connection, wanted: HistoryFilter) -> list[Expression]:
    where = _of_network(connection, lease.c.network, wanted.network)
    if wanted.address is not None:
        where.append(lease.c.family == wanted.address.version)
        where.append(lease.c.address == wanted.address.packed)
    namespace, slash, pod = (wanted.pod or "").rpartition("/")
    exact = {
        lease.c.pod: pod if wanted.pod is not None else None,
        lease.c.node: wanted.node,
        lease.c.mac: None if wanted.mac is None else wanted.mac.lower().replace("-", ":"),
    }
    where += [column == value for column, value in exact.items() if value is not None]
    namespaces = [wanted.namespace] if wanted.namespace is not None else []
    namespaces += [namespace] if slash else []
    where += [lease.c.namespace == value for value in namespaces]
    if wanted.since is not None:
        where.append(or_(lease.c.held_to.is_(None), lease.c.held_to > wanted.since))
    if wanted.until is not None:
        where.append(lease.c.held_from < wanted.until)
    return where


def _events_of(connection: Connection, wanted: EventFilter) -> list[Expression]:
    where = _of_network(connection, event.c.network, wanted.network)
    if wanted.address is not None:
        where.append(event.c.address == str(wanted.address))
    if wanted.since is not None:
        where.append(event.c.at >= wanted.since)
    if wanted.until is not None:
        where.append(event.c.at < wanted.until)
    return where


def _record(row: Any, sealed_below: int) -> EventRecord:
    return EventRecord(
        seq=row.seq,
        at=row.at,
        effective_at=row.effective_at,
        kind=row.kind,
        network=row.network,
        domain=row.domain,
        address=row.address,
        namespace=row.namespace,
        pod=row.pod,
        pod_uid=row.pod_uid,
        container_id=row.container_id,
        interface=row.interface,
        node=row.node,
        mac=row.mac,
        reason=row.reason,
        lease_id=row.lease_id,
        closed_id=row.closed_id,
        detail=_detail(row.detail),
        digest=row.digest.hex() if isinstance(row.digest, bytes) else str(row.digest),
        sealed=row.txid < sealed_below,
    )


def _detail(text: str) -> Json:
    """The detail as a mapping; what somebody has written over by hand is shown as it stands."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"text": text}
