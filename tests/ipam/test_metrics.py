"""What Prometheus sees of the pools: bounded labels, and fast for a thousand networks."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from danmpy.ipam.metrics import PoolMetrics, PoolReading
from danmpy.ipam.values import PoolUsage

USAGE = PoolUsage(cidr="10.0.0.0/24", capacity=254, held=9, outside=0, cooling=2, free=243)
LEDGER = {"seal_lag_seconds": 1.5, "events": 12.0}


def test_a_pool_is_shown_by_network_family_and_tenant() -> None:
    registry = CollectorRegistry()
    metrics = PoolMetrics(registry)
    assert generate_latest(registry) == b""
    blue = PoolReading(network="TenantNetwork/blue/a", family=4, usage=USAGE, exhausted_in=3600.0)
    shared = PoolReading(network="ClusterNetwork/shared", family=6, usage=USAGE)
    metrics.show([blue, shared], LEDGER)

    labels = {"network": "TenantNetwork/blue/a", "family": "4", "tenant": "blue"}
    for name, value in (("capacity", 254), ("held", 9), ("cooling", 2), ("free", 243)):
        assert registry.get_sample_value(f"danmpy_pool_{name}", labels) == value
    assert registry.get_sample_value("danmpy_pool_exhausted_seconds", labels) == 3600
    other = {"network": "ClusterNetwork/shared", "family": "6", "tenant": ""}
    assert registry.get_sample_value("danmpy_pool_held", other) == 9
    assert registry.get_sample_value("danmpy_pool_exhausted_seconds", other) is None
    assert registry.get_sample_value("danmpy_ledger_seal_lag_seconds") == 1.5
    assert registry.get_sample_value("danmpy_ledger_events") == 12
    metrics.clear()
    assert generate_latest(registry) == b""


def test_a_scrape_of_a_thousand_networks_is_fast() -> None:
    registry = CollectorRegistry()
    metrics = PoolMetrics(registry)
    metrics.show(
        [
            PoolReading(network=f"TenantNetwork/t{n}/net", family=family, usage=USAGE)
            for n in range(1000)
            for family in (4, 6)
        ],
        LEDGER,
    )
    best = 1.0
    for _ in range(10):
        began = time.thread_time()
        text = generate_latest(registry)
        best = min(best, time.thread_time() - began)
    print(f"{best * 1000:.0f} ms of CPU, {len(text)} bytes")
    assert text.count(b"\n") > 8000
    assert best < 0.1
