"""Leases: binding addresses to pods and releasing them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Engine, bindparam, case, or_, select, update

from danmpy.clock import MICROSECONDS, Clock
from danmpy.db.engine import database_now, read, run_write
from danmpy.ipam import ledger
from danmpy.ipam.binding import Binding, parse_wants
from danmpy.ipam.ledger import EventKind
from danmpy.ipam.releasing import rest
from danmpy.ipam.rows import event_of, to_lease
from danmpy.ipam.schema import lease
from danmpy.ipam.values import EndReason, Lease, LeaseOwner, LeaseRequest

__all__ = ["EndReason", "Lease", "LeaseOwner", "LeaseRequest", "LeaseStore"]

_open = lease.c.held_to.is_(None)

_ended_at: Final[Any] = case(
    (lease.c.held_from > bindparam("ended_at"), lease.c.held_from), else_=bindparam("ended_at")
)
_RELEASE: Final = (
    update(lease)
    .where(lease.c.container_id == bindparam("of_container"), _open)
    .values(
        held_to=_ended_at,
        cool_until=_ended_at + bindparam("cooldown"),
        end_reason=bindparam("why"),
    )
    .returning(lease)
)
_HELD_BY: Final = (
    select(lease).where(lease.c.container_id == bindparam("container"), _open).order_by(lease.c.id)
)
_HELD_ON: Final = (
    select(lease).where(lease.c.node == bindparam("on_node"), _open).order_by(lease.c.id)
)
_ANY: Final = select(lease.c.id).limit(1)
_SET_MAC: Final = (
    update(lease)
    .where(
        lease.c.container_id == bindparam("of_container"),
        lease.c.interface == bindparam("of_interface"),
        _open,
        or_(lease.c.mac.is_(None), lease.c.mac != bindparam("new_mac")),
    )
    .values(mac=bindparam("new_mac"))
    .returning(lease)
)


class LeaseStore:
    """The one place that opens and closes leases.

    Raises (all methods):
        StoreError: the database is unreachable, busy for 5 s, read-only or of another schema.
    """

    def __init__(self, engine: Engine, clock: Clock, cooldown_seconds: int) -> None:
        self._engine = engine
        self._clock = clock
        self._cooldown = cooldown_seconds * MICROSECONDS

    def bind(self, owner: LeaseOwner, requests: Sequence[LeaseRequest]) -> tuple[Lease, ...]:
        """Lease every address that `requests` ask for, all or nothing, in one transaction.

        The answer is in the order of the requests, IPv4 before IPv6. Asked again for the same
        container and interface, it gives the same leases and records nothing. A new container of
        the same pod UID takes the addresses over (the old container's leases end as ``rebound``).

        Raises:
            ExhaustedError: a pool has no address to give now.
            ConflictError: a static address is held by another pod.
            NotReadyError: a static address of another pod is cooling down.
            IntentError: no subnet of the family; an address outside it, reserved or excluded.
        """
        wants = parse_wants(requests)
        if not wants:
            return ()

        def work(connection: Connection) -> tuple[Lease, ...]:
            return Binding(connection, self._clock, self._cooldown, owner).run(wants)

        return run_write(self._engine, work)

    def release(
        self, container_id: str, *, reason: str = EndReason.RELEASED, at: int | None = None
    ) -> tuple[Lease, ...]:
        """Close what exactly `container_id` holds; nothing held is a success.

        `at` is the time of a release that is recorded late (microseconds); it never lies before
        the start of the lease or after now.
        """

        def work(connection: Connection) -> tuple[Lease, ...]:
            now = database_now(connection, self._clock)
            ended = connection.execute(
                _RELEASE,
                {
                    "of_container": container_id,
                    "ended_at": now if at is None else min(at, now),
                    "cooldown": self._cooldown,
                    "why": str(reason),
                },
            ).all()
            return rest(connection, sorted(ended, key=lambda row: row.id), now)

        return run_write(self._engine, work)

    def held_by(self, container_id: str) -> tuple[Lease, ...]:
        """The open leases of `container_id`, in the order in which they were made."""
        with read(self._engine) as connection:
            return tuple(map(to_lease, connection.execute(_HELD_BY, {"container": container_id})))

    def held_on(self, node: str) -> tuple[Lease, ...]:
        """The open leases of every container on `node`."""
        with read(self._engine) as connection:
            return tuple(map(to_lease, connection.execute(_HELD_ON, {"on_node": node})))

    def ping(self) -> None:
        """Can leases be read now? STATUS asks it every few seconds, so it costs next to nothing."""
        with read(self._engine) as connection:
            connection.execute(_ANY)

    def record_mac(self, container_id: str, interface: str, mac: str) -> None:
        """Note the MAC address that an interface got after its addresses were leased."""

        def work(connection: Connection) -> None:
            rows = connection.execute(
                _SET_MAC,
                {"of_container": container_id, "of_interface": interface, "new_mac": mac},
            ).all()
            if rows:
                now = database_now(connection, self._clock)
                events = [
                    event_of(to_lease(row), EventKind.CONFIRM, now, effective_at=now)
                    for row in rows
                ]
                ledger.append(connection, events)

        run_write(self._engine, work)
