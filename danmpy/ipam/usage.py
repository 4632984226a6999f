"""How full networks are, now or at an earlier time: the counting behind `audit.Audit.usage`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, and_, exists, func, or_, select
from sqlalchemy.sql import ColumnElement

from danmpy.api.specs import Family, NetworkSpec, PoolSpec
from danmpy.ipam.pools import Range, layout, pack
from danmpy.ipam.schema import freed, lease
from danmpy.ipam.values import NetworkUsage, PoolUsage

_RANGES_AT_ONCE: Final = 50
"""How many ranges one statement asks about; SQLite limits the depth of an expression to 1000."""

Expression = ColumnElement[bool]


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
