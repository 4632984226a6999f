"""How full networks are: the counting behind `audit.Audit.usage` and `usage_of_all`.

One network, now or at an earlier time, is counted by the database through its indexes. All
networks at once are counted here over one reading of what is held and what cools down: that is
much cheaper than asking a thousand times, and both say the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, and_, bindparam, exists, func, or_, select
from sqlalchemy.sql import ColumnElement

from danmpy.api.specs import Family, NetworkKey, NetworkSpec, PoolSpec
from danmpy.ipam.pools import Layout, Range, layout, pack, unpack
from danmpy.ipam.schema import freed, lease
from danmpy.ipam.values import NetworkUsage, PoolUsage

_RANGES_AT_ONCE: Final = 50
"""How many ranges one statement asks about; SQLite limits the depth of an expression to 1000."""

_IN_PORTIONS: Final = {"yield_per": 5000}

Expression = ColumnElement[bool]

_open = lease.c.held_to.is_(None)
_HELD: Final = select(lease.c.network, lease.c.domain, lease.c.family, lease.c.address).where(_open)
_COOLING: Final = select(freed.c.domain, freed.c.family, freed.c.address).where(
    freed.c.ready_at > bindparam("now"),
    ~exists().where(lease.c.domain == freed.c.domain, lease.c.address == freed.c.address, _open),
)


@dataclass(slots=True)
class _Tally:
    """The counts of one family of one network while the rows pass by."""

    cidr: str
    space: Layout
    held: int = 0
    inside: int = 0
    busy: int = 0
    cooling: int = 0

    def usage(self) -> PoolUsage:
        """The counts as a value."""
        capacity = self.space.capacity
        return PoolUsage(
            cidr=self.cidr,
            capacity=capacity,
            held=self.held,
            outside=self.held - self.inside,
            cooling=self.cooling,
            free=max(0, capacity - self.busy - self.cooling),
        )


def usage_of_all(
    connection: Connection, networks: Iterable[NetworkSpec], now: int
) -> dict[NetworkKey, NetworkUsage]:
    """The use of every one of `networks` at present; each as `usage_of` tells it.

    Two statements, whatever the number of networks. The leases pass by once, in portions, so that
    the memory does not grow with their number.
    """
    tallies: dict[tuple[NetworkKey, Family], _Tally] = {}
    of_network: dict[tuple[str, Family], _Tally] = {}
    in_domain: dict[tuple[str, Family], list[_Tally]] = defaultdict(list)
    wanted = {network.key: network for network in networks}
    for key, network in wanted.items():
        for family in (4, 6):
            pool = network.pool(family)
            if pool is not None:
                tally = _Tally(cidr=str(pool.subnet), space=layout(pool))
                tallies[key, family] = of_network[str(key), family] = tally
                in_domain[network.domain, family].append(tally)
    for name, domain, family, address in connection.execute(_HELD, execution_options=_IN_PORTIONS):
        holder = of_network.get((name, family))
        if holder is not None:
            holder.held += 1
        for tally in _around(in_domain, (domain, family), address):
            tally.busy += 1
            tally.inside += tally is holder
    # Not in portions: PostgreSQL plans a cursor for its first rows, and so this one a hundred times
    # slower while it has no statistics. What cools down at one moment is little.
    for domain, family, address in connection.execute(_COOLING, {"now": now}):
        for tally in _around(in_domain, (domain, family), address):
            tally.cooling += 1
    usages = {place: tally.usage() for place, tally in tallies.items()}
    return {
        key: NetworkUsage(network=str(key), v4=usages.get((key, 4)), v6=usages.get((key, 6)))
        for key in wanted
    }


def _around(
    in_domain: dict[tuple[str, Family], list[_Tally]], place: tuple[str, Family], address: bytes
) -> list[_Tally]:
    """The pools whose dynamic range the address lies in."""
    tallies = in_domain.get(place)
    if not tallies:
        return []
    value = unpack(address)
    return [tally for tally in tallies if tally.space.holds(value)]


def usage_of(connection: Connection, network: NetworkSpec, at: int, *, now: bool) -> NetworkUsage:
    """The use of `network` at `at`; `now`: that is the present, which is answered faster."""
    families: dict[Family, PoolUsage | None] = {}
    for family in (4, 6):
        pool = network.pool(family)
        counts = _Counts(connection, network, family, at, now=now)
        families[family] = None if pool is None else counts.usage(pool)
    return NetworkUsage(network=str(network.key), v4=families[4], v6=families[6])


class _Counts:
    """Counts for one family of one network.

    The present is read from the open rows and the queue of freed addresses, which have indexes of
    their own; the past from the whole history of the addresses.
    """

    def __init__(
        self, connection: Connection, network: NetworkSpec, family: Family, at: int, *, now: bool
    ) -> None:
        self._connection = connection
        self._network = str(network.key)
        self._domain = network.domain
        self._family = family
        self._at = at
        self._now = now

    def usage(self, pool: PoolSpec) -> PoolUsage:
        """The numbers of this family. One statement counts all, so that they belong together."""
        space = layout(pool)
        held = inside = busy = cooling = 0
        for number, ranges in enumerate(_batches(space.ranges)):
            row = self._connection.execute(
                select(
                    self._held(),
                    self._busy(ranges, own=True),
                    self._busy(ranges, own=False),
                    self._cooling(ranges),
                )
            ).one()
            held = row[0] if number == 0 else held
            inside += row[1]
            busy += row[2]
            cooling += row[3]
        if not space.ranges:
            held = self._connection.execute(select(self._held())).scalar_one()
        return PoolUsage(
            cidr=str(pool.subnet),
            capacity=space.capacity,
            held=held,
            outside=held - inside,
            cooling=cooling,
            free=max(0, space.capacity - busy - cooling),
        )

    def _held(self) -> Any:
        """What the network has leased, wherever it lies."""
        return _count(
            lease, lease.c.network == self._network, lease.c.family == self._family, self._then()
        )

    def _busy(self, ranges: list[Range], *, own: bool) -> Any:
        """Addresses of the ranges that are leased in the domain, by anybody or by this network."""
        mine = (lease.c.network == self._network,) if own else ()
        return _count(
            lease,
            lease.c.domain == self._domain,
            lease.c.family == self._family,
            self._within(lease, ranges),
            self._then(),
            *mine,
        )

    def _cooling(self, ranges: list[Range]) -> Any:
        """Addresses of the ranges that nobody holds and nobody may have yet."""
        if self._now:
            return _count(
                freed,
                freed.c.domain == self._domain,
                freed.c.family == self._family,
                self._within(freed, ranges),
                freed.c.ready_at > self._at,
                ~exists().where(
                    lease.c.domain == freed.c.domain,
                    lease.c.address == freed.c.address,
                    lease.c.held_to.is_(None),
                ),
            )
        held = lease.alias("held")
        return (
            select(func.count(lease.c.address.distinct()))
            .where(
                lease.c.domain == self._domain,
                lease.c.family == self._family,
                self._within(lease, ranges),
                lease.c.held_to <= self._at,
                lease.c.cool_until > self._at,
                ~exists().where(
                    held.c.family == lease.c.family,
                    held.c.address == lease.c.address,
                    held.c.domain == lease.c.domain,
                    held.c.held_from <= self._at,
                    or_(held.c.held_to.is_(None), held.c.held_to > self._at),
                ),
            )
            .scalar_subquery()
        )

    def _then(self) -> Expression:
        """Was the lease held at that time?"""
        if self._now:
            return lease.c.held_to.is_(None)
        return and_(
            lease.c.held_from <= self._at,
            or_(lease.c.held_to.is_(None), lease.c.held_to > self._at),
        )

    def _within(self, table: Any, ranges: list[Range]) -> Expression:
        return or_(
            *(
                table.c.address.between(pack(self._family, first), pack(self._family, last))
                for first, last in ranges
            )
        )


def _count(table: Any, *conditions: Any) -> Any:
    return select(func.count()).select_from(table).where(*conditions).scalar_subquery()


def _batches(ranges: tuple[Range, ...]) -> Iterator[list[Range]]:
    rest = iter(ranges)
    while batch := list(islice(rest, _RANGES_AT_ONCE)):
        yield batch
