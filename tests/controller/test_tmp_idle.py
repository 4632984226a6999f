"""Whole controllers beside each other: one leads, dies, freezes and comes back."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine

from danmpy.clock import wall_clock
from danmpy.db.engine import open_engine
from danmpy.errors import DanmpyError
from danmpy.ipam.nodereports import NodeNetwork, NodeReports
from danmpy.kube.client import Scope, open_client
from danmpy.kube.resources import TENANT_NETWORKS
from support.cluster import SYSTEM_NAMESPACE, Cluster
from support.netns import wait_until
from support.node import tenant_config, tenant_network
from support.processes import Daemon

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

TAKEOVER_S = 20.0
PERIOD_S = 10.0
PROFILE = {"name": "ens4", "vniType": "vxlan", "vniRange": "1000-2999"}


class Follower:
    """Notes each change of a TenantNetwork's status with the time at which it was told."""

    def __init__(self, cluster: Cluster) -> None:
        self.client = open_client(cluster.api.kubeconfig())
        self.scope = Scope(resource=TENANT_NETWORKS)
        self.writes: dict[str, list[float]] = defaultdict(list)
        self.numbers: dict[str, set[int]] = defaultdict(set)
        self._last: dict[str, Any] = {}
        self._version = self.client.list(TENANT_NETWORKS).resource_version
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                watch = self.client.watch(self.scope, self._version, timeout_s=5)
                with watch:
                    for kind, body in watch:
                        self._note(kind, body)
            except DanmpyError:
                time.sleep(0.1)

    def _note(self, kind: str, body: dict[str, Any]) -> None:
        self._version = body["metadata"]["resourceVersion"]
        if kind == "BOOKMARK":
            return
        name, status = body["metadata"]["name"], body.get("status")
        if status and status != self._last.get(name):
            self._last[name] = status
            self.writes[name].append(time.monotonic())
            if number := status.get("segment", {}).get("id"):
                self.numbers[name].add(number)

    def gaps(self, name: str) -> list[float]:
        times = self.writes[name]
        return [later - earlier for earlier, later in itertools.pairwise(times)]

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)
        self.client.close()


@pytest.fixture
def follower(cluster: Cluster) -> Iterator[Follower]:
    made = Follower(cluster)
    yield made
    made.close()


@pytest.fixture
def engine(cluster: Cluster) -> Iterator[Engine]:
    made = open_engine(cluster.database_url)
    yield made
    made.dispose()


def start_controllers(cluster: Cluster, count: int) -> None:
    for _ in range(count):
        cluster.add_controller().start()
        wait_until(cluster.leader, seconds=20, what="a controller leads", every=0.1)


def the_leader(cluster: Cluster) -> Daemon:
    return cluster.controllers[int(cluster.leader().rpartition("-")[2])]


def create_networks(cluster: Cluster, count: int, *, start: int = 0) -> list[str]:
    names = [f"net-{number}" for number in range(start, start + count)]
    manifests = [tenant_network(name, "blue", cidr="10.1.0.0/24") for name in names]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(cluster.api.create, manifests))
    return names


def numbers_of(cluster: Cluster) -> dict[str, int]:
    found = cluster.api.list("TenantNetwork", "blue")
    return {
        each["metadata"]["name"]: number
        for each in found
        if (number := each.get("status", {}).get("segment", {}).get("id"))
    }


def timed(condition: Callable[[], object], *, seconds: float, what: str) -> float:
    began = time.monotonic()
    wait_until(condition, seconds=seconds, what=what, every=0.1)
    return time.monotonic() - began


def test_a_leader_killed_while_networks_are_made_is_followed_and_nothing_is_assigned_twice(
    cluster: Cluster, follower: Follower
) -> None:
    start_controllers(cluster, 2)
    cluster.declare(tenant_config(PROFILE))
    cluster.api.make_namespace("blue")
    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(create_networks, cluster, 200)
        wait_until(lambda: len(numbers_of(cluster)) > 20, seconds=30, every=0.05)
        before = cluster.leader()
        the_leader(cluster).kill()
        took = timed(
            lambda: cluster.leader() not in {"", before}, seconds=TAKEOVER_S, what="a new leader"
        )
        names = making.result()
    print(f"\ntakeover after {took:.1f} s")
    wait_until(lambda: len(numbers_of(cluster)) == 200, seconds=60, what="all assigned", every=0.5)
    assert sorted(numbers_of(cluster)) == sorted(names)
    assert len(set(numbers_of(cluster).values())) == 200
    assert all(len(numbers) == 1 for numbers in follower.numbers.values()), "a number was changed"


def test_a_leader_that_froze_and_goes_on_writes_nothing_any_more(
    cluster: Cluster, follower: Follower
) -> None:
    start_controllers(cluster, 2)
    cluster.declare(tenant_config(PROFILE))
    cluster.api.make_namespace("blue")
    create_networks(cluster, 20)
    frozen, before = the_leader(cluster), cluster.leader()
    frozen.process.send_signal(signal.SIGSTOP)
    try:
        frozen_at = time.monotonic()
        wait_until(
            lambda: cluster.leader() not in {"", before}, seconds=TAKEOVER_S, what="a new leader"
        )
        create_networks(cluster, 20, start=20)
        wait_until(lambda: len(numbers_of(cluster)) == 40, seconds=30, every=0.2)
        time.sleep(max(0.0, 30 - (time.monotonic() - frozen_at)))
    finally:
        frozen.process.send_signal(signal.SIGCONT)
    create_networks(cluster, 20, start=40)
    wait_until(lambda: len(numbers_of(cluster)) == 60, seconds=30, every=0.2)
    time.sleep(5)
    assert cluster.leader() not in {"", before}
    assert "follows" in frozen.output
    assert len(set(numbers_of(cluster).values())) == 60
    assert all(len(numbers) == 1 for numbers in follower.numbers.values()), "a number was changed"


def test_a_lease_that_somebody_deletes_stops_nobody(cluster: Cluster) -> None:
    start_controllers(cluster, 2)
    cluster.declare(tenant_config(PROFILE))
    cluster.api.make_namespace("blue")
    for _ in range(3):  # so that the term is higher than a new lease's first
        leader, before = the_leader(cluster), cluster.leader()
        leader.stop()
        wait_until(lambda b=before: cluster.leader() not in {"", b}, seconds=20, every=0.1)
        leader.start()
    create_networks(cluster, 1)
    wait_until(lambda: len(numbers_of(cluster)) == 1, seconds=20, every=0.1)
    for controller in cluster.controllers:
        controller.stop()
    cluster.api.delete("Lease", "danmpy-controller", SYSTEM_NAMESPACE)
    for controller in cluster.controllers:
        controller.start()
    create_networks(cluster, 1, start=1)
    wait_until(lambda: len(numbers_of(cluster)) == 2, seconds=30, what="an assignment", every=0.1)


def test_a_status_is_written_once_in_ten_seconds_whatever_the_nodes_report(
    cluster: Cluster, follower: Follower, engine: Engine
) -> None:
    start_controllers(cluster, 1)
    cluster.declare(tenant_config(PROFILE))
    cluster.api.make_namespace("blue")
    names = create_networks(cluster, 5)
    wait_until(lambda: len(numbers_of(cluster)) == 5, seconds=20, every=0.1)
    reports = NodeReports(engine, wall_clock)
    until, attached = time.monotonic() + 35, 0
    while time.monotonic() < until:
        attached += 1
        rows = [
            NodeNetwork(
                network=f"TenantNetwork/blue/{name}",
                segment=f"vxlan:ens4:{numbers_of(cluster)[name]}",
                ready=attached % 2 == 0,
                attached=attached,
            )
            for name in names
        ]
        reports.write("node-a", {row.network: row for row in rows})
        time.sleep(0.3)
    for name in names:
        gaps = follower.gaps(name)
        assert 3 <= len(gaps) <= 6, f"{name}: {gaps}"
        # The first is the assignment, for which nodes wait; then comes what came of it.
        assert all(gap > PERIOD_S - 0.5 for gap in gaps[1:]), f"{name}: {gaps}"


def test_a_thousand_networks_at_once_have_their_status_within_a_minute(
    cluster: Cluster, follower: Follower
) -> None:
    start_controllers(cluster, 1)
    cluster.declare(tenant_config(PROFILE))
    cluster.api.make_namespace("blue")
    began = time.monotonic()
    create_networks(cluster, 1000)
    made = time.monotonic() - began
    wait_until(lambda: len(numbers_of(cluster)) == 1000, seconds=60, what="all", every=0.5)
    took = time.monotonic() - began
    print(f"\n1,000 networks made in {made:.1f} s, all with a segment after {took:.1f} s")
    assert took < 60
    assert len(set(numbers_of(cluster).values())) == 1000
    time.sleep(12)
    import os
    from pathlib import Path
    pid = the_leader(cluster).process.pid
    def cpu() -> float:
        f = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK")
    a = cpu(); time.sleep(20); print(f"idle cpu {100 * (cpu() - a) / 20:.1f} %")
    f = Path(f"/proc/{pid}/status").read_text()
    print([x for x in f.splitlines() if x.startswith("VmRSS")])
    writes = [len(times) for times in follower.writes.values()]
    print(f"status writes: {sum(writes)}, at most {max(writes)} for one network")
    assert all(gap > PERIOD_S - 0.5 for name in follower.writes for gap in follower.gaps(name)[1:])
