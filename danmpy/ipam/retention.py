"""Retention: periods, legal holds, and pruning what is older than it has to be.

Only whole seals go (`retaining.due_seals`), in transactions of a few thousand events, each with a
PRUNE event that names the seals and their roots. The seals themselves stay, so that the chain is
still verified from its start; `pruned` tells which of them have no events any more, and the
triggers of the ledger let nothing else be deleted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, Engine, bindparam, delete, func, insert, select, update

from danmpy.clock import Clock, to_rfc3339
from danmpy.db.engine import database_now, patience, read, run_write, snapshot
from danmpy.errors import IntentError
from danmpy.ipam import ledger
from danmpy.ipam.agreement import OPENING
from danmpy.ipam.exporting import PruneExport
from danmpy.ipam.ledger import EventKind
from danmpy.ipam.locks import lock_alone
from danmpy.ipam.reserving import Cause
from danmpy.ipam.retaining import DAY, Happened, Hold, Rules, SealedEvent, due_seals
from danmpy.ipam.schema import event, lease, legal_hold, meta, pruned, retention, seal
from danmpy.ipam.values import Json

EVENTS_AT_ONCE: Final = 2000
"""Events of one transaction: SQLite's other writers wait for it. One big seal goes whole."""

_SEALS_AT_ONCE: Final = 500
_PATIENCE_S: Final = 60
_LOCK: Final = "retention"

_ROWS: Final = (
    select(seal)
    .where(
        seal.c.no >= bindparam("first"),
        seal.c.no < bindparam("before"),
        seal.c.at < bindparam("old"),
    )
    .order_by(seal.c.no)
    .limit(_SEALS_AT_ONCE)
)
_PRUNED_AROUND: Final = (
    select(pruned.c.no_to)
    .where(pruned.c.no_from <= bindparam("no"))
    .order_by(pruned.c.no_from.desc())
    .limit(1)
)
_PRUNED_NEXT: Final = select(func.min(pruned.c.no_from)).where(pruned.c.no_from > bindparam("no"))
_EVENTS: Final = (
    select(
        event.c.txid,
        event.c.kind,
        event.c.namespace,
        event.c.network,
        event.c.address,
        event.c.at,
        event.c.lease_id,
        event.c.closed_id,
    )
    .where(event.c.txid >= bindparam("low"), event.c.txid < bindparam("high"))
    .order_by(event.c.txid, event.c.seq)
)
_LEASES: Final = select(
    lease.c.id, lease.c.namespace, lease.c.network, lease.c.address_text, lease.c.held_to
).where(lease.c.id.in_(bindparam("ids", expanding=True)))
_LEDGER_ID: Final = select(meta.c.value).where(meta.c.key == "ledger_id")
_WHOLE_EVENTS: Final = (
    select(event)
    .where(event.c.txid >= bindparam("low"), event.c.txid < bindparam("high"))
    .order_by(event.c.txid, event.c.seq)
)
_WHOLE_LEASES: Final = (
    select(lease).where(lease.c.id.in_(bindparam("ids", expanding=True))).order_by(lease.c.id)
)
_BEGUN: Final = select(event.c.lease_id).where(
    event.c.txid >= bindparam("low"),
    event.c.txid < bindparam("high"),
    event.c.kind.in_(tuple(map(str, OPENING))),
)
_DELETE_EVENTS: Final = delete(event).where(
    event.c.txid >= bindparam("low"), event.c.txid < bindparam("high")
)
_DELETE_LEASES: Final = delete(lease).where(lease.c.id.in_(bindparam("ids", expanding=True)))
_HOLDS: Final = select(legal_hold).where(legal_hold.c.lifted_at.is_(None)).order_by(legal_hold.c.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """What a run has forgotten, or would."""

    seals: int = 0
    events: int = 0
    leases: int = 0

    def __add__(self, other: Pruning) -> Pruning:
        return Pruning(
            seals=self.seals + other.seals,
            events=self.events + other.events,
            leases=self.leases + other.leases,
        )

    def to_json(self) -> Json:
        """The counts as a JSON object."""
        return {"seals": self.seals, "events": self.events, "leases": self.leases}

    def __str__(self) -> str:
        return f"{self.events} events and {self.leases} leases of {self.seals} seals"


class Retention:
    """For how long history is kept, and the pruning.

    Raises (all methods):
        StoreError: the database cannot be used.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        default_days: int,
        who: str = "",
        export: PruneExport | None = None,
    ) -> None:
        """`default_days`: 0 is for ever. `who` prunes: a node's name, or empty. `export` gets what
        is pruned before it goes.
        """
        self._export = export
        self._engine = engine
        self._clock = clock
        self._default = default_days
        self._who = who

    def rules(self) -> Rules:
        """What is kept now, and how long."""
        with read(self._engine) as connection:
            return self._rules(connection)

    def _rules(self, connection: Connection) -> Rules:
        days = {row.namespace: row.days for row in connection.execute(select(retention))}
        holds = tuple(_to_hold(row) for row in connection.execute(_HOLDS))
        return Rules(default=self._default, days=days, holds=holds)

    def set_days(self, namespace: str, days: int | None, cause: Cause) -> None:
        """Keep the history of `namespace` for `days` (0: for ever); None: as the settings say."""

        def work(connection: Connection) -> None:
            lock_alone(connection, _LOCK)
            connection.execute(delete(retention).where(retention.c.namespace == namespace))
            if days is not None:
                row = {"namespace": namespace, "days": days, "actor": cause.actor}
                now = database_now(connection, self._clock)
                connection.execute(insert(retention), {**row, "set_at": now})
            self._tell(connection, EventKind.RETENTION, cause, {"days": days}, namespace=namespace)

        run_write(self._engine, work)

    def hold(self, hold: Hold, cause: Cause) -> Hold:
        """Keep the history that `hold` describes until it is lifted; `cause` says what for."""

        def work(connection: Connection) -> Hold:
            lock_alone(connection, _LOCK)
            row = {
                "namespace": hold.namespace,
                "network": hold.network,
                "address": hold.address,
                "note": cause.reason,
                "actor": cause.actor,
                "held_at": database_now(connection, self._clock),
            }
            made = connection.execute(insert(legal_hold).returning(legal_hold), row).one()
            self._tell_hold(connection, _to_hold(made), "added", cause)
            return _to_hold(made)

        return run_write(self._engine, work)

    def lift(self, number: int, cause: Cause) -> Hold:
        """End a hold.

        Raises:
            IntentError: there is no such hold now.
        """

        def work(connection: Connection) -> Hold:
            lock_alone(connection, _LOCK)
            now = database_now(connection, self._clock)
            row = connection.execute(
                update(legal_hold)
                .where(legal_hold.c.id == number, legal_hold.c.lifted_at.is_(None))
                .values(lifted_at=now)
                .returning(legal_hold)
            ).first()
            if row is None:
                raise IntentError(
                    f"there is no hold {number}", hint="danmpy hold list shows them", subject="ID"
                )
            self._tell_hold(connection, _to_hold(row), "removed", cause)
            return _to_hold(row)

        return run_write(self._engine, work)

    def _tell_hold(self, connection: Connection, hold: Hold, what: str, cause: Cause) -> None:
        places = {
            "namespace": hold.namespace,
            "network": hold.network,
            "address": hold.address,
        }
        self._tell(connection, EventKind.HOLD, cause, {"hold": hold.id, "what": what}, **places)

    def _tell(
        self, connection: Connection, kind: EventKind, cause: Cause, detail: Json, **places: str
    ) -> None:
        now = database_now(connection, self._clock)
        told = {"at": now, "effective_at": now, "kind": str(kind), "reason": cause.reason}
        ledger.append(connection, [{**told, **places, "detail": {**cause.to_detail(), **detail}}])

    def run_once(self, *, dry_run: bool = False) -> Pruning:
        """Forget what is due; `dry_run` only counts it. Any number of processes may do so.

        Raises:
            HostError: it cannot be exported before; what was not exported is still there.
        """
        total = Pruning()
        after = 0
        while True:
            with snapshot(self._engine) as connection:
                chunk = self._chunk(connection, after)
                due = self._due(connection, chunk)
                if dry_run:
                    total += self._count(connection, chunk, due)
            if not chunk:
                return total
            if due and not dry_run:
                total += run_write(self._engine, partial(self._prune, chunk))
            after = chunk[-1].no

    def _chunk(self, connection: Connection, after: int) -> Sequence[Any]:
        """The next seals that are old enough and have their events, few enough for one go."""
        shortest = self._rules(connection).shortest
        if not shortest:
            return ()
        first = after + 1
        skipped = connection.execute(_PRUNED_AROUND, {"no": first}).scalar()
        first = max(first, (skipped or 0) + 1)
        before = connection.execute(_PRUNED_NEXT, {"no": first}).scalar()
        old = database_now(connection, self._clock) - shortest * DAY
        bounds = {"first": first, "before": 2**62 if before is None else before, "old": old}
        rows: Sequence[Any] = connection.execute(_ROWS, bounds).all()
        size = 0
        for place, row in enumerate(rows):
            size += row.count
            # Neighbours only: a clock that was set back leaves younger ones between them.
            if place and (size > EVENTS_AT_ONCE or row.no != rows[place - 1].no + 1):
                return rows[:place]
        return rows

    def _due(self, connection: Connection, chunk: Sequence[Any]) -> frozenset[int]:
        """The numbers of the seals that may go."""
        if not chunk:
            return frozenset()
        bounds = {"low": chunk[0].txid_from, "high": chunk[-1].txid_to}
        events = connection.execute(_EVENTS, bounds).all()
        ids = {number for row in events for number in (row.lease_id, row.closed_id)} - {None}
        leases = {
            row.id: None
            if row.held_to is None
            else Happened(
                namespace=row.namespace,
                network=row.network,
                address=row.address_text,
                at=row.held_to,
            )
            for part in _parts(sorted(ids))
            for row in connection.execute(_LEASES, {"ids": part})
        }
        seals: list[tuple[int, list[SealedEvent]]] = []
        rest = iter(events)
        row = next(rest, None)
        for each in chunk:
            mine: list[SealedEvent] = []
            while row is not None and row.txid < each.txid_to:
                mine.append(_to_event(row))
                row = next(rest, None)
            # One whose events were tampered with is evidence.
            if len(mine) == each.count:
                seals.append((each.no, mine))
        now = database_now(connection, self._clock)
        return frozenset(due_seals(seals, leases, self._rules(connection), now))

    def _count(self, connection: Connection, chunk: Sequence[Any], due: frozenset[int]) -> Pruning:
        total = Pruning()
        for run in _runs(chunk, due):
            leases = len(_begun(connection, run))
            events = sum(row.count for row in run)
            total += Pruning(seals=len(run), events=events, leases=leases)
        return total

    def _prune(self, chunk: Sequence[Any], connection: Connection) -> Pruning:
        """Decide again, now that nobody else prunes or adds a hold, and do it."""
        lock_alone(connection, _LOCK)
        total = Pruning()
        with _patience(connection):
            done = connection.execute(_PRUNED_AROUND, {"no": chunk[-1].no}).scalar()
            if done is not None and done >= chunk[0].no:
                return total  # somebody else was here meanwhile; the next run sees what is left
            due = self._due(connection, chunk)
            for run in _runs(chunk, due):
                total += self._prune_run(connection, run)
        return total

    def _prune_run(self, connection: Connection, run: Sequence[Any]) -> Pruning:
        now = database_now(connection, self._clock)
        bounds = {"low": run[0].txid_from, "high": run[-1].txid_to}
        begun = _begun(connection, run)
        row = {
            "no_from": run[0].no,
            "no_to": run[-1].no,
            "txid_from": run[0].txid_from,
            "txid_to": run[-1].txid_to,
            "count": sum(each.count for each in run),
            "at": now,
        }
        self._keep_elsewhere(connection, run, begun)
        detail: Json = {
            "seals": [row["no_from"], row["no_to"]],
            "roots": [run[0].root.hex(), run[-1].root.hex()],
            "events": row["count"],
            "leases": len(begun),
            "sealed": [to_rfc3339(run[0].at), to_rfc3339(run[-1].at)],
        }
        told = {"at": now, "effective_at": now, "kind": str(EventKind.PRUNE), "node": self._who}
        # Before anything is deleted: SQLite's numbers go on behind the last event that is there.
        ledger.append(connection, [{**told, "reason": "older than it is kept", "detail": detail}])
        connection.execute(insert(pruned), row)
        connection.execute(_DELETE_EVENTS, bounds)
        for part in _parts(begun):
            connection.execute(_DELETE_LEASES, {"ids": part})
        return Pruning(seals=len(run), events=row["count"], leases=len(begun))

    def _keep_elsewhere(
        self, connection: Connection, run: Sequence[Any], begun: Sequence[int]
    ) -> None:
        if self._export is None:
            return
        bounds = {"low": run[0].txid_from, "high": run[-1].txid_to}
        leases = [
            row
            for part in _parts(begun)
            for row in connection.execute(_WHOLE_LEASES, {"ids": part})
        ]
        self._export.write(
            connection.execute(_LEDGER_ID).scalar_one(),
            run,
            connection.execute(_WHOLE_EVENTS, bounds),
            leases,
        )


def _begun(connection: Connection, run: Sequence[Any]) -> list[int]:
    bounds = {"low": run[0].txid_from, "high": run[-1].txid_to}
    return sorted(connection.execute(_BEGUN, bounds).scalars())


def _runs(chunk: Sequence[Any], due: frozenset[int]) -> Iterator[Sequence[Any]]:
    """Those of `chunk` that are due, neighbours together."""
    run: list[Any] = []
    for row in chunk:
        if row.no in due:
            run.append(row)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _parts(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """SQLite knows at most 32766 variables."""
    for start in range(0, len(ids), 5000):
        yield ids[start : start + 5000]


def _to_hold(row: Any) -> Hold:
    return Hold(
        id=row.id,
        namespace=row.namespace,
        network=row.network,
        address=row.address,
        note=row.note,
        actor=row.actor,
        held_at=row.held_at,
    )


def _to_event(row: Any) -> SealedEvent:
    about = Happened(namespace=row.namespace, network=row.network, address=row.address, at=row.at)
    return SealedEvent(kind=row.kind, about=about, lease_id=row.lease_id, closed_id=row.closed_id)


def _patience(connection: Connection) -> AbstractContextManager[None]:
    """SQLite knows no limit."""
    if connection.dialect.name == "postgresql":
        return patience(connection, _PATIENCE_S)
    return nullcontext()
