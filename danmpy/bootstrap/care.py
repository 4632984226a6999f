"""The care of history, wired: the leader of a cluster has it, or the daemon of a single machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack

from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from danmpy.api.specs import NetworkSpec
from danmpy.attach.upkeep import Job, Upkeep
from danmpy.clock import wall_clock
from danmpy.intent.values import Intent
from danmpy.ipam.care import LOOK_S, PoolCare, PruneCare
from danmpy.ipam.metrics import PoolMetrics
from danmpy.ipam.retention import Retention
from danmpy.ipam.segments import SegmentStore
from danmpy.settings import Settings

PRUNE_LOOK_S = 600.0
"""Seconds between two looks whether it is time to prune and we lead."""


def care_for_history(
    settings: Settings,
    engine: Engine,
    registry: CollectorRegistry,
    read: Callable[[], Intent],
    leading: Callable[[], bool],
    stack: ExitStack,
) -> None:
    """Look after the pools and prune, until `stack` ends; in a thread of its own, because one
    pruning may take minutes.
    """
    segments = SegmentStore(engine, wall_clock, settings.ipam.segment_cooldown_seconds)
    retention = Retention(engine, wall_clock, settings.ipam.retention_days, settings.node_name)

    def networks() -> Iterable[NetworkSpec]:
        intent = read()
        return segments.stored(intent.networks, intent.tenant_configs).networks.values()

    pools = PoolCare(engine, wall_clock, networks, leading, PoolMetrics(registry))
    prune = PruneCare(retention, leading)
    upkeep = Upkeep(
        [
            Job(name="pools", every_s=LOOK_S, run=pools.look),
            Job(name="prune", every_s=PRUNE_LOOK_S, run=prune.look),
        ]
    )
    upkeep.start()
    stack.callback(upkeep.close)
