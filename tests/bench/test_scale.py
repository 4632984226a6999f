"""A node of a large cluster: 1,000 networks and 110 pods, the API server on the same machine."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.cluster import Cluster
from support.netns import Fabric, wait_until
from support.node import Node, Pod, cluster_network, tenant_config, tenant_network

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

NETWORKS = 1000
TENANT_NETWORKS = 500
PODS = 110

READY_S = 15.0
RESIDENT_MB = 130.0
IDLE_CPU_PERCENT = 1.0
DEVICE_S = 1.0
ALL_REALISED_S = 60.0

PROFILE = {"name": "ens4", "vniType": "vxlan", "vniRange": "10000-19999"}


def manifests() -> list[dict[str, Any]]:
    """Half of them tenants' networks, half of them with their VNI written by hand."""
    tenants = [
        tenant_network(f"tn-{n}", f"tenant-{n % 20}", network_id=f"t{n}", cidr="10.20.0.0/20")
        for n in range(TENANT_NETWORKS)
    ]
    others = [
        cluster_network(
            f"cn-{n}", network_id=f"c{n}", host_device="ens4", vxlan=20_000 + n, cidr="10.30.0.0/20"
        )
        for n in range(NETWORKS - TENANT_NETWORKS)
    ]
    return tenants + others


def resident_mb(pid: int) -> float:
    fields = Path(f"/proc/{pid}/status").read_text()
    kib = next(line for line in fields.splitlines() if line.startswith("VmRSS")).split()[1]
    return int(kib) / 1024


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def vxlans(node: Node) -> int:
    return sum(name.startswith("vx") for name in node.namespace.links())


def apply_all(cluster: Cluster, wanted: list[dict[str, Any]]) -> None:
    """As `kubectl apply` of one large file by a few people at once."""
    for namespace in sorted({each["metadata"].get("namespace", "default") for each in wanted}):
        cluster.api.make_namespace(namespace)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(cluster.api.create, wanted))


def timed_until(condition: Any, *, seconds: float, what: str, every: float) -> float:
    began = time.monotonic()
    wait_until(condition, seconds=seconds, what=what, every=every)
    return time.monotonic() - began


def test_a_node_with_a_thousand_networks(cluster: Cluster, fabric: Fabric) -> None:
    node = cluster.add_node("node-a", fabric.nodes[0])
    cluster.register_webhook()
    controller = cluster.add_controller().start()
    node.start()
    wait_until(cluster.webhook_answers, seconds=30, what="the webhook answers", every=0.2)
    cluster.declare(tenant_config(PROFILE))

    began = time.monotonic()
    apply_all(cluster, manifests())
    applied = time.monotonic() - began
    wait_until(lambda: vxlans(node) == NETWORKS, seconds=120, what="all devices", every=0.25)
    realised = time.monotonic() - began
    print(f"\n{NETWORKS} networks applied in {applied:.1f} s, all realised after {realised:.1f} s")

    def all_ready() -> bool:
        items = cluster.api.list("TenantNetwork") + cluster.api.list("ClusterNetwork")
        return sum("True" in str(_ready(each)) for each in items) == NETWORKS

    wait_until(all_ready, seconds=120, what="all Ready", every=1)
    print(f"all Ready in their status after {time.monotonic() - began:.1f} s")

    asks = [{"tenantNetwork": "tn-0", "ip": "dynamic"}, {"clusterNetwork": "cn-0", "ip": "dynamic"}]
    pods = [cluster.pod("node-a", "tenant-0", f"pod-{n}", *asks) for n in range(PODS)]
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(node.add, pods))
    assert all(answer.ok for answer in answers), next(a.error for a in answers if not a.ok)

    latencies = []
    for number in range(10):
        name = f"late-{number}"
        cluster.declare(
            cluster_network(name, network_id=name, host_device="ens4", vxlan=30_000 + number)
        )
        link = f"vx{30_000 + number}"
        latencies.append(
            timed_until(
                lambda link=link: (
                    node.namespace.ip("link", "show", link, check=False).returncode == 0
                ),
                seconds=10,
                what=link,
                every=0.02,
            )
        )
        time.sleep(1)
    latencies.sort()
    print(f"network to device: median {latencies[5]:.2f} s, worst {latencies[-1]:.2f} s")

    began = time.monotonic()
    node.daemon.kill()
    node.start(seconds=60)
    ready = time.monotonic() - began
    time.sleep(20)
    idle_from, at = cpu_seconds(node.daemon.process.pid), time.monotonic()
    time.sleep(30)
    idle = 100 * (cpu_seconds(node.daemon.process.pid) - idle_from) / (time.monotonic() - at)
    resident = resident_mb(node.daemon.process.pid)
    print(
        f"daemon ready after {ready:.1f} s, {resident:.0f} MB resident, {idle:.2f} % CPU when idle"
    )
    print(f"controller: {resident_mb(controller.process.pid):.0f} MB resident")
    _delete_all(node, pods)

    assert realised < ALL_REALISED_S
    assert ready < READY_S
    assert resident < RESIDENT_MB
    assert idle < IDLE_CPU_PERCENT
    assert latencies[5] < DEVICE_S


def _ready(network: dict[str, Any]) -> str:
    conditions = network.get("status", {}).get("conditions", [])
    return next((each["status"] for each in conditions if each["type"] == "Ready"), "")


def _delete_all(node: Node, pods: list[Pod]) -> None:
    with ThreadPoolExecutor(10) as pool:
        assert all(answer.ok for answer in pool.map(node.delete, pods))
