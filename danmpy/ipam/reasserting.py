"""Storing a lease again that a database has forgotten, on the word of the node that has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import (
    Connection,
    bindparam,
    delete,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from danmpy.ipam import ledger
from danmpy.ipam.ledger import EventKind
from danmpy.ipam.releasing import rest
from danmpy.ipam.rows import event_of, to_lease
from danmpy.ipam.schema import freed, lease, pool
from danmpy.ipam.values import EndReason, Lease

ASSERTED: Final = "asserted in epoch "
"""How the note of a lease begins that was stored again. Only such a lease may begin while its
address still rests: the pod had it all the time."""

_AT_ONCE: Final = 200
"""Containers that are looked up in one statement."""

_open = lease.c.held_to.is_(None)
_HELD: Final = select(
    lease.c.container_id, lease.c.interface, lease.c.family, lease.c.address
).where(_open, lease.c.container_id.in_(bindparam("containers", expanding=True)))
_AT_ADDRESS: Final = (
    select(lease)
    .where(lease.c.family == bindparam("of_family"), lease.c.address == bindparam("at_address"))
    .order_by(lease.c.held_from, lease.c.id)
)
# The literal is that of the partial index, as in the next one.
_IN_THE_WAY: Final = select(lease).where(
    _open,
    lease.c.pod_uid == bindparam("of_uid"),
    lease.c.pod_uid != literal_column("''"),
    lease.c.namespace == bindparam("of_namespace"),
    lease.c.pod == bindparam("of_pod"),
    lease.c.network == bindparam("of_network"),
    lease.c.interface == bindparam("of_interface"),
    lease.c.family == bindparam("of_family"),
)
_OF_CLAIM: Final = select(lease).where(
    _open,
    lease.c.claim != literal_column("''"),
    lease.c.claim == bindparam("of_claim"),
    lease.c.namespace == bindparam("of_namespace"),
    lease.c.network == bindparam("of_network"),
    lease.c.interface == bindparam("of_interface"),
    lease.c.family == bindparam("of_family"),
)
_POOL: Final = select(pool.c.id).where(
    pool.c.network == bindparam("of_network"),
    pool.c.family == bindparam("of_family"),
    pool.c.domain == bindparam("in_domain"),
)
_END: Final = (
    update(lease)
    .where(lease.c.id == bindparam("lease_id"), _open)
    .values(
        held_to=bindparam("ended_at"),
        cool_until=bindparam("rests_until"),
        end_reason=bindparam("why"),
    )
    .returning(lease)
)
_FREED_AT: Final = select(freed.c.released_at).where(
    freed.c.domain == bindparam("in_domain"), freed.c.address == bindparam("at_address")
)
_LEAVE_FREED: Final = delete(freed).where(
    freed.c.domain == bindparam("in_domain"), freed.c.address == bindparam("at_address")
)
_INSERT: Final = {
    "sqlite": sqlite.insert(lease).on_conflict_do_nothing().returning(lease),
    "postgresql": postgresql.insert(lease).on_conflict_do_nothing().returning(lease),
}


def unknown_of(connection: Connection, leases: Sequence[Lease]) -> tuple[Lease, ...]:
    """Those of `leases` that the database does not know, neither held nor ended."""
    containers = sorted({item.container_id for item in leases})
    held = set()
    for first in range(0, len(containers), _AT_ONCE):
        some = containers[first : first + _AT_ONCE]
        for row in connection.execute(_HELD, {"containers": some}):
            held.add((row.container_id, row.interface, bytes(row.address)))
    return tuple(
        item
        for item in leases
        if (item.container_id, item.interface, item.address.ip.packed) not in held
        and not any(_is_it(row, item) for row in _at(connection, item))
    )


def _at(connection: Connection, item: Lease) -> Sequence[Any]:
    """Every lease of the address in its domain, old and new."""
    asked = {"of_family": item.family, "at_address": item.address.ip.packed}
    rows = connection.execute(_AT_ADDRESS, asked).all()
    return [row for row in rows if row.domain == item.domain]


def _is_it(row: Any, item: Lease) -> bool:
    return (row.container_id, row.interface) == (item.container_id, item.interface)


@dataclass(frozen=True, slots=True)
class Reassertion:
    """The work of one transaction; `cooldown` in microseconds."""

    connection: Connection
    now: int
    cooldown: int
    epoch: int

    def store(self, item: Lease) -> bool:
        """Store `item` as held by who held it; False when the address is in other hands now.

        The lease begins when it did, but never before the end of another one of the address that
        the database knows of.
        """
        rows = _at(self.connection, item)
        if any(_is_it(row, item) for row in rows):
            return True
        before = self._before_in_claim(item)
        if before is not None and before.held_from >= item.from_:
            before, item = None, replace(item, claim="")
        holder = next((row for row in rows if row.held_to is None), None)
        passes_on = holder is not None and _is_same_pod(holder, item)
        if holder is not None and not passes_on and (before is None or holder.id != before.id):
            return False
        start = max([item.from_, *self._ends(item, rows)])
        closed_id = None
        if holder is not None:
            start = max(start, holder.held_from, self.now)
        if holder is not None and passes_on:
            self._end(holder.id, start, EndReason.REBOUND, None)
            closed_id = holder.id
        self._make_way(item, [] if before is None else [before])
        row = self._insert(item, start)
        if row is None:
            return False
        self.connection.execute(_LEAVE_FREED, self._place(item))
        kind = EventKind.ADOPT if closed_id is None else EventKind.REBIND
        told = event_of(to_lease(row), kind, self.now, closed_id=closed_id)
        told["detail"] = {**told["detail"], "since": item.from_, "epoch": self.epoch}
        ledger.append(self.connection, [told])
        return True

    def _place(self, item: Lease) -> dict[str, object]:
        return {"in_domain": item.domain, "at_address": item.address.ip.packed}

    def _ends(self, item: Lease, rows: Sequence[Any]) -> list[int]:
        ends = [row.held_to for row in rows if row.held_to is not None]
        freed_at = self.connection.execute(_FREED_AT, self._place(item)).scalar()
        return ends if freed_at is None else [*ends, int(freed_at)]

    def _before_in_claim(self, item: Lease) -> Any:
        """What another pod holds under the claim of `item`, in the same place. A claim serves one
        pod at a time, so whoever got it later proves that the other one had ended.
        """
        if not item.claim:
            return None
        row = self.connection.execute(_OF_CLAIM, _owner(item)).first()
        return None if row is None or _is_same_pod(row, item) else row

    def _make_way(self, item: Lease, before: Sequence[Any]) -> None:
        """End what an older sandbox of the pod holds in the same place, as a bind would have; and
        `before`.
        """
        for row in [*before, *self.connection.execute(_IN_THE_WAY, _owner(item))]:
            at = max(self.now, row.held_from)
            ended = self._end(row.id, at, EndReason.REPLACED, at + self.cooldown)
            rest(self.connection, ended, self.now)

    def _end(
        self, lease_id: int, at: int, why: EndReason, rests_until: int | None
    ) -> Sequence[Any]:
        values = {
            "lease_id": lease_id,
            "ended_at": at,
            "rests_until": rests_until,
            "why": str(why),
        }
        return self.connection.execute(_END, values).all()

    def _insert(self, item: Lease, start: int) -> Any:
        row = {
            "pool_id": self._pool(item),
            "network": item.network,
            "network_uid": item.network_uid,
            "domain": item.domain,
            "family": item.family,
            "address": item.address.ip.packed,
            "address_text": str(item.address.ip),
            "prefix": item.address.network.prefixlen,
            "interface": item.interface,
            "namespace": item.namespace,
            "pod": item.pod,
            "pod_uid": item.pod_uid,
            "container_id": item.container_id,
            "node": item.node,
            "mac": item.mac,
            "mode": str(item.mode),
            # A pick passes over what turns out to lie outside the range.
            "pooled": 1,
            "held_from": start,
            "held_to": None,
            "cool_until": None,
            "end_reason": None,
            "note": f"{ASSERTED}{self.epoch}",
            "claim": item.claim,
            "shared_by": "",
        }
        return self.connection.execute(_INSERT[self.connection.dialect.name], row).first()

    def _pool(self, item: Lease) -> int:
        asked = {
            "of_network": item.network,
            "of_family": item.family,
            "in_domain": item.domain,
        }
        found = self.connection.execute(_POOL, asked).scalar()
        if found is None:
            # Without a shape: the next bind starts its cursor anew.
            row = {
                "network": item.network,
                "family": item.family,
                "domain": item.domain,
                "subnet": str(item.address.network),
                "shape": "",
                "next": None,
            }
            found = self.connection.execute(insert(pool).returning(pool.c.id), row).scalar_one()
        return int(found)


def _owner(item: Lease) -> dict[str, object]:
    return {
        "of_uid": item.pod_uid,
        "of_claim": item.claim,
        "of_namespace": item.namespace,
        "of_pod": item.pod,
        "of_network": item.network,
        "of_interface": item.interface,
        "of_family": item.family,
    }


def _is_same_pod(row: Any, item: Lease) -> bool:
    return item.pod_uid != "" and (row.namespace, row.pod, row.pod_uid) == (
        item.namespace,
        item.pod,
        item.pod_uid,
    )
