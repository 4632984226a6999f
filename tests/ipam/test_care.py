"""The jobs around history, on both engines: only who leads does them, and what they show."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from danmpy.ipam import care
from danmpy.ipam.care import PoolCare, PruneCare
from danmpy.ipam.metrics import PoolMetrics
from danmpy.ipam.retention import Retention
from support.leasing import World
from support.specs import network, tenant_key

NET = network(tenant_key("internal"), v4="10.0.0.0/24", vni=700)
LABELS = {"network": "TenantNetwork/blue/internal", "family": "4", "tenant": "blue"}


def test_the_leader_shows_the_pools_and_samples_them_every_five_minutes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, leads = [1000.0], [True]
    monkeypatch.setattr(care, "monotonic", lambda: now[0])
    registry = CollectorRegistry()
    pools = PoolCare(
        world.engine, world.clock, lambda: [NET], lambda: leads[0], PoolMetrics(registry)
    )
    world.bind(NET)
    pools.look()
    assert registry.get_sample_value("danmpy_pool_held", LABELS) == 1
    assert registry.get_sample_value("danmpy_ledger_events") == 1
    assert (registry.get_sample_value("danmpy_ledger_seal_lag_seconds") or 0) > 0
    world.ledger.seal()
    world.bind(NET, "web-1")
    world.ledger.seal()
    now[0] += 299
    pools.look()
    assert registry.get_sample_value("danmpy_pool_held", LABELS) == 2
    assert registry.get_sample_value("danmpy_ledger_seal_lag_seconds") == 0
    held = "SELECT held FROM usage_sample WHERE step = 300"
    assert world.rows(held) == [(1,)]
    now[0] += 1
    pools.look()
    assert (2,) in world.rows(held)
    leads[0] = False
    pools.look()
    assert generate_latest(registry) == b""


def test_pruning_is_for_the_leader_once_a_day(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, leads, runs = [0.0], [False], []
    monkeypatch.setattr(care, "monotonic", lambda: now[0])
    keeper = Retention(world.engine, world.clock, 400)
    real = keeper.run_once
    monkeypatch.setattr(keeper, "run_once", lambda: runs.append(now[0]) or real())
    prune = PruneCare(keeper, lambda: leads[0])
    for moment, leading in ((0.0, False), (600.0, True), (1200.0, True), (87_000.0, True)):
        now[0], leads[0] = moment, leading
        prune.look()
    assert runs == [600.0, 87_000.0]
