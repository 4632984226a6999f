"""The main job on a real API server: what people apply becomes devices, addresses, traffic, status,
and leaves nothing behind when it is deleted."""

from __future__ import annotations

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.apiclient import RefusedError
from support.cluster import Cluster
from support.databases import PostgresServer
from support.netns import wait_until
from support.node import Node, Pod, cluster_network, tenant_config, tenant_network

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

PROFILE = {"name": "ens4", "vniType": "vxlan", "vniRange": "700-710"}
INTERNAL = {"tenantNetwork": "internal", "ip": "dynamic", "ip6": "dynamic"}
STORAGE = {"clusterNetwork": "storage", "ip": "dynamic"}
RACES = 48
STATUS = "k8s.v1.cni.cncf.io/network-status"


def endpoints(cluster: Cluster, namespace: str = "blue") -> list[dict[str, Any]]:
    return cluster.api.list("DanmEp", namespace)


def network_status(cluster: Cluster, pod: Pod) -> list[dict[str, Any]]:
    found = cluster.api.get("Pod", pod.name, pod.namespace)
    assert found is not None
    text = found["metadata"].get("annotations", {}).get(STATUS, "[]")
    return list(json.loads(text))


def events(cluster: Cluster, namespace: str, reason: str) -> list[dict[str, Any]]:
    return [each for each in cluster.api.list("Event", namespace) if each["reason"] == reason]


def declare_blue(cluster: Cluster) -> None:
    cluster.declare(
        tenant_config(PROFILE),
        tenant_network("internal", "blue", cidr="10.20.0.0/24", net6="fd00:20::/64"),
        cluster_network("storage", host_device="ens4", vxlan=900, cidr="10.90.0.0/24"),
    )
    cluster.wait_ready("TenantNetwork", "internal", "blue")
    cluster.wait_ready("ClusterNetwork", "storage")


def added(node: Node, pod: Pod) -> Pod:
    answer = node.add(pod)
    assert answer.ok, answer.error
    return pod


def test_what_is_applied_works_on_two_nodes_and_leaves_nothing_when_it_is_deleted(
    small_cluster: Cluster,
) -> None:
    cluster = small_cluster
    node_a, node_b = cluster.nodes.values()
    declare_blue(cluster)
    status = cluster.status("TenantNetwork", "internal", "blue")
    assert status["segment"] == {"parent": "ens4", "kind": "vxlan", "id": 700}
    assert status["device"] == "vx700"
    for node in (node_a, node_b):
        assert {"vx700", "vx900"} <= node.namespace.links().keys()

    web = added(node_a, cluster.pod("node-a", "blue", "web-0", INTERNAL, STORAGE))
    db = added(node_b, cluster.pod("node-b", "blue", "db-0", INTERNAL, STORAGE))
    for pod, peer in ((web, db), (db, web)):
        for address in peer.result["ips"]:
            target = address["address"].partition("/")[0]
            wait_until(lambda t=target, p=pod: p.netns.ping(t), what=f"{pod.name} -> {target}")

    wait_until(lambda: len(endpoints(cluster)) == 4, what="one DanmEp an interface")
    (first,) = [
        each
        for each in endpoints(cluster)
        if each["spec"]["Pod"] == "web-0" and each["spec"]["NetworkName"] == "internal"
    ]
    assert first["spec"]["Host"] == "node-a"
    assert first["spec"]["apiType"] == "TenantNetwork"
    assert first["spec"]["Interface"]["Address"] in [ip["address"] for ip in web.result["ips"]]
    assert first["metadata"]["labels"]["app"] == "web-0"
    (owner,) = first["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Pod", "web-0", web.uid)

    wait_until(lambda: len(network_status(cluster, db)) == 2, what="network-status")
    entries = network_status(cluster, db)
    assert [each.get("default", False) for each in entries].count(True) == 1
    assert {each["interface"] for each in entries} == {
        link["name"] for link in db.result["interfaces"] if link.get("sandbox")
    }
    wait_until(lambda: events(cluster, "blue", "NetworksAttached"), what="events of the pods")

    wait_until(
        lambda: (
            cluster.status("TenantNetwork", "internal", "blue").get("v4", {}).get("held") == "2"
        ),
        seconds=25,
        what="usage in the status",
        every=0.2,
    )
    assert (
        cluster.condition("TenantNetwork", "internal", "blue", of="InUse").get("status") == "True"
    )
    assert node_a.ask("audit", "diff")["items"] == []

    with pytest.raises(RefusedError, match=r"web-0|db-0"):
        cluster.api.delete("TenantNetwork", "internal", "blue")

    for node, pod in ((node_a, web), (node_b, db)):
        assert node.delete(pod).ok
        cluster.api.delete("Pod", pod.name, pod.namespace)
    wait_until(lambda: not endpoints(cluster), what="DanmEps gone")
    cluster.api.delete("TenantNetwork", "internal", "blue")
    cluster.api.delete("ClusterNetwork", "storage")
    wait_until(
        lambda: (
            cluster.api.get("TenantNetwork", "internal", "blue") is None
            and cluster.api.get("ClusterNetwork", "storage") is None
        ),
        seconds=30,
        what="networks gone from the API",
        every=0.1,
    )
    for node in (node_a, node_b):
        wait_until(
            lambda n=node: not {"vx700", "vx900"} & n.namespace.links().keys(),
            what="devices gone from the kernel",
        )
        assert node.leases() == []
        assert node.ask("audit", "diff")["items"] == []


def test_a_pod_that_does_not_exist_or_is_another_by_now_is_refused(
    small_cluster: Cluster,
) -> None:
    cluster = small_cluster
    node = cluster.nodes["node-a"]
    declare_blue(cluster)
    pod = cluster.pod("node-a", "blue", "web-0", INTERNAL)
    ghost = Pod(
        netns=pod.netns, container_id="ghost", namespace="blue", name="web-9", uid="no-such-uid"
    )
    assert node.add(ghost).document["code"] == 11
    other = Pod(
        netns=pod.netns, container_id="other", namespace="blue", name="web-0", uid="another-uid"
    )
    assert node.add(other).document["code"] == 7
    assert node.leases() == []


def test_a_pod_is_attached_in_the_moment_in_which_it_and_its_network_were_made(
    small_cluster: Cluster,
) -> None:
    cluster = small_cluster
    node = cluster.nodes["node-a"]
    for number in range(5):
        name = f"net-{number}"
        cluster.declare(
            cluster_network(name, host_device="ens4", vxlan=920 + number, cidr="10.1.0.0/24")
        )
        ask = {"clusterNetwork": name, "ip": "dynamic"}
        added(node, cluster.pod("node-a", "blue", f"pod-{number}", ask))


def test_a_static_pod_is_attached_by_the_uid_that_kubelet_gives(small_cluster: Cluster) -> None:
    cluster = small_cluster
    node = cluster.nodes["node-a"]
    declare_blue(cluster)
    pod = cluster.pod("node-a", "blue", "static-node-a", INTERNAL)
    cluster.api.delete("Pod", pod.name, "blue")
    stored = cluster.api.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": pod.name,
                "namespace": "blue",
                "annotations": {
                    "danm.k8s.io/interfaces": json.dumps([INTERNAL]),
                    "kubernetes.io/config.hash": "0123456789abcdef",
                    "kubernetes.io/config.mirror": "0123456789abcdef",
                },
            },
            "spec": {"nodeName": "node-a", "containers": [{"name": "main", "image": "none"}]},
        }
    )
    pod.uid = "0123456789abcdef"
    added(node, pod)
    wait_until(lambda: endpoints(cluster), what="DanmEp of the static pod")
    (owner,) = endpoints(cluster)[0]["metadata"]["ownerReferences"]
    assert owner["uid"] == stored["metadata"]["uid"]
    assert node.delete(pod).ok


def test_a_lost_api_server_takes_no_device_and_no_address_away(small_cluster: Cluster) -> None:
    cluster = small_cluster
    node = cluster.nodes["node-a"]
    declare_blue(cluster)
    pod = added(node, cluster.pod("node-a", "blue", "web-0", INTERNAL))
    waiting = cluster.pod("node-a", "blue", "web-1", INTERNAL)
    added(node, waiting)  # its object is in the cache from here on
    assert node.delete(waiting).ok
    cluster.api.kill()
    added(node, waiting)
    assert node.check(pod).ok
    assert "vx700" in node.namespace.links()
    node.daemon.kill()
    node.start(wait=False)
    wait_until(lambda: "vx700" in node.namespace.links(), what="device kept")
    cluster.api.start()
    wait_until(node.serves, seconds=20, what="the daemon serves again")
    assert node.check(pod).ok
    assert len(node.leases()) == 4
    assert node.delete(pod).ok
    assert node.delete(waiting).ok


def test_a_database_file_is_refused_in_a_cluster_of_two_nodes_and_nothing_is_touched(
    small_cluster: Cluster,
) -> None:
    cluster = small_cluster
    node = cluster.nodes["node-a"]
    declare_blue(cluster)
    pod = added(node, cluster.pod("node-a", "blue", "web-0", INTERNAL))
    node.daemon.stop()
    # A state folder of its own: there is no journal that says that a pod is on the device.
    folder = node.folder / "other"
    node.environment["DANMPY_DATABASE_URL"] = f"sqlite:///{folder}/danmpy.db"
    node.environment["DANMPY_STATE_DIR"] = str(folder)
    node.start(wait=False)
    assert node.daemon.wait(seconds=20) != 0
    assert "PostgreSQL" in node.daemon.output
    assert "Traceback" not in node.daemon.output
    assert "vx700" in node.namespace.links()
    assert "eth0" in pod.netns.links()


def test_a_database_that_knows_nothing_takes_no_device_from_under_a_pod(
    small_cluster: Cluster, postgresql: PostgresServer, empty_postgresql_url: str
) -> None:
    cluster = small_cluster
    node = cluster.nodes["node-a"]
    declare_blue(cluster)
    pod = added(node, cluster.pod("node-a", "blue", "web-0", INTERNAL))
    node.daemon.stop()
    right = node.environment["DANMPY_DATABASE_URL"]
    wrong = postgresql.socket_url(empty_postgresql_url.rpartition("/")[2])
    node.environment["DANMPY_DATABASE_URL"] = wrong
    node.start()
    assert node.ask("networks")["items"], "it has looked"
    assert "vx700" in node.namespace.links()
    assert "eth0" in pod.netns.links()
    node.daemon.stop()
    node.environment["DANMPY_DATABASE_URL"] = right
    node.start()
    assert node.check(pod).ok


def vanish(cluster: Cluster, kind: str, name: str) -> None:
    """Take a network away past webhook and controller, as somebody with all rights can."""
    cluster.api.delete("ValidatingWebhookConfiguration", "danmpy")
    for controller in cluster.controllers:
        controller.kill()
    cluster.api.delete(kind, name)
    cluster.api.patch(kind, name, {"metadata": {"finalizers": None}})
    assert cluster.api.get(kind, name) is None


def test_a_network_that_vanishes_keeps_its_device_until_its_last_pod_is_gone(
    small_cluster: Cluster,
) -> None:
    cluster = small_cluster
    node, other = cluster.nodes.values()
    declare_blue(cluster)
    pod = added(node, cluster.pod("node-a", "blue", "web-0", STORAGE))
    vanish(cluster, "ClusterNetwork", "storage")
    wait_until(lambda: "vx900" not in other.namespace.links(), what="the other node has seen it")
    time.sleep(1)  # and this one, in at least one look
    assert "vx900" in node.namespace.links()
    assert node.check(pod).ok
    late = cluster.pod("node-a", "blue", "web-1", STORAGE)
    assert node.add(late).document["code"] == 7
    assert node.delete(pod).ok
    wait_until(lambda: "vx900" not in node.namespace.links(), what="gone with its last pod")


def gone(cluster: Cluster, name: str) -> bool:
    """Could the network be deleted?"""
    try:
        cluster.api.delete("ClusterNetwork", name)
    except RefusedError:
        return False
    return True


def test_a_network_deleted_in_the_moment_in_which_it_is_first_used_leaves_whole_pods(
    small_cluster: Cluster,
) -> None:
    cluster = small_cluster
    node = cluster.nodes["node-a"]
    cluster.api.make_namespace("blue")
    outcome: dict[str, int] = dict.fromkeys(("attached", "refused", "deleted", "kept"), 0)

    def race(number: int) -> Pod | None:
        name = f"race-{number}"
        cluster.api.create(
            cluster_network(name, host_device="ens4", vxlan=1000 + number, cidr="10.7.0.0/24")
        )
        ask = {"clusterNetwork": name, "ip": "dynamic"}
        pod = cluster.pod("node-a", "blue", f"pod-{number}", ask)
        with ThreadPoolExecutor(1) as one:
            adding = one.submit(node.add, pod)
            time.sleep(random.uniform(0, 0.12))
            try:
                cluster.api.delete("ClusterNetwork", name)
                outcome["deleted"] += 1
            except RefusedError:
                outcome["kept"] += 1
            answer = adding.result()
        outcome["attached" if answer.ok else "refused"] += 1
        return pod if answer.ok else None

    with ThreadPoolExecutor(8) as pool:
        pods = [pod for pod in pool.map(race, range(RACES)) if pod is not None]
    time.sleep(6)  # longer than it took a device to go when nothing kept it
    assert pods, outcome
    for pod in pods:
        assert node.check(pod).ok, (pod.name, node.check(pod).error, outcome)
    for pod in pods:
        assert node.delete(pod).ok
        cluster.api.delete("Pod", pod.name, "blue")
    for number in range(RACES):
        # A node says a moment later that the pod is gone; until then the network is in use.
        wait_until(lambda n=number: gone(cluster, f"race-{n}"), what=f"race-{number} deleted")
    wait_until(
        lambda: not [name for name in node.namespace.links() if name.startswith("vx")],
        seconds=30,
        what=f"no device is left: {outcome}",
    )
    assert node.leases() == []
    assert node.ask("audit", "diff")["items"] == []
