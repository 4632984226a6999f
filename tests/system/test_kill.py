"""The daemon dies by kill -9 at every step of ADD and DEL; what comes after makes it whole."""

from __future__ import annotations

import pytest

from danmpy.faults import ADD_POINTS, DEL_POINTS
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

INTERFACES = (
    {"tenantNetwork": "internal", "ip": "dynamic"},
    {"clusterNetwork": "ext", "ip": "dynamic", "ip6": "dynamic"},
)


@pytest.fixture
def declared(node: Node) -> Node:
    """A node with two networks and one pod that wants both; not started."""
    node.write(
        "networks.yaml",
        tenant_config({"name": "ens4", "vniType": "vxlan", "vniRange": "700-710"}),
        tenant_network("internal", "blue", cidr="10.20.0.0/24"),
        cluster_network(
            "ext",
            host_device="ens4",
            vxlan=900,
            cidr="172.16.0.0/24",
            net6="fd00:16::/64",
            container_prefix="ext",
        ),
    )
    node.write("pod.yaml", pod_manifest("blue", "web-0", *INTERFACES, uid="u-1"))
    return node


def died(node: Node) -> bool:
    """Did the daemon end by SIGKILL?"""
    return node.daemon.wait(seconds=15) == -9


def is_whole(node: Node, pod: Pod) -> None:
    """One lease an address, one interface a declaration, and CHECK agrees."""
    assert sorted(item["interface"] for item in node.leases()) == ["eth0", "ext1", "ext1"]
    assert {"eth0", "ext1"} <= set(pod.netns.links())
    assert node.check(pod).ok


def is_gone(node: Node, pod: Pod) -> None:
    """No lease, no interface, no record."""
    assert node.leases() == []
    assert list(pod.netns.links()) == ["lo"]
    assert not list((node.state_dir / "attachments").glob("*.json"))


@pytest.mark.parametrize("point", ADD_POINTS)
def test_an_add_killed_at_any_step_is_whole_after_restart_and_retry(
    declared: Node, nodes: Nodes, point: str
) -> None:
    pod = nodes.pod("web-0", uid="u-1")
    declared.start(fault=point)
    answer = declared.add(pod)
    assert not answer.ok
    assert answer.document["code"] == 11
    assert died(declared)
    declared.start()
    retried = declared.add(pod)
    assert retried.ok, retried.error
    is_whole(declared, pod)
    assert declared.delete(pod).ok
    is_gone(declared, pod)


@pytest.mark.parametrize("point", ADD_POINTS)
def test_an_add_killed_at_any_step_leaves_nothing_after_restart_and_del(
    declared: Node, nodes: Nodes, point: str
) -> None:
    pod = nodes.pod("web-0", uid="u-1")
    declared.start(fault=point)
    assert not declared.add(pod).ok
    assert died(declared)
    declared.start()
    assert declared.delete(pod).ok
    is_gone(declared, pod)


@pytest.mark.parametrize("point", DEL_POINTS)
def test_a_del_killed_at_any_step_leaves_nothing_after_restart_and_retry(
    declared: Node, nodes: Nodes, point: str
) -> None:
    pod = nodes.pod("web-0", uid="u-1")
    declared.start()
    assert declared.add(pod).ok
    declared.daemon.stop()
    declared.start(fault=point)
    assert not declared.delete(pod).ok
    assert died(declared)
    declared.start()
    is_gone(declared, pod)
    assert declared.delete(pod).ok


def test_a_half_done_add_is_undone_by_the_next_start_alone(declared: Node, nodes: Nodes) -> None:
    pod = nodes.pod("web-0", uid="u-1")
    declared.start(fault="add:built")
    assert not declared.add(pod).ok
    assert died(declared)
    assert {"eth0", "ext1"} <= set(pod.netns.links())
    declared.start()
    is_gone(declared, pod)
