"""A pod's whole life through the real entrypoint, daemon, database and kernel."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from support.netns import wait_until
from support.node import (
    Node,
    Nodes,
    Pod,
    cluster_network,
    network,
    node_manifest,
    pod_manifest,
    tenant_config,
    tenant_network,
)
from support.requirements import has_link_kind

pytestmark = pytest.mark.system

PROFILE = {"name": "ens4", "vniType": "vxlan", "vniRange": "700-710"}
DYNAMIC = {"tenantNetwork": "internal", "ip": "dynamic"}


def declare_blue(node: Node, **options: object) -> None:
    """A tenant's network on a VNI of its profile."""
    settings = {"cidr": "10.20.0.0/24", "container_prefix": "int", **options}
    node.write(
        "networks.yaml", tenant_config(PROFILE), tenant_network("internal", "blue", **settings)
    )


def attached(node: Node, pod: Pod, *interfaces: dict[str, object]) -> Pod:
    """`pod` declared and attached."""
    name = f"pod-{pod.namespace}-{pod.name}.yaml"
    node.write(name, pod_manifest(pod.namespace, pod.name, *interfaces, uid=pod.uid))
    answer = node.add(pod)
    assert answer.ok, answer.error
    return pod


def test_a_pod_gets_its_interface_and_the_database_says_who_has_the_address(
    node: Node, nodes: Nodes
) -> None:
    declare_blue(node, gateway="10.20.0.1", net6="fd00:20::/64")
    node.start()
    pod = attached(node, nodes.pod("web-0", uid="u-1"), {**DYNAMIC, "ip6": "dynamic"})

    link = pod.netns.links()["eth0"]
    result = pod.result
    assert result["interfaces"] == [
        {
            "name": "eth0",
            "mac": link["address"],
            "sandbox": str(pod.netns.path),
            "mtu": 1450,
        }
    ]
    assert [ip["address"] for ip in result["ips"]] == list(pod.netns.addresses("eth0"))
    assert {ip["interface"] for ip in result["ips"]} == {0}
    assert result["ips"][0]["gateway"] == "10.20.0.1"
    assert {"dst": "0.0.0.0/0", "gw": "10.20.0.1"} in [
        {key: route[key] for key in ("dst", "gw")} for route in result["routes"]
    ]
    assert link["operstate"] == "UP" or "UP" in link["flags"]

    address = result["ips"][0]["address"]
    who = node.ask("audit", "who", address.partition("/")[0])
    holder = who["holder"]
    assert holder["address"] == address
    assert (holder["pod"], holder["namespace"], holder["pod_uid"]) == ("web-0", "blue", "u-1")
    assert (holder["container_id"], holder["interface"]) == (pod.container_id, "eth0")
    assert (holder["network"], holder["node"]) == ("TenantNetwork/blue/internal", "node-a")
    assert (holder["mac"], holder["mode"]) == (link["address"], "dynamic")
    assert holder["to"] is None

    assert node.check(pod).ok
    assert node.delete(pod).ok
    assert "eth0" not in pod.netns.links()
    assert node.leases() == []
    gone = node.ask("audit", "who", address.partition("/")[0])
    assert gone["holder"] is None
    assert gone["previous"]["pod"] == "web-0"
    assert gone["previous"]["end_reason"] == "released"


def test_a_time_in_the_past_answers_as_it_was_then(node: Node, nodes: Nodes) -> None:
    declare_blue(node)
    node.start()
    pod = attached(node, nodes.pod("web-0"), DYNAMIC)
    address = pod.result["ips"][0]["address"].partition("/")[0]
    during = datetime.now(UTC).isoformat()
    assert node.delete(pod).ok
    lease = node.ask("audit", "history", "--address", address)["items"][0]

    def holder(at: str) -> object:
        return (node.ask("audit", "who", address, "--at", at)["holder"] or {}).get("pod")

    assert holder(during) == "web-0"
    assert holder(lease["from"]) == "web-0"
    assert holder(lease["to"]) is None


def test_three_interfaces_of_three_networks_keep_their_places(node: Node, nodes: Nodes) -> None:
    declare_blue(node)
    node.write(
        "more.yaml",
        cluster_network(
            "ext", host_device="ens4", vxlan=900, cidr="172.16.0.0/24", container_prefix="ext"
        ),
        cluster_network("l2", host_device="ens4", vxlan=901),
    )
    node.start()
    pod = attached(
        node,
        nodes.pod("app"),
        DYNAMIC,
        {"clusterNetwork": "ext", "ip": "172.16.0.77"},
        {"clusterNetwork": "l2"},
    )
    assert [link["name"] for link in pod.result["interfaces"]] == ["eth0", "ext1", "eth2"]
    assert pod.netns.addresses("ext1") == ("172.16.0.77/24",)
    assert pod.netns.addresses("eth2") == ()
    modes = {item["interface"]: item["mode"] for item in node.leases()}
    assert modes == {"eth0": "dynamic", "ext1": "static"}


def test_a_repeated_add_answers_the_same_and_records_nothing(node: Node, nodes: Nodes) -> None:
    declare_blue(node)
    node.start()
    pod = attached(node, nodes.pod("web-0"), DYNAMIC)

    def recorded() -> list[str]:
        return [item["digest"] for item in node.ask("audit", "events")["items"]]

    first, events = pod.result, recorded()
    assert node.add(pod).document == first
    assert recorded() == events


def test_a_new_sandbox_of_the_same_pod_keeps_the_address(node: Node, nodes: Nodes) -> None:
    declare_blue(node)
    node.start()
    old = attached(node, nodes.pod("web-0", uid="u-1"), DYNAMIC)
    new = nodes.pod("web-0", uid="u-1")
    assert node.add(new).addresses == [old.result["ips"][0]["address"]]
    assert node.delete(old).ok
    assert [item["container_id"] for item in node.leases()] == [new.container_id]
    assert node.check(new).ok


def test_detaching_works_without_namespace_without_manifests_and_twice(
    node: Node, nodes: Nodes
) -> None:
    declare_blue(node)
    node.start()
    pod = attached(node, nodes.pod("web-0"), DYNAMIC)
    pod.netns.run("ip", "link", "show")
    node.remove("pod-blue-web-0.yaml")
    node.remove("networks.yaml")
    run_netns_delete(pod)
    assert node.delete(pod).ok
    assert node.delete(pod, environ={"CNI_NETNS": ""}).ok
    assert node.leases() == []


def run_netns_delete(pod: Pod) -> None:
    from support.netns import run

    run("ip", "netns", "delete", pod.netns.name)


def test_two_tenants_with_the_same_subnet_never_meet_and_each_reaches_its_own(
    two_nodes: tuple[Node, Node], nodes: Nodes
) -> None:
    first, second = two_nodes
    first.write(
        "networks.yaml",
        tenant_config(PROFILE),
        tenant_network("internal", "blue", cidr="10.20.0.0/24"),
        tenant_network("internal", "red", cidr="10.20.0.0/24"),
    )
    first.start()
    second.start()
    pods = {}
    for tenant in ("blue", "red"):
        for node in two_nodes:
            pod = nodes.pod(f"p-{node.name}", namespace=tenant)
            pods[tenant, node.name] = attached(node, pod, DYNAMIC)
    blue, red = pods["blue", "node-b"], pods["red", "node-b"]
    target = blue.result["ips"][0]["address"].partition("/")[0]
    assert target == red.result["ips"][0]["address"].partition("/")[0]
    assert pods["blue", "node-a"].netns.ping(target)
    assert pods["blue", "node-a"].netns.ping(target, size=1450 - 28, fragment=False)
    assert not pods["blue", "node-a"].netns.ping(target, size=1450 - 27, fragment=False)
    neighbours = pods["blue", "node-a"].netns.ip("neigh", "show", "dev", "eth0").stdout
    assert blue.result["interfaces"][0]["mac"] in neighbours
    assert red.result["interfaces"][0]["mac"] not in neighbours
    assert red.netns.ip("neigh", "show", "dev", "eth0").stdout.strip() == ""


def test_two_interfaces_in_one_subnet_each_answer_by_their_own_table(
    node: Node, nodes: Nodes
) -> None:
    node.write(
        "networks.yaml",
        *(
            cluster_network(
                name,
                host_device="ens4",
                vxlan=vni,
                cidr="10.30.0.0/24",
                rt_tables=table,
                container_prefix=name,
            )
            for name, vni, table in (("east", 801, 101), ("west", 802, 1002))
        ),
    )
    node.start()
    routes = {"10.99.0.0/16": "10.30.0.1"}
    pod = attached(
        node,
        nodes.pod("app"),
        {"clusterNetwork": "east", "ip": "10.30.0.11", "proutes": routes},
        {"clusterNetwork": "west", "ip": "10.30.0.12", "proutes": routes},
    )
    rules = pod.netns.ip("rule").stdout
    assert "from 10.30.0.11 lookup 101" in rules
    assert "from 10.30.0.12 lookup 1002" in rules
    for source, link in (("10.30.0.11", "eth0"), ("10.30.0.12", "west1")):
        route = pod.netns.ip("route", "get", "10.99.1.1", "from", source).stdout
        assert f"dev {link}" in route
    assert node.delete(pod).ok
    assert "lookup 101" not in pod.netns.ip("rule").stdout


def test_a_bridge_network_joins_its_pods_on_the_node(node: Node, nodes: Nodes) -> None:
    node.write(
        "networks.yaml",
        network("ClusterNetwork", "lan", network_type="bridge", cidr="10.40.0.0/24"),
    )
    node.start()
    pods = [
        attached(node, nodes.pod(f"p{n}"), {"clusterNetwork": "lan", "ip": "dynamic"})
        for n in (1, 2)
    ]
    assert pods[0].netns.ping(pods[1].result["ips"][0]["address"].partition("/")[0])
    assert all(node.delete(pod).ok for pod in pods)
    assert not [name for name in node.namespace.links() if name.startswith("dmp")]


def test_a_static_delegate_gets_our_address_and_the_file_keeps_its_own_ipam_otherwise(
    node: Node, nodes: Nodes
) -> None:
    conf = {
        "cniVersion": "0.3.1",
        "name": "lan",
        "type": "bridge",
        "bridge": "lanbr",
        "ipam": {
            "type": "host-local",
            "subnet": "10.50.0.0/24",
            "dataDir": str(node.folder / "host-local"),
        },
    }
    (node.conf_dir / "lan.conf").write_text(json.dumps(conf))
    node.write(
        "networks.yaml",
        network(
            "ClusterNetwork", "ours", network_type="bridge", network_id="lan", cidr="10.60.0.0/24"
        ),
    )
    node.start()
    ours = attached(node, nodes.pod("ours"), {"clusterNetwork": "ours", "ip": "10.60.0.9"})
    theirs = attached(node, nodes.pod("theirs"), {"clusterNetwork": "ours"})
    assert ours.netns.addresses("eth0") == ("10.60.0.9/24",)
    assert theirs.netns.addresses("eth0")[0].startswith("10.50.0.")
    assert [item["pod"] for item in node.leases()] == ["ours"]
    assert node.check(ours).ok
    assert node.delete(ours).ok
    assert node.delete(theirs).ok
    assert node.leases() == []
    assert not list((node.folder / "host-local").glob("lan/10.50.*"))


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_every_version_of_the_specification_is_spoken(
    node: Node, nodes: Nodes, version: str
) -> None:
    declare_blue(node)
    node.start()
    pod = nodes.pod("web-0")
    node.write("pod.yaml", pod_manifest("blue", "web-0", DYNAMIC))
    answer = node.add(pod, version=version)
    assert answer.ok, answer.error
    assert answer.document["cniVersion"] == version
    old = version < "1.0.0"
    assert ("version" in answer.document["ips"][0]) is old
    assert ("mtu" in answer.document["interfaces"][0]) is (version == "1.1.0")
    assert node.delete(pod, version=version).ok


def test_the_default_network_serves_a_pod_that_declares_nothing(node: Node, nodes: Nodes) -> None:
    node.write(
        "networks.yaml",
        cluster_network("default", host_device="ens4", vxlan=800, cidr="10.70.0.0/24"),
    )
    node.start()
    pod = attached(node, nodes.pod("plain"))
    assert pod.netns.addresses("eth0")[0].startswith("10.70.0.")


def test_gc_takes_what_the_runtime_does_not_call_valid(node: Node, nodes: Nodes) -> None:
    declare_blue(node)
    node.start()
    kept = attached(node, nodes.pod("kept"), DYNAMIC)
    lost = attached(node, nodes.pod("lost"), DYNAMIC)
    valid = [{"containerID": kept.container_id, "ifname": "eth0"}]
    assert node.call("GC").ok
    assert len(node.leases()) == 2
    assert node.call("GC", config={"cni.dev/valid-attachments": valid}).ok
    assert [item["pod"] for item in node.leases()] == ["kept"]
    assert "eth0" not in lost.netns.links()
    assert node.check(kept).ok


def test_check_names_what_a_person_broke_by_hand(node: Node, nodes: Nodes) -> None:
    declare_blue(node)
    node.start()
    pod = attached(node, nodes.pod("web-0"), DYNAMIC)
    address = pod.result["ips"][0]["address"]
    pod.netns.ip("address", "del", address, "dev", "eth0")
    answer = node.check(pod)
    assert not answer.ok
    assert f"eth0 has lost address {address}" in answer.error
    pod.netns.ip("address", "add", address, "dev", "eth0")
    assert node.check(pod).ok
    pod.netns.ip("link", "del", "eth0")
    assert "interface eth0 is gone" in node.check(pod).error


def test_a_failing_interface_leaves_nothing_of_the_others(node: Node, nodes: Nodes) -> None:
    declare_blue(node)
    (node.conf_dir / "broken.conf").write_text(
        json.dumps({"cniVersion": "0.3.1", "name": "broken", "type": "bridge", "bridge": "x" * 16})
    )
    node.write(
        "broken.yaml",
        network("ClusterNetwork", "broken", network_type="bridge", network_id="broken"),
    )
    node.start()
    pod = nodes.pod("web-0")
    node.write("pod.yaml", pod_manifest("blue", "web-0", DYNAMIC, {"clusterNetwork": "broken"}))
    answer = node.add(pod)
    assert not answer.ok
    assert "bridge" in answer.error
    assert list(pod.netns.links()) == ["lo"]
    assert node.leases() == []
    assert not list((node.state_dir / "attachments").glob("*.json"))
    reasons = [item["end_reason"] for item in node.ask("audit", "history")["items"]]
    assert reasons == ["rollback"]


def test_a_network_added_to_the_folder_is_a_device_in_less_than_a_second(node: Node) -> None:
    node.start()
    began = time.monotonic()
    node.write("n.yaml", cluster_network("fast", host_device="ens4", vxlan=850))
    wait_until(lambda: "vx850" in node.namespace.links(), seconds=3, what="vx850")
    assert time.monotonic() - began < 1.0
    node.remove("n.yaml")
    wait_until(lambda: "vx850" not in node.namespace.links(), seconds=3, what="no vx850")


def test_drift_is_repaired_orphans_go_and_strangers_stay(node: Node) -> None:
    node.write(
        "n.yaml",
        cluster_network("one", host_device="ens4", vxlan=851),
        cluster_network("two", host_device="ens4", vxlan=852),
    )
    node.namespace.batch("link add vx853 type vxlan id 853 dstport 4789 dev ens4")
    node.start()
    wait_until(lambda: {"vx851", "vx852"} <= set(node.namespace.links()), what="devices")
    node.namespace.ip("link", "del", "vx851")
    wait_until(lambda: "vx851" in node.namespace.links(), seconds=3, what="vx851 again")
    node.namespace.ip("link", "set", "vx852", "down")
    wait_until(
        lambda: "UP" in node.namespace.links()["vx852"]["flags"], seconds=3, what="vx852 up again"
    )
    node.daemon.kill()
    node.write("n.yaml", cluster_network("one", host_device="ens4", vxlan=851))
    node.start()
    wait_until(lambda: "vx852" not in node.namespace.links(), seconds=5, what="orphan removed")
    assert "vx853" in node.namespace.links()


def test_peers_of_the_node_documents_and_remote_vteps_are_flooded_to(node: Node) -> None:
    node.write(
        "n.yaml",
        cluster_network("one", host_device="ens4", vxlan=860, vxlan_remotes=["192.0.2.50"]),
        node_manifest("node-a", "192.0.2.1"),
        node_manifest("node-b", "192.0.2.2"),
    )
    node.start()

    def entries() -> set[str]:
        shown = node.namespace.run("bridge", "fdb", "show", "dev", "vx860").stdout
        return {
            line.split(" dst ")[1].split()[0]
            for line in shown.splitlines()
            if line.startswith("00:00:00:00:00:00")
        }

    wait_until(lambda: "vx860" in node.namespace.links(), what="vx860")
    wait_until(lambda: entries() == {"192.0.2.2", "192.0.2.50"}, what="flooding entries")


def test_a_link_kind_that_the_kernel_lacks_is_a_condition_and_stops_nobody_else(node: Node) -> None:
    if has_link_kind("vlan"):
        taken, words = "link add ens4.300 link ens4 type vlan id 300", "ens4.300"
        node.namespace.batch(taken)
    else:
        words = "8021q"
    node.write(
        "n.yaml",
        cluster_network("bad", host_device="ens4", vlan=300),
        cluster_network("good", host_device="ens4", vxlan=870),
    )
    node.start()
    wait_until(lambda: "vx870" in node.namespace.links(), what="vx870")
    items = {item["network"]: item for item in node.ask("networks")["items"]}
    wrong = [c for c in items["ClusterNetwork/bad"]["conditions"] if c["status"] != "True"]
    assert words in wrong[0]["message"]
    assert items["ClusterNetwork/good"]["device"] == "vx870"


def test_pods_that_a_careless_runtime_gives_one_uid_do_not_take_from_each_other(
    node: Node, nodes: Nodes
) -> None:
    declare_blue(node)
    node.start()
    pods = [attached(node, nodes.pod(name, uid="same"), DYNAMIC) for name in ("one", "two")]
    assert len({pod.result["ips"][0]["address"] for pod in pods}) == 2
    assert all(node.check(pod).ok for pod in pods)


def test_an_attachment_broken_by_hand_is_made_again_with_its_address(
    node: Node, nodes: Nodes
) -> None:
    declare_blue(node, allocation_pool={"start": "10.20.0.9", "end": "10.20.0.9"})
    node.start()
    pod = attached(node, nodes.pod("web-0"), DYNAMIC)
    first = node.leases()
    pod.netns.ip("link", "del", "eth0")
    again = node.add(pod)
    assert again.ok, again.error
    assert again.addresses == ["10.20.0.9/24"]
    assert node.leases() == first
    assert node.check(pod).ok


def test_a_broken_attachment_that_is_refused_now_leaves_nothing(node: Node, nodes: Nodes) -> None:
    declare_blue(node)
    node.start()
    pod = attached(node, nodes.pod("web-0"), DYNAMIC)
    pod.netns.ip("link", "set", "eth0", "down")
    node.write("pod-blue-web-0.yaml", pod_manifest("blue", "web-0", {"tenantNetwork": "gone"}))
    assert not node.add(pod).ok
    assert list(pod.netns.links()) == ["lo"]
    assert node.leases() == []
    assert not list((node.state_dir / "attachments").glob("*.json"))


def test_an_attachment_whose_lease_the_database_lost_is_leased_again(
    node: Node, nodes: Nodes
) -> None:
    declare_blue(node)
    node.start()
    pod = attached(node, nodes.pod("web-0"), DYNAMIC)
    node.daemon.stop()
    for path in node.state_dir.glob("danmpy.db*"):
        path.unlink()
    node.start()
    assert node.add(pod).ok
    assert [item["container_id"] for item in node.leases()] == [pod.container_id]
    assert node.check(pod).ok


def test_gc_beside_a_hanging_delegate_holds_up_nobody_else(node: Node, nodes: Nodes) -> None:
    plugin = node.bin / "slow"
    plugin.write_text(
        '#!/bin/sh\n[ "$CNI_COMMAND" = VERSION ] && '
        'echo \'{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}\' && exit 0\n'
        '[ "$CNI_COMMAND" = ADD ] && sleep 6\nexit 0\n'
    )
    plugin.chmod(0o755)
    (node.conf_dir / "slow.conf").write_text('{"cniVersion": "1.0.0", "name": "s", "type": "slow"}')
    node.environment["DANMPY_CNI__BIN_DIRS"] = f"{node.bin}:/usr/lib/cni"
    declare_blue(node)
    node.write("slow.yaml", network("ClusterNetwork", "slow", network_type="slow"))
    node.start()
    hanging, quick = nodes.pod("hanging"), nodes.pod("quick")
    node.write("hanging.yaml", pod_manifest("blue", "hanging", {"clusterNetwork": "slow"}))
    node.write("quick.yaml", pod_manifest("blue", "quick", DYNAMIC))
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(node.add, hanging)
        wait_until(
            lambda: list((node.state_dir / "attachments").glob("*hanging*")), what="ADD under way"
        )
        valid = [{"containerID": hanging.container_id, "ifname": "eth0"}]
        gc = pool.submit(node.call, "GC", config={"cni.dev/valid-attachments": valid})
        began = time.monotonic()
        assert node.add(quick).ok
        assert time.monotonic() - began < 4
        gc.result()
        slow.result()


def test_what_one_network_keeps_back_no_other_on_its_wire_gives(node: Node, nodes: Nodes) -> None:
    same = {"host_device": "ens4", "vxlan": 880, "cidr": "10.9.0.0/24"}
    node.write(
        "networks.yaml",
        cluster_network("s1", **same, gateway="10.9.0.1", exclude=["10.9.0.2"]),
        cluster_network("s2", **same),
    )
    node.start()
    pod = attached(node, nodes.pod("web-0"), {"clusterNetwork": "s2", "ip": "dynamic"})
    assert pod.result["ips"][0]["address"] == "10.9.0.3/24"
    node.write("p.yaml", pod_manifest("blue", "thief", {"clusterNetwork": "s2", "ip": "10.9.0.1"}))
    answer = node.add(nodes.pod("thief"))
    assert answer.document["code"] == 7
    assert "10.9.0.1" in answer.error


@pytest.mark.parametrize("name", ["a%d", "all", "default"])
def test_a_name_that_the_kernel_takes_for_something_else_is_refused_before_anything_is_touched(
    node: Node, nodes: Nodes, name: str
) -> None:
    declare_blue(node)
    node.start()
    node.write("p.yaml", pod_manifest("blue", "web-0", {**DYNAMIC, "name": name}))
    pod = nodes.pod("web-0")
    answer = node.add(pod)
    assert answer.document["code"] == 7
    assert name in answer.error
    assert list(pod.netns.links()) == ["lo"]
