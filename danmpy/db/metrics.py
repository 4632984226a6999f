"""What Prometheus is shown of the database's transactions."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine

from danmpy.db.engine import retries
from danmpy.db.errors import REASONS


class RetryMetrics(Collector):
    """Counts what `danmpy.db.engine.retries` counts; every reason is there from the start."""

    def __init__(self, engine: Engine, registry: CollectorRegistry) -> None:
        self._engine = engine
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The numbers of now."""
        family = CounterMetricFamily(
            "danmpy_database_retries",
            "Transactions that were begun anew, by the reason",
            labels=["reason"],
        )
        counts = retries(self._engine)
        for reason in sorted({*REASONS, *counts}):
            family.add_metric([reason], counts.get(reason, 0))
        yield family
