"""The main job over VLAN and ipvlan: two nodes on a trunk, two tenants with one subnet, traffic."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from support.netns import Fabric, Namespace
from support.node import (
    Node,
    Nodes,
    Pod,
    cluster_network,
    pod_manifest,
    tenant_config,
    tenant_network,
)

pytestmark = [pytest.mark.uml, pytest.mark.system, pytest.mark.timeout(300)]

CIDR = "10.10.0.0/24"
TENANTS = ("blue", "red")
SHARED_DEVICE = "ens4.100"
PATIENCE = 90.0
"""Seconds. In User-Mode Linux a daemon needs several only to start."""

INTERFACES = (
    {"tenantNetwork": "internal", "ip": "dynamic"},
    {"clusterNetwork": "shared", "ip": "dynamic"},
)


@dataclass(slots=True)
class Lab:
    """Two nodes with their daemons, and one pod of each tenant on each node, attached."""

    nodes: tuple[Node, Node]
    switch: Namespace
    pods: dict[tuple[str, str], Pod] = field(default_factory=dict)

    def address(self, tenant: str, node: str, interface: int = 0) -> str:
        """The address of a pod's interface, without its prefix length."""
        return str(self.pods[tenant, node].result["ips"][interface]["address"].partition("/")[0])

    def interface(self, tenant: str, node: str, number: int = 0) -> str:
        """The name of a pod's interface."""
        result = self.pods[tenant, node].result
        return str(result["interfaces"][result["ips"][number]["interface"]]["name"])

    def sandbox(self, tenant: str, node: str) -> Namespace:
        return self.pods[tenant, node].netns


def vlan_devices(node: Node) -> dict[str, int]:
    """The VLAN devices of a node that are up, with their ids."""
    return {
        name: link["linkinfo"]["info_data"]["id"]
        for name, link in node.namespace.links().items()
        if link.get("linkinfo", {}).get("info_kind") == "vlan" and "UP" in link["flags"]
    }


def wait_for_devices(node: Node, count: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while len(found := vlan_devices(node)) != count:
        if time.monotonic() > deadline:
            told = node.danmpy("networks", "-o", "json", check=False)
            pytest.fail(f"{found}\n{told.stdout}{told.stderr}\n{node.daemon.output}")
        time.sleep(0.05)


@pytest.fixture
def lab(nodes: Nodes, two_nodes: tuple[Node, Node], fabric: Fabric) -> Lab:
    made = Lab(nodes=two_nodes, switch=fabric.switch)
    first = two_nodes[0]
    first.write(
        "networks.yaml",
        tenant_config({"name": "ens4", "vniType": "vlan", "vniRange": "200-299"}),
        cluster_network(
            "shared",
            network_type="ipvlan",
            allowed=TENANTS,
            host_device="ens4",
            vlan=100,
            cidr="172.16.0.0/24",
        ),
        *(
            tenant_network(
                "internal",
                tenant,
                network_type="ipvlan",
                network_id=f"{tenant}-int",
                cidr=CIDR,
            )
            for tenant in TENANTS
        ),
    )
    for node in two_nodes:
        node.start(seconds=PATIENCE)
    for node in two_nodes:
        wait_for_devices(node, 3)
    members = [(tenant, node) for tenant in TENANTS for node in two_nodes]
    first.write(
        "pods.yaml",
        *(
            pod_manifest(
                tenant, node.name, *INTERFACES, uid=f"{tenant}-{node.name}", node=node.name
            )
            for tenant, node in members
        ),
    )
    for tenant, node in members:
        pod = nodes.pod(node.name, tenant, uid=f"{tenant}-{node.name}")
        made.pods[tenant, node.name] = pod
        attach(node, pod)
    return made


def attach(node: Node, pod: Pod) -> None:
    """ADD as a runtime does: asked to try again (code 11), it tries again."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := node.add(pod)).ok:
        assert answer.document.get("code") == 11, answer.error
        assert time.monotonic() < deadline, answer.error
        time.sleep(0.2)


@contextlib.contextmanager
def capture(namespace: Namespace, device: str, expression: str) -> Iterator[list[str]]:
    """Frames on `device` while the block runs, one line each, filled when it ends."""
    lines: list[str] = []
    argv = namespace.argv("tcpdump", "-l", "-n", "-e", "-i", device, expression)
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            said = []
            for line in process.stderr:
                said.append(line)
                if "listening on" in line:
                    break
            else:
                pytest.fail(f"tcpdump did not start: {''.join(said)}")
            yield lines
            time.sleep(0.5)  # the last frames are still on their way to tcpdump
        finally:
            process.send_signal(signal.SIGINT)
            lines += filter(None, process.stdout.read().splitlines())


def test_tenants_with_one_subnet_talk_across_the_trunk_and_never_meet(lab: Lab) -> None:
    first, second = lab.nodes
    devices = vlan_devices(first)
    assert devices == vlan_devices(second)
    assert devices[SHARED_DEVICE] == 100
    tenant_ids = sorted(vid for vid in devices.values() if vid != 100)
    assert len(tenant_ids) == 2
    assert all(200 <= vid <= 299 for vid in tenant_ids)

    for tenant in TENANTS:
        sandbox, peer = lab.sandbox(tenant, "node-a"), lab.address(tenant, "node-b")
        link = sandbox.links()[lab.interface(tenant, "node-a")]
        assert link["linkinfo"]["info_kind"] == "ipvlan"
        assert link["mtu"] == 1500
        assert sandbox.ping(peer)
        assert sandbox.ping(peer, size=1500 - 28, fragment=False)
    across = lab.address("red", "node-b", 1)
    assert lab.sandbox("blue", "node-a").ping(across), "the shared network joins the tenants"

    # Blue's traffic, broadcasts included, on the trunk, in blue's other pod and in red's.
    blue, red = lab.sandbox("blue", "node-b"), lab.sandbox("red", "node-b")
    watched = "arp or icmp"
    for node in lab.nodes:
        # Otherwise red's kernel asks again for the neighbours of its own ping, seconds later.
        lab.sandbox("red", node.name).ip("neighbour", "flush", "all")
    with (
        capture(lab.switch, "port1", f"{watched} or (vlan and ({watched}))") as trunk,
        capture(blue, lab.interface("blue", "node-b"), watched) as seen_by_blue,
        capture(red, lab.interface("red", "node-b"), watched) as seen_by_red,
    ):
        sender = lab.sandbox("blue", "node-a")
        sender.ip("neighbour", "flush", "all")
        assert sender.ping(lab.address("blue", "node-b"), count=3, seconds=6)
        assert not sender.ping("10.10.0.253", seconds=2), "an address that nobody has"
    assert any("ARP" in line for line in seen_by_blue)
    assert any("ICMP" in line for line in seen_by_blue)
    assert seen_by_red == []
    tags = {line.partition("vlan ")[2].partition(",")[0] for line in trunk}
    assert len(tags) == 1, f"one tag on every frame: {trunk}"
    assert int(tags.pop()) in tenant_ids


def test_what_is_deleted_and_withdrawn_leaves_no_interface_no_lease_and_no_device(lab: Lab) -> None:
    first, second = lab.nodes
    assert len(first.leases()) == 8
    for (_, name), pod in lab.pods.items():
        node = first if name == first.name else second
        answer = node.delete(pod)
        assert answer.ok, answer.error
        assert set(pod.netns.links()) == {"lo"}
    assert first.leases() == []

    first.remove("networks.yaml")
    for node in lab.nodes:
        wait_for_devices(node, 0)
        assert "UP" in node.namespace.links()["ens4"]["flags"], "the NIC is not ours to touch"
