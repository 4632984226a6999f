"""A running pod asks otherwise in the API server: its status, DanmEps and events follow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.cluster import Cluster
from support.netns import wait_until
from support.node import Pod, cluster_network

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

FIRST = {"clusterNetwork": "first", "ip": "dynamic"}
DATA = {"clusterNetwork": "data", "ip": "dynamic"}
STATUS = "k8s.v1.cni.cncf.io/network-status"


def ask(cluster: Cluster, pod: Pod, *interfaces: dict[str, Any]) -> None:
    annotations = {"danm.k8s.io/interfaces": json.dumps(list(interfaces))}
    cluster.api.patch("Pod", pod.name, {"metadata": {"annotations": annotations}}, pod.namespace)


def shown(cluster: Cluster, pod: Pod) -> list[str]:
    """The interfaces in the network-status of the pod."""
    found = cluster.api.get("Pod", pod.name, pod.namespace)
    assert found is not None
    text = found["metadata"].get("annotations", {}).get(STATUS, "[]")
    return [each["interface"] for each in json.loads(text)]


def endpoints(cluster: Cluster) -> list[str]:
    found = cluster.api.list("DanmEp", "blue")
    return sorted(each["spec"]["Interface"]["Name"] for each in found)


def messages(cluster: Cluster, reason: str) -> list[str]:
    found = cluster.api.list("Event", "blue")
    return [each["message"] for each in found if each["reason"] == reason]


def test_status_endpoints_and_events_follow_an_annotation(small_cluster: Cluster) -> None:
    cluster = small_cluster
    node = cluster.nodes["node-a"]
    cluster.declare(
        cluster_network("first", host_device="ens4", vxlan=900, cidr="10.1.0.0/24"),
        cluster_network("data", host_device="ens4", vxlan=901, cidr="10.2.0.0/24"),
    )
    for name in ("first", "data"):
        cluster.wait_ready("ClusterNetwork", name)
    pod = cluster.pod("node-a", "blue", "web-0", FIRST)
    answer = node.add(pod)
    assert answer.ok, answer.error
    wait_until(lambda: shown(cluster, pod) == ["eth0"], what="network-status")

    ask(cluster, pod, FIRST, DATA)
    wait_until(lambda: shown(cluster, pod) == ["eth0", "eth1"], what="network-status of both")
    wait_until(lambda: endpoints(cluster) == ["eth0", "eth1"], what="endpoints of both")
    wait_until(lambda: messages(cluster, "InterfacesChanged"), what="event")
    assert "to come: eth1" in messages(cluster, "InterfacesChanged")[0]
    assert node.check(pod).ok

    ask(cluster, pod, DATA)
    wait_until(lambda: messages(cluster, "InterfacesRefused"), what="event of the refusal")
    assert "first interface eth0 would change" in messages(cluster, "InterfacesRefused")[0]
    assert shown(cluster, pod) == ["eth0", "eth1"]

    ask(cluster, pod, FIRST)
    wait_until(lambda: shown(cluster, pod) == ["eth0"], what="network-status of one")
    wait_until(lambda: endpoints(cluster) == ["eth0"], what="endpoints of one")
    assert set(pod.netns.links()) == {"lo", "eth0"}
    assert [item["interface"] for item in node.leases(pod="web-0")] == ["eth0"]
    assert node.delete(pod).ok
