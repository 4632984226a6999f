"""Samples of how full the pools were: every five minutes for two days, every hour for 400 days.

Each sample is stored twice, for its five minutes and into that of its hour, so nothing has to be
counted together later and old rows are only deleted. A pool has at most 576 and 9600 rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine, and_, bindparam, case, delete, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from danmpy.clock import MICROSECONDS, Clock, to_rfc3339
from danmpy.db.engine import database_now, run_write, snapshot
from danmpy.ipam.forecast import WINDOW, exhausted_at
from danmpy.ipam.retaining import DAY
from danmpy.ipam.schema import usage_sample
from danmpy.ipam.values import Json, NetworkUsage, PoolUsage

STEP_S: Final = 300
"""Seconds between two samples."""

_HOUR_S: Final = 3600
KEPT: Final = {STEP_S: 2 * DAY, _HOUR_S: 400 * DAY}
"""How long the samples of each step are kept, in microseconds."""

_MOST: Final = 2**63 - 1
_AT_ONCE: Final = 500
_PAGE: Final = 5000

_table = usage_sample.c


def _upsert(dialect: Any) -> Any:
    statement = dialect.insert(usage_sample)
    new = statement.excluded
    values = {name: new[name] for name in ("capacity", "held", "cooling", "free")}
    values["peak"] = case((new.peak > _table.peak, new.peak), else_=_table.peak)
    return statement.on_conflict_do_update(
        index_elements=["network", "family", "step", "at"], set_=values
    )


_STORE: Final = {"sqlite": _upsert(sqlite), "postgresql": _upsert(postgresql)}
_ORDER: Final = (_table.network, _table.family, _table.at)
_FORGET: Final = delete(usage_sample).where(
    _table.step == bindparam("of_step"), _table.at < bindparam("before")
)
_OLDEST: Final = select(func.min(_table.at)).where(_table.step == bindparam("of_step"))
_WEEK: Final = (
    select(_table.network, _table.family, _table.at, _table.capacity, _table.free)
    .where(_table.step == _HOUR_S, _table.at >= bindparam("since"))
    .order_by(*_ORDER)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSample:
    """How full a pool was in the `step` seconds from `at` on; `peak`: the most held at once."""

    network: str
    family: int
    at: int
    step: int
    capacity: int
    held: int
    cooling: int
    free: int
    peak: int

    def to_json(self) -> Json:
        """The sample as a JSON object."""
        return {
            "network": self.network,
            "family": self.family,
            "at": to_rfc3339(self.at),
            "step": self.step,
            "capacity": self.capacity,
            "held": self.held,
            "cooling": self.cooling,
            "free": self.free,
            "peak": self.peak,
        }


class UsageSamples:
    """Records and reads samples.

    Raises (all methods):
        StoreError: the database cannot be used.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def record(self, usages: Iterable[NetworkUsage]) -> int:
        """Store a sample of each, in transactions of a few hundred; gives the number of pools."""
        pools = [
            (usage.network, family, pool)
            for usage in usages
            for family, pool in ((4, usage.v4), (6, usage.v6))
            if pool is not None
        ]
        for start in range(0, len(pools), _AT_ONCE):
            part = pools[start : start + _AT_ONCE]
            run_write(self._engine, lambda connection, part=part: self._store(connection, part))  # type: ignore[misc]
        return len(pools)

    def _store(self, connection: Connection, pools: Sequence[tuple[str, int, PoolUsage]]) -> None:
        now = database_now(connection, self._clock)
        rows = [
            {
                "network": network,
                "family": family,
                "step": step,
                "at": now - now % (step * MICROSECONDS),
                "capacity": min(pool.capacity, _MOST),
                "held": pool.held,
                "cooling": pool.cooling,
                "free": min(pool.free, _MOST),
                "peak": pool.held,
            }
            for network, family, pool in pools
            for step in KEPT
        ]
        connection.execute(_STORE[connection.dialect.name], rows)

    def forget_old(self) -> int:
        """Delete what is older than it is kept, in portions; gives how many rows went."""
        total = 0
        for step, kept in KEPT.items():
            while True:
                gone, more = run_write(
                    self._engine,
                    lambda connection, step=step, kept=kept: self._forget(connection, step, kept),  # type: ignore[misc]
                )
                total += gone
                if not more:
                    break
        return total

    def _forget(self, connection: Connection, step: int, kept: int) -> tuple[int, bool]:
        """One portion: twelve times of sampling at most."""
        before = database_now(connection, self._clock) - kept
        oldest = connection.execute(_OLDEST, {"of_step": step}).scalar()
        if oldest is None or oldest >= before:
            return 0, False
        until = min(before, oldest + step * 12 * MICROSECONDS)
        done = connection.execute(_FORGET, {"of_step": step, "before": until})
        return done.rowcount, True

    def series(
        self, networks: Sequence[str], since: int | None, until: int | None
    ) -> Iterator[UsageSample]:
        """The samples of `networks` (full names) of [`since`, `until`), by network, family and
        time; of every hour when `since` is further back than the finer ones are kept.
        """
        with snapshot(self._engine) as connection:
            now = database_now(connection, self._clock)
        first = now - DAY if since is None else since
        step = STEP_S if first >= now - KEPT[STEP_S] else _HOUR_S
        # The sample whose time has begun before the window and lasts into it belongs to it.
        where = and_(_table.step == step, _table.at > first - step * MICROSECONDS)
        if until is not None:
            where = and_(where, _table.at < until)
        for name in sorted(networks):
            page = select(usage_sample).where(where, _table.network == name)
            last: tuple[int, int] | None = None
            while True:
                query = page
                if last is not None:
                    family, at = last
                    behind = and_(_table.family == family, _table.at > at)
                    query = page.where(or_(_table.family > family, behind))
                with snapshot(self._engine) as connection:
                    rows = connection.execute(query.order_by(*_ORDER).limit(_PAGE)).all()
                for row in rows:
                    yield UsageSample(**row._mapping)  # noqa: SLF001 - public
                if len(rows) < _PAGE:
                    break
                last = (rows[-1].family, rows[-1].at)

    def forecasts(self, networks: Iterable[NetworkUsage]) -> Mapping[tuple[str, int], int | None]:
        """When each pool of `networks`, as full as it is now, is exhausted (microseconds), by its
        network and family; None when its use does not grow.
        """
        with snapshot(self._engine) as connection:
            now = database_now(connection, self._clock)
            taken: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
            for row in connection.execute(_WEEK, {"since": now - WINDOW}):
                taken[row.network, row.family].append((row.at, row.capacity - row.free))
        return {
            (usage.network, family): exhausted_at(
                taken.get((usage.network, family), ()), pool.free, now
            )
            for usage in networks
            for family, pool in ((4, usage.v4), (6, usage.v6))
            if pool is not None
        }
