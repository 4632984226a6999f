"""A node that is lost: what its pods held comes back by itself, and nothing else does."""

from __future__ import annotations

import time

import pytest

from support.cluster import Cluster
from support.netns import Fabric, wait_until
from support.node import cluster_network

pytestmark = pytest.mark.system

GRACE_S = 4
WISH = {"clusterNetwork": "lan", "ip": "dynamic"}


@pytest.fixture
def running(cluster: Cluster, fabric: Fabric) -> Cluster:
    """Two nodes, and a controller with little patience."""
    for name, place in zip(("node-a", "node-b"), fabric.nodes, strict=True):
        cluster.add_node(name, place)
    settings = {"DANMPY_IPAM__RECLAIM_GRACE_SECONDS": str(GRACE_S)}
    cluster.add_controller(settings=settings).start()
    for node in cluster.nodes.values():
        node.start()
    cluster.declare(
        cluster_network("lan", host_device="ens4", vxlan=1900, cidr="10.90.0.0/24"),
    )
    cluster.wait_ready("ClusterNetwork", "lan")
    return cluster


def test_leases_of_a_lost_node_come_back_and_those_of_a_silent_one_stay(running: Cluster) -> None:
    a, b = running.nodes["node-a"], running.nodes["node-b"]
    stays = running.pod("node-a", "blue", "stays", WISH)
    lost = running.pod("node-b", "blue", "lost", WISH)
    half = running.pod("node-b", "blue", "half", WISH)
    for node, pod in ((a, stays), (b, lost), (b, half)):
        answer = node.add(pod)
        assert answer.ok, answer.error

    b.daemon.kill()  # the machine is dead; its Node object is there, as not ready
    running.api.delete("Pod", "lost", "blue")
    time.sleep(GRACE_S + 4)
    assert {item["pod"] for item in a.leases()} == {"stays", "lost", "half"}

    running.api.delete("Node", "node-b")
    began = time.monotonic()
    wait_until(
        lambda: {item["pod"] for item in a.leases()} == {"stays", "half"},
        seconds=40,
        what="the lost node's lease comes back",
        every=0.5,
    )
    assert time.monotonic() - began >= GRACE_S - 2
    running.api.delete("Pod", "half", "blue")  # as the garbage collector of pods does
    wait_until(
        lambda: {item["pod"] for item in a.leases()} == {"stays"},
        seconds=40,
        what="so does the other one, when its pod is gone",
        every=0.5,
    )
    reasons = {
        item["pod"]: item["end_reason"]
        for item in a.ask("audit", "history")["items"]
        if item["to"] is not None
    }
    assert reasons == {"lost": "reclaimed", "half": "reclaimed"}
    for words in (("audit", "diff"), ("audit", "verify")):
        done = a.danmpy(*words)
        assert done.returncode == 0, done.stdout


def test_a_lost_node_that_comes_back_has_let_go_of_what_was_taken(running: Cluster) -> None:
    """Its late DEL ends nothing of the pod that has the address by then."""
    a, b = running.nodes["node-a"], running.nodes["node-b"]
    lost = running.pod("node-b", "blue", "lost", WISH)
    assert b.add(lost).ok
    b.daemon.kill()
    for kind, name, namespace in (("Pod", "lost", "blue"), ("Node", "node-b", "")):
        running.api.delete(kind, name, namespace)
    wait_until(lambda: not a.leases(), seconds=40, what="its lease is taken back", every=0.5)
    pod = running.pod("node-a", "blue", "new", WISH)
    assert a.add(pod).ok
    running.api.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-b"}})
    b.start()
    assert b.delete(lost).ok
    assert [item["pod"] for item in a.leases()] == ["new"]
    assert a.danmpy("audit", "verify").returncode == 0
