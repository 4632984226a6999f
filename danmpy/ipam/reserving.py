"""What operators do to addresses by hand: reserving them, and ending what holds or keeps them.

Everything is in the ledger, with who did it and why. An address that was held rests afterwards, as
after any other lease.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine, bindparam, case, literal_column, select, update
from sqlalchemy.dialects import postgresql, sqlite

from danmpy.api.specs import AddressMode, IPAddress, NetworkSpec, PoolSpec
from danmpy.api.words import is_namespace
from danmpy.clock import MICROSECONDS, Clock, to_rfc3339
from danmpy.db.engine import database_now, read, run_write
from danmpy.errors import ConflictError, IntentError
from danmpy.ipam import ledger
from danmpy.ipam.binding import being_deleted
from danmpy.ipam.leases import CLAIM_SECONDS
from danmpy.ipam.ledger import EventKind
from danmpy.ipam.picking import OpenPool, Pick, collision, lock_pools, store_picks
from danmpy.ipam.pools import require_assignable
from danmpy.ipam.registry import keep_open
from danmpy.ipam.releasing import Rest, rest, rest_of
from danmpy.ipam.rows import event_of, lease_from, to_lease
from danmpy.ipam.schema import freed, lease, retired_network
from danmpy.ipam.unclaiming import Forgotten, Unclaiming
from danmpy.ipam.values import EndReason, Lease, until

__all__ = ["Cause", "OperatorStore", "parse_group"]

_AT_ONCE: Final = 200
"""Leases that one transaction ends: a node that is lost may have thousands, and others wait."""

_PATTERN: Final = re.compile(r"[a-z0-9.*?\[\]!-]+", re.ASCII)
"""A pod's name (RFC 1123) with the wildcards of a shell."""

_open = lease.c.held_to.is_(None)
_HELD: Final = (
    select(lease)
    .where(
        lease.c.family == bindparam("of_family"),
        lease.c.address == bindparam("at_address"),
        lease.c.network == bindparam("of_network"),
        _open,
    )
    .order_by(lease.c.id)
)
_HELD_ON: Final = (
    select(lease).where(lease.c.node == bindparam("on_node"), _open).order_by(lease.c.id)
)
_RESERVED: Final = (
    select(lease)
    # By the index over open rows of a namespace: reservations are in none.
    .where(_open, lease.c.namespace == literal_column("''"), lease.c.mode == AddressMode.RESERVED)
    .order_by(lease.c.network, lease.c.family, lease.c.address)
)
_HOLDER: Final = select(lease).where(
    _open, lease.c.domain == bindparam("in_domain"), lease.c.address == bindparam("at_address")
)
_RESTING: Final = select(freed).where(
    freed.c.domain == bindparam("in_domain"), freed.c.address == bindparam("at_address")
)
_RETIRED: Final = select(retired_network.c.uid).where(retired_network.c.uid == bindparam("of_uid"))
_INSERT: Final = {
    "sqlite": sqlite.insert(lease).on_conflict_do_nothing().returning(lease.c.id),
    "postgresql": postgresql.insert(lease).on_conflict_do_nothing().returning(lease.c.id),
}
_ended_at: Final[Any] = case(
    (lease.c.held_from > bindparam("now"), lease.c.held_from), else_=bindparam("now")
)
_END: Final = (
    update(lease)
    .where(lease.c.id.in_(bindparam("ids", expanding=True)), _open)
    .values(
        held_to=_ended_at,
        cool_until=_ended_at + rest_of(lease.c.claim),
        end_reason=bindparam("why"),
    )
    .returning(lease)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Who does something by hand (``alice@node-1``), and why, in their words."""

    actor: str
    reason: str

    def to_detail(self) -> dict[str, object]:
        """What the event says of it."""
        return {"actor": self.actor, "reason": self.reason}


def parse_group(text: str) -> str:
    """One entry of ``shared_by``: a namespace and a pattern for names of its pods.

    Raises:
        IntentError: it is no ``namespace/pattern``.
    """
    namespace, slash, pattern = text.partition("/")
    if slash and is_namespace(namespace) and _PATTERN.fullmatch(pattern):
        return text
    raise IntentError(
        f"{text!r} names no group of pods",
        hint="write namespace/pattern, such as blue/keepalived-*",
        subject="shared-by",
    )


class OperatorStore:
    """Reservations, and the ends that people put to leases.

    Raises (all methods):
        StoreError: the database is unreachable, busy for 5 s, read-only or of another schema.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        cooldown_seconds: int,
        claim_seconds: int = CLAIM_SECONDS,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._rests = Rest(
            cooldown=cooldown_seconds * MICROSECONDS, claimed=claim_seconds * MICROSECONDS
        )

    def held(self, network: str, address: IPAddress) -> tuple[Lease, ...]:
        """Who holds `address` of `network` (the text of its key) now. More than one only when the
        network moved to another segment while pods were on it.
        """
        with read(self._engine) as connection:
            return tuple(map(to_lease, connection.execute(_HELD, _place(network, address))))

    def held_on(self, node: str) -> tuple[Lease, ...]:
        """What the containers on `node` hold now."""
        with read(self._engine) as connection:
            return tuple(map(to_lease, connection.execute(_HELD_ON, {"on_node": node})))

    def reservations(self) -> tuple[Lease, ...]:
        """Everything that is reserved now, by network and address."""
        with read(self._engine) as connection:
            return tuple(map(to_lease, connection.execute(_RESERVED)))

    def reserve(
        self, network: NetworkSpec, address: IPAddress, cause: Cause, shared_by: Sequence[str] = ()
    ) -> Lease:
        """Hold `address` of `network` (resolved) for what `cause` says, until it is unreserved.

        With `shared_by` (`parse_group`) it is the virtual address of those pods, which move it
        among them by their own software. An address that cools down may be reserved at once: that
        alone puts it on no link.

        Raises:
            ConflictError: it is held, or kept for a claim.
            IntentError: it is not one that the network gives; or the network is being deleted.
        """
        pool = _pool_of(network, address)
        if network.terminating:
            raise being_deleted(network)
        # Made here: a try whose answer was lost finds its own row.
        container_id = f"reservation:{uuid.uuid4().hex}"
        key = (str(network.key), pool.family, network.domain)

        def work(connection: Connection) -> Lease:
            opened = lock_pools(connection, {key: pool})[key]
            now = keep_open(connection, self._clock, {network.uid})
            if connection.execute(_RETIRED, {"of_uid": network.uid}).first() is not None:
                raise being_deleted(network)
            place = {"in_domain": network.domain, "at_address": address.packed}
            holder = connection.execute(_HOLDER, place).first()
            if holder is not None and holder.container_id == container_id:
                return to_lease(holder)
            if holder is not None:
                raise _held(network, address, to_lease(holder))
            resting = connection.execute(_RESTING, place).first()
            if resting is not None and resting.claim and resting.ready_at > now:
                raise _kept(network, address, resting)
            pick = Pick(
                value=int(address),
                released_at=resting.released_at if resting else 0,
                was_freed=resting is not None,
            )
            row = _row(network, opened, address) | {
                "container_id": container_id,
                "held_from": max(now, pick.released_at),
                "note": cause.reason,
                "shared_by": " ".join(shared_by),
            }
            made = connection.execute(_INSERT[connection.dialect.name], row).scalar()
            if made is None:
                raise collision()
            store_picks(connection, [opened], {(network.domain, address.packed): pick})
            item = lease_from({**row, "id": made})
            told = event_of(item, EventKind.RESERVE, now, reason=cause.reason)
            ledger.append(connection, [told | {"detail": told["detail"] | {"actor": cause.actor}}])
            return item

        return run_write(self._engine, work)

    def end(self, leases: Sequence[Lease], cause: Cause) -> tuple[Lease, ...]:
        """End exactly these leases and reservations; what has ended meanwhile is passed over.

        A lease under a claim stays kept for it (`unclaim`).
        """
        ended: list[Lease] = []
        for start in range(0, len(leases), _AT_ONCE):
            part = leases[start : start + _AT_ONCE]
            for why in (EndReason.BY_HAND, EndReason.UNRESERVED):
                ids = [
                    each.id for each in part if each.is_reservation is (why is EndReason.UNRESERVED)
                ]
                if ids:
                    ended += self._end(ids, why, cause)
        return tuple(ended)

    def _end(self, ids: Sequence[int], why: EndReason, cause: Cause) -> tuple[Lease, ...]:
        def work(connection: Connection) -> tuple[Lease, ...]:
            now = database_now(connection, self._clock)
            rows = connection.execute(
                _END,
                {
                    "ids": ids,
                    "now": now,
                    "why": str(why),
                    **self._rests.parameters(),
                },
            ).all()
            ordered = sorted(rows, key=lambda row: row.id)
            return rest(connection, ordered, now, cause.to_detail())

        return run_write(self._engine, work)

    def unclaim(self, network: str, address: IPAddress, cause: Cause) -> tuple[Forgotten, ...]:
        """Keep `address` of `network` for no claim any more: others may have it when it has cooled
        down. Gives what it was kept for; nothing when it is kept for no claim.
        """

        def work(connection: Connection) -> tuple[Forgotten, ...]:
            unclaiming = Unclaiming(
                connection=connection,
                now=database_now(connection, self._clock),
                cooldown=self._rests.cooldown,
                reason="unclaimed",
                detail=cause.to_detail(),
            )
            return unclaiming.at(network, address)

        return run_write(self._engine, work)


def _place(network: str, address: IPAddress) -> dict[str, Any]:
    return {"of_family": address.version, "at_address": address.packed, "of_network": network}


def _pool_of(network: NetworkSpec, address: IPAddress) -> PoolSpec:
    pool = network.pool(address.version)
    if pool is None:
        raise IntentError(
            f"address {address} cannot be reserved: the network has no IPv{address.version} subnet",
            hint="name an address of its subnet",
            subject=str(network.key),
        )
    require_assignable(pool, address, str(network.key), what="address")
    return pool


def _row(network: NetworkSpec, opened: OpenPool, address: IPAddress) -> dict[str, Any]:
    pool = opened.spec
    return {
        "pool_id": opened.id,
        "network": str(network.key),
        "network_uid": network.uid,
        "domain": network.domain,
        "family": pool.family,
        "address": address.packed,
        "address_text": str(address),
        "prefix": pool.subnet.prefixlen,
        "interface": "",
        "namespace": "",
        "pod": "",
        "pod_uid": "",
        "node": "",
        "mac": None,
        "mode": str(AddressMode.RESERVED),
        "pooled": int(opened.space.holds(int(address))),
        "held_to": None,
        "cool_until": None,
        "end_reason": None,
        "claim": "",
    }


def _held(network: NetworkSpec, address: IPAddress, holder: Lease) -> ConflictError:
    hint = "danmpy unreserve ends it" if holder.is_reservation else "delete that pod first"
    return ConflictError(
        f"address {address} is held by {holder.holder} ({holder.network}) since "
        f"{to_rfc3339(holder.from_)}",
        hint=hint,
        subject=str(network.key),
    )


def _kept(network: NetworkSpec, address: IPAddress, resting: Any) -> ConflictError:
    return ConflictError(
        f"address {address} is kept for claim {resting.namespace}/{resting.claim} "
        f"{until(resting.ready_at)}",
        hint="danmpy release gives it free, if that pod does not come back",
        subject=str(network.key),
    )
