"""NetworkAttachmentDefinitions as networks of a node: devices, pods, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.nads import nad_manifest
from support.netns import Fabric, wait_until
from support.node import (
    Node,
    Nodes,
    Pod,
    cluster_network,
    node_manifest,
    pod_manifest,
    tenant_config,
    tenant_network,
)

pytestmark = pytest.mark.system

WIRE = {"cniVersion": "1.0.0", "type": "macvlan", "master": "ens4", "vxlan": 900}
HOST_LOCAL = {"type": "host-local", "subnet": "10.9.0.0/24"}
"""As every node has its own, only one node may use it in a test."""


def names_of(node: Node) -> set[str]:
    return set(node.namespace.links())


def asking(pod: Pod, *networks: dict[str, Any] | str, node: str = "") -> dict[str, Any]:
    """The pod with danmpy's default network first and these NADs after it."""
    manifest = pod_manifest(pod.namespace, pod.name, uid=pod.uid, node=node)
    asked = [each if isinstance(each, dict) else {"name": each} for each in networks]
    manifest["metadata"]["annotations"] = {"k8s.v1.cni.cncf.io/networks": json.dumps(asked)}
    return manifest


def default_network(**options: Any) -> dict[str, Any]:
    return cluster_network("default", host_device="ens4", vxlan=899, cidr="10.8.0.0/24", **options)


def attached(node: Node, pod: Pod, *networks: dict[str, Any] | str) -> Pod:
    node.write(f"pod-{pod.name}.yaml", asking(pod, *networks))
    answer = node.add(pod)
    assert answer.ok, answer.error
    return pod


def listed(node: Node, name: str) -> dict[str, Any]:
    done = node.danmpy("networks", "-o", "json", check=False)
    assert done.stdout, done.stderr
    items = json.loads(done.stdout)["items"]
    (found,) = [item for item in items if item["network"].endswith(f"/{name}")]
    return dict(found)


def reasons(item: dict[str, Any]) -> list[str]:
    return [each["reason"] for each in item["conditions"] if each["status"] != "True"]


def test_a_nad_that_names_a_wire_has_its_device_from_its_coming_to_its_going(node: Node) -> None:
    node.start()
    manifest = nad_manifest("data", **WIRE)
    node.write("n.yaml", manifest)
    wait_until(lambda: "vx900" in names_of(node), seconds=5, what="vx900")
    assert "altnames" not in node.namespace.links()["vx900"]
    found = listed(node, "data")
    assert (found["device"], found["kind"], found["id"]) == ("vx900", "vxlan", 900)
    assert reasons(found) == []
    node.write("n.yaml", nad_manifest("data", **WIRE | {"vxlan": 901}))
    wait_until(lambda: "vx901" in names_of(node), seconds=5, what="vx901")
    wait_until(lambda: "vx900" not in names_of(node), seconds=5, what="no vx900")
    node.write("n.yaml", nad_manifest("data", text="{"))
    wait_until(lambda: reasons(listed(node, "data")) != [], seconds=5, what="refused")
    assert "vx901" in names_of(node), "a slip of the pen takes no device away"
    node.remove("n.yaml")
    wait_until(lambda: "vx901" not in names_of(node), seconds=5, what="no vx901")


def test_pods_meet_on_the_wire_of_a_nad_also_those_of_a_node_that_joins_later(
    nodes: Nodes, two_nodes: tuple[Node, Node], fabric: Fabric
) -> None:
    del fabric
    first = two_nodes[0]
    ipam = {"type": "danmpy-cni", "cidr": "10.7.0.0/24"}
    manifests = [
        default_network(),
        nad_manifest("data", **WIRE, ipam=ipam),
        node_manifest("node-a", "192.0.2.1"),
        node_manifest("node-b", "192.0.2.2"),
    ]
    first.write("n.yaml", *manifests)
    pods = []
    for each in two_nodes:
        each.start()
        wait_until(lambda: "vx900" in names_of(each), seconds=10, what="vx900")  # noqa: B023
        pod = nodes.pod(f"web-{each.name}")
        pods.append(attached(each, pod, "data"))
    addresses = []
    for pod in pods:
        link = pod.netns.links()["net1"]
        assert link["linkinfo"]["info_kind"] == "macvlan"
        shown = json.loads(pod.netns.run("ip", "-j", "-4", "addr", "show", "net1").stdout)
        addresses += [each["local"] for each in shown[0]["addr_info"]]
    assert len(set(addresses)) == 2
    assert all(address.startswith("10.7.0.") for address in addresses)
    held = {item["address"] for item in first.leases()}
    assert {f"{address}" for address in addresses} <= {each.partition("/")[0] for each in held}
    assert pods[0].netns.ping(addresses[1])
    assert pods[1].netns.ping(addresses[0])


def test_the_device_of_a_nad_stays_until_no_pod_is_on_it(node: Node, nodes: Nodes) -> None:
    node.write("n.yaml", default_network())
    node.write("data.yaml", nad_manifest("data", **WIRE, ipam=HOST_LOCAL))
    node.start()
    pod = attached(node, nodes.pod("web"), "data")
    assert "net1" in pod.netns.links()
    node.remove("data.yaml")
    node.write("more.yaml", cluster_network("more", host_device="ens4", vxlan=902))
    wait_until(lambda: "vx902" in names_of(node), seconds=5, what="a look")
    assert "vx900" in names_of(node)
    assert "net1" in pod.netns.links()
    assert node.delete(pod).ok
    wait_until(lambda: "vx900" not in names_of(node), seconds=15, what="no vx900")


def test_a_nad_without_a_wire_is_used_in_the_moment_in_which_it_is_written(
    node: Node, nodes: Nodes
) -> None:
    node.write("n.yaml", default_network())
    node.start()
    config = {"type": "bridge", "bridge": "br-nad", "ipam": HOST_LOCAL}
    for number in range(3):
        name = f"now-{number}"
        node.write(f"{name}.yaml", nad_manifest(name, cniVersion="1.0.0", **config))
        pod = attached(node, nodes.pod(f"web-{number}"), name)
        assert "net1" in pod.netns.links()
        assert node.delete(pod).ok
    assert reasons(listed(node, "now-0")) == []


def test_a_wire_of_a_tenant_and_one_of_a_cluster_network_of_others_are_refused(node: Node) -> None:
    node.write(
        "n.yaml",
        tenant_config({"name": "ens4", "vniType": "vxlan", "vniRange": "700-710"}),
        tenant_network("internal", "blue", cidr="10.20.0.0/24"),
        cluster_network("theirs", allowed=("red",), host_device="ens4", vxlan=850),
    )
    node.start()
    wait_until(lambda: {"vx700", "vx850"} <= names_of(node), seconds=10, what="devices")
    node.write(
        "nads.yaml",
        nad_manifest("on-a-tenants", **WIRE | {"vxlan": 700}),
        nad_manifest("on-theirs", **WIRE | {"vxlan": 850}),
        nad_manifest("fine", "red", **WIRE | {"vxlan": 850}),
    )
    wait_until(lambda: reasons(listed(node, "on-theirs")) != [], seconds=5, what="a look")
    assert reasons(listed(node, "on-a-tenants")) == ["SegmentTaken"]
    assert reasons(listed(node, "on-theirs")) == ["SegmentTaken"]
    assert reasons(listed(node, "fine")) == []
    assert listed(node, "internal")["device"] == "vx700"


def test_a_pod_on_a_refused_nad_hears_why(node: Node, nodes: Nodes) -> None:
    node.write("n.yaml", default_network(), nad_manifest("data", type="danmpy-cni"))
    node.start()
    pod = nodes.pod("web")
    node.write("pod.yaml", asking(pod, "data"))
    answer = node.add(pod)
    assert not answer.ok
    assert "danmpy-cni names no network" in answer.error


def test_a_nad_that_stands_for_a_network_of_danm_gives_its_interface(
    node: Node, nodes: Nodes
) -> None:
    node.write(
        "n.yaml",
        default_network(),
        cluster_network("front", host_device="ens4", vxlan=903, cidr="10.6.0.0/24"),
        nad_manifest("data", type="danmpy-cni", clusterNetwork="front"),
    )
    node.start()
    pod = attached(node, nodes.pod("web"), "data")
    assert "net1" in pod.netns.links()
    assert [item["network"] for item in node.leases() if item["interface"] == "net1"] == [
        "ClusterNetwork/front"
    ]


def test_check_judges_nads(node: Node) -> None:
    good, bad = node.state_dir / "good.yaml", node.state_dir / "bad.yaml"
    node.state_dir.mkdir(exist_ok=True)
    good.write_text(json.dumps(nad_manifest("good", **WIRE)))
    bad.write_text(json.dumps(nad_manifest("bad", **WIRE | {"vxlan": 0, "vlan": 4095})))
    assert node.danmpy("check", "-f", str(good)).returncode == 0
    done = node.danmpy("check", "-f", str(bad), check=False)
    assert done.returncode == 2
    assert "SegmentInvalid" in done.stdout + done.stderr
    assert "vlan is 4095" in done.stdout + done.stderr
