"""A NetworkAttachmentDefinition with master and vlan: its host device, and pods on two nodes."""

import json
import time
from typing import Any

import pytest

from support.nads import nad_manifest
from support.netns import Fabric
from support.node import Node, Nodes, Pod, cluster_network, pod_manifest

pytestmark = [pytest.mark.uml, pytest.mark.system, pytest.mark.timeout(300)]

PATIENCE = 90.0
"""Seconds. In User-Mode Linux a daemon needs several only to start."""

CONFIG: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "type": "ipvlan",
    "master": "ens4",
    "vlan": 300,
    "ipam": {"type": "danmpy-cni", "cidr": "10.7.0.0/24"},
}


def vlan_ids(node: Node) -> dict[str, int]:
    return {
        name: link["linkinfo"]["info_data"]["id"]
        for name, link in node.namespace.links().items()
        if link.get("linkinfo", {}).get("info_kind") == "vlan" and "UP" in link["flags"]
    }


def wait_for(node: Node, wanted: dict[str, int]) -> None:
    deadline = time.monotonic() + PATIENCE
    while (found := vlan_ids(node)) != wanted:
        if time.monotonic() > deadline:
            told = node.danmpy("networks", "-o", "json", check=False)
            pytest.fail(f"{found}\n{told.stdout}{told.stderr}\n{node.daemon.output}")
        time.sleep(0.05)


def attached(node: Node, pod: Pod) -> str:
    """The address of the pod on the NAD; ADD is tried again as a runtime does."""
    manifest = pod_manifest(pod.namespace, pod.name, uid=pod.uid, node=node.name)
    manifest["metadata"]["annotations"] = {"k8s.v1.cni.cncf.io/networks": "data"}
    node.write(f"pod-{pod.name}.yaml", manifest)
    deadline = time.monotonic() + PATIENCE
    while not (answer := node.add(pod)).ok:
        assert answer.document.get("code") == 11, answer.error
        assert time.monotonic() < deadline, answer.error
        time.sleep(0.2)
    shown = json.loads(pod.netns.run("ip", "-j", "-4", "addr", "show", "net1").stdout)
    return str(shown[0]["addr_info"][0]["local"])


def test_a_vlan_in_a_nad_is_a_device_on_every_node_until_no_pod_is_on_it(
    nodes: Nodes, two_nodes: tuple[Node, Node], fabric: Fabric
) -> None:
    del fabric
    first, second = two_nodes
    first.write(
        "n.yaml",
        cluster_network("default", network_type="ipvlan", host_device="ens4", vlan=299),
    )
    first.write("data.yaml", nad_manifest("data", **CONFIG))
    devices = {"ens4.299": 299, "ens4.300": 300}
    pods, addresses = [], []
    for node in two_nodes:
        node.start(seconds=PATIENCE)
        wait_for(node, devices)
        pods.append(nodes.pod(f"web-{node.name}", uid=f"u-{node.name}"))
        addresses.append(attached(node, pods[-1]))
    assert len(set(addresses)) == 2
    assert pods[0].netns.links()["net1"]["linkinfo"]["info_kind"] == "ipvlan"
    assert pods[0].netns.ping(addresses[1])

    assert second.delete(pods[1]).ok
    first.remove("data.yaml")
    wait_for(second, {"ens4.299": 299})
    assert vlan_ids(first) == devices
    assert first.delete(pods[0]).ok
    wait_for(first, {"ens4.299": 299})
