"""A node daemon that starts while the API server is away: lets go at once, attaches later."""

from __future__ import annotations

import time

import pytest

from support.apiserver import ApiServers
from support.cluster import Cluster
from support.interpose import Interposer
from support.netns import Fabric, wait_until
from support.node import Node, Pod, cluster_network

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

STORAGE = {"clusterNetwork": "storage", "ip": "dynamic"}
SOON_S = 8.0
"""Seconds for a daemon to come up: mostly the start of Python, on a machine that others use too.
Waiting for the API server first would take 10 s more."""


@pytest.fixture
def node(cluster: Cluster, fabric: Fabric) -> Node:
    """A node of a cluster without a controller, whose daemon runs."""
    made = cluster.add_node("node-a", fabric.nodes[0])
    cluster.declare(cluster_network("storage", host_device="ens4", vxlan=900, cidr="10.90.0.0/24"))
    made.start()
    return made


def added(cluster: Cluster, node: Node, name: str) -> Pod:
    pod = cluster.pod("node-a", "blue", name, STORAGE)
    answer = node.add(pod)
    assert answer.ok, answer.error
    return pod


def begin_again(node: Node) -> None:
    """Start the daemon anew; its socket must be there soon."""
    node.daemon.kill()
    node.socket.unlink()
    node.start(wait=False)
    node.daemon.wait_for(lambda: listens(node), seconds=SOON_S, what="the socket is served")


def listens(node: Node) -> bool:
    """Between the making of a socket and its first call is a moment in which it refuses them."""
    return node.socket.exists() and "nobody listens" not in node.call("STATUS").stdout


def test_without_the_api_server_a_pod_is_let_go_of_at_once_and_none_is_attached(
    cluster: Cluster, node: Node
) -> None:
    kept, gone = added(cluster, node, "kept"), added(cluster, node, "gone")
    late = cluster.pod("node-a", "blue", "late", STORAGE)
    cluster.api.kill()
    begin_again(node)
    began = time.monotonic()
    assert node.delete(gone).ok
    assert time.monotonic() - began < 2
    assert set(gone.netns.links()) == {"lo"}
    assert node.leases(pod="gone") == []
    status = node.call("STATUS")
    assert status.document["code"] == 50
    assert "API server https://127.0.0.1:" in status.document["msg"]
    assert "does not answer" in status.document["msg"]
    refused = node.add(late)
    assert refused.document["code"] == 11
    assert "the API server does not answer" in refused.document["msg"]
    assert set(late.netns.links()) == {"lo"}
    assert node.add(kept).ok, "what stands is answered as before"
    assert node.check(kept).ok
    valid = [{"containerID": kept.container_id, "ifname": "eth0"}]
    assert node.call("GC", config={"cni.dev/valid-attachments": valid}).ok
    assert node.check(kept).ok
    time.sleep(12)  # longer than the daemon waits before it goes on with what it has
    assert node.add(late).document["code"] == 11
    assert node.call("STATUS").document["code"] == 50
    assert "vx900" in node.namespace.links()
    cluster.api.start()
    wait_until(node.serves, seconds=20, what="the daemon attaches again")
    assert node.add(late).ok


def test_without_our_kinds_a_pod_is_not_told_that_its_network_does_not_exist(
    cluster: Cluster, fabric: Fabric, apiservers: ApiServers, node: Node
) -> None:
    bare = apiservers.make(crds=False)
    place = fabric.nodes[1]
    relay = Interposer(bare.port, inside=place.namespace)
    try:
        other = cluster.add_node(
            "node-b", place, settings={"DANMPY_INTENT__KUBECONFIG": str(bare.kubeconfig())}
        )
        other.start(wait=False)
        other.daemon.wait_for(lambda: listens(other), seconds=SOON_S, what="the socket is served")
        pod = cluster.pod("node-b", "blue", "web", STORAGE)
        wait_until(
            lambda: "does not know these kinds" in other.call("STATUS").document.get("msg", ""),
            seconds=20,
            what="the missing kinds are named",
            every=0.2,
        )
        refused = other.add(pod)
        assert refused.document["code"] == 11
        assert "danmpy crds" in refused.document["msg"]
        assert other.delete(pod).ok
        bare.apply_crds()
        wait_until(other.serves, seconds=60, what="the daemon attaches", every=0.2)
    finally:
        relay.close()
