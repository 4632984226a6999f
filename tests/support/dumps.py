"""What `kubectl get -o yaml` prints in clusters with other tools, and how those tools encode."""

from __future__ import annotations

import base64
from ipaddress import ip_address, ip_network


def bitmap(subnet: str, *addresses: str) -> str:
    """DANM's bitmap of `subnet` with the bits of `addresses` set, and of its first and last one.

    Written as a text of 0 and 1, one character an address, and only then packed.
    """
    net = ip_network(subnet)
    first = int(net.network_address)
    bits = ["0"] * net.num_addresses
    for value in (first, int(net.broadcast_address), *(int(ip_address(a)) for a in addresses)):
        bits[value - first] = "1"
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    packed = bytes(int(text[place : place + 8], 2) for place in range(0, len(text), 8))
    return base64.b64encode(packed).decode()


def danm_networks() -> str:
    """A ClusterNetwork with a gateway, a static pod outside the pool and a bit that nobody owns."""
    alloc = bitmap("172.16.0.0/24", "172.16.0.1", "172.16.0.10", "172.16.0.11", "172.16.0.200")
    return f"""\
apiVersion: v1
items:
- apiVersion: danm.k8s.io/v1
  kind: ClusterNetwork
  metadata:
    creationTimestamp: "2024-03-01T08:00:00Z"
    generation: 41
    name: shared
    resourceVersion: "918273"
    uid: 6e0a5a1e-1f5c-4f4c-8f8e-0d5cb1b4a001
  spec:
    NetworkID: shared
    NetworkType: macvlan
    Options:
      alloc: {alloc}
      allocation_pool:
        end: 172.16.0.99
        lastIp: 172.16.0.11/24
        start: 172.16.0.10
      allocation_pool_v6: {{}}
      cidr: 172.16.0.0/24
      container_prefix: ext
      host_device: ens4
      routes:
        10.20.0.0/16: 172.16.0.1
      vxlan: 900
kind: List
metadata:
  resourceVersion: ""
"""


def danm_endpoint(pod: str, address: str, **more: str) -> str:
    """One item of a list of DanmEps."""
    word = {
        "cid": f"{pod}-sandbox",
        "uid": f"uid-{pod}",
        "api": "ClusterNetwork",
        "network": "shared",
        "host": "node-a",
        "name": "ext1",
        "v6": "",
        "endpoint": f"ep-{pod}",
    } | more
    return f"""\
- apiVersion: danm.k8s.io/v1
  kind: DanmEp
  metadata:
    generation: 1
    name: {word["endpoint"]}
    namespace: blue
    resourceVersion: "918280"
  spec:
    CID: {word["cid"]}
    EndpointID: {word["endpoint"]}
    Host: {word["host"]}
    Interface:
      Address: {address}
      AddressIPv6: "{word["v6"]}"
      MacAddress: ""
      Name: {word["name"]}
      proutes: null
      proutes6: null
    NetworkName: {word["network"]}
    NetworkType: macvlan
    Pod: {pod}
    PodUID: {word["uid"]}
    apiType: {word["api"]}
    netns: /var/run/netns/cni-{pod}
"""


def danm_endpoints(*items: str) -> str:
    """The list of these DanmEps."""
    return "apiVersion: v1\nitems:\n" + "".join(items) + "kind: List\nmetadata: {}\n"


def danm_cluster() -> str:
    """Networks and DanmEps in one file, as two commands append them."""
    endpoints = danm_endpoints(
        danm_endpoint("web-0", "172.16.0.10/24"),
        danm_endpoint("db-0", "172.16.0.200/24", host="node-b"),
        danm_endpoint("l2-0", "none"),
    )
    return danm_networks() + "---\n" + endpoints


def ip_pool(name: str, cidr: str, allocations: str) -> str:
    """One IPPool of whereabouts."""
    return f"""\
- apiVersion: whereabouts.cni.cncf.io/v1alpha1
  kind: IPPool
  metadata:
    name: {name}
    namespace: kube-system
  spec:
    allocations: {allocations}
    range: {cidr}
"""


def whereabouts_cluster() -> str:
    """Two pools, one of them foreign, and the copy of an allocation."""
    held = (
        '{"1": {id: web-0-sandbox, podref: blue/web-0, ifname: net1},'
        ' "20": {id: db-0-sandbox, podref: blue/db-0}}'
    )
    other = '{"5": {id: x-sandbox, podref: red/x, ifname: net1}}'
    return (
        "apiVersion: v1\nitems:\n"
        + ip_pool("172.16.0.0-24", "172.16.0.0/24", held)
        + ip_pool("192.168.9.0-24", "192.168.9.0/24", other)
        + """\
- apiVersion: whereabouts.cni.cncf.io/v1alpha1
  kind: OverlappingRangeIPReservation
  metadata: {name: 172.16.0.1, namespace: kube-system}
  spec: {containerid: web-0-sandbox, podref: blue/web-0}
kind: List
metadata: {resourceVersion: ""}
"""
    )
