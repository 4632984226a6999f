"""The care of history, wired as the daemons do it: pools are shown and sampled."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from prometheus_client import CollectorRegistry

from danmpy.bootstrap.care import care_for_history
from danmpy.clock import wall_clock
from danmpy.db.engine import open_engine
from danmpy.intent.folder import FolderSource
from danmpy.ipam.samples import UsageSamples
from danmpy.ipam.segments import SegmentStore
from danmpy.settings import Settings
from support.console import INTERNAL, TENANTS

NET = "TenantNetwork/blue/internal"


def test_the_pools_of_the_manifests_are_shown_and_sampled(
    database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "networks.yaml").write_text(TENANTS + INTERNAL)
    settings = Settings(database_url=database_url)
    registry = CollectorRegistry()
    engine = open_engine(database_url)
    source = FolderSource(tmp_path)
    with ExitStack() as stack:
        stack.callback(engine.dispose)
        intent = source.read()
        SegmentStore(engine, wall_clock).assign(intent.networks, intent.tenant_configs)
        care_for_history(settings, engine, registry, source.read, lambda: True, stack)
        labels = {"network": NET, "family": "4", "tenant": "blue"}
        deadline = time.monotonic() + 10
        while registry.get_sample_value("danmpy_pool_free", labels) is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert registry.get_sample_value("danmpy_pool_capacity", labels) == 10
        samples = list(UsageSamples(engine, wall_clock).series([NET], None, None))
        assert {each.family for each in samples} == {4, 6}
