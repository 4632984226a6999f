"""The care of history, wired: the leader of a cluster has it, or the daemon of a single machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack

from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from danmpy.api.specs import NetworkSpec
from danmpy.attach.upkeep import Job, Upkeep
from danmpy.bootstrap.readers import make_retention
from danmpy.clock import monotonic, wall_clock
from danmpy.intent.values import Intent
from danmpy.ipam.anchors import RootLog
from danmpy.ipam.care import LOOK_S, PoolCare, PruneCare
from danmpy.ipam.ipamclaims import LOOK_S as CLAIMS_LOOK_S
from danmpy.ipam.ipamclaims import ClaimObjects, IpamClaimKeeper, IpamClaimStore
from danmpy.ipam.metrics import PoolMetrics
from danmpy.ipam.segments import SegmentStore
from danmpy.settings import Settings

PRUNE_LOOK_S = 600.0
"""Seconds between two looks whether it is time to prune and we lead."""


ROOTS_LOOK_S = 10.0
"""Seconds between two looks for new roots."""


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
    retention = make_retention(settings, engine)

    def networks() -> Iterable[NetworkSpec]:
        intent = read()
        return segments.stored(intent.networks, intent.tenant_configs).networks.values()

    pools = PoolCare(engine, wall_clock, networks, leading, PoolMetrics(registry))
    prune = PruneCare(retention, leading)
    roots = RootLog(engine)
    upkeep = Upkeep(
        [
            Job(name="pools", every_s=LOOK_S, run=pools.look),
            Job(name="prune", every_s=PRUNE_LOOK_S, run=prune.look),
            Job(name="roots", every_s=ROOTS_LOOK_S, run=lambda: leading() and roots.look()),
        ]
    )
    upkeep.start()
    stack.callback(upkeep.close)


def claims_job(
    settings: Settings, engine: Engine, objects: ClaimObjects, leading: Callable[[], bool]
) -> Job:
    """Looking after the addresses of IPAMClaims, while `leading`."""
    store = IpamClaimStore(engine, wall_clock, settings.ipam.cooldown_seconds)
    keeper = IpamClaimKeeper(store, objects, leading)
    return Job(name="claims", every_s=CLAIMS_LOOK_S, run=lambda: keeper.look(monotonic()))
