"""The stores of one database with a clock that tests can move, on both engines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Engine, text

from danmpy.api.specs import AddressAsk, NetworkSpec
from danmpy.clock import MICROSECONDS
from danmpy.db.engine import database_now, read
from danmpy.ipam.audit import Audit, HistoryFilter
from danmpy.ipam.leases import Lease, LeaseOwner, LeaseRequest, LeaseStore
from danmpy.ipam.sealing import Ledger
from danmpy.ipam.segments import SegmentStore
from support.specs import DYNAMIC

START = 1_777_000_000_000_000
COOLDOWN = 120

# PostgreSQL keeps its own time, so there the rows are moved into the past instead.
_TIMES = {
    "lease": ("held_from", "held_to", "cool_until"),
    "freed": ("released_at", "ready_at"),
    "segment_assignment": ("assigned_at", "released_at", "ready_at"),
    "retired_network": ("retired_at",),
}


class MovingClock:
    """A clock that goes on by a millisecond a look, and by as much as a test says."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        self.now += 1000
        return self.now


@dataclass
class World:
    """One database and what works on it."""

    engine: Engine
    clock: MovingClock
    leases: LeaseStore
    segments: SegmentStore
    audit: Audit
    ledger: Ledger
    moved: bool = False
    """Were rows moved in time? Then they differ from the ledger, and rightly so."""

    @property
    def is_postgresql(self) -> bool:
        return self.engine.dialect.name == "postgresql"

    def now(self) -> int:
        with read(self.engine) as connection:
            return database_now(connection, self.clock)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        by = int(seconds * MICROSECONDS)
        if not self.is_postgresql:
            self.clock.now += by
            return
        self.moved = True
        for table, names in _TIMES.items():
            moves = ", ".join(f"{name} = {name} - :by" for name in names)
            self.sql(f"UPDATE {table} SET {moves}", by=by)

    def sql(self, statement: str, **values: object) -> None:
        """Do what somebody with the password of the database could do."""
        with self.engine.begin() as connection:
            if self.is_postgresql:
                driver: Any = connection.connection.driver_connection
                driver.read_only = False
            if statement.startswith(("UPDATE lease", "DELETE FROM lease")):
                self._without_triggers(connection)
            connection.execute(text(statement), values)

    def _without_triggers(self, connection: Connection) -> None:
        """Let closed leases be changed, as the owner of the tables can."""
        if self.is_postgresql:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            return
        for name in ("update", "delete"):
            connection.execute(text(f"DROP TRIGGER IF EXISTS lease_history_{name}"))

    def rows(self, query: str, **values: object) -> list[tuple[object, ...]]:
        with read(self.engine) as connection:
            return [tuple(row) for row in connection.execute(text(query), values)]

    def held_on(self, node: str) -> tuple[Lease, ...]:
        """What the pods of a node hold now."""
        rows = self.audit.history(HistoryFilter(node=node))
        return tuple(lease for lease in rows if lease.to is None)

    def unlock_ledger(self) -> None:
        """Take the triggers away that keep the ledger append-only."""
        if self.is_postgresql:
            self.sql("DROP TRIGGER event_pruned_only ON event")
        for table in ("event", "seal"):
            if self.is_postgresql:
                self.sql(f"DROP TRIGGER {table}_append_only ON {table}")
            else:
                for verb in ("update", "delete"):
                    self.sql(f"DROP TRIGGER {table}_no_{verb}")

    def bind(
        self, network: NetworkSpec, pod: str = "web-0", ip: AddressAsk = DYNAMIC, **more: str
    ) -> Lease:
        """One IPv4 lease of `network` for a pod, whose UID and container are called after it."""
        (lease,) = self.leases.bind(
            owner(pod, **more), [LeaseRequest(interface="net1", network=network, ip=ip)]
        )
        return lease


def owner(pod: str = "web-0", **more: Any) -> LeaseOwner:
    usual = LeaseOwner(
        namespace="blue",
        pod=pod,
        pod_uid=f"uid-{pod}",
        container_id=f"container-{pod}",
        node="node-a",
    )
    return replace(usual, **more)
