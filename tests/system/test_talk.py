"""The cases of the talk "Multiple Networks for Kubernetes Workloads" (2019), run as shown there.

Each pod is written as its own multiplexer or network manager wants it, and goes through the real
entrypoint, daemon and database, and through Debian's reference plugins.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from support.netns import Namespaces
from support.node import Node, Nodes, Pod, cluster_network, network

pytestmark = pytest.mark.system

NPWG = "k8s.v1.cni.cncf.io/networks"
MULTUS_DEFAULT = "v1.multus-cni.io/default-network"
DANM = "danm.k8s.io/interfaces"
CLUSTER_NET = "10.244.0"


class Talk:
    """A node with what the slides take for granted: a cluster network, plugins, networks."""

    def __init__(self, node: Node, nodes: Nodes, folder: Path) -> None:
        self.node = node
        self._nodes = nodes
        self._folder = folder
        self.node.environment["DANMPY_NPWG__DEFAULT_NETWORK"] = "canal"
        self.configure("10-canal.conflist", "canal", self.bridge("dtcanal", CLUSTER_NET))
        self.configure("20-weave.conf", "weave", self.bridge("dtweave", "10.32.0"))
        node.write(
            "networks.yaml",
            cluster_network("default", host_device="ens4", vxlan=910, cidr="10.9.0.0/24"),
            tenant("internal", vxlan=901, cidr="10.1.0.0/24"),
            tenant("media", vxlan=902, cidr="10.2.0.0/24"),
            tenant("control", vxlan=903, cidr="10.3.0.0/24"),
            cluster_network("external", host_device="ens4", vxlan=904, cidr="10.4.0.0/24"),
            nad("macvlan-conf-1", "blue", self.macvlan("10.11.0")),
            nad("macvlan-conf-2", "blue", self.macvlan("10.12.0")),
            nad("shared-net", "green", self.macvlan("10.13.0")),
            nad("other-default", "kube-system", self.bridge("dtother", "10.14.0")),
        )

    def ipam(self, subnet: str) -> dict[str, Any]:
        """Addresses of the reference plugin, whose files go away with the test."""
        return {
            "type": "host-local",
            "ranges": [[{"subnet": f"{subnet}.0/24"}]],
            "dataDir": str(self._folder / "host-local"),
        }

    def bridge(self, name: str, subnet: str) -> dict[str, Any]:
        """A network of the plugin bridge, with a default route."""
        ipam = {**self.ipam(subnet), "routes": [{"dst": "0.0.0.0/0"}]}
        return {"type": "bridge", "bridge": name, "isGateway": True, "ipam": ipam}

    def macvlan(self, subnet: str) -> dict[str, Any]:
        """A network of the plugin macvlan."""
        return {
            "type": "macvlan",
            "master": "ens4",
            "mode": "bridge",
            "capabilities": {"ips": True, "mac": True},
            "ipam": self.ipam(subnet),
        }

    def configure(self, file: str, name: str, plugin: Mapping[str, Any]) -> None:
        """A CNI configuration in the node's folder."""
        whole: dict[str, Any] = {"cniVersion": "1.0.0", "name": name}
        whole |= {"plugins": [plugin]} if file.endswith(".conflist") else plugin
        (self.node.conf_dir / file).write_text(json.dumps(whole))

    def declare(self, name: str, annotations: Mapping[str, Any]) -> Pod:
        """The pod with these annotations, not attached yet."""
        texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in annotations.items()}
        metadata = {"name": name, "namespace": "blue", "annotations": texts}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
        self.node.write(f"pod-{name}.yaml", body)
        return self._nodes.pod(name)

    def attach(self, name: str, annotations: Mapping[str, Any]) -> Pod:
        """The pod attached, and found as it was made."""
        pod = self.declare(name, annotations)
        answer = self.node.add(pod)
        assert answer.ok, answer.error
        assert self.node.check(pod).ok
        return pod

    def refuse(self, name: str, annotations: Mapping[str, Any]) -> str:
        """Why the pod is not attached; nothing of it is."""
        pod = self.declare(name, annotations)
        answer = self.node.add(pod)
        assert not answer.ok
        assert set(pod.netns.links()) == {"lo"}
        assert self.node.leases(pod=name) == []
        return answer.error

    def end(self, *pods: Pod) -> None:
        """The pods end, and leave nothing."""
        for pod in pods:
            answer = self.node.delete(pod)
            assert answer.ok, answer.error
            assert set(pod.netns.links()) == {"lo"}
        assert self.node.leases() == []
        left = [
            str(path)
            for path in (self._folder / "host-local").rglob("*")
            if path.is_file() and path.name[0].isdigit()
        ]
        assert left == []


def tenant(name: str, **options: Any) -> dict[str, Any]:
    """A DanmNet of the pods' namespace: in a folder nobody assigns segments to it."""
    return network("DanmNet", name, namespace="blue", host_device="ens4", **options)


def nad(name: str, namespace: str, plugin: Mapping[str, Any]) -> dict[str, Any]:
    """A NetworkAttachmentDefinition of this one plugin."""
    return {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"config": json.dumps({"cniVersion": "1.0.0", **plugin})},
    }


@pytest.fixture
def talk(node: Node, nodes: Nodes, tmp_path: Path) -> Talk:
    """The node, with its daemon running."""
    made = Talk(node, nodes, tmp_path)
    node.start()
    return made


def subnets(pod: Pod) -> dict[str, str]:
    """Interface -> the /24 of its IPv4 address, as the kernel has it."""
    found = {}
    for name in pod.netns.links():
        for address in pod.netns.addresses(name):
            if name != "lo" and ":" not in address:
                found[name] = address.rpartition(".")[0]
    return found


def told(pod: Pod) -> list[str]:
    """The interfaces in the pod that the runtime was told of, in their order."""
    return [each["name"] for each in pod.result["interfaces"] if each.get("sandbox")]


def test_a_pod_without_any_annotation_gets_the_default_network_of_the_cluster(talk: Talk) -> None:
    pod = talk.attach("plain", {})
    assert subnets(pod) == {"eth0": CLUSTER_NET}
    assert told(pod) == ["eth0"]
    talk.end(pod)


# CNI-Genie


def test_genie_several_plugins_each_with_an_interface(talk: Talk) -> None:
    pod = talk.attach("genie", {"cni": "canal,weave", "multi-ip-preferences": "{}"})
    assert subnets(pod) == {"eth0": CLUSTER_NET, "eth1": "10.32.0"}
    assert told(pod) == ["eth0", "eth1"], "CNI-Genie's answer is the merged one"
    talk.end(pod)


def test_genie_an_interface_of_a_chosen_name_and_the_others_around_it(talk: Talk) -> None:
    pod = talk.attach("genie", {"cni": "canal@eth1,weave,canal@eth4"})
    assert subnets(pod) == {"eth1": CLUSTER_NET, "eth0": "10.32.0", "eth4": CLUSTER_NET}
    assert told(pod)[0] == "eth0"
    talk.end(pod)


def test_genie_an_empty_annotation_chooses_the_default_network(talk: Talk) -> None:
    pod = talk.attach("genie", {"cni": ""})
    assert subnets(pod) == {"eth0": CLUSTER_NET}
    talk.end(pod)


def test_genie_logical_networks(talk: Talk) -> None:
    pod = talk.attach("genie", {"cni": "", "networks": "internal,media@eth3"})
    assert subnets(pod) == {"eth0": "10.1.0", "eth3": "10.2.0"}
    assert {lease["network"] for lease in talk.node.leases()} == {
        "DanmNet/blue/internal",
        "DanmNet/blue/media",
    }
    talk.end(pod)


def test_genie_the_standards_annotation_in_both_its_short_forms(talk: Talk) -> None:
    pod = talk.attach("genie", {NPWG: "macvlan-conf-1@eth1,green/shared-net@eth2"})
    assert subnets(pod) == {"eth0": CLUSTER_NET, "eth1": "10.11.0", "eth2": "10.13.0"}
    talk.end(pod)


# Multus and the Network Plumbing Working Group


def test_multus_the_default_network_and_more_beside_it(talk: Talk) -> None:
    pod = talk.attach("multus", {NPWG: "macvlan-conf-1, macvlan-conf-2"})
    assert subnets(pod) == {"eth0": CLUSTER_NET, "net1": "10.11.0", "net2": "10.12.0"}
    assert told(pod) == ["eth0"], "the runtime hears of the default network alone"
    talk.end(pod)


def test_multus_json_with_addresses_and_a_default_route(talk: Talk) -> None:
    asked = [
        {
            "name": "macvlan-conf-1",
            "interface": "data0",
            "ips": ["10.11.0.77/24"],
            "mac": "02:00:00:00:00:77",
            "default-route": ["10.11.0.1"],
        }
    ]
    pod = talk.attach("multus", {NPWG: asked})
    assert pod.netns.addresses("data0")[0] == "10.11.0.77/24"
    assert pod.netns.links()["data0"]["address"] == "02:00:00:00:00:77"
    routes = json.loads(pod.netns.ip("-j", "route", "show", "default").stdout)
    assert [(route["gateway"], route["dev"]) for route in routes] == [("10.11.0.1", "data0")]
    talk.end(pod)


def test_multus_the_default_network_replaced(talk: Talk) -> None:
    pod = talk.attach("multus", {MULTUS_DEFAULT: "other-default", NPWG: "macvlan-conf-1"})
    assert subnets(pod) == {"eth0": "10.14.0", "net1": "10.11.0"}
    talk.end(pod)


def test_multus_the_same_network_twice(talk: Talk) -> None:
    pod = talk.attach("multus", {NPWG: "macvlan-conf-1,macvlan-conf-1"})
    first, second = pod.netns.addresses("net1"), pod.netns.addresses("net2")
    assert first != second
    assert set(subnets(pod).values()) == {CLUSTER_NET, "10.11.0"}
    talk.end(pod)


# DANM


def test_danm_networks_of_every_kind_with_names_by_position(talk: Talk) -> None:
    asked = [
        {"network": "internal", "ip": "dynamic"},
        {"clusterNetwork": "external", "ip": "10.4.0.50"},
        {"network": "media", "ip": "none"},
    ]
    pod = talk.attach("danm", {DANM: asked})
    assert subnets(pod) == {"eth0": "10.1.0", "eth1": "10.4.0"}
    assert pod.netns.addresses("eth1")[0] == "10.4.0.50/24"
    assert told(pod) == ["eth0", "eth1", "eth2"]
    talk.end(pod)


# Knitter


def ports(*attached: tuple[str, Mapping[str, str]]) -> dict[str, Any]:
    """Knitter's annotation."""
    return {"ports": [{"attach_to_network": name, "attributes": dict(a)} for name, a in attached]}


def test_knitter_ports_with_roles(talk: Talk) -> None:
    asked = ports(
        ("media", {"nic_name": "nm0", "nic_type": "normal", "function": "media",
                   "accelerate": "false", "ip_group_name": "g1", "combinable": "true"}),
        ("internal", {"nic_name": "eth0", "function": "std"}),
        ("control", {"function": "control", "ip_addr": "10.3.0.33"}),
        ("media", {"function": "oam", "ip_group_name": "g1", "combinable": "true"}),
    )  # fmt: skip
    pod = talk.attach("knitter", {"networks": asked})
    assert subnets(pod) == {"eth0": "10.1.0", "nm0": "10.2.0", "eth_control": "10.3.0"}
    assert pod.netns.addresses("eth_control")[0] == "10.3.0.33/24"
    assert told(pod)[0] == "eth0", "not an invented answer"
    talk.end(pod)


def test_knitter_a_pod_of_a_group_gets_its_address_again(talk: Talk) -> None:
    annotations = {"networks": ports(("media", {"nic_name": "nm0", "ip_group_name": "g1"}))}
    pod = talk.attach("knitter", annotations)
    assert subnets(pod) == {"eth0": CLUSTER_NET, "nm0": "10.2.0"}
    before = pod.netns.addresses("nm0")
    talk.end(pod)
    other = talk.attach("another", annotations)
    again = talk.attach("knitter", annotations)
    assert again.netns.addresses("nm0") == before
    talk.end(again, other)


# What is wrong is told, and nothing of the pod is attached


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ({"cni": "canal,nothing"}, ["nothing"]),
        ({"cni": "canal@eth1,weave@eth1"}, ["cni[1]", "eth1"]),
        ({NPWG: "macvlan-conf-1,none"}, ["NetworkAttachmentDefinition/blue/none"]),
        ({NPWG: '[{"name": "macvlan-conf-1", "mac": "x"}]'}, [f"{NPWG}[0].mac", "no MAC"]),
        (
            {NPWG: '[{"name": "macvlan-conf-1", "bandwidth": {"ingressRate": 1}}]'},
            ["bandwidth", "macvlan-conf-1", "npwg.strict"],
        ),
        (
            {"networks": ports(("media", {"nic_type": "direct"}))},
            ["DanmNet/blue/media: it asks for a device"],
        ),
        ({"networks": ports(("media", {"nic_name": "x" * 13}))}, ["networks.ports[0]", "12"]),
        ({DANM: [{"network": "internal", "ip": "dynamic"}], NPWG: "media"}, [DANM, NPWG]),
        ({"cni": "canal", NPWG: "macvlan-conf-1"}, ["cni", NPWG]),
    ],
)
def test_a_pod_that_cannot_have_what_it_asks_gets_nothing(
    talk: Talk, annotations: Mapping[str, Any], words: Sequence[str]
) -> None:
    said = talk.refuse("bad", annotations)
    for word in words:
        assert word in said
    talk.end(talk.attach("good", {NPWG: "macvlan-conf-1"}))


def test_with_isolation_a_network_of_another_namespace_is_refused(
    node: Node, nodes: Nodes, tmp_path: Path, namespaces: Namespaces
) -> None:
    node.environment["DANMPY_NPWG__NAMESPACE_ISOLATION"] = "true"
    talk = Talk(node, nodes, tmp_path)
    node.start()
    said = talk.refuse("bad", {NPWG: "green/shared-net"})
    assert "npwg.namespace_isolation" in said
    talk.end(talk.attach("good", {NPWG: "macvlan-conf-1"}))
