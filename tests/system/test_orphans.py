"""A daemon that is killed while a delegate runs: nothing is done behind its successor's back, and a
delegate that hangs holds up no other pod.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from support.nads import nad_manifest
from support.netns import wait_until
from support.node import Node, Nodes, Pod, pod_manifest

pytestmark = pytest.mark.system

SLOW = """#!/bin/sh
here=$(dirname "$0")
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}';;
ADD)
  touch $here/adding
  [ -e $here/slow-add ] && sleep 3
  ip netns exec "$(basename "$CNI_NETNS")" ip link add "$CNI_IFNAME" type veth peer name far1
  echo '{"cniVersion":"1.0.0","ips":[]}';;
DEL)
  touch $here/deleting
  [ -e $here/slow-del ] && sleep 20
  ip netns exec "$(basename "$CNI_NETNS")" ip link del "$CNI_IFNAME" 2>/dev/null
  touch $here/deleted;;
esac
exit 0
"""


@pytest.fixture
def plugin(node: Node) -> Path:
    """A delegate whose calls take as long as the files beside it say."""
    path = node.folder / "plugins" / "slow"
    path.parent.mkdir()
    path.write_text(SLOW)
    path.chmod(0o755)
    node.environment["DANMPY_CNI__BIN_DIRS"] = f"{path.parent}:/usr/lib/cni"
    node.environment["DANMPY_NPWG__DEFAULT_NETWORK"] = "blue/slow"
    node.write("nad.yaml", nad_manifest("slow", "blue", cniVersion="1.0.0", type="slow"))
    return path.parent


@pytest.fixture
def pod(nodes: Nodes, node: Node) -> Pod:
    node.write("pod.yaml", pod_manifest("blue", "web-0"))
    return nodes.pod("web-0")


def test_a_delegate_that_outlives_its_daemon_makes_nothing_any_more(
    node: Node, plugin: Path, pod: Pod
) -> None:
    (plugin / "slow-add").touch()
    node.start()
    runtime = threading.Thread(target=lambda: node.add(pod))
    runtime.start()
    wait_until((plugin / "adding").exists, seconds=10, what="the delegate works")
    node.daemon.kill()
    runtime.join()
    (plugin / "slow-add").unlink()
    node.start()
    time.sleep(4)  # longer than the delegate would have taken
    assert set(pod.netns.links()) == {"lo"}
    answer = node.add(pod)
    assert answer.ok, answer.error
    assert node.delete(pod).ok
    assert set(pod.netns.links()) == {"lo"}


def test_a_delegate_that_hangs_in_del_does_not_hold_up_the_start(
    node: Node, plugin: Path, pod: Pod, nodes: Nodes
) -> None:
    node.start()
    assert node.add(pod).ok
    (plugin / "slow-del").touch()
    runtime = threading.Thread(target=lambda: node.delete(pod))
    runtime.start()
    wait_until((plugin / "deleting").exists, seconds=10, what="the delegate works")
    node.daemon.kill()
    runtime.join()
    (plugin / "deleting").unlink()
    node.start()
    assert (plugin / "deleting").exists()
    assert not (plugin / "deleted").exists(), "it serves while the delegate still hangs"
    node.write("other.yaml", pod_manifest("blue", "web-1"))
    other = nodes.pod("web-1")
    assert node.add(other).ok
    (plugin / "slow-del").unlink()
    wait_until((plugin / "deleted").exists, seconds=40, what="the rest is done later")
    assert node.delete(other).ok
