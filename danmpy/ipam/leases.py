"""Leases: binding addresses to pods and releasing them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Engine, bindparam, case, or_, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from danmpy.api.specs import NetworkSpec
from danmpy.clock import MICROSECONDS, Clock, monotonic
from danmpy.db.engine import database_now, read, run_write
from danmpy.ipam import ledger
from danmpy.ipam.binding import Binding, being_deleted
from danmpy.ipam.ledger import EventKind
from danmpy.ipam.releasing import Rest, rest, rest_of
from danmpy.ipam.rows import event_of, to_lease
from danmpy.ipam.schema import lease, retired_network
from danmpy.ipam.shortcut import Shortcut
from danmpy.ipam.values import EndReason, Lease, LeaseOwner, LeaseRequest
from danmpy.ipam.wants import parse_wants

__all__ = ["CLAIM_SECONDS", "EndReason", "Lease", "LeaseOwner", "LeaseRequest", "LeaseStore"]

CLAIM_SECONDS: Final = 86_400
"""How long an address is kept for its claim unless the settings say otherwise: longer than it takes
to bring back a node, and what runs on it, by hand."""

_open = lease.c.held_to.is_(None)

_ended_at: Final[Any] = case(
    (lease.c.held_from > bindparam("ended_at"), lease.c.held_from), else_=bindparam("ended_at")
)
_RELEASE: Final = (
    update(lease)
    .where(lease.c.container_id == bindparam("of_container"), _open)
    .values(
        held_to=_ended_at,
        cool_until=_ended_at + rest_of(lease.c.claim),
        end_reason=bindparam("why"),
    )
    .returning(lease)
)
_RELEASE_INTERFACE: Final = _RELEASE.where(lease.c.interface == bindparam("of_interface"))
_HELD_BY: Final = (
    select(lease).where(lease.c.container_id == bindparam("container"), _open).order_by(lease.c.id)
)
_RETIRED: Final = (
    select(retired_network.c.uid)
    .where(retired_network.c.uid.in_(bindparam("uids", expanding=True)))
    .limit(1)
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

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        cooldown_seconds: int,
        claim_seconds: int = CLAIM_SECONDS,
        *,
        guard: Callable[[Connection], None] | None = None,
    ) -> None:
        """`guard` is called in every transaction of a bind before anything else is done in it; what
        it raises ends the bind.
        """
        self._engine = engine
        self._guard = guard
        self._clock = clock
        self._shortcut = Shortcut(engine, guard) if engine.dialect.name == "postgresql" else None
        self._rests = Rest(
            cooldown=cooldown_seconds * MICROSECONDS, claimed=claim_seconds * MICROSECONDS
        )

    def bind(self, owner: LeaseOwner, requests: Sequence[LeaseRequest]) -> tuple[Lease, ...]:
        """Lease every address that `requests` ask for, all or nothing, in one transaction.

        The answer is in the order of the requests, IPv4 before IPv6. Asked again for the same
        container and interface, it gives the same leases and records nothing. A new container of
        the same pod UID takes the addresses over (the old container's leases end as ``rebound``).
        The next pod of a claim gets the dynamic addresses of the one before it.

        Raises:
            ExhaustedError: a pool has no address to give now, or the quota is reached.
            ConflictError: a static address is held by another pod or reserved; a pod of another
                name holds an address under the same claim.
            NotReadyError: a static address of another pod is cooling down; the earlier pod of this
                name still holds what the claim keeps.
            IntentError: no subnet of the family; an address outside it, reserved or excluded.
        """
        wants = parse_wants(requests, owner.claim)
        if not wants:
            return ()

        began = monotonic()
        found = None if self._shortcut is None else self._shortcut.bind(owner, wants)
        if found is not None:
            return found

        def work(connection: Connection) -> tuple[Lease, ...]:
            if self._guard is not None:
                self._guard(connection)
            return Binding(connection, self._clock, self._rests, owner).run(wants)

        return run_write(self._engine, work, since=began)

    def release(
        self, container_id: str, *, reason: str = EndReason.RELEASED, at: int | None = None
    ) -> tuple[Lease, ...]:
        """Close what exactly `container_id` holds; nothing held is a success.

        `at` is the time of a release that is recorded late (microseconds); it never lies before
        the start of the lease or after now.
        """
        return self._release(_RELEASE, {"of_container": container_id}, (reason, at))

    def release_interface(
        self, container_id: str, interface: str, *, reason: str = EndReason.UNPLUGGED
    ) -> tuple[Lease, ...]:
        """Close what exactly this interface of `container_id` holds; nothing held is a success."""
        whose = {"of_container": container_id, "of_interface": interface}
        return self._release(_RELEASE_INTERFACE, whose, (reason, None))

    def _release(
        self, statement: ReturningUpdate[Any], whose: dict[str, str], why: tuple[str, int | None]
    ) -> tuple[Lease, ...]:
        reason, at = why

        def work(connection: Connection) -> tuple[Lease, ...]:
            now = database_now(connection, self._clock)
            ended = connection.execute(
                statement,
                {
                    **whose,
                    "ended_at": now if at is None else min(at, now),
                    "why": str(reason),
                    **self._rests.parameters(),
                },
            ).all()
            return rest(connection, sorted(ended, key=lambda row: row.id), now)

        return run_write(self._engine, work)

    def held_by(self, container_id: str) -> tuple[Lease, ...]:
        """The open leases of `container_id`, in the order in which they were made."""
        with read(self._engine) as connection:
            return tuple(map(to_lease, connection.execute(_HELD_BY, {"container": container_id})))

    def require_open(self, networks: Iterable[NetworkSpec]) -> None:
        """May pods still be attached to these? For interfaces without an address: `bind` asks this
        for all others, where the lease is stored.

        Raises:
            IntentError: a network is being deleted.
        """
        by_uid = {network.uid: network for network in networks}
        if not by_uid:
            return
        with read(self._engine) as connection:
            uid = connection.execute(_RETIRED, {"uids": sorted(by_uid)}).scalar()
        if uid is not None:
            raise being_deleted(by_uid[uid])

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
