"""The audit over three million closed leases, and what reading all of them costs the others."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from sqlalchemy import Engine

from bench.test_leases_speed import Series, bind, fork, report, timed
from danmpy.clock import wall_clock
from danmpy.db.engine import open_engine
from danmpy.db.migrate import upgrade
from danmpy.ipam.audit import Audit, HistoryFilter
from danmpy.ipam.leases import LeaseStore
from support.databases import PostgresServer, run_server
from support.specs import network, tenant_key

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

CLOSED, ADDRESSES, SECOND = 3_000_000, 60_000, 1_000_000
START = 1_700_000_000 * SECOND
NET = network(tenant_key("past"), v4="10.0.0.0/8", vni=700)

# Each address has fifty holders, one after the other, each for a minute, a minute apart.
PAST = f"""
INSERT INTO lease (pool_id, network, network_uid, domain, family, address, address_text, prefix,
  interface, namespace, pod, pod_uid, container_id, node, mode, pooled, held_from, held_to,
  cool_until, end_reason)
SELECT pool.id, pool.network, 'uid', pool.domain, 4,
  '\\x0a80'::bytea || substring(int8send(n % {ADDRESSES}) FROM 7),
  host('10.128.0.0'::inet + n % {ADDRESSES}), 8, 'net0', 'ns-' || n % 97, 'pod-' || n,
  'uid-' || n, 'container-' || n, 'node-' || n % 1000, 'dynamic', 1,
  {START} + n / {ADDRESSES} * 120 * {SECOND}, {START} + (n / {ADDRESSES} * 120 + 60) * {SECOND},
  {START} + (n / {ADDRESSES} * 120 + 90) * {SECOND}, 'released'
FROM pool, generate_series(0::bigint, {CLOSED - 1}::bigint) AS n
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with run_server("shared_buffers=256MB", "max_wal_size=4GB") as made:
        yield made


@pytest.fixture(scope="module")
def engine(server: PostgresServer) -> Iterator[Engine]:
    """A database with the past in it."""
    name = server.make_database()
    upgrade(server.url(name))
    engine = open_engine(server.url(name))
    try:
        bind(LeaseStore(engine, wall_clock, 120), "first", [NET])
        server.run_sql(PAST, "VACUUM ANALYZE lease", "CHECKPOINT", database=name)
        yield engine
    finally:
        engine.dispose()


def test_who_had_an_address_then(engine: Engine) -> None:
    audit = Audit(engine, wall_clock)
    series = Series("audit who, 3 M closed leases")
    dice = random.Random(4)
    for turn in range(330):
        number, holder = dice.randrange(ADDRESSES), dice.randrange(CLOSED // ADDRESSES)
        address = IPv4Address("10.128.0.0") + number
        at = START + (holder * 120 + 30) * SECOND
        answers = []
        took = timed(lambda a=address, t=at, to=answers: to.append(audit.who(a, at=t)))
        assert answers[0].holder.pod == f"pod-{holder * ADDRESSES + number}"
        if turn >= 30:
            series.values.append(took)
    report(series, "p50 under 5 ms")
    assert series.p50 < 5


def resident_mb() -> float:
    fields = Path("/proc/self/status").read_text()
    line = next(line for line in fields.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def export_for_ever(url: str) -> None:
    """Another process, as `danmpy audit export` is one."""
    audit = Audit(open_engine(url), wall_clock)
    while True:
        for _ in audit.history(HistoryFilter()):
            pass


def test_an_export_of_all_streams_and_leaves_allocation_alone(engine: Engine) -> None:
    store = LeaseStore(engine, wall_clock, 120)
    for number in range(100):
        bind(store, f"warm-{number}", [NET])
    audit = Audit(engine, wall_clock)
    quiet, busy = Series("one interface, nobody exports"), Series("one interface, beside an export")
    url = engine.url.render_as_string(hide_password=False)
    for turn in range(3):
        for into, exporting in ((quiet, False), (busy, True)):
            other = fork.Process(target=export_for_ever, args=(url,), daemon=True)
            if exporting:
                other.start()
                time.sleep(1)
            for number in range(300):
                pod = f"pod-{turn}-{exporting}-{number}"
                into.values.append(timed(lambda pod=pod: bind(store, pod, [NET])))
                time.sleep(0.005)
            if exporting:
                assert other.is_alive()
                other.kill()
                other.join()
    next(iter(audit.history(HistoryFilter())))
    before = resident_mb()
    growth = 0.0
    began = time.monotonic()
    for total, _ in enumerate(audit.history(HistoryFilter())):
        if total == CLOSED // 2:
            growth = resident_mb() - before
    took = time.monotonic() - began
    growth = max(growth, resident_mb() - before)
    ratio = statistics.median(busy.values) / statistics.median(quiet.values)
    report(
        quiet,
        busy,
        f"p50 beside an export / alone {ratio:.2f} (at most 1.2)",
        f"{total} leases in {took:.0f} s, growth {growth:.0f} MB (under 60)",
    )
    assert total >= CLOSED
    assert growth < 60
    assert ratio <= 1.2
