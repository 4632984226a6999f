"""A cluster in which things die: at the end the books agree, whatever died and when."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.apiclient import RefusedError
from support.cluster import Cluster
from support.netns import Fabric, wait_until
from support.node import Node, Pod, cluster_network, tenant_config, tenant_network

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

PROFILE = {"name": "ens4", "vniType": "vxlan", "vniRange": "700-999"}
INTERFACES = (
    {"tenantNetwork": "internal", "ip": "dynamic"},
    {"clusterNetwork": "storage", "ip": "dynamic", "ip6": "dynamic"},
)
AWAY_S = 60.0
TAKEOVER_S = 20.0


class Kubelet:
    """Brings pods to the state that is wanted, as kubelet does: again and again."""

    def __init__(self, node: Node, stop: threading.Event) -> None:
        self.node = node
        self._stop = stop

    def up(self, pod: Pod) -> None:
        """ADD until it succeeds; after a failure DEL, as containerd does."""
        while not self._stop.is_set():
            answer = self.node.add(pod)
            if answer.ok:
                return
            assert answer.document.get("code") in {7, 11, 50, 110, 120}, answer.stdout
            self.node.delete(pod)
            time.sleep(random.uniform(0.2, 1.0))

    def down(self, pod: Pod) -> None:
        """DEL until it succeeds."""
        while not self._stop.is_set() and not self.node.delete(pod).ok:
            time.sleep(random.uniform(0.2, 1.0))

    def churn(self, pod: Pod) -> None:
        """Up, and then down and up once more while everything dies."""
        self.up(pod)
        time.sleep(random.uniform(0, AWAY_S / 2))
        self.down(pod)
        self.up(pod)


@pytest.fixture
def chaos(cluster: Cluster, fabric: Fabric) -> Cluster:
    """Two nodes and two controllers."""
    for name, place in zip(("node-a", "node-b"), fabric.nodes, strict=True):
        cluster.add_node(name, place)
    cluster.register_webhook()
    for _ in range(2):
        cluster.add_controller().start()
    for node in cluster.nodes.values():
        node.start()
    wait_until(cluster.webhook_answers, seconds=30, what="the webhook answers", every=0.2)
    cluster.declare(
        tenant_config(PROFILE),
        tenant_network("internal", "blue", cidr="10.20.0.0/24"),
        cluster_network(
            "storage", host_device="ens4", vxlan=1900, cidr="10.90.0.0/24", net6="fd00:90::/64"
        ),
    )
    cluster.wait_ready("TenantNetwork", "internal", "blue")
    cluster.wait_ready("ClusterNetwork", "storage")
    return cluster


def kill_leader(cluster: Cluster) -> None:
    """SIGKILL the controller that leads, and wait until the other one does."""
    name = cluster.leader()
    leader = cluster.controllers[int(name.rpartition("-")[2])]
    leader.kill()
    wait_until(
        lambda: cluster.leader() not in {"", name},
        seconds=TAKEOVER_S,
        what="another controller leads",
        every=0.1,
    )
    leader.start()


def clean(node: Node) -> bool:
    done = node.danmpy("audit", "diff", check=False)
    return done.returncode == 0


def test_after_api_server_node_daemon_and_leader_died_the_books_agree(chaos: Cluster) -> None:
    stop = threading.Event()
    pods: list[tuple[Node, Pod]] = []
    for number in range(50):
        node = chaos.nodes[("node-a", "node-b")[number % 2]]
        pods.append((node, chaos.pod(node.name, "blue", f"pod-{number}", *INTERFACES)))
    try:
        with ThreadPoolExecutor(10) as pool:
            done = [pool.submit(Kubelet(node, stop).churn, pod) for node, pod in pods]
            time.sleep(1)
            chaos.api.kill()
            away_until = time.monotonic() + AWAY_S
            time.sleep(AWAY_S / 3)
            victim = chaos.nodes["node-a"]
            victim.daemon.kill()
            victim.start(wait=False)
            time.sleep(max(0.0, away_until - time.monotonic()))
            chaos.api.start()
            kill_leader(chaos)
            for each in done:
                each.result(timeout=120)
    finally:
        stop.set()
    for node, pod in pods:
        assert node.check(pod).ok, (pod.name, node.check(pod).error)
    addresses = [ip["address"] for _, pod in pods for ip in pod.result["ips"]]
    assert len(addresses) == len(set(addresses)) == 150
    for node in chaos.nodes.values():
        wait_until(lambda n=node: clean(n), seconds=20, what=f"diff of {node.name}", every=0.5)
    wait_until(
        lambda: len(chaos.api.list("DanmEp", "blue")) == 100,
        seconds=30,
        what="a DanmEp for every interface",
        every=0.2,
    )
    for node, pod in pods:
        assert node.delete(pod).ok
        chaos.api.delete("Pod", pod.name, pod.namespace)
    wait_until(lambda: not chaos.api.list("DanmEp", "blue"), seconds=30, what="no DanmEp left")
    for node in chaos.nodes.values():
        wait_until(lambda n=node: clean(n), seconds=20, what=f"diff of {node.name}", every=0.5)
        assert node.leases() == []


def test_when_the_leader_dies_nothing_is_assigned_twice(chaos: Cluster) -> None:
    names = [f"net-{number}" for number in range(60)]
    for name in names[:30]:
        chaos.declare(tenant_network(name, "blue", cidr="10.1.0.0/24"))
    kill_leader(chaos)
    wait_until(chaos.webhook_answers, seconds=30, what="the webhook answers", every=0.2)
    for name in names[30:]:
        chaos.declare(tenant_network(name, "blue", cidr="10.1.0.0/24"))
    for name in names:
        chaos.wait_ready("TenantNetwork", name, "blue", seconds=40)
    ids = [chaos.status("TenantNetwork", name, "blue")["segment"]["id"] for name in names]
    assert len(set(ids)) == len(names)


def test_without_a_webhook_networks_are_refused_and_pods_are_not(chaos: Cluster) -> None:
    for controller in chaos.controllers:
        controller.kill()
    with pytest.raises(RefusedError):
        chaos.api.create(cluster_network("late", host_device="ens4", vxlan=1901))
    node = chaos.nodes["node-a"]
    pod = chaos.pod("node-a", "blue", "web-0", *INTERFACES)
    answer = node.add(pod)
    assert answer.ok, answer.error
    assert node.delete(pod).ok
