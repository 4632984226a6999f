"""Taking over what another tool handed out, as open leases; the rules are in `adoptions`.

A lease that is adopted begins when it is adopted: what was before, this ledger did not see. Done
again, it does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, Engine, bindparam, literal_column, select
from sqlalchemy.dialects import postgresql, sqlite

from danmpy.api.specs import PoolSpec
from danmpy.clock import Clock
from danmpy.db.engine import database_now, read, run_write
from danmpy.errors import BugError
from danmpy.ipam import ledger
from danmpy.ipam.adoptions import (
    Adoption,
    Outcome,
    Place,
    Resting,
    Standing,
    Verdict,
    judge,
    named_apart,
    vacant,
)
from danmpy.ipam.ledger import EventKind
from danmpy.ipam.picking import (
    Pick,
    PoolKey,
    any_of,
    collision,
    lock_pools,
    places_asked,
    store_picks,
)
from danmpy.ipam.pools import layout
from danmpy.ipam.registry import keep_open
from danmpy.ipam.rows import event_of, lease_from, to_lease
from danmpy.ipam.schema import freed, lease, retired_network
from danmpy.ipam.values import IMPORTED, Lease

__all__ = ["Adopter"]

AT_ONCE: Final = 500
"""Leases in one transaction: pods that are added meanwhile wait for it."""

_open = lease.c.held_to.is_(None)
_HELD: Final = select(lease).where(_open, any_of(lease))
_RESTING: Final = select(freed).where(any_of(freed))
_ENDED: Final = (
    select(lease)
    .where(
        # Both families, so that the index over addresses is the one to go by.
        lease.c.family.in_((4, 6)),
        lease.c.address.in_(bindparam("addresses", expanding=True)),
        lease.c.container_id.in_(bindparam("containers", expanding=True)),
        lease.c.held_to.is_not(None),
    )
    .order_by(lease.c.held_from, lease.c.id)
)
_OF_CONTAINERS: Final = select(lease).where(
    _open, lease.c.container_id.in_(bindparam("containers", expanding=True))
)
_OF_PODS: Final = select(lease).where(
    _open,
    lease.c.pod_uid.in_(bindparam("pods", expanding=True)),
    # As in the partial index that this goes by.
    lease.c.pod_uid != literal_column("''"),
)
_CLAIMED: Final = select(lease).where(
    _open,
    lease.c.claim.in_(bindparam("claims", expanding=True)),
    # As in the partial index that this goes by.
    lease.c.claim != literal_column("''"),
)
_RETIRED: Final = select(retired_network.c.uid).where(
    retired_network.c.uid.in_(bindparam("uids", expanding=True))
)
_STORED: Final = (lease.c.id, lease.c.domain, lease.c.address)
_INSERT: Final = {
    "sqlite": sqlite.insert(lease).on_conflict_do_nothing().returning(*_STORED),
    "postgresql": postgresql.insert(lease).on_conflict_do_nothing().returning(*_STORED),
}


class Adopter:
    """Makes leases of what other tools handed out.

    Raises (all methods):
        StoreError: the database is unreachable, busy for 5 s, read-only or of another schema.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def holders(self, places: Iterable[Place]) -> dict[Place, Lease]:
        """Who holds the addresses at `places` now."""
        found: dict[Place, Lease] = {}
        with read(self._engine) as connection:
            for part in _parts(sorted(set(places))):
                asked = set(part)
                for row in connection.execute(_HELD, places_asked(part)):
                    place = (row.domain, bytes(row.address))
                    if place in asked:
                        found[place] = to_lease(row)
        return found

    def preview(self, adoptions: Sequence[Adoption]) -> tuple[Outcome, ...]:
        """What `adopt` would answer, with nothing changed."""
        outcomes: list[Outcome] = []
        seen: list[Lease] = []
        with read(self._engine) as connection:
            now = database_now(connection, self._clock)
            for part in _parts(adoptions):
                view = _View.of(connection, part)
                for item in seen:
                    view.add(item)
                for adoption in part:
                    outcome, made = _judged(view, adoption, now)
                    outcomes.append(outcome)
                    if made is not None:
                        seen.append(lease_from({**_row(made, now), "id": 0}))
                        view.add(seen[-1])
        return tuple(outcomes)

    def adopt(self, adoptions: Sequence[Adoption], actor: str) -> tuple[Outcome, ...]:
        """Lease to each owner what it has, where nothing speaks against it; in the order given.

        Not all or nothing: one that is not adopted keeps no other from it.
        """
        outcomes: list[Outcome] = []
        for part in _parts(adoptions):
            outcomes += self._adopt(part, actor)
        return tuple(outcomes)

    def _adopt(self, part: Sequence[Adoption], actor: str) -> tuple[Outcome, ...]:
        def work(connection: Connection) -> tuple[Outcome, ...]:
            pools = lock_pools(connection, {_key(each): _pool_of(each) for each in part})
            now = keep_open(connection, self._clock, {each.network.uid for each in part})
            view = _View.of(connection, part)
            outcomes: list[Outcome] = []
            made: list[tuple[Adoption, dict[str, Any]]] = []
            for adoption in part:
                outcome, fresh = _judged(view, adoption, now)
                outcomes.append(outcome)
                if fresh is not None:
                    resting = view.resting.get(fresh.place)
                    start = max(now, resting.released_at if resting else 0)
                    row = _row(fresh, start) | {"pool_id": pools[_key(fresh)].id}
                    made.append((fresh, row))
                    view.add(lease_from({**row, "id": 0}))
            if made:
                ids = _insert(connection, [row for _, row in made])
                picked = {each.place: _pick(each, view) for each, _ in made}
                store_picks(connection, pools.values(), picked)
                leases = [lease_from({**row, "id": ids[each.place]}) for each, row in made]
                adopted = zip(leases, (each for each, _ in made), strict=True)
                ledger.append(
                    connection, [_event(item, each, now, actor) for item, each in adopted]
                )
            return tuple(outcomes)

        return run_write(self._engine, work)


def _insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> dict[Place, int]:
    """The numbers of the new leases by their places."""
    ordered = sorted(rows, key=lambda row: (row["domain"], row["address"]))
    answers = connection.execute(_INSERT[connection.dialect.name], ordered).all()
    if len(answers) < len(rows):
        raise collision()
    return {(row.domain, bytes(row.address)): row.id for row in answers}


def _pick(adoption: Adoption, view: _View) -> Pick:
    resting = view.resting.get(adoption.place)
    return Pick(
        value=int(adoption.address),
        released_at=resting.released_at if resting else 0,
        was_freed=resting is not None,
    )


def _event(item: Lease, adoption: Adoption, now: int, actor: str) -> dict[str, Any]:
    told = event_of(item, EventKind.IMPORT, now, reason=item.note)
    detail = told["detail"] | {"source": adoption.source, "actor": actor}
    if adoption.since is not None:
        detail["since"] = adoption.since
    return told | {"detail": detail}


@dataclass(slots=True)
class _View:
    """What a transaction sees of the places and owners of some adoptions, and what it adds."""

    held: dict[Place, Lease] = field(default_factory=dict)
    resting: dict[Place, Resting] = field(default_factory=dict)
    ended: dict[tuple[Place, str], Lease] = field(default_factory=dict)
    of_container: dict[str, list[Lease]] = field(default_factory=dict)
    of_pod: dict[str, list[Lease]] = field(default_factory=dict)
    of_claim: dict[tuple[str, str], list[Lease]] = field(default_factory=dict)
    retired: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, connection: Connection, part: Sequence[Adoption]) -> _View:
        """What is stored now."""
        view = cls()
        asked = places_asked(each.place for each in part)
        containers = sorted({each.owner.container_id for each in part})
        pods = sorted({each.owner.pod_uid for each in part if each.owner.pod_uid})
        claims = sorted({each.owner.claim for each in part if each.owner.claim})
        found: dict[int, Lease] = {}
        for statement, values in (
            (_HELD, asked),
            (_OF_CONTAINERS, {"containers": containers}),
            (_OF_PODS, {"pods": pods}),
            (_CLAIMED, {"claims": claims}),
        ):
            for row in connection.execute(statement, values):
                found[row.id] = to_lease(row)
        for item in found.values():
            view.add(item)
        # After the holders: an address released in between is seen here as resting.
        for row in connection.execute(_RESTING, asked):
            view.resting[row.domain, bytes(row.address)] = Resting(
                namespace=row.namespace,
                pod=row.pod,
                claim=row.claim,
                released_at=row.released_at,
                ready_at=row.ready_at,
            )
        past = {"addresses": asked["addresses"], "containers": containers}
        for row in connection.execute(_ENDED, past):
            place = (row.domain, bytes(row.address))
            view.ended[place, row.container_id] = to_lease(row)
        uids = sorted({each.network.uid for each in part})
        view.retired = set(connection.execute(_RETIRED, {"uids": uids}).scalars())
        return view

    def add(self, item: Lease) -> None:
        """See a lease that is open, or that this transaction opens."""
        self.held[item.domain, item.address.ip.packed] = item
        self.of_container.setdefault(item.container_id, []).append(item)
        if item.pod_uid:
            self.of_pod.setdefault(item.pod_uid, []).append(item)
        if item.claim:
            self.of_claim.setdefault((item.namespace, item.claim), []).append(item)

    def standing(self, adoption: Adoption) -> Standing:
        """What is known of one adoption."""
        owner = adoption.owner
        own = self.of_container.get(owner.container_id, [])
        others = list(self.of_pod.get(owner.pod_uid, [])) if owner.pod_uid else []
        if owner.claim:
            others += self.of_claim.get((owner.namespace, owner.claim), [])
        return Standing(
            holder=self.held.get(adoption.place),
            resting=self.resting.get(adoption.place),
            last=self.ended.get((adoption.place, owner.container_id)),
            own=(*own, *(each for each in others if each.container_id != owner.container_id)),
            retired=adoption.network.uid in self.retired,
        )


def _judged(view: _View, adoption: Adoption, now: int) -> tuple[Outcome, Adoption | None]:
    """The outcome, and what is to be made a lease."""
    standing = view.standing(adoption)
    refused = judge(adoption, standing, now)
    if refused is not None:
        return refused, None
    free = vacant(adoption, standing.own)
    return Outcome(verdict=Verdict.ADOPTED), named_apart(free, standing.own)


def _parts(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]


def _pool_of(adoption: Adoption) -> PoolSpec:
    pool = adoption.network.pool(adoption.address.version)
    if pool is None or adoption.address not in pool.subnet:
        raise BugError(
            f"{adoption.address} is to be adopted into a network without it",
            hint="report this",
            subject=str(adoption.network.key),
        )
    return pool


def _key(adoption: Adoption) -> PoolKey:
    network = adoption.network
    return str(network.key), adoption.address.version, network.domain


def _row(adoption: Adoption, start: int) -> dict[str, Any]:
    pool, owner = _pool_of(adoption), adoption.owner
    return {
        "pool_id": 0,
        "network": str(adoption.network.key),
        "network_uid": adoption.network.uid,
        "domain": adoption.network.domain,
        "family": pool.family,
        "address": adoption.address.packed,
        "address_text": str(adoption.address),
        "prefix": pool.subnet.prefixlen,
        "interface": adoption.interface,
        "namespace": owner.namespace,
        "pod": owner.pod,
        "pod_uid": owner.pod_uid,
        "container_id": owner.container_id,
        "node": owner.node,
        "mac": adoption.mac,
        "mode": str(adoption.mode),
        "pooled": int(layout(pool).holds(int(adoption.address))),
        "held_from": start,
        "held_to": None,
        "cool_until": None,
        "end_reason": None,
        "note": f"{IMPORTED}{adoption.source}",
        "claim": owner.claim,
        "shared_by": "",
    }
