"""Segments of TenantNetworks: which device and which VLAN id or VNI each one has, as rows.

With a folder of wishes every node may assign; in a cluster the controller that leads does, and the
nodes go by what is recorded (`RecordedSegments`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, Engine, bindparam, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from danmpy.api.specs import NetworkKey, NetworkSpec, SegmentKey, SegmentKind, TenantConfigSpec
from danmpy.clock import MICROSECONDS, Clock
from danmpy.db.engine import database_now, read, run_write
from danmpy.db.errors import TransientError
from danmpy.errors import NotReadyError
from danmpy.ipam import ledger
from danmpy.ipam.ledger import EventKind
from danmpy.ipam.locks import lock_alone
from danmpy.ipam.profiles import (
    RANGE_FULL,
    SEGMENT_ASSIGNED,
    Assignments,
    Choice,
    Holding,
    Remains,
    Stored,
    Wanted,
    choose,
    recall,
)
from danmpy.ipam.schema import meta, segment_assignment

__all__ = [
    "SEGMENT_ASSIGNED",
    "Assignments",
    "Holding",
    "RecordedSegments",
    "SegmentStore",
    "StaleLeaderError",
]

_table = segment_assignment
_open = _table.c.released_at.is_(None)

_COLUMNS: Final = (
    _table.c.network,
    _table.c.network_uid,
    _table.c.profile,
    _table.c.kind,
    _table.c.number,
    _table.c.assigned_at,
)
_OPEN: Final = select(*_COLUMNS).where(_open).order_by(_table.c.network)
_RESTING: Final = select(_table.c.profile, _table.c.kind, _table.c.number, _table.c.ready_at).where(
    _table.c.ready_at > bindparam("now"), _table.c.kind != ""
)
_OWNERS: Final = _OPEN.where(
    _table.c.kind == bindparam("of_kind"), _table.c.number == bindparam("of_number")
)
# From one segment to the next by the partial index, and in each to the first nodes: to add up the
# million rows of a thousand nodes with a thousand networks takes fifty times as long.
_REPORTED: Final = text(
    """
    WITH RECURSIVE reported(segment) AS (
        SELECT min(segment) FROM node_network WHERE segment <> ''
        UNION ALL
        SELECT (SELECT min(segment) FROM node_network
                WHERE segment <> '' AND segment > reported.segment)
        FROM reported WHERE segment IS NOT NULL
    ), first(segment, node) AS (
        SELECT segment, (SELECT min(node) FROM node_network AS n
                         WHERE n.segment <> '' AND n.segment = reported.segment
                         AND node IN :alive)
        FROM reported WHERE segment IS NOT NULL
    )
    SELECT segment, node, EXISTS (
        SELECT 1 FROM node_network AS n
        WHERE n.segment <> '' AND n.segment = first.segment AND n.node > first.node
        AND n.node IN :alive
    ) AS others
    FROM first WHERE node IS NOT NULL
    """
).bindparams(bindparam("alive", expanding=True))
_BEGIN: Final = {
    "sqlite": sqlite.insert(_table).on_conflict_do_nothing().returning(_table.c.id),
    "postgresql": postgresql.insert(_table).on_conflict_do_nothing().returning(_table.c.id),
}
_END: Final = (
    update(_table)
    .where(
        _table.c.network == bindparam("of_network"),
        _table.c.network_uid == bindparam("of_uid"),
        _open,
    )
    .values(released_at=bindparam("ended_at"), ready_at=bindparam("rests_until"))
)
_TERM: Final = select(meta.c.value).where(meta.c.key == "segment_term")


def _upsert_term(insert: Any) -> Any:
    statement = insert(meta)
    return statement.on_conflict_do_update(
        index_elements=[meta.c.key], set_={"value": statement.excluded.value}
    )


_SET_TERM: Final = {
    "sqlite": _upsert_term(sqlite.insert),
    "postgresql": _upsert_term(postgresql.insert),
}

_LOCK: Final = "segments"
"""By name and not on the table: a vacuum of it would wait for us, or we for the vacuum."""


class StaleLeaderError(NotReadyError):
    """A controller of the later term `last` was here: what this one thinks may be out of date."""

    def __init__(self, term: int, last: int) -> None:
        super().__init__(
            f"term {term} is over: a controller of term {last} has assigned segments since",
            hint="that one works; after a restore or a deleted Lease the leader goes on above it",
            subject="database",
        )
        self.last = last


class SegmentStore:
    """Assigns segments and remembers them.

    A released id rests for `cooldown_seconds` before another network gets it.
    """

    def __init__(self, engine: Engine, clock: Clock, cooldown_seconds: int = 600) -> None:
        self._engine = engine
        self._clock = clock
        self._cooldown = cooldown_seconds * MICROSECONDS

    def assign(  # noqa: PLR0913 - all wishes, who lives, who asks
        self,
        networks: Mapping[NetworkKey, NetworkSpec],
        tenant_configs: Sequence[TenantConfigSpec],
        *,
        keep: frozenset[NetworkKey] = frozenset(),
        claims: frozenset[SegmentKey] = frozenset(),
        complete: bool = True,
        nodes: frozenset[str] = frozenset(),
        term: int = 0,
    ) -> Assignments:
        """Give every TenantNetwork that needs one its segment; close those of networks gone.

        `keep` names networks that exist although their manifests are refused: their assignments
        stay. `claims` are segments that refused manifests name: no tenant gets them. A network that
        is neither in `networks` nor in `keep` has its assignment closed, unless `complete` is False
        or the assignment is younger than `profiles.ABSENCE_GRACE`. The id of a closed assignment is
        not given again before the cool-down is over and none of `nodes` reports a device for it
        (`nodereports`). Asked again with the same input, it writes nothing.

        `term` is the number of the caller's leadership, which grows with each change of leader; 0
        for a caller that needs none.

        Raises:
            StaleLeaderError: somebody with a later `term` was here; nothing was written.
            StoreError: the database cannot be used.
        """
        wanted = Wanted(
            networks=networks,
            tenant_configs=tenant_configs,
            keep=keep,
            claims=claims,
            complete=complete,
        )
        with read(self._engine) as connection:
            is_new = bool(term) and _is_new_term(connection, term)
            now = database_now(connection, self._clock)
            choice = self._choose(connection, wanted, nodes, now)
        if not (is_new or choice.ended or choice.begun):
            return choice.assignments

        def work(connection: Connection) -> Assignments:
            return self._settle(connection, wanted, nodes, term)

        return run_write(self._engine, work)

    def current(
        self,
        networks: Mapping[NetworkKey, NetworkSpec],
        tenant_configs: Sequence[TenantConfigSpec],
        *,
        keep: frozenset[NetworkKey] = frozenset(),
        claims: frozenset[SegmentKey] = frozenset(),
        nodes: frozenset[str] = frozenset(),
    ) -> Assignments:
        """What `assign` would answer now, without writing anything.

        Raises:
            StoreError: the database cannot be used.
        """
        wanted = Wanted(networks=networks, tenant_configs=tenant_configs, keep=keep, claims=claims)
        with read(self._engine) as connection:
            now = database_now(connection, self._clock)
            return self._choose(connection, wanted, nodes, now).assignments

    def stored(
        self,
        networks: Mapping[NetworkKey, NetworkSpec],
        tenant_configs: Sequence[TenantConfigSpec],
        *,
        keep: frozenset[NetworkKey] = frozenset(),
        claims: frozenset[SegmentKey] = frozenset(),
    ) -> Assignments:
        """What is recorded, and nothing else: no segment is chosen, begun or ended.

        A TenantNetwork that needs a device and has none recorded under its UID has the problem
        `profiles.ASSIGNMENT_PENDING`.

        Raises:
            StoreError: the database cannot be used.
        """
        wanted = Wanted(networks=networks, tenant_configs=tenant_configs, keep=keep, claims=claims)
        return recall(wanted, Stored(holdings={item.network: item for item in self.assigned()}))

    def assigned(self) -> tuple[Holding, ...]:
        """Every assignment that is in force, by network.

        Raises:
            StoreError: the database cannot be used.
        """
        with read(self._engine) as connection:
            return tuple(map(_holding, connection.execute(_OPEN)))

    def owners(self, kind: SegmentKind, number: int) -> tuple[Holding, ...]:
        """Who has this VLAN id or VNI, on whichever device.

        Raises:
            StoreError: the database cannot be used.
        """
        wanted = {"of_kind": str(kind), "of_number": number}
        with read(self._engine) as connection:
            return tuple(map(_holding, connection.execute(_OWNERS, wanted)))

    def _choose(
        self, connection: Connection, wanted: Wanted, nodes: frozenset[str], now: int
    ) -> Choice:
        # Open rows first: what another transaction closes in between is then seen twice, not never.
        holdings = {row.network: _holding(row) for row in connection.execute(_OPEN)}
        resting = {
            SegmentKey(parent=row.profile, kind=SegmentKind(row.kind), id=row.number): row.ready_at
            for row in connection.execute(_RESTING, {"now": now})
        }
        stored = Stored(holdings=holdings, resting=resting, cooldown=self._cooldown)
        choice = choose(wanted, stored, now)
        # What nodes report only matters to somebody who needs an id.
        problems = choice.assignments.problems.values()
        if nodes and (choice.begun or any(each.reason == RANGE_FULL for each in problems)):
            choice = choose(wanted, replace(stored, reported=_reported(connection, nodes)), now)
        return choice

    def _settle(
        self, connection: Connection, wanted: Wanted, nodes: frozenset[str], term: int
    ) -> Assignments:
        """Choose again with nobody beside us, and write what was chosen."""
        # Makes each term's writer see the last one's work, and each choice all others: a VNI is one
        # wire on every parent, which no index of one parent knows.
        lock_alone(connection, _LOCK)
        if term and _is_new_term(connection, term):
            row = {"key": "segment_term", "value": str(term)}
            connection.execute(_SET_TERM[connection.dialect.name], row)
        now = database_now(connection, self._clock)
        choice = self._choose(connection, wanted, nodes, now)
        for holding in choice.ended:
            self._end(connection, holding, now)
        for holding in choice.begun:
            _begin(connection, holding)
        events = [_event(EventKind.SEGMENT_RELEASE, holding, now) for holding in choice.ended]
        events += [_event(EventKind.SEGMENT_ASSIGN, holding, now) for holding in choice.begun]
        ledger.append(connection, events)
        return choice.assignments

    def _end(self, connection: Connection, holding: Holding, now: int) -> None:
        # Not before it began, also when the clock was set back.
        ended = max(now, holding.since)
        values = {
            "of_network": holding.network,
            "of_uid": holding.uid,
            "ended_at": ended,
            "rests_until": ended + self._cooldown,
        }
        if connection.execute(_END, values).rowcount != 1:
            raise _collision()


class RecordedSegments:
    """The assigner of a node in a cluster: it goes by what the controller has recorded."""

    def __init__(self, store: SegmentStore) -> None:
        self._store = store

    def assign(
        self,
        networks: Mapping[NetworkKey, NetworkSpec],
        tenant_configs: Sequence[TenantConfigSpec],
        *,
        keep: frozenset[NetworkKey],
        claims: frozenset[SegmentKey],
        complete: bool,
        nodes: frozenset[str],
    ) -> Assignments:
        """As `SegmentStore.stored`."""
        return self._store.stored(networks, tenant_configs, keep=keep, claims=claims)

    def current(
        self,
        networks: Mapping[NetworkKey, NetworkSpec],
        tenant_configs: Sequence[TenantConfigSpec],
        *,
        keep: frozenset[NetworkKey],
        claims: frozenset[SegmentKey],
        nodes: frozenset[str],
    ) -> Assignments:
        """As `SegmentStore.stored`."""
        return self._store.stored(networks, tenant_configs, keep=keep, claims=claims)


def _last_term(connection: Connection) -> int:
    return int(connection.execute(_TERM).scalar() or 0)


def _is_new_term(connection: Connection, term: int) -> bool:
    """Has nobody with this term or a later one been here?

    Raises:
        StaleLeaderError: somebody with a later one has.
    """
    last = _last_term(connection)
    if term < last:
        raise StaleLeaderError(term, last)
    return term > last


def _reported(connection: Connection, nodes: frozenset[str]) -> dict[SegmentKey, Remains]:
    rows = connection.execute(_REPORTED, {"alive": sorted(nodes)}).all()
    return {
        segment: Remains(first=row.node, others=bool(row.others))
        for row in rows
        if (segment := _parse_segment(row.segment)) is not None
    }


def _parse_segment(text: str) -> SegmentKey | None:
    """The segment that was written as `str(SegmentKey)`; None for what was put there by hand."""
    kind, _, rest = text.partition(":")
    parent, _, number = rest.rpartition(":")
    try:
        return SegmentKey(parent=parent, kind=SegmentKind(kind), id=int(number))
    except ValueError:
        return None


def _holding(row: Any) -> Holding:
    return Holding(
        network=row.network,
        uid=row.network_uid,
        device=row.profile,
        kind=SegmentKind(row.kind) if row.kind else None,
        id=row.number,
        since=row.assigned_at,
    )


def _begin(connection: Connection, holding: Holding) -> None:
    values = {
        "network": holding.network,
        "network_uid": holding.uid,
        "profile": holding.device,
        "kind": str(holding.kind) if holding.kind else "",
        "number": holding.id,
        "assigned_at": holding.since,
    }
    if connection.execute(_BEGIN[connection.dialect.name], values).first() is None:
        raise _collision()


def _event(kind: EventKind, holding: Holding, now: int) -> dict[str, Any]:
    parts = holding.network.split("/")
    return {
        "at": now,
        "effective_at": max(now, holding.since),
        "kind": str(kind),
        "network": holding.network,
        "domain": str(holding.segment or holding.device),
        "namespace": parts[1] if len(parts) == 3 else "",
        "detail": {
            "uid": holding.uid,
            "device": holding.device,
            "kind": str(holding.kind) if holding.kind else None,
            "id": holding.id,
        },
    }


def _collision() -> TransientError:
    return TransientError(
        "another transaction assigned or released the same segment first",
        hint="try again",
        subject="database",
    )
