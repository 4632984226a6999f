"""Networks that may still have leases, and those that may not any more.

A network that is being deleted is *retired* once nobody holds an address of it: its UID is written
down, and stays so for as long as anybody could ask for it. A bind and a retirement of one network
never overlap: PostgreSQL gives a bind a shared and a retirement an exclusive advisory lock on the
UID until the transaction ends; SQLite's writer is alone. So either the bind comes first and the
retirement counts its lease, or the retirement comes first and the bind finds the UID written down.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Engine,
    bindparam,
    delete,
    exists,
    func,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite

from danmpy.api.specs import NetworkKey
from danmpy.clock import MICROSECONDS, Clock
from danmpy.db.engine import database_now, read, run_write
from danmpy.errors import BugError
from danmpy.ipam.locks import key_of, lock_alone
from danmpy.ipam.rows import to_lease
from danmpy.ipam.schema import lease, retired_network
from danmpy.ipam.values import Lease

_HELD: Final = (
    select(lease, func.count().over().label("holders"))
    .where(lease.c.network == bindparam("held_network"), lease.c.held_to.is_(None))
    .order_by(lease.c.held_from, lease.c.id)
    .limit(1)
)
_OPEN: Final = (
    select(lease)
    .where(lease.c.network == bindparam("held_network"), lease.c.held_to.is_(None))
    .order_by(lease.c.held_from, lease.c.id)
)
_OVER: Final = (
    select(retired_network.c.uid, retired_network.c.network)
    .where(
        retired_network.c.retired_at < bindparam("before"),
        ~exists().where(
            lease.c.network == retired_network.c.network,
            lease.c.network_uid == retired_network.c.uid,
            lease.c.held_to.is_(None),
        ),
    )
    .order_by(retired_network.c.retired_at)
)
_PURGE: Final = delete(retired_network).where(
    retired_network.c.uid.in_(bindparam("over", expanding=True))
)
_RETIRE: Final = {
    "sqlite": sqlite.insert(retired_network).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(retired_network).on_conflict_do_nothing(),
}
# The time comes in the same round trip: `bind` needs it anyway, and a round trip is what a bind
# mostly consists of.
_LOCK_SHARED: Final = text(
    "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,"
    " count(pg_advisory_xact_lock_shared(lock)) FROM unnest(CAST(:locks AS bigint[])) AS lock"
)


RETIRED_FOR: Final = 24 * 3600 * MICROSECONDS
"""How long a retirement is remembered at least: a node may have heard nothing for a while, and want
the network still. As long as it does it speaks of it."""

_AT_ONCE: Final = 1000
"""Retirements that are forgotten in one statement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holders:
    """How many leases of a network are open, and the oldest of them (None when there are none)."""

    count: int
    example: Lease | None = None


class NetworkRegistry:
    """Who holds addresses of a network, and the end of a network.

    Raises (all methods):
        StoreError: the database is unreachable, busy for 5 s, read-only or of another schema.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def holders(self, network: NetworkKey) -> Holders:
        """The open leases of `network` at this moment, of whichever UID."""
        with read(self._engine) as connection:
            return _holders(connection, network)

    def open_leases(self, network: NetworkKey) -> tuple[Lease, ...]:
        """Every lease of `network` that is open now, the oldest first."""
        with read(self._engine) as connection:
            rows = connection.execute(_OPEN, {"held_network": str(network)})
            return tuple(map(to_lease, rows))

    def retire(self, network: NetworkKey, uid: str) -> Holders:
        """End the network with this UID for ever, unless somebody holds an address of it.

        A count of 0 says that it is retired: `LeaseStore.bind` refuses that UID from then on.
        Otherwise nothing changed, and the answer says who is in the way. A network of the same name
        with another UID is another network.

        Raises:
            BugError: `uid` is empty.
        """
        if not uid:
            raise BugError(
                "a network without UID cannot be retired", hint="report this", subject=str(network)
            )

        def work(connection: Connection) -> Holders:
            lock_alone(connection, _name(uid))
            found = _holders(connection, network)
            if not found.count:
                row = {
                    "uid": uid,
                    "network": str(network),
                    "retired_at": database_now(connection, self._clock),
                }
                connection.execute(_RETIRE[connection.dialect.name], row)
            return found

        return run_write(self._engine, work)

    def purge(self, reported: Iterable[str]) -> int:
        """Forget retirements that are a day old and that nothing asks for any more; their number.

        Nothing asks for one without an open lease, and of whose network no node speaks: `reported`
        are the names in the reports of nodes. Those name no UID, so that a network of the same name
        keeps it as well.
        """
        # As a node names a network that went on to another segment (`mirrors.nodereport`).
        spoken_of = {name.partition("#")[0] for name in reported}
        with read(self._engine) as connection:
            before = database_now(connection, self._clock) - RETIRED_FOR
            rows = connection.execute(_OVER, {"before": before}).all()
        over = [row.uid for row in rows if row.network not in spoken_of][:_AT_ONCE]
        if not over:
            return 0
        return run_write(
            self._engine,
            lambda connection: int(connection.execute(_PURGE, {"over": over}).rowcount),
        )


def _name(uid: str) -> str:
    return f"network/{uid}"


def lock_of(uid: str) -> int:
    """The key of the advisory lock of the network with this UID."""
    return key_of(_name(uid))


def keep_open(connection: Connection, clock: Clock, uids: Iterable[str]) -> int:
    """Keep these networks from being retired until the transaction ends; gives the database's time.

    Statements after this one see every retirement that came first. The locks are taken in sorted
    order, so that two binds with the same networks and their retirements never wait in a circle.
    """
    if connection.dialect.name != "postgresql":
        return database_now(connection, clock)
    locks = sorted({lock_of(uid) for uid in uids})
    now: Any = connection.execute(_LOCK_SHARED, {"locks": locks}).scalar_one()
    return int(now)


def _holders(connection: Connection, network: NetworkKey) -> Holders:
    row = connection.execute(_HELD, {"held_network": str(network)}).first()
    return Holders(count=0) if row is None else Holders(count=row.holders, example=to_lease(row))
