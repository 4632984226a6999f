"""Pods come and go while the daemon is killed again and again: at the end nothing is left.

The kill tests die at chosen steps, one call at a time; here the moments are random and several
calls are under way.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from support.netns import wait_until
from support.node import Answer, Node, Nodes, Pod, cluster_network, network, pod_manifest

pytestmark = pytest.mark.system

PODS = 6
CHAOS_S = 10.0
SEED = int(os.environ.get("DANMPY_CHAOS_SEED") or random.SystemRandom().randrange(10**6))

WISHES = (
    {"clusterNetwork": "ext", "ip": "dynamic", "ip6": "dynamic"},
    {"clusterNetwork": "lan", "ip": "dynamic"},
)
DELEGATED = {"clusterNetwork": "old", "ip": "dynamic"}


@dataclass
class Holders:
    """Which pod has which address by the answers of ADD: no two at once."""

    _of: dict[str, str] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    attached: int = 0

    def took(self, pod: Pod, addresses: list[str]) -> None:
        with self._guard:
            self.attached += 1
            for address in addresses:
                other = self._of.setdefault(address, pod.name)
                assert other == pod.name, f"{other} and {pod.name} both have {address}"

    def gives_back(self, pod: Pod) -> None:
        """Before the DEL is called: from then on the address may pass to another pod."""
        with self._guard:
            self._of = {address: name for address, name in self._of.items() if name != pod.name}


@pytest.fixture
def declared(node: Node, nodes: Nodes) -> tuple[Node, list[Pod]]:
    """A node with macvlan on VXLAN, a bridge and a delegate; and its pods. Not started."""
    conf = {"cniVersion": "1.0.0", "name": "old", "type": "bridge", "bridge": "oldbr"}
    (node.conf_dir / "old.conf").write_text(json.dumps(conf))
    node.write(
        "networks.yaml",
        cluster_network(
            "ext", host_device="ens4", vxlan=900, cidr="172.16.0.0/24", net6="fd00:16::/64"
        ),
        network("ClusterNetwork", "lan", network_type="bridge", cidr="10.40.0.0/24"),
        network("ClusterNetwork", "old", network_type="bridge", cidr="10.60.0.0/24"),
    )
    pods = [nodes.pod(f"p{number}", uid=f"u{number}") for number in range(PODS)]
    for number, pod in enumerate(pods):
        wishes = (*WISHES, DELEGATED) if number % 3 == 0 else WISHES
        node.write(f"{pod.name}.yaml", pod_manifest("blue", pod.name, *wishes, uid=pod.uid))
    return node, pods


def live(
    node: Node, pod: Pod, holders: Holders, over: threading.Event, dice: random.Random
) -> None:
    """One pod as a runtime moves it: after a failed ADD comes a DEL, and a DEL is repeated."""
    while not over.is_set():
        answer = node.add(pod)
        if answer.ok:
            holders.took(pod, answer.addresses)
            time.sleep(dice.uniform(0, 0.2))
        else:
            assert answer.document["code"] == 11, answer.error
        holders.gives_back(pod)
        while not over.is_set() and not _deleted(node.delete(pod)):
            time.sleep(0.02)


def _deleted(answer: Answer) -> bool:
    assert answer.ok or answer.document["code"] == 11, answer.error
    return answer.ok


def test_pods_that_come_and_go_while_the_daemon_is_killed_leave_nothing(
    declared: tuple[Node, list[Pod]],
) -> None:
    node, pods = declared
    print(f"DANMPY_CHAOS_SEED={SEED}")
    dice = random.Random(SEED)
    holders, over = Holders(), threading.Event()
    node.start()
    with ThreadPoolExecutor(PODS) as runtimes:
        lives = [
            runtimes.submit(live, node, pod, holders, over, random.Random(dice.random()))
            for pod in pods
        ]
        try:
            kills = _kill_often(node, dice)
        finally:
            over.set()
    for ended in lives:
        ended.result()
    print(f"{kills} kills, {holders.attached} attachments")
    assert kills >= 4
    assert holders.attached >= PODS
    wait_until(node.serves, seconds=20, what="the last daemon serves")
    for pod in pods:
        assert node.delete(pod).ok
    _nothing_is_left(node, pods)


def _kill_often(node: Node, dice: random.Random) -> int:
    """Kill the daemon while it starts, while it serves, wherever it is just then."""
    kills = 0
    deadline = time.monotonic() + CHAOS_S
    while time.monotonic() < deadline:
        if dice.random() < 0.8:
            node.daemon.wait_for(node.serves, seconds=20, what="serving")
        time.sleep(dice.uniform(0, 0.6))
        node.daemon.process.kill()  # the daemon alone, not what it started
        assert node.daemon.wait() == -9
        kills += 1
        node.start(wait=False)
    return kills


def _nothing_is_left(node: Node, pods: list[Pod]) -> None:
    wait_until(lambda: not _host_ends(node), seconds=5, what=f"host ends go: {_host_ends(node)}")
    for pod in pods:
        assert list(pod.netns.links()) == ["lo"]
    assert node.leases() == []
    left = {path.name for path in (node.state_dir / "attachments").iterdir()}
    assert left == {"lock"}
    for words in (("audit", "diff"), ("audit", "verify")):
        done = node.danmpy(*words)
        assert done.returncode == 0, done.stdout


def _host_ends(node: Node) -> list[str]:
    """The node's ends of veth pairs, ours and the delegate's."""
    return [name for name in node.namespace.links() if name.startswith(("dmp", "veth"))]
