"""Picking addresses inside a transaction: the pool's cursor first, then the queue of freed ones.

Nothing here decides uniqueness. A pick that collides is refused by the unique index over open
leases, and the whole transaction is tried again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from sqlalchemy import (
    Connection,
    and_,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from danmpy.api.specs import Family, NetworkSpec, PoolSpec
from danmpy.clock import to_rfc3339
from danmpy.db.errors import TransientError
from danmpy.errors import ExhaustedError
from danmpy.ipam.pools import WINDOW_MAX, Layout, layout, pack, take_fresh, unpack
from danmpy.ipam.schema import freed, lease, pool
from danmpy.ipam.values import FOR_THE_CLAIM, EndReason

T = TypeVar("T")

PoolKey = tuple[str, Family, str]
"""Network, family and domain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """One address to bind: its number, and when its last lease ended (0: never held).

    `claimed`: it was kept for the claim of who asks for it by name, and goes on being so.
    """

    value: int
    released_at: int = 0
    was_freed: bool = False
    claimed: bool = False


@dataclass(slots=True, kw_only=True)
class OpenPool:
    """A pool whose row is locked by this transaction.

    `taken` is what this transaction picked already, shared by the pools of one domain.
    """

    id: int
    key: PoolKey
    spec: PoolSpec
    space: Layout
    cursor: int | None
    moved: bool = False
    taken: set[int] = field(default_factory=set)


_INSERT_POOL: Final = {
    "sqlite": sqlite.insert(pool).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(pool).on_conflict_do_nothing(),
}
_LOCK_POOLS: Final = (
    select(pool)
    .where(pool.c.network.in_(bindparam("networks", expanding=True)))
    .order_by(pool.c.network, pool.c.family, pool.c.domain)
    # Not FOR UPDATE: that would wait for everybody who is inserting a lease of the pool.
    .with_for_update(key_share=True)
)
_MOVE_CURSOR: Final = (
    update(pool).where(pool.c.id == bindparam("pool")).values(next=bindparam("position"))
)
_RESHAPE: Final = (
    update(pool)
    .where(pool.c.id == bindparam("pool"))
    .values(
        shape=bindparam("new_shape"),
        subnet=bindparam("new_subnet"),
        next=bindparam("position"),
    )
)
_LEAVE_QUEUE: Final = (
    update(freed)
    .where(freed.c.domain == bindparam("in_domain"), freed.c.address == bindparam("at_address"))
    .values(pool_id=None)
)

_open = lease.c.held_to.is_(None)


def any_of(table: Any) -> Any:
    """The rows of every domain with every address that is asked: all of `places_asked`, and more.

    Two lists and not one of pairs, for which SQLite reads the whole table.
    """
    return and_(
        table.c.domain.in_(bindparam("domains", expanding=True)),
        table.c.address.in_(bindparam("addresses", expanding=True)),
    )


def places_asked(places: Iterable[tuple[str, bytes]]) -> dict[str, list[Any]]:
    """The parameters of `any_of` for these domains and addresses."""
    pairs = tuple(places)
    return {
        "domains": sorted({domain for domain, _ in pairs}),
        "addresses": sorted({data for _, data in pairs}),
    }


def _window(table: Any) -> Any:
    return and_(
        table.c.domain == bindparam("domain"),
        table.c.address.between(bindparam("low"), bindparam("high")),
    )


def _of_family(table: Any) -> Any:
    """In that window, and of that family: bytes of an IPv6 address may lie between IPv4 ones."""
    return and_(_window(table), table.c.family == bindparam("family"))


# What is busy need not be told apart by family: a number that the window lacks blocks nothing.
_BUSY: Final = union_all(
    select(lease.c.address).where(_window(lease), _open),
    select(freed.c.address).where(_window(freed)),
)
_held_now = exists().where(
    lease.c.domain == freed.c.domain, lease.c.address == freed.c.address, _open
)
_FREED = select(freed.c.address, freed.c.released_at).where(
    freed.c.ready_at <= bindparam("now"), ~_held_now
)
_QUEUE: Final = (
    _FREED.where(freed.c.pool_id == bindparam("pool"))
    .order_by(freed.c.ready_at, freed.c.address)
    .limit(bindparam("count"))
)
_OTHER_QUEUES: Final = (
    _FREED.where(
        _of_family(freed), or_(freed.c.pool_id.is_(None), freed.c.pool_id != bindparam("pool"))
    )
    .order_by(freed.c.ready_at, freed.c.address)
    .limit(bindparam("count"))
)
_ROLLED_BACK: Final = (
    select(
        freed.c.network,
        freed.c.interface,
        freed.c.domain,
        freed.c.family,
        freed.c.address,
        freed.c.released_at,
    )
    .where(
        freed.c.pod_uid == bindparam("pod_uid"),
        # A literal, as in the partial index that this goes by.
        freed.c.end_reason == literal_column(f"'{EndReason.ROLLBACK}'"),
        ~_held_now,
    )
    .order_by(freed.c.ready_at, freed.c.address)
)
_TAKE_FREED: Final = delete(freed).where(
    freed.c.domain == bindparam("in_domain"), freed.c.address == bindparam("at_address")
)
_RELEASED: Final = select(freed.c.domain, freed.c.address, freed.c.released_at).where(any_of(freed))
_COUNT_HELD: Final = select(func.count()).select_from(lease).where(_of_family(lease), _open)
_COUNT_COOLING: Final = select(func.count(), func.min(freed.c.ready_at)).where(
    _of_family(freed), freed.c.ready_at > bindparam("now"), ~_held_now
)


def lock_pools(
    connection: Connection, wanted: Mapping[PoolKey, PoolSpec]
) -> dict[PoolKey, OpenPool]:
    """Lock the row of every wanted pool, always in the same order; make those that are missing."""
    rows = _lock(connection, wanted)
    missing = sorted(set(wanted) - set(rows))
    if missing:
        make_pools(connection, {key: wanted[key] for key in missing})
        rows = _lock(connection, wanted)
    opened = {key: _opened(connection, key, wanted[key], rows[key]) for key in wanted}
    shared: dict[tuple[str, Family], set[int]] = {}
    for (_, family, domain), item in opened.items():
        item.taken = shared.setdefault((domain, family), item.taken)
    return opened


def _lock(connection: Connection, wanted: Mapping[PoolKey, PoolSpec]) -> dict[PoolKey, Any]:
    networks = sorted({key[0] for key in wanted})
    rows = connection.execute(_LOCK_POOLS, {"networks": networks})
    return {(row.network, row.family, row.domain): row for row in rows}


def make_pools(connection: Connection, missing: Mapping[PoolKey, PoolSpec]) -> None:
    """Make the rows of these pools, those that are not there yet."""
    rows = []
    for (network, family, domain), spec in missing.items():
        start = layout(spec).at_or_after(0)
        rows.append(
            {
                "network": network,
                "family": family,
                "domain": domain,
                "subnet": str(spec.subnet),
                "shape": layout(spec).shape,
                "next": None if start is None else pack(family, start),
            }
        )
    connection.execute(_INSERT_POOL[connection.dialect.name], rows)


def _opened(connection: Connection, key: PoolKey, spec: PoolSpec, row: Any) -> OpenPool:
    space = layout(spec)
    opened = OpenPool(
        id=row.id,
        key=key,
        spec=spec,
        space=space,
        cursor=None if row.next is None else unpack(row.next),
    )
    if row.shape != space.shape:
        _reshape(connection, opened)
    return opened


def _reshape(connection: Connection, opened: OpenPool) -> None:
    """The network's addresses were changed: start the cursor anew.

    That is always safe, as the cursor skips what is held or freed. It is written together with the
    shape, because a bind that finds everything there already writes nothing more.
    """
    opened.cursor = opened.space.at_or_after(0)
    connection.execute(
        _RESHAPE,
        {
            "pool": opened.id,
            "new_shape": opened.space.shape,
            "new_subnet": str(opened.spec.subnet),
            "position": _position(opened),
        },
    )


def _position(opened: OpenPool) -> bytes | None:
    """The cursor as it is stored."""
    return None if opened.cursor is None else pack(opened.key[1], opened.cursor)


def take(connection: Connection, opened: OpenPool, count: int, now: int) -> tuple[Pick, ...]:
    """`count` addresses that nobody holds, or fewer when the pool has no more.

    Never-used ones come first, then those that were freed the longest time ago.
    """
    _, family, domain = opened.key

    def busy(low: int, high: int) -> Collection[int]:
        rows = connection.execute(_BUSY, {"domain": domain, **_bounds(family, low, high)}).scalars()
        return {unpack(row) for row in rows} | opened.taken

    values, cursor = take_fresh(opened.space, opened.cursor, count, busy)
    picks = [Pick(value=value) for value in values]
    opened.moved = opened.moved or cursor != opened.cursor
    opened.cursor = cursor
    opened.taken.update(values)
    if len(picks) < count:
        picks += _from_queues(connection, opened, count - len(picks), now)
    return tuple(picks)


def _bounds(family: Family, low: int, high: int) -> dict[str, bytes]:
    top = 2**32 - 1 if family == 4 else 2**128 - 1
    return {"low": pack(family, low), "high": pack(family, min(high, top))}


def _from_queues(connection: Connection, opened: OpenPool, count: int, now: int) -> list[Pick]:
    """Ready addresses: of the pool's own queue, then of overlapping pools in the same domain."""
    _, family, domain = opened.key
    asked = {"pool": opened.id, "now": now, "count": count + len(opened.taken)}
    rows = connection.execute(_QUEUE, asked).all()
    while misfits := [row.address for row in rows if not opened.space.holds(unpack(row.address))]:
        # Leased before the network's addresses were changed. There may be many of them in a row.
        connection.execute(
            _LEAVE_QUEUE, [{"in_domain": domain, "at_address": data} for data in misfits]
        )
        asked["count"] = min(4 * asked["count"], WINDOW_MAX)
        rows = connection.execute(_QUEUE, asked).all()
    picks = _unused(opened, rows, count)
    for first, last in opened.space.ranges:
        if len(picks) == count:
            break
        rows = connection.execute(
            _OTHER_QUEUES,
            {**asked, "domain": domain, "family": family, **_bounds(family, first, last)},
        ).all()
        picks += _unused(opened, rows, count - len(picks))
    return picks


def _unused(opened: OpenPool, rows: Sequence[Any], count: int) -> list[Pick]:
    picks: list[Pick] = []
    for row in rows:
        value = unpack(row.address)
        if value not in opened.taken and len(picks) < count:
            opened.taken.add(value)
            picks.append(Pick(value=value, released_at=row.released_at, was_freed=True))
    return picks


def rolled_back(
    connection: Connection, pod_uid: str, places: Mapping[T, tuple[OpenPool, str]]
) -> dict[T, Pick]:
    """The addresses that a failed attachment of the same pod gave back, where they still rest.

    `places` names a pool and an interface for every want. No other pod had the address since and it
    never served, so the pod's next try may have it at once; otherwise a pod that fails again and
    again would drain the pool into the cool-down.
    """
    rows = connection.execute(_ROLLED_BACK, {"pod_uid": pod_uid}).all()
    picks: dict[T, Pick] = {}
    for want, (opened, interface) in places.items():
        place = (opened.key[0], interface, opened.key[2], opened.key[1])
        fitting = [
            row
            for row in rows
            if (row.network, row.interface, row.domain, row.family) == place
            and opened.space.holds(unpack(row.address))
        ]
        for pick in _unused(opened, fitting, 1):
            picks[want] = pick
    return picks


def store_picks(
    connection: Connection, pools: Collection[OpenPool], picked: Mapping[tuple[str, bytes], Pick]
) -> None:
    """Move the cursors that moved, and take the picked addresses out of the freed ones.

    Called when the leases of `picked` (by domain and address) are stored: from then on nobody else
    can hold the addresses, so what is freed of them now tells the whole past.

    Raises:
        TransientError: another network of the domain held an address after we had looked at it.
    """
    moves = [
        {"pool": item.id, "position": _position(item)}
        for item in sorted(pools, key=lambda item: item.key)
        if item.moved
    ]
    if moves:
        connection.execute(_MOVE_CURSOR, moves)
    known = {place: pick.released_at for place, pick in picked.items() if pick.was_freed}
    if connection.dialect.name == "postgresql":  # SQLite's writer is alone
        rows = connection.execute(_RELEASED, places_asked(picked))
        left = {(row.domain, row.address): row.released_at for row in rows}
        if known != {place: left[place] for place in picked if place in left}:
            raise collision()
    if known:
        connection.execute(
            _TAKE_FREED,
            [{"in_domain": domain, "at_address": data} for domain, data in sorted(known)],
        )


def collision() -> TransientError:
    """Somebody else was faster; a new transaction settles it."""
    return TransientError(
        "another transaction took the same address or attachment first",
        hint="try again",
        subject="database",
    )


def exhausted(
    connection: Connection, opened: OpenPool, network: NetworkSpec, now: int
) -> ExhaustedError:
    """Say which pool is full, of what, and when the next address comes back."""
    _, family, domain = opened.key
    held = cooling = 0
    earliest: int | None = None
    for first, last in opened.space.ranges:
        asked = {"domain": domain, "family": family, "now": now, **_bounds(family, first, last)}
        held += connection.execute(_COUNT_HELD, asked).scalar_one()
        resting, ready = connection.execute(_COUNT_COOLING, asked).one()
        cooling += resting
        if ready is not None:
            earliest = ready if earliest is None else min(earliest, ready)
    hint = "widen the allocation pool, or see `danmpy audit usage` and remove pods"
    if earliest is not None and earliest < FOR_THE_CLAIM:
        seconds = -(-(earliest - now) // 1_000_000)
        hint = f"the next address is ready in {seconds} s, at {to_rfc3339(earliest)}"
    first_text = opened.spec.address(opened.spec.first)
    last_text = opened.spec.address(opened.spec.last)
    return ExhaustedError(
        f"the IPv{family} pool {first_text}-{last_text} is full: {held} of "
        f"{opened.space.capacity} addresses held, {cooling} cooling down",
        hint=hint,
        subject=str(network.key),
    )
