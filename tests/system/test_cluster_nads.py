"""NetworkAttachmentDefinitions in a cluster: devices on every node, and no word written to them."""

from __future__ import annotations

import json

import pytest

from support.apiserver import ApiServer
from support.cluster import Cluster
from support.nads import NAD_CRD, nad_manifest
from support.netns import wait_until
from support.node import cluster_network, tenant_config, tenant_network

pytestmark = pytest.mark.system

WIRE = {"cniVersion": "1.0.0", "type": "macvlan", "master": "ens4", "vxlan": 700}
RANGE = {"name": "ens4", "vniType": "vxlan", "vniRange": "700-702"}


@pytest.fixture(autouse=True)
def _kind(apiserver: ApiServer) -> None:
    """Before any daemon starts: a kind that comes later is looked for twice a minute."""
    apiserver.apply(NAD_CRD)
    apiserver.wait_crds_established()


def test_a_nad_has_its_wire_on_every_node_and_is_never_written(small_cluster: Cluster) -> None:
    cluster = small_cluster
    nodes = tuple(cluster.nodes.values())
    ipam = {"type": "danmpy-cni", "cidr": "10.7.0.0/24"}
    cluster.declare(
        nad_manifest("data", **WIRE, ipam=ipam),
        cluster_network("default", host_device="ens4", vxlan=899, cidr="10.8.0.0/24"),
    )
    made = cluster.api.get("NetworkAttachmentDefinition", "data", "blue")
    assert made is not None
    for node in nodes:
        wait_until(
            lambda n=node: {"vx700", "vx899"} <= n.namespace.links().keys(),
            what="devices",
        )
    # The wire is the NAD's: a tenant gets the next one.
    cluster.declare(tenant_config(RANGE), tenant_network("internal", "blue", cidr="10.20.0.0/24"))
    cluster.wait_ready("TenantNetwork", "internal", "blue")
    status = cluster.status("TenantNetwork", "internal", "blue")
    assert status["segment"]["id"] == 701

    pods = []
    for node in nodes:
        pod = cluster.pod(node.name, "blue", f"web-{node.name}")
        marks = {"k8s.v1.cni.cncf.io/networks": "data"}
        cluster.api.patch("Pod", pod.name, {"metadata": {"annotations": marks}}, "blue")
        wait_until(lambda n=node, p=pod: n.add(p).ok, seconds=20, what="attached", every=0.3)
        pods.append(pod)
    shown = json.loads(pods[1].netns.run("ip", "-j", "-4", "addr", "show", "net1").stdout)
    address = shown[0]["addr_info"][0]["local"]
    wait_until(lambda: pods[0].netns.ping(address), what="the pods meet")

    assert cluster.api.get("NetworkAttachmentDefinition", "data", "blue") == made
    cluster.api.delete("NetworkAttachmentDefinition", "data", "blue")
    assert cluster.api.get("NetworkAttachmentDefinition", "data", "blue") is None
    assert nodes[0].delete(pods[0]).ok
    wait_until(lambda: "vx700" not in nodes[0].namespace.links(), seconds=15, what="no device")
    assert "vx700" in nodes[1].namespace.links(), "a pod is on it"
    assert nodes[1].delete(pods[1]).ok
    wait_until(lambda: "vx700" not in nodes[1].namespace.links(), seconds=15, what="no device")
