"""Segments of TenantNetworks: which device and which VLAN id or VNI each one has, as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Engine, bindparam, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from danmpy.api.specs import NetworkKey, NetworkSpec, SegmentKey, SegmentKind, TenantConfigSpec
from danmpy.clock import MICROSECONDS, Clock
from danmpy.db.engine import database_now, read, run_write
from danmpy.db.errors import TransientError
from danmpy.ipam import ledger
from danmpy.ipam.ledger import EventKind
from danmpy.ipam.profiles import (
    SEGMENT_ASSIGNED,
    Assignments,
    Choice,
    Holding,
    Stored,
    Wanted,
    choose,
)
from danmpy.ipam.schema import segment_assignment

__all__ = ["SEGMENT_ASSIGNED", "Assignments", "SegmentStore"]

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
_RESTING: Final = select(_table.c.profile, _table.c.kind, _table.c.number).where(
    _table.c.ready_at > bindparam("now"), _table.c.kind != ""
)
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
_ALONE: Final = text("LOCK TABLE segment_assignment IN SHARE ROW EXCLUSIVE MODE")


class SegmentStore:
    """Assigns segments and remembers them."""

    def __init__(self, engine: Engine, clock: Clock, cooldown_seconds: int = 600) -> None:
        self._engine = engine
        self._clock = clock
        self._cooldown = cooldown_seconds * MICROSECONDS

    def assign(
        self,
        networks: Mapping[NetworkKey, NetworkSpec],
        tenant_configs: Sequence[TenantConfigSpec],
        *,
        keep: frozenset[NetworkKey] = frozenset(),
        claims: frozenset[SegmentKey] = frozenset(),
        complete: bool = True,
    ) -> Assignments:
        """Give every TenantNetwork that needs one its segment; close those of networks gone.

        `keep` names networks that exist although their manifests are refused: their assignments
        stay. `claims` are segments that refused manifests name: no tenant gets them. A network that
        is neither in `networks` nor in `keep` has its assignment closed, unless `complete` is False
        or the assignment is younger than `profiles.ABSENCE_GRACE`. The id of a closed assignment is
        not given again before the cool-down is over. Asked again with the same input, it writes
        nothing.

        Raises:
            StoreError: the database cannot be used.
        """
        wanted = Wanted(
            networks=networks,
            tenant_configs=tenant_configs,
            keep=keep,
            claims=claims,
            complete=complete,
        )
        choice = self._look(wanted)
        if choice.ended or choice.begun:
            return run_write(self._engine, lambda connection: self._settle(connection, wanted))
        return choice.assignments

    def current(
        self,
        networks: Mapping[NetworkKey, NetworkSpec],
        tenant_configs: Sequence[TenantConfigSpec],
        *,
        keep: frozenset[NetworkKey] = frozenset(),
        claims: frozenset[SegmentKey] = frozenset(),
    ) -> Assignments:
        """What `assign` would answer now, without writing anything.

        Raises:
            StoreError: the database cannot be used.
        """
        wanted = Wanted(networks=networks, tenant_configs=tenant_configs, keep=keep, claims=claims)
        return self._look(wanted).assignments

    def _look(self, wanted: Wanted) -> Choice:
        with read(self._engine) as connection:
            return _choice(connection, wanted, database_now(connection, self._clock))

    def _settle(self, connection: Connection, wanted: Wanted) -> Assignments:
        """Choose again with the table to ourselves, and write what was chosen."""
        if connection.dialect.name == "postgresql":
            # SQLite's writer is alone anyway. The unique indexes decide; this saves new tries.
            connection.execute(_ALONE)
        now = database_now(connection, self._clock)
        choice = _choice(connection, wanted, now)
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


def _choice(connection: Connection, wanted: Wanted, now: int) -> Choice:
    # Open rows first: what another transaction closes in between is then seen twice, not never.
    holdings = {row.network: _holding(row) for row in connection.execute(_OPEN)}
    resting = frozenset(
        SegmentKey(parent=row.profile, kind=SegmentKind(row.kind), id=row.number)
        for row in connection.execute(_RESTING, {"now": now})
    )
    return choose(wanted, Stored(holdings=holdings, resting=resting), now)


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
