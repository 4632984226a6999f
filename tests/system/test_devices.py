"""Pods on devices of device plugins: node daemon, plugin, kubelet socket and links for real."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.functions import calls, install
from support.kubelet import Kubelet, run_kubelet
from support.netns import Namespaces, wait_until
from support.node import (
    Node,
    Nodes,
    Pod,
    cluster_network,
    pod_manifest,
    tenant_config,
    tenant_network,
)

pytestmark = pytest.mark.system

VF = "vendor/vf"
COUNT = 8


@pytest.fixture
def kubelet(tmp_path: Path) -> Iterator[Kubelet]:
    with run_kubelet(Kubelet(socket=tmp_path / "kubelet.sock")) as made:
        yield made


@pytest.fixture
def rich(nodes: Nodes, namespaces: Namespaces, kubelet: Kubelet, tmp_path: Path) -> Node:
    """A node with virtual functions, and tenants that may use them on a VLAN; not started."""
    namespace = namespaces.make("node")
    for number in range(COUNT):
        namespace.batch(f"link add vf{number} type veth peer name far{number}")
    bin_dir = tmp_path / "plugins"
    bin_dir.mkdir()
    install(bin_dir)
    node = nodes.make(
        "node-a",
        namespace,
        settings={
            "DANMPY_CNI__BIN_DIRS": f"{bin_dir}:/usr/lib/cni",
            "DANMPY_DEVICES__POD_RESOURCES_SOCKET": str(kubelet.socket),
            "DANMPY_DEVICES__INFO_DIR": str(tmp_path / "devinfo"),
        },
    )
    profile = {"name": VF, "vniType": "vlan", "vniRange": "700-710"}
    fast = tenant_network("fast", "blue", network_type="sriov", device_pool=VF, cidr="10.9.0.0/24")
    over = cluster_network("over", device_pool=VF, cidr="10.8.0.0/24")
    by_hand = cluster_network("by-hand", network_type="sriov", device_pool=VF, vlan=500)
    node.write("networks.yaml", tenant_config(profile), fast, over, by_hand)
    return node


FAST = {"tenantNetwork": "fast", "ip": "dynamic"}
OVER = {"clusterNetwork": "over", "ip": "dynamic"}


def ask(node: Node, name: str, *interfaces: dict[str, Any]) -> None:
    node.write(f"{name}.yaml", pod_manifest("blue", name, *interfaces, uid=f"u-{name}"))


def links(pod: Pod) -> set[str]:
    return set(pod.netns.links()) - {"lo"}


def functions_of(node: Node) -> set[str]:
    return {name for name in node.namespace.links() if name.startswith("vf")}


ALL = {f"vf{number}" for number in range(COUNT)}


def test_a_tenants_pod_gets_its_functions_on_the_vlan_that_was_assigned(
    rich: Node, nodes: Nodes, kubelet: Kubelet, tmp_path: Path
) -> None:
    rich.start()
    pod = nodes.pod("web", uid="u-web")
    kubelet.pods["blue", "web"] = [(VF, ["vf3", "vf1"]), (VF, ["vf2", "vf4"])]
    ask(rich, "web", FAST, FAST, OVER, {"clusterNetwork": "by-hand"})
    answer = rich.add(pod)
    assert answer.ok, answer.error
    assert links(pod) == {"eth0", "eth1", "eth2", "eth3"}
    assert functions_of(rich) == ALL - {"vf1", "vf2", "vf4"}
    confs = [each["conf"] for each in calls(tmp_path / "plugins", "ADD")]
    vlans = [(conf["deviceID"], conf["vlan"]) for conf in confs]
    assert vlans == [("vf1", 700), ("vf2", 700), ("vf4", 500)]
    assert "ipam" not in confs[2]
    kind = pod.netns.links()["eth2"]["linkinfo"]["info_kind"]
    assert kind == "macvlan"
    assert rich.check(pod).ok
    assert rich.delete(pod).ok
    assert functions_of(rich) == ALL
    assert links(pod) == set()
    assert rich.leases() == []


def test_a_pod_that_was_given_too_little_is_told_so_and_touches_nothing(
    rich: Node, nodes: Nodes, kubelet: Kubelet
) -> None:
    rich.start()
    pod = nodes.pod("web", uid="u-web")
    kubelet.pods["blue", "web"] = [(VF, ["vf1"])]
    ask(rich, "web", FAST, FAST)
    answer = rich.add(pod)
    assert answer.document["code"] == 7
    assert f"no device of {VF} is left" in answer.document["msg"]
    assert functions_of(rich) == ALL
    assert rich.leases() == []
    kubelet.pods["blue", "web"].append((VF, ["vf2"]))
    assert rich.add(pod).ok


def test_a_daemon_that_is_killed_in_the_middle_gives_every_function_back(
    rich: Node, nodes: Nodes, kubelet: Kubelet
) -> None:
    rich.start(fault="add:built")
    pod = nodes.pod("web", uid="u-web")
    kubelet.pods["blue", "web"] = [(VF, ["vf1", "vf2"])]
    ask(rich, "web", FAST, FAST)
    assert not rich.add(pod).ok
    assert functions_of(rich) == ALL - {"vf1", "vf2"}
    rich.start()
    assert functions_of(rich) == ALL
    assert rich.leases() == []
    assert rich.add(pod).ok
    assert functions_of(rich) == ALL - {"vf1", "vf2"}


def test_an_interface_that_is_plugged_in_gets_the_function_that_is_left(
    rich: Node, nodes: Nodes, kubelet: Kubelet
) -> None:
    rich.start()
    pod = nodes.pod("web", uid="u-web")
    kubelet.pods["blue", "web"] = [(VF, ["vf1", "vf2"])]
    ask(rich, "web", OVER, FAST)
    assert rich.add(pod).ok
    assert functions_of(rich) == ALL - {"vf2"}
    kubelet.pods["blue", "web"] = [(VF, ["vf0", "vf1", "vf2"])]
    ask(rich, "web", OVER, FAST, FAST)
    wait_until(lambda: functions_of(rich) == ALL - {"vf0", "vf2"}, what="vf0 is in the pod")
    ask(rich, "web", OVER, FAST)
    wait_until(lambda: functions_of(rich) == ALL - {"vf2"}, what="vf0 is back")
    assert rich.delete(pod).ok
    assert functions_of(rich) == ALL


def test_an_interface_that_takes_the_place_of_another_gets_its_function(
    rich: Node, nodes: Nodes, kubelet: Kubelet
) -> None:
    rich.start()
    pod = nodes.pod("web", uid="u-web")
    kubelet.pods["blue", "web"] = [(VF, ["vf1", "vf2"])]  # none is left over
    ask(rich, "web", OVER, {**FAST, "name": "old"})
    assert rich.add(pod).ok
    ask(rich, "web", OVER, {**FAST, "name": "new"})
    wait_until(lambda: links(pod) == {"eth0", "new"}, what="new is in the pod")
    assert functions_of(rich) == ALL - {"vf2"}


def test_pods_that_start_at_once_never_share_a_function(
    rich: Node, nodes: Nodes, kubelet: Kubelet
) -> None:
    rich.start()
    pods = [nodes.pod(f"web-{number}", uid=f"u-web-{number}") for number in range(COUNT // 2)]
    for number, pod in enumerate(pods):
        mine = [f"vf{2 * number}", f"vf{2 * number + 1}"]
        kubelet.pods["blue", pod.name] = [(VF, mine)]
        ask(rich, pod.name, FAST, FAST)
    with ThreadPoolExecutor(len(pods)) as crowd:
        answers = list(crowd.map(rich.add, pods))
    assert [answer.error for answer in answers if not answer.ok] == []
    assert functions_of(rich) == set()
    records = [
        json.loads(path.read_text()) for path in (rich.state_dir / "attachments").glob("*.json")
    ]
    given = [link["device_id"] for record in records for link in record["links"]]
    assert sorted(given) == sorted(ALL)
    for pod in pods:
        assert rich.delete(pod).ok
    assert functions_of(rich) == ALL
