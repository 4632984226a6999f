"""The care of history as jobs: looking how full the pools are, and forgetting what is due.

In a cluster the leader of the controllers does it, on a single machine its node daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from sqlalchemy import Engine, bindparam, func, select

from danmpy.api.specs import NetworkSpec
from danmpy.clock import MICROSECONDS, Clock, monotonic
from danmpy.db.engine import database_now, snapshot
from danmpy.ipam.audit import Audit
from danmpy.ipam.metrics import PoolMetrics, PoolReading
from danmpy.ipam.retention import Pruning, Retention
from danmpy.ipam.samples import STEP_S, UsageSamples
from danmpy.ipam.schema import event, seal

LOOK_S: Final = 15.0
"""Seconds between two looks; what Prometheus scrapes is as old as that."""

PRUNE_S: Final = 86_400.0
"""Seconds between two prunings: history is kept for days, and each one leaves events that stay."""

_SEALED_BELOW: Final = select(func.coalesce(func.max(seal.c.txid_to), 0))
_OLDEST: Final = select(func.min(event.c.at)).where(event.c.txid >= bindparam("low"))
_LAST: Final = select(func.coalesce(func.max(event.c.seq), 0))


class PoolCare:
    """Reads the pools, shows them to Prometheus, and stores a sample from time to time."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        networks: Callable[[], Iterable[NetworkSpec]],
        leading: Callable[[], bool],
        metrics: PoolMetrics,
    ) -> None:
        """`networks` gives the resolved networks; nothing is done unless `leading`."""
        self._engine = engine
        self._clock = clock
        self._networks = networks
        self._leading = leading
        self._metrics = metrics
        self._audit = Audit(engine, clock)
        self._samples = UsageSamples(engine, clock)
        self._sampled_at = -float(STEP_S)
        self._forecasts: Mapping[tuple[str, int], int | None] = {}

    def look(self) -> None:
        """One look.

        Raises:
            StoreError: the database cannot be used; what was read before is shown on.
        """
        if not self._leading():
            self._metrics.clear()
            return
        usages = tuple(self._audit.usage_of_all(self._networks()).values())
        if monotonic() - self._sampled_at >= STEP_S:
            self._samples.record(usages)
            self._samples.forget_old()
            self._forecasts = self._samples.forecasts(usages)
            self._sampled_at = monotonic()
        with snapshot(self._engine) as connection:
            now = database_now(connection, self._clock)
            sealed = connection.execute(_SEALED_BELOW).scalar_one()
            oldest = connection.execute(_OLDEST, {"low": sealed}).scalar()
            last = connection.execute(_LAST).scalar_one()
        lag = 0.0 if oldest is None else max(0, now - oldest) / MICROSECONDS
        readings = [
            PoolReading(
                network=usage.network,
                family=family,
                usage=pool,
                exhausted_in=self._exhausted_in((usage.network, family), now),
            )
            for usage in usages
            for family, pool in ((4, usage.v4), (6, usage.v6))
            if pool is not None
        ]
        self._metrics.show(readings, {"seal_lag_seconds": lag, "events": float(last)})

    def _exhausted_in(self, place: tuple[str, int], now: int) -> float | None:
        moment = self._forecasts.get(place)
        return None if moment is None else max(0, moment - now) / MICROSECONDS


class PruneCare:
    """Forgets what is due, once a day."""

    def __init__(self, retention: Retention, leading: Callable[[], bool]) -> None:
        self._retention = retention
        self._leading = leading
        self._pruned_at = -PRUNE_S

    def look(self) -> Pruning:
        """Prune if it is time and we lead.

        Raises:
            StoreError: the database cannot be used; the next look tries again.
        """
        if not self._leading() or monotonic() - self._pruned_at < PRUNE_S:
            return Pruning()
        done = self._retention.run_once()
        self._pruned_at = monotonic()
        return done
