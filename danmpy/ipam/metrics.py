"""How full the pools are and how the ledger does, for Prometheus.

Labels are network, family and tenant, never an address or a pod. What is scraped was read by
`care.PoolCare` a few seconds before: a scrape asks no database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from danmpy.ipam.values import PoolUsage

_LABELS = ("network", "family", "tenant")
_GAUGES = {
    "capacity": "Addresses that dynamic requests can get in all",
    "held": "Addresses that are leased",
    "cooling": "Addresses that rest after their last lease",
    "free": "Addresses that a dynamic request could get now",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReading:
    """One pool; `exhausted_in`: seconds until it is full, None when that is not in sight."""

    network: str
    family: int
    usage: PoolUsage
    exhausted_in: float | None = None

    @property
    def labels(self) -> tuple[str, str, str]:
        """Network, family and tenant: the namespace of ``Kind/namespace/name``."""
        parts = self.network.split("/")
        return (self.network, str(self.family), parts[1] if len(parts) == 3 else "")


class PoolMetrics(Collector):
    """What was read last."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._families: tuple[Metric, ...] = ()
        registry.register(self)

    def show(self, readings: Iterable[PoolReading], ledger: Mapping[str, float]) -> None:
        """Show these from now on. `ledger`: `seal_lag_seconds` and `events`."""
        gauges = {
            name: GaugeMetricFamily(f"danmpy_pool_{name}", words, labels=_LABELS)
            for name, words in _GAUGES.items()
        }
        forecast = GaugeMetricFamily(
            "danmpy_pool_exhausted_seconds",
            "Seconds until the pool is full, if its use grows on as in the last week",
            labels=_LABELS,
        )
        for reading in readings:
            labels = reading.labels
            for name, gauge in gauges.items():
                gauge.add_metric(labels, float(getattr(reading.usage, name)))
            if reading.exhausted_in is not None:
                forecast.add_metric(labels, reading.exhausted_in)
        more = [
            GaugeMetricFamily(f"danmpy_ledger_{name}", _LEDGER[name], value=value)
            for name, value in ledger.items()
        ]
        self._families = (*gauges.values(), forecast, *more)

    def clear(self) -> None:
        """Show nothing: another process does."""
        self._families = ()

    def collect(self) -> Iterable[Metric]:
        """As the registry asks."""
        return self._families


_LEDGER = {
    "seal_lag_seconds": "Age of the oldest event that no seal covers yet; 0 when all are sealed",
    "events": "Number of the last event of the ledger",
}
