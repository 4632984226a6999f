"""Running pods whose annotation changes, by the real node daemon."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from danmpy.faults import PLUG_POINTS, UNPLUG_POINTS
from support.nads import nad_manifest
from support.netns import wait_until
from support.node import Node, Nodes, Pod, cluster_network, network, pod_manifest
from support.recording import Bench

pytestmark = pytest.mark.system

FIRST = {"clusterNetwork": "first", "ip": "dynamic"}
DATA = {"clusterNetwork": "data", "ip": "dynamic", "ip6": "dynamic"}
SWITCHED = {"clusterNetwork": "switched", "ip": "dynamic"}
OTHERS = {"clusterNetwork": "others"}


def networks() -> tuple[dict[str, Any], ...]:
    """By macvlan, by bridge and by a delegate with an IPAM of its own."""
    return (
        cluster_network("first", host_device="ens4", cidr="10.1.0.0/24"),
        cluster_network("data", host_device="ens4", cidr="10.2.0.0/24", net6="fd02::/64"),
        cluster_network(
            "switched", network_type="bridge", host_device="ens4", vxlan=901, cidr="10.3.0.0/24"
        ),
        cluster_network("others", network_type="ptp", network_id="others"),
    )


@pytest.fixture
def running(node: Node) -> Node:
    """A node with these networks; not started."""
    node.write("networks.yaml", *networks())
    ipam = {
        "type": "host-local",
        "dataDir": str(node.folder / "host-local"),
        "subnet": "10.4.0.0/24",
    }
    (node.conf_dir / "others.conflist").write_text(
        json.dumps(
            {
                "cniVersion": "1.0.0",
                "name": "others",
                "plugins": [{"type": "ptp", "ipam": ipam}],
            }
        )
    )
    return node


def ask(node: Node, *interfaces: dict[str, Any]) -> None:
    node.write("pod.yaml", pod_manifest("blue", "web", *interfaces, uid="u-1"))


def attach(node: Node, nodes: Nodes, *interfaces: dict[str, Any]) -> Pod:
    pod = nodes.pod("web", uid="u-1")
    ask(node, *interfaces)
    answer = node.add(pod)
    assert answer.ok, answer.error
    return pod


def links(pod: Pod) -> set[str]:
    return set(pod.netns.links()) - {"lo"}


def leased(node: Node) -> set[str]:
    return {item["interface"] for item in node.leases()}


def local(node: Node) -> list[str]:
    """The addresses that host-local has handed out."""
    folder = node.folder / "host-local" / "others"
    return sorted(path.name for path in folder.glob("10.4.*"))


def becomes(pod: Pod, wanted: set[str], seconds: float = 15) -> None:
    wait_until(lambda: links(pod) == wanted, what=f"links {wanted}", seconds=seconds)


def settled(node: Node) -> Callable[[], bool]:
    """Is nothing on its way in the journal?"""

    def look() -> bool:
        records = (node.state_dir / "attachments").glob("*.json")
        return all(not json.loads(path.read_text())["pending"] for path in records)

    return look


def test_interfaces_of_every_backend_come_and_go_with_the_annotation(
    running: Node, nodes: Nodes
) -> None:
    running.start()
    pod = attach(running, nodes, FIRST)
    ask(running, FIRST, DATA, SWITCHED, OTHERS)
    becomes(pod, {"eth0", "eth1", "eth2", "eth3"})
    wait_until(settled(running), what="journal")
    assert leased(running) == {"eth0", "eth1", "eth2"}
    assert len(local(running)) == 1
    assert running.check(pod).ok
    shown = pod.netns.ip("-br", "addr").stdout
    assert all(net in shown for net in ("10.1.0.", "10.2.0.", "10.3.0.", "10.4.0.", "fd02::"))
    ask(running, FIRST, SWITCHED)
    becomes(pod, {"eth0", "eth2"})
    wait_until(settled(running), what="journal")
    assert leased(running) == {"eth0", "eth2"}
    assert local(running) == []
    assert running.check(pod).ok
    ask(running, FIRST, SWITCHED, OTHERS)
    becomes(pod, {"eth0", "eth1", "eth2"})
    wait_until(settled(running), what="journal")
    assert running.delete(pod).ok
    assert links(pod) == set()
    assert (running.leases(), local(running)) == ([], [])
    assert not list((running.state_dir / "attachments").glob("*.json"))


def test_networks_of_the_standard_come_and_go_with_its_annotation(
    running: Node, nodes: Nodes
) -> None:
    def nad(name: str, number: int) -> dict[str, Any]:
        ipam = {
            "type": "host-local",
            "dataDir": str(running.folder / "host-local"),
            "subnet": f"10.4.{number}.0/24",
        }
        conf = {"cniVersion": "1.0.0", "type": "macvlan", "master": "ens4", "ipam": ipam}
        return {
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": name, "namespace": "blue"},
            "spec": {"config": json.dumps(conf)},
        }

    def ask_for(text: str) -> None:
        manifest = pod_manifest("blue", "web", uid="u-1")
        manifest["metadata"]["annotations"] = {"k8s.v1.cni.cncf.io/networks": text}
        running.write("pod.yaml", manifest)

    default = network(
        "DanmNet", "default", namespace="blue", cidr="10.9.0.0/24", host_device="ens4"
    )
    running.write("nads.yaml", default, nad("a", 1), nad("b", 2))
    running.start()
    pod = nodes.pod("web", uid="u-1")
    ask_for("a")
    answer = running.add(pod)
    assert answer.ok, answer.error
    ask_for('[{"name": "b"}, {"name": "a", "interface": "data"}]')
    becomes(pod, {"eth0", "net1", "data"})
    wait_until(settled(running), what="journal")
    shown = pod.netns.ip("-br", "addr").stdout
    assert "10.4.2." in shown
    assert running.check(pod).ok
    ask_for("[]")
    becomes(pod, {"eth0"})
    wait_until(settled(running), what="journal")
    assert not list((running.folder / "host-local").glob("*/10.4.*"))
    assert running.check(pod).ok
    assert running.delete(pod).ok


@pytest.fixture
def recorded(node: Node, tmp_path: Path) -> Bench:
    """Plugins that only write down how they are called; `prime` is the network of every pod."""
    folder = tmp_path / "recording"
    folder.mkdir()
    bench = Bench(folder)
    bench.plugin("first")
    node.environment["DANMPY_CNI__BIN_DIRS"] = f"{folder}:/usr/lib/cni"
    node.environment["DANMPY_NPWG__DEFAULT_NETWORK"] = "prime"
    (node.conf_dir / "20-prime.conflist").write_text(
        json.dumps({"cniVersion": "1.1.0", "name": "prime", "plugins": [{"type": "first"}]})
    )
    return bench


@pytest.mark.parametrize("late", ["b@eth0", '{"name": "b", "interface": "eth0"}'])
def test_the_name_of_the_first_interface_is_none_for_another_in_a_running_pod(
    node: Node, nodes: Nodes, recorded: Bench, late: str
) -> None:
    recorded.plugin("other")
    key = "k8s.v1.cni.cncf.io/networks"

    def ask_for(text: str) -> None:
        manifest = pod_manifest("blue", "web", uid="u-1")
        manifest["metadata"]["annotations"] = {key: text}
        node.write("pod.yaml", manifest)

    node.write("nads.yaml", *(nad_manifest(name, type="other") for name in ("a", "b")))
    node.start()
    pod = nodes.pod("web", uid="u-1")
    ask_for("a@a0")
    answer = node.add(pod)
    assert answer.ok, answer.error
    recorded.forget()
    ask_for(f"a@a0,{late}" if "{" not in late else f'[{{"name": "a", "interface": "a0"}}, {late}]')
    wait_until(lambda: "stay as they are" in node.daemon.output, what="log line")
    assert f"{key}[1]" in node.daemon.output
    assert "two interfaces called eth0" in node.daemon.output
    assert recorded.order == []
    (path,) = (node.state_dir / "attachments").glob("*.json")
    record = json.loads(path.read_text())
    assert [link["name"] for link in record["links"]] == ["eth0", "a0"]
    assert node.delete(pod).ok


@pytest.mark.timeout(180)
def test_the_daemon_has_delegates_clean_up_by_itself(
    node: Node, nodes: Nodes, recorded: Bench
) -> None:
    """What has gone since a look a minute ago still counts as there."""
    node.environment["DANMPY_CNI__GC_SECONDS"] = "1"
    node.environment["DANMPY_CNI__CHECK_SECONDS"] = "0"
    pods = {name: nodes.pod(name) for name in ("stays", "goes", "went")}
    for name in pods:
        node.write(f"{name}.yaml", pod_manifest("blue", name))
    node.start()
    for pod in pods.values():
        answer = node.add(pod)
        assert answer.ok, answer.error
    assert node.delete(pods["went"]).ok
    node.daemon.stop()
    recorded.forget()
    node.start()
    wait_until(lambda: node.daemon.output.count("event=ready") == 2, what="the first look")
    assert node.delete(pods["goes"]).ok
    wait_until(lambda: "first GC" in recorded.order, what="GC", seconds=75)
    (call,) = [each for each in recorded.calls if each["verb"] == "GC"]
    valid = call["stdin"]["cni.dev/valid-attachments"]
    assert {each["containerID"] for each in valid} == {
        pods["stays"].container_id,
        pods["goes"].container_id,
    }
    assert call["stdin"]["name"] == "prime"
    assert node.check(pods["stays"]).ok
    assert node.delete(pods["stays"]).ok


def test_a_broken_annotation_and_one_that_is_taken_away_change_nothing(
    running: Node, nodes: Nodes
) -> None:
    running.start()
    pod = attach(running, nodes, FIRST, DATA)
    ask(running, FIRST, {"clusterNetwork": "data", "ip": "10.9.9.9"})
    wait_until(lambda: "stay as they are" in running.daemon.output, what="log line")
    ask(running)
    time.sleep(2.5)
    assert links(pod) == {"eth0", "eth1"}
    assert running.daemon.output.count("stay as they are") == 1
    assert running.check(pod).ok


def test_a_network_that_comes_later_is_attached_then(running: Node, nodes: Nodes) -> None:
    running.start()
    pod = attach(running, nodes, FIRST)
    ask(running, FIRST, {"clusterNetwork": "late", "ip": "dynamic"})
    wait_until(lambda: "stay as they are" in running.daemon.output, what="log line")
    running.write("late.yaml", cluster_network("late", host_device="ens4", cidr="10.5.0.0/24"))
    becomes(pod, {"eth0", "eth1"})


def test_a_change_while_the_daemon_was_down_is_made_at_its_start(
    running: Node, nodes: Nodes
) -> None:
    running.start()
    pod = attach(running, nodes, FIRST, DATA)
    running.daemon.stop()
    ask(running, FIRST, SWITCHED)
    assert links(pod) == {"eth0", "eth1"}
    running.start()
    becomes(pod, {"eth0", "eth1"})
    wait_until(lambda: leased(running) == {"eth0", "eth1"}, what="leases")
    wait_until(lambda: "10.3.0." in pod.netns.ip("-br", "addr").stdout, what="the other network")


@pytest.mark.parametrize("point", [*UNPLUG_POINTS, *PLUG_POINTS])
def test_a_daemon_killed_at_any_step_ends_with_what_is_asked(
    running: Node, nodes: Nodes, point: str
) -> None:
    running.start()
    pod = attach(running, nodes, FIRST, DATA)
    running.daemon.stop()
    running.start(fault=point)
    ask(running, FIRST, OTHERS, SWITCHED)
    assert running.daemon.wait(seconds=15) == -9
    running.start()
    wait_until(lambda: len(links(pod)) == 3 and settled(running)(), what="all of it")
    wait_until(lambda: len(leased(running)) == 2, what="leases")
    shown = pod.netns.ip("-br", "addr").stdout
    assert all(net in shown for net in ("10.1.0.", "10.3.0.", "10.4.0."))
    assert "10.2.0." not in shown
    assert len(local(running)) == 1
    assert running.check(pod).ok
    assert running.delete(pod).ok
    assert links(pod) == set()
    assert (running.leases(), local(running)) == ([], [])


def test_what_breaks_is_noticed_without_a_runtime_that_asks(nodes: Nodes, node: Node) -> None:
    node.write("networks.yaml", *networks()[:2])
    node.environment["DANMPY_CNI__CHECK_SECONDS"] = "1"
    node.environment["DANMPY_METRICS__LISTEN"] = "127.0.0.1:9464"
    node.start()
    pod = attach(node, nodes, FIRST, DATA)

    def broken() -> str:
        text = node.namespace.run("curl", "-s", "http://127.0.0.1:9464/metrics").stdout
        (line,) = [each for each in text.splitlines() if each.startswith("danmpy_attachments_b")]
        return line.partition(" ")[2]

    time.sleep(2.5)
    assert broken() == "0.0"
    pod.netns.ip("address", "flush", "dev", "eth1")
    wait_until(lambda: broken() == "1.0", what="metric")
    assert "attachment is broken" in node.daemon.output
    assert "has lost address" in node.daemon.output
