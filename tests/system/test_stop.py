"""The daemon is asked to stop: calls that run are finished, and nobody waits for long."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.netns import wait_until
from support.node import Node, Nodes, Pod, cluster_network, network, pod_manifest

pytestmark = pytest.mark.system

SLOW_S = 1.5
SLOW = f"""#!/bin/sh
[ "$CNI_COMMAND" = ADD ] && touch "$0.called" && sleep {SLOW_S}
exec /usr/lib/cni/bridge
"""


def slow_pod(node: Node, nodes: Nodes) -> tuple[Pod, Path]:
    """A pod whose delegate takes its time; and the file that it touches when it is called."""
    plugin = node.bin / "slow"
    plugin.write_text(SLOW)
    plugin.chmod(0o755)
    shutil.copy("/usr/lib/cni/static", node.bin / "static")
    node.environment["DANMPY_CNI__BIN_DIRS"] = str(node.bin)
    conf = {"cniVersion": "1.0.0", "name": "lan", "type": "slow", "bridge": "lanbr"}
    (node.conf_dir / "lan.conf").write_text(json.dumps(conf))
    node.write("n.yaml", network("ClusterNetwork", "lan", network_type="slow", cidr="10.61.0.0/24"))
    pod = nodes.pod("web-0", uid="u-1")
    wish = {"clusterNetwork": "lan", "ip": "dynamic"}
    node.write("pod.yaml", pod_manifest("blue", pod.name, wish, uid=pod.uid))
    return pod, plugin.with_name("slow.called")


def test_a_call_that_runs_is_finished_and_answered(node: Node, nodes: Nodes) -> None:
    pod, called = slow_pod(node, nodes)
    node.start()
    with ThreadPoolExecutor(1) as runtime:
        answer = runtime.submit(node.add, pod)
        wait_until(called.exists, what="the delegate is called")
        assert node.daemon.stop() == 0
        assert not node.socket.exists()
        assert answer.result().ok, answer.result().error
    node.start()
    assert node.check(pod).ok
    assert node.delete(pod).ok
    assert node.leases() == []


def test_a_daemon_whose_releases_wait_for_the_database_serves_and_stops(
    node: Node, nodes: Nodes
) -> None:
    node.write("n.yaml", cluster_network("net", host_device="ens4", vxlan=900, cidr="10.90.0.0/24"))
    node.start()
    pods = [nodes.pod(f"p{number}") for number in range(6)]
    wish = {"clusterNetwork": "net", "ip": "dynamic"}
    node.write("pods.yaml", *(pod_manifest("blue", pod.name, wish) for pod in pods))
    for pod in pods:
        assert node.add(pod).ok
    other = sqlite3.connect(node.state_dir / "danmpy.db", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(len(pods)) as runtimes:
            assert all(answer.ok for answer in runtimes.map(node.delete, pods))
        node.daemon.kill()
        node.start(wait=False)
        wait_until(node.serves, seconds=20, what="it serves, with six releases to replay")
        assert len(node.leases()) == len(pods)
        began = time.monotonic()
        assert node.daemon.stop(seconds=30) == 0
        assert time.monotonic() - began < 10
    finally:
        other.close()
    node.start()
    wait_until(lambda: node.leases() == [], seconds=10, what="the releases are replayed")
