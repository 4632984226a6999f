"""What Prometheus sees of a node's leases and journal; the leases on both engines."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from danmpy.attach.journal import AttachmentRecord, Journal, Phase
from danmpy.attach.measured import MeasuredLeases, show_journal
from danmpy.clock import wall_clock
from danmpy.errors import ExhaustedError
from danmpy.ipam.leases import LeaseRequest, LeaseStore
from support.leasing import owner
from support.specs import DYNAMIC, network, tenant_key

TINY = network(tenant_key("tiny"), v4="10.0.0.0/30", vni=700)


def test_lease_transactions_are_timed_and_their_errors_counted_by_class(engine: Engine) -> None:
    registry = CollectorRegistry()
    leases = MeasuredLeases(LeaseStore(engine, wall_clock, 60), registry)
    ask = [LeaseRequest(interface="net1", network=TINY, ip=DYNAMIC)]
    leases.bind(owner("a"), ask)
    leases.bind(owner("b"), ask)
    with pytest.raises(ExhaustedError):
        leases.bind(owner("c"), ask)
    leases.record_mac("container-a", "net1", "02:00:00:00:00:01")
    assert leases.held_by("container-a")
    assert leases.release("container-a")
    leases.require_open([TINY])
    leases.ping()

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("danmpy_lease_seconds_count", operation="bind") == 3
    assert value("danmpy_lease_seconds_count", operation="release") == 1
    assert value("danmpy_lease_seconds_count", operation="record_mac") == 1
    assert (value("danmpy_lease_seconds_sum", operation="bind") or 0) > 0
    assert value("danmpy_lease_errors_total", operation="bind", error="ExhaustedError") == 1


def test_releases_that_wait_for_the_database_are_shown_with_their_age(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    journal = Journal(tmp_path / "journal")
    journal.open()
    try:
        show_journal(journal, lambda: 90_000_000, registry)

        def values() -> list[float | None]:
            names = ("journal_attachments", "spool_releases", "spool_age_seconds")
            return [registry.get_sample_value(f"danmpy_{name}") for name in names]

        assert values() == [0, 0, 0]
        for name, phase, at in (
            ("a", Phase.ATTACHED, 0),
            ("b", Phase.DETACHED, 80_000_000),
            ("c", Phase.DETACHED, 60_000_000),
        ):
            journal.write(
                AttachmentRecord(
                    container_id=name, ifname="eth0", phase=phase, netns="", detached_at=at
                )
            )
        assert values() == [3, 2, 30]
    finally:
        journal.close()
