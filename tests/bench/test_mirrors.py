"""What the mirrors cost the pods: ADD with and without them, on a real API server, in one run.

Everything is in this one process, as in the node daemon: what counts is the difference.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from danmpy.api.cni import Verb
from danmpy.api.specs import PodSpec
from danmpy.kube.client import open_client
from danmpy.mirrors.service import MirrorPorts, Mirrors
from support.apiserver import ApiServer
from support.attaching import (
    THREE,
    AttachNode,
    declare_three,
    make_node,
    remove_node,
    request,
)
from support.mirroring import ApiPods, look, vxlan_network
from support.mirrornode import Reports
from support.netns import Namespace, Namespaces, wait_until
from support.specs import pool, tenant_key

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

ROUNDS, CROWD, CROWD_ROUNDS = 40, 10, 6


@pytest.fixture
def node(tmp_path: Path, namespaces: Namespaces) -> Iterator[AttachNode]:
    made = make_node(tmp_path, namespaces)
    made.open()
    declare_three(made)
    for number, key in enumerate(made.view.networks):  # no address comes back within the run
        wide = replace(pool(f"10.{1 + number}.0.0/16"), first=(10 << 24 | 1 + number << 16) + 9)
        made.view.networks[key] = replace(
            made.view.networks[key], v4=wide, gateway=None, gateway6=None
        )
    try:
        yield made
    finally:
        made.close()
        remove_node(made)


def declare_pods(node: AttachNode, pods: ApiPods) -> None:
    for number in range(CROWD):
        pods.make(number)
        known = pods.specs["blue", f"web-{number}"]
        asked: PodSpec = node.add_pod(f"web-{number}", *THREE, uid=known.uid)
        pods.specs["blue", f"web-{number}"] = PodSpec(
            namespace="blue",
            name=asked.name,
            uid=asked.uid,
            labels=known.labels,
            annotations=asked.annotations,
        )


def attach(node: AttachNode, number: int, place: Namespace) -> float:
    """Milliseconds of one ADD."""
    call = request(Verb.ADD, f"web-{number}", place)
    began = time.perf_counter()
    node.attacher.add(call)
    return (time.perf_counter() - began) * 1000


def detach(node: AttachNode, number: int, place: Namespace) -> None:
    node.attacher.delete(request(Verb.DEL, f"web-{number}", place))


def measure(node: AttachNode, places: list[Namespace]) -> tuple[list[float], list[float]]:
    """One at a time; then all pods at once."""
    single, crowd = [], []
    for _ in range(ROUNDS):
        single.append(attach(node, 0, places[0]))
        detach(node, 0, places[0])
    numbers = range(CROWD)
    with ThreadPoolExecutor(CROWD) as threads:
        for _ in range(CROWD_ROUNDS):
            crowd += threads.map(lambda n: attach(node, n, places[n]), numbers)
            list(threads.map(lambda n: detach(node, n, places[n]), numbers))
    return single, crowd


def test_mirrors_do_not_make_an_add_slower(
    node: AttachNode, apiserver: ApiServer, namespaces: Namespaces
) -> None:
    pods = ApiPods(apiserver)
    declare_pods(node, pods)
    places = [namespaces.make(f"m{number}") for number in range(CROWD)]
    client = open_client(apiserver.kubeconfig())
    reports = Reports(node.url)
    report = look(vxlan_network(tenant_key("internal"), 700))
    measure(node, places)  # warm
    figures: dict[str, tuple[list[float], list[float]]] = {
        "without": ([], []),
        "with": ([], []),
    }
    for turn in range(4):
        mirrors = Mirrors(
            MirrorPorts(
                records=node.journal,
                intent=pods.intent,
                report=lambda: report,
                reports=reports,
                cluster=client,
            ),
            "node-a",
        )
        name = "with" if turn % 2 else "without"
        if name == "with":
            node.journal.listen(mirrors.wake)
            mirrors.start()
        single, crowd = measure(node, places)
        figures[name][0].extend(single)
        figures[name][1].extend(crowd)
        if name == "with":
            wait_until(lambda: not pods.endpoints(), seconds=30, what="everything is told")
        mirrors.close()
        node.journal.listen(lambda: None)
    client.close()
    reports.close()
    for name, (single, crowd) in figures.items():
        print(
            f"\n{name} mirrors: one at a time p50 {statistics.median(single):.1f} ms "
            f"p95 {statistics.quantiles(single, n=20)[18]:.1f} ms; {CROWD} at once p50 "
            f"{statistics.median(crowd):.1f} ms p95 {statistics.quantiles(crowd, n=20)[18]:.1f} ms"
        )
    assert threading.active_count() < 50
    before, after = (statistics.median(figures[name][0]) for name in ("without", "with"))
    assert after < before * 1.15 + 0.5, f"{before:.1f} ms became {after:.1f} ms"
