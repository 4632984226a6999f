"""What `danmpy explain` finds out: what a pod gets or has, and why; every problem at once."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import pytest

from danmpy.api.specs import AddressAsk, AddressMode
from danmpy.attach.journal import AttachmentRecord, Journal, Phase
from danmpy.bootstrap.readers import open_leases
from support.console import (
    BLUE,
    EXTERNAL,
    INTERNAL,
    SHARED,
    TENANTS,
    World,
    declare,
    hold,
)
from support.node import Node, Nodes, Pod, pod_manifest

FIELDS = {
    "pod", "uid", "node", "declared", "attached", "container_id", "since",
    "interfaces", "problems", "notes", "last", "database_time",
}  # fmt: skip
INTERFACE_FIELDS = {
    "interface", "network", "backend", "device", "parent", "kind", "id", "mac", "mtu",
    "ip", "ip6", "addresses", "routes", "rules", "reasons",
}  # fmt: skip


def test_a_pod_that_would_get_everything_is_explained_with_reasons(blue: World) -> None:
    declare(blue, BLUE, {**EXTERNAL, "name": "dmz"})
    answer = blue.ask("explain", "blue/web")
    assert set(answer) == FIELDS
    assert (answer["pod"], answer["attached"], answer["problems"]) == ("blue/web", False, [])
    first, second = answer["interfaces"]
    assert set(first) == set(second) == INTERFACE_FIELDS
    assert (first["interface"], first["network"]) == ("eth0", "TenantNetwork/blue/internal")
    assert (first["backend"], first["device"]) == ("macvlan", "vx700")
    assert (first["kind"], first["id"], first["parent"]) == ("vxlan", 700, "ens4")
    assert (first["mtu"], first["mac"]) == (1450, None)
    assert (first["ip"], first["ip6"], first["addresses"]) == ("dynamic", "dynamic", [])
    assert first["routes"] == [{"destination": "0.0.0.0/0", "gateway": "10.10.0.1", "table": 254}]
    reasons = " ".join(first["reasons"])
    assert "entry 0 of the annotation asks tenantNetwork internal" in reasons
    assert "assigned to the network from the TenantConfig" in reasons
    assert "10.10.0.10 to 10.10.0.19" in reasons
    assert second["interface"] == "dmz"
    assert "the entry names it dmz" in second["reasons"]


def test_every_problem_is_told_at_once_and_the_good_entries_are_shown(blue: World) -> None:
    declare(
        blue,
        {"tenantNetwork": "internl", "ip": "dynamic"},
        {"tenantNetwork": "internal", "ip": "192.0.2.9"},
        {"clusterNetwork": "shared", "ip6": "dynamic"},
        EXTERNAL,
    )
    answer = blue.ask("explain", "blue/web", code=1)
    assert len(answer["problems"]) == 3
    unknown, outside, family = answer["problems"]
    assert set(unknown) == {"subject", "message", "hint"}
    assert unknown["hint"] == "did you mean internal?"
    assert outside["message"].startswith("interface 1 ")
    assert "10.10.0.0/24" in outside["message"]
    assert family["message"].startswith("interface 2 ")
    assert [item["network"] for item in answer["interfaces"]] == ["ClusterNetwork/shared"]
    text = blue.danmpy("explain", "blue/web")
    assert text.code == 1
    assert "Why not:" in text.out
    assert "    -> did you mean internal?" in text.out.splitlines()


def test_a_network_without_its_device_is_a_problem(world: World) -> None:
    world.write("networks.yaml", SHARED)
    declare(world, EXTERNAL)
    answer = world.ask("explain", "blue/web", code=1)
    (problem,) = answer["problems"]
    assert "vx900 is not there yet" in problem["message"]


def test_a_refused_network_is_a_problem_with_its_own_words(blue: World) -> None:
    blue.write("networks.yaml", TENANTS, INTERNAL.replace("10.10.0.0/24", "10.10.0.0/99"))
    declare(blue, BLUE)
    (problem,) = blue.ask("explain", "blue/web", code=1)["problems"]
    assert "the network cannot be used" in problem["message"]
    assert "10.10.0.0/99" in problem["message"]


def test_a_broken_annotation_is_a_problem(blue: World) -> None:
    manifest = pod_manifest("blue", "web")
    manifest["metadata"]["annotations"] = {"danm.k8s.io/interfaces": "[{]"}
    blue.write("pod.json", json.dumps(manifest))
    (problem,) = blue.ask("explain", "blue/web", code=1)["problems"]
    assert "JSON" in problem["message"]


def test_a_static_address_that_another_pod_holds_names_that_pod(blue: World) -> None:
    taken = AddressAsk(mode=AddressMode.STATIC, address=ip_address("10.10.0.12"))
    hold(blue, "db", ip=taken)
    declare(blue, {"tenantNetwork": "internal", "ip": "10.10.0.12"})
    (problem,) = blue.ask("explain", "blue/web", code=1)["problems"]
    assert "10.10.0.12 is held by Pod/blue/db" in problem["message"]


def test_a_full_pool_is_a_problem(blue: World) -> None:
    for number in range(10):
        hold(blue, f"db{number}")
    declare(blue, {"tenantNetwork": "internal", "ip": "dynamic"})
    (problem,) = blue.ask("explain", "blue/web", code=1)["problems"]
    assert "no IPv4 address is free on TenantNetwork/blue/internal" in problem["message"]


def test_a_pod_on_another_node_is_explained_from_its_leases(blue: World) -> None:
    declare(blue, {"tenantNetwork": "internal", "ip": "dynamic"}, node="node-b")
    hold(blue, "web", node="node-b")
    answer = blue.ask("explain", "blue/web")
    assert (answer["attached"], answer["node"]) == (True, "node-b")
    assert answer["container_id"] == "box-web"
    (item,) = answer["interfaces"]
    assert item["addresses"] == ["10.10.0.10/24"]
    assert item["mac"] == "02:00:00:00:00:01"
    assert "node-b" in answer["notes"][0]


def test_leases_of_this_node_without_an_attachment_are_a_problem(blue: World) -> None:
    declare(blue, {"tenantNetwork": "internal", "ip": "dynamic"})
    hold(blue, "web")
    answer = blue.ask("explain", "blue/web", code=1)
    assert answer["attached"] is False
    assert "holds addresses on this node" in answer["problems"][0]["message"]


def test_an_ended_pod_says_who_it_was_and_where_its_history_is(blue: World) -> None:
    hold(blue, "gone")
    open_leases(blue.settings).release("box-gone")
    answer = blue.ask("explain", "blue/gone", code=1)
    assert (answer["declared"], answer["attached"]) == (False, False)
    assert answer["last"]["address"] == "10.10.0.10/24"
    assert answer["uid"] == "uid-gone"
    assert "danmpy audit history --pod blue/gone" in answer["problems"][0]["hint"]
    text = blue.danmpy("explain", "blue/gone")
    assert text.out.startswith("Pod blue/gone: ended; last seen with 10.10.0.10/24")


def test_without_a_database_a_declared_pod_is_explained_as_far_as_possible(blue: World) -> None:
    declare(blue, EXTERNAL)
    (blue.folder / "state" / "danmpy.db").unlink()
    answer = blue.ask("explain", "blue/web", code=3)
    assert [item["network"] for item in answer["interfaces"]] == ["ClusterNetwork/shared"]
    assert "no address can be leased" in answer["problems"][0]["message"]
    unknown = blue.danmpy("explain", "blue/other")
    assert (unknown.code, unknown.out, len(unknown.lines)) == (3, "", 1)


def test_a_pod_without_declaration_is_told_which_default_networks_were_looked_for(
    blue: World,
) -> None:
    declare(blue)
    (problem,) = blue.ask("explain", "blue/web", code=1)["problems"]
    assert "TenantNetwork/blue/default" in problem["message"]
    blue.write("default.yaml", SHARED.replace("shared", "default").replace("900", "902"))
    blue.look()
    answer = blue.ask("explain", "blue/web")
    assert answer["interfaces"][0]["network"] == "ClusterNetwork/default"
    assert answer["interfaces"][0]["reasons"][0].endswith("it gets the default network")


def test_a_pod_that_asks_in_other_words_is_explained_as_the_node_reads_it(blue: World) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web",
            "namespace": "blue",
            "annotations": {"k8s.v1.cni.cncf.io/networks": "internal,shared@oam0,none"},
        },
    }
    blue.write("web.yaml", json.dumps(body))
    blue.write("default.yaml", SHARED.replace("shared", "default").replace("900", "902"))
    blue.look()
    answer = blue.ask("explain", "blue/web", code=1)
    assert [(item["interface"], item["network"]) for item in answer["interfaces"]] == [
        ("eth0", "ClusterNetwork/default"),
        ("net1", "TenantNetwork/blue/internal"),
        ("oam0", "ClusterNetwork/shared"),
    ]
    first, second, _ = answer["interfaces"]
    assert first["reasons"][0].startswith("the default network comes first")
    assert second["reasons"][0].endswith("which is TenantNetwork/blue/internal")
    (problem,) = answer["problems"]
    assert problem["message"].startswith("k8s.v1.cni.cncf.io/networks[2] ")
    assert "NetworkAttachmentDefinition/blue/none" in problem["message"]


def test_an_ipam_claim_that_nobody_made_is_a_problem(blue: World) -> None:
    wanted = [{"name": "internal", "ipam-claim-reference": "vm-1"}]
    metadata = {
        "name": "web",
        "namespace": "blue",
        "annotations": {"k8s.v1.cni.cncf.io/networks": json.dumps(wanted)},
    }
    blue.write("web.yaml", json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata}))
    blue.write("default.yaml", SHARED.replace("shared", "default").replace("900", "902"))
    blue.look()
    (problem,) = blue.ask("explain", "blue/web", code=1)["problems"]
    assert problem["subject"] == "IPAMClaim/blue/vm-1"
    assert "there is no such claim" in problem["message"]


@pytest.mark.parametrize("conf", [True, False])
def test_a_delegate_is_explained_or_its_missing_configuration_is(blue: World, conf: bool) -> None:
    blue.write(
        "bridged.yaml",
        SHARED.replace("macvlan", "ptp").replace("shared", "bridged").replace("900", "903"),
    )
    blue.look()
    if conf:
        (blue.folder / "net.d" / "bridged.conf").write_text(
            json.dumps({"cniVersion": "0.4.0", "name": "bridged", "type": "macvlan"})
        )
    declare(blue, {"clusterNetwork": "bridged", "ip": "dynamic"})
    answer = blue.ask("explain", "blue/web", code=0 if conf else 1)
    if conf:
        assert answer["interfaces"][0]["backend"] == "delegate"
        assert any("CNI configuration bridged" in r for r in answer["interfaces"][0]["reasons"])
    else:
        assert "bridged.conf" in answer["problems"][0]["message"]


def journal(world: World, *records: AttachmentRecord) -> None:
    """Write down attachments as a daemon does."""
    written = Journal(world.settings.state_dir / "attachments")
    written.open()
    try:
        for record in records:
            written.write(record)
    finally:
        written.close()


def recorded(container: str, **more: Any) -> AttachmentRecord:
    values: dict[str, Any] = {
        "container_id": container,
        "ifname": "eth0",
        "phase": Phase.ATTACHED,
        "netns": "/run/netns/none",
        "namespace": "blue",
        "pod": "web",
        "pod_uid": "uid-web",
    }
    return AttachmentRecord(**{**values, **more})


def test_an_attachment_that_is_half_done_is_a_problem(blue: World) -> None:
    declare(blue, EXTERNAL)
    journal(blue, recorded("box", phase=Phase.ADDING))
    answer = blue.ask("explain", "blue/web", code=1)
    assert answer["attached"] is False
    assert "sandbox box is adding on this node" in answer["problems"][0]["message"]


def test_the_sandbox_of_an_earlier_pod_of_the_name_is_not_this_pod_s(blue: World) -> None:
    declare(blue, EXTERNAL)
    journal(blue, recorded("old", pod_uid="uid-before"))
    answer = blue.ask("explain", "blue/web")
    assert (answer["attached"], answer["container_id"]) == (False, None)
    assert "an earlier pod of this name (UID uid-before)" in answer["notes"][0]


def test_of_two_sandboxes_the_newer_one_is_explained_and_a_namespace_that_is_gone_is_told(
    blue: World,
) -> None:
    declare(blue, EXTERNAL)
    journal(blue, recorded("first", began_at=1), recorded("second", began_at=2))
    answer = blue.ask("explain", "blue/web", code=1)
    assert (answer["attached"], answer["container_id"]) == (True, "second")
    assert "sandbox first of this pod is attached as well" in answer["notes"]
    messages = [problem["message"] for problem in answer["problems"]]
    assert any("/run/netns/none is gone" in message for message in messages)


# Attached by a real daemon


def attached(node: Node, nodes: Nodes, *interfaces: dict[str, object]) -> tuple[World, Pod]:
    """A node with a daemon and one pod."""
    (node.intent / "networks.yaml").write_text(TENANTS + INTERNAL + SHARED)
    node.write("pod.json", pod_manifest("blue", "web", *interfaces, uid="uid-web"))
    node.start()
    pod = nodes.pod("web", uid="uid-web")
    answer = node.add(pod)
    assert answer.ok, answer
    return World.of(node), pod


@pytest.mark.system
def test_an_attached_pod_is_explained_as_the_kernel_has_it_also_while_the_daemon_is_down(
    node: Node, nodes: Nodes
) -> None:
    world, pod = attached(node, nodes, BLUE, EXTERNAL)
    node.daemon.kill()
    answer = world.ask("explain", "blue/web")
    assert (answer["attached"], answer["node"], answer["problems"]) == (True, "node-a", [])
    assert answer["container_id"] == pod.container_id
    first, second = answer["interfaces"]
    seen = pod.netns.links()["eth0"]
    assert (first["mac"], first["mtu"]) == (seen["address"], seen["mtu"])
    assert first["device"] == "vx700"
    assert sorted(first["addresses"]) == sorted(pod.netns.addresses("eth0"))
    assert first["routes"] == [{"destination": "0.0.0.0/0", "gateway": "10.10.0.1", "table": 254}]
    assert second["interface"] == "ext1"
    text = world.danmpy("explain", "blue/web")
    assert text.code == 0
    assert text.out.startswith("Pod blue/web: attached\n")

    pod.netns.ip("link", "set", "ext1", "down")
    pod.netns.ip("address", "del", first["addresses"][0], "dev", "eth0")
    broken = world.ask("explain", "blue/web", code=1)
    words = " ".join(problem["message"] for problem in broken["problems"])
    assert "ext1 is down" in words
    assert f"lost address {first['addresses'][0]}" in words
    assert "What is wrong:" in world.danmpy("explain", "blue/web").out


@pytest.mark.system
def test_a_declaration_that_changed_after_the_pod_was_attached_is_a_problem(
    node: Node, nodes: Nodes
) -> None:
    world, _ = attached(node, nodes, EXTERNAL)
    node.write("pod.json", pod_manifest("blue", "web", EXTERNAL, BLUE, uid="uid-web"))
    answer = world.ask("explain", "blue/web", code=1)
    assert answer["attached"] is True
    assert (
        "int1 on TenantNetwork/blue/internal is declared and was not attached"
        in (answer["problems"][0]["message"])
    )
    node.remove("pod.json")
    answer = world.ask("explain", "blue/web", code=1)
    assert (answer["declared"], answer["attached"]) == (False, True)
    assert "no longer in the intent" in answer["problems"][0]["message"]
