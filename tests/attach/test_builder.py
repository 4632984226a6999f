"""Interfaces of ours and of delegates in one pod, made and taken away."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from ipaddress import ip_address
from typing import NoReturn

import pytest

from danmpy.api.cni import Attachment, Verb
from danmpy.api.specs import AddressAsk, SegmentKey, SegmentKind
from danmpy.attach.builder import Blueprint, PodBuilder
from danmpy.attach.delegates import guarding
from danmpy.attach.journal import LinkRecord
from danmpy.attach.values import Backend, InterfaceSpec
from danmpy.errors import (
    DelegateError,
    HostError,
    IntentError,
)
from danmpy.kernel.podlinks import HostLinkFacts, PodLink
from support.attaching import (
    THREE,
    AttachNode,
    assert_empty,
    request,
    with_prev,
)
from support.nads import nad_key
from support.netns import Namespace, Namespaces, run
from support.specs import cluster_key, route, tenant_key

SCRIPT = """#!/bin/sh
# Writes down each call, and answers as the files beside it say.
folder=$(dirname "$0")/../said
cat > "$folder/stdin.$CNI_COMMAND"
echo "$CNI_COMMAND $CNI_IFNAME $CNI_NETNS" >> "$folder/calls"
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0","1.1.0"]}' ;;
ADD) printf '{"interfaces":[{"name":"%s","sandbox":"%s"}]}' "$CNI_IFNAME" "$CNI_NETNS" ;;
esac
if [ -e "$folder/fail.$CNI_COMMAND" ]; then
    echo '{"cniVersion":"1.1.0","code":111,"msg":"told to fail"}'; exit 1
fi
"""


@pytest.fixture
def delegated(three: AttachNode) -> AttachNode:
    """The pod's third interface is made by a plugin that writes down what it is told."""
    (three.folder / "said").mkdir()
    (three.folder / "said" / "calls").touch()
    plugin = three.bin_dir / "recorder"
    plugin.write_text(SCRIPT)
    plugin.chmod(0o755)
    conf = {"cniVersion": "1.1.0", "name": "rec", "type": "recorder"}
    (three.conf_dir / "rec.conf").write_text(json.dumps(conf))
    three.add_network(tenant_key("rec"), network_id="rec", backend="recorder", host_device="")
    three.add_pod("web", *THREE, {"tenantNetwork": "rec"})
    return three


def calls(node: AttachNode) -> list[str]:
    words = (node.folder / "said" / "calls").read_text().splitlines()
    return [line for line in words if not line.startswith("VERSION")]


def test_a_delegate_s_del_gets_the_configuration_and_the_result_of_its_add(
    delegated: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.ADD, "web", pod)
    result = delegated.attacher.add(call)
    assert result.interfaces[3].name == "eth3"
    delegated.attacher.check(with_prev(call, result))
    (delegated.conf_dir / "rec.conf").unlink()
    delegated.view.networks.clear()
    delegated.attacher.delete(call)
    assert calls(delegated) == [f"{verb} eth3 {pod.path}" for verb in ("ADD", "CHECK", "DEL")]
    told = json.loads((delegated.folder / "said" / "stdin.DEL").read_text())
    assert told["prevResult"]["interfaces"] == [{"name": "eth3", "sandbox": str(pod.path)}]
    assert_empty(pod, delegated, "c-web")


def test_the_records_say_what_the_mirrors_tell(delegated: AttachNode, pod: Namespace) -> None:
    delegated.attacher.add(request(Verb.ADD, "web", pod))
    (record,) = delegated.journal.read_all()
    told = [(link.network, link.backend, link.without) for link in record.links]
    assert told == [
        ("TenantNetwork/blue/ext", "macvlan", ()),
        ("TenantNetwork/blue/internal", "macvlan", ()),
        ("ClusterNetwork/front", "bridge", (6,)),
        ("TenantNetwork/blue/rec", "recorder", ()),
    ]


def test_a_delegate_that_fails_undoes_every_interface_before_it(
    delegated: AttachNode, pod: Namespace
) -> None:
    (delegated.folder / "said" / "fail.ADD").touch()
    with pytest.raises(DelegateError, match="told to fail"):
        delegated.attacher.add(request(Verb.ADD, "web", pod))
    assert f"DEL eth3 {pod.path}" in calls(delegated)
    assert_empty(pod, delegated, "c-web")


def test_addresses_stay_held_until_a_delegate_s_del_has_succeeded(
    delegated: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.DEL, "web", pod)
    delegated.attacher.add(call)
    (delegated.folder / "said" / "fail.DEL").touch()
    with pytest.raises(DelegateError, match="told to fail"):
        delegated.attacher.delete(call)
    assert set(pod.links()) == {"lo"}
    assert len(delegated.held("c-web")) == 4
    assert delegated.attacher.repair() == 1
    (delegated.folder / "said" / "fail.DEL").unlink()
    delegated.close()  # a new daemon does not wait for the next try
    delegated.open()
    assert delegated.attacher.repair() == 0
    assert_empty(pod, delegated, "c-web")
    assert set(delegated.end_reasons()) == {"released"}


def test_check_tells_what_a_delegate_and_our_own_links_have_lost_together(
    delegated: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.ADD, "web", pod)
    result = delegated.attacher.add(call)
    (delegated.folder / "said" / "fail.CHECK").touch()
    pod.ip("link", "delete", "eth0")
    with pytest.raises(HostError, match=r"eth0 is gone.*told to fail"):
        delegated.attacher.check(with_prev(call, result))


def test_gc_is_passed_on_to_delegates_with_what_is_left(
    delegated: AttachNode, pod: Namespace, namespaces: Namespaces
) -> None:
    delegated.attacher.add(request(Verb.ADD, "web", pod))
    delegated.add_pod("other", *THREE, {"tenantNetwork": "rec"})
    delegated.attacher.add(request(Verb.ADD, "other", namespaces.make("pod")))
    kept = Attachment(container_id="c-web", ifname="eth0")
    gc = request(Verb.GC, "", "", "", valid_attachments=frozenset({kept}))
    delegated.attacher.collect(gc)
    told = json.loads((delegated.folder / "said" / "stdin.GC").read_text())
    assert told["cni.dev/valid-attachments"] == [{"containerID": "c-web", "ifname": "eth3"}]


def test_a_delegate_s_link_gets_our_addresses_routes_rules_and_no_ipv6(
    three: AttachNode, pod: Namespace
) -> None:
    bridge = f"dtdb{os.getpid()}"
    conf = {
        "cniVersion": "1.0.0",
        "name": "lan",
        "type": "bridge",
        "bridge": bridge,
        "isGateway": True,
        "ipam": {"type": "host-local", "subnet": "10.99.0.0/16"},
    }
    (three.conf_dir / "lan.conf").write_text(json.dumps(conf))
    three.add_network(
        tenant_key("lan"),
        network_id="lan",
        backend="bridge",
        host_device="",
        v4="10.8.0.0/24",
        rt_table=77,
        routes=(route("10.81.0.0/16", "10.8.0.9"),),
    )
    policy = {"10.82.0.0/16": "10.8.0.9"}
    entry = {"tenantNetwork": "lan", "ip": "dynamic", "proutes": policy}
    three.add_pod("web", THREE[0], entry, THREE[2])
    call = request(Verb.ADD, "web", pod)
    try:
        result = three.attacher.add(call)
        names = [link.name for link in result.interfaces if link.sandbox]
        assert names == ["eth0", "eth1", "front2"]
        assert pod.addresses("eth1") == ("10.8.0.1/24",)
        assert "10.81.0.0/16 via 10.8.0.9 dev eth1" in pod.ip("route", "show").stdout
        assert "from 10.8.0.1 lookup 77" in pod.ip("rule", "show").stdout
        assert "10.82.0.0/16 via" in pod.ip("route", "show", "table", "77").stdout
        assert pod.ip("-6", "address", "show", "dev", "eth1").stdout == ""
        assert ("eth1", "10.8.0.1/24") in three.held("c-web")
        shown = pod.links()["eth1"]["address"]
        leases = three.leases.store.held_by("c-web")
        assert [lease.mac for lease in leases if lease.interface == "eth1"] == [shown]
        three.attacher.check(with_prev(call, result))
        three.attacher.delete(call)
        assert_empty(pod, three, "c-web")
    finally:
        run("ip", "link", "delete", bridge, check=False)


def test_a_delegate_that_has_set_our_default_route_already_is_left_in_peace(
    three: AttachNode, pod: Namespace
) -> None:
    bridge = f"dtdb{os.getpid()}"
    conf = {"cniVersion": "1.0.0", "type": "bridge", "bridge": bridge, "isDefaultGateway": True}
    (three.conf_dir / "lan.conf").write_text(json.dumps(conf))
    three.add_network(
        tenant_key("lan"),
        network_id="lan",
        backend="bridge",
        host_device="",
        v4="10.8.0.0/24",
        gateway=ip_address("10.8.0.254"),
    )
    three.add_pod("web", {"tenantNetwork": "lan", "ip": "dynamic"})
    call = request(Verb.ADD, "web", pod)
    try:
        three.attacher.add(call)
        assert "default via 10.8.0.254 dev eth0" in pod.ip("route", "show").stdout
        three.attacher.delete(call)
        assert_empty(pod, three, "c-web")
    finally:
        run("ip", "link", "delete", bridge, check=False)


def test_an_ipvlan_s_mac_is_known_from_its_parent_before_it_is_made() -> None:
    parents = {"ens4": HostLinkFacts(ifindex=2, mac="02:00:00:00:00:04", mtu=1500)}

    def record(kind: str, mac: str | None) -> LinkRecord:
        link = PodLink(name=kind, kind=kind, parent="ens4", mac=mac)
        return LinkRecord(name=kind, network="x", link=link)

    records = (
        record("ipvlan", None),
        record("macvlan", "02:00:00:00:00:05"),
        LinkRecord(name="delegated", network="x"),
    )
    plan = Blueprint(links=records, parents=parents)
    names = ("ipvlan", "macvlan", "delegated", "nothere")
    assert [plan.known_mac(name) for name in names] == [
        "02:00:00:00:00:04",
        "02:00:00:00:00:05",
        None,
        None,
    ]


def test_a_node_s_end_that_outlived_its_pod_s_end_s_name_makes_room(
    three: AttachNode, pod: Namespace
) -> None:
    three.attacher.add(request(Verb.ADD, "web", pod))
    pod.ip("link", "set", "front2", "down", "name", "hidden", "alias", "mine")
    for record in three.journal.read_all():
        three.journal.remove(record)
    pod.ip("link", "delete", "eth0")
    three.attacher.add(request(Verb.ADD, "web", pod))
    assert len(three.host_ends()) == 1
    assert set(pod.links()) == {"lo", "eth0", "eth1", "front2"}


def add_definition(node: AttachNode, **config: str) -> None:
    """The pod web is on a NetworkAttachmentDefinition of the plugin that writes down its calls."""
    key = nad_key("stolen")
    conf = json.dumps({"cniVersion": "1.1.0", "type": "recorder", **config})
    node.add_network(key, network_id="stolen", backend="nad", host_device="", conf=conf)
    pod = node.add_pod("web")
    annotations = {"k8s.v1.cni.cncf.io/networks": "stolen"}
    node.view.pods["blue", "web"] = replace(pod, annotations=annotations)
    node.add_network(cluster_key("default"))


def test_a_definition_that_names_a_device_of_danmpy_s_is_refused_before_anything_is_touched(
    delegated: AttachNode, pod: Namespace
) -> None:
    run("ip", "link", "set", delegated.bridge, "alias", "danmpy bridge:vlan:nic0:7")
    add_definition(delegated, master=delegated.bridge)
    call = request(Verb.ADD, "web", pod)
    with pytest.raises(IntentError, match=r"net1: .* device of danmpy's \(bridge:vlan:nic0:7\)"):
        delegated.attacher.add(call)
    assert calls(delegated) == []
    assert_empty(pod, delegated, "c-web")
    assert delegated.history() == []
    add_definition(delegated, master=delegated.parent)
    delegated.attacher.add(call)
    assert calls(delegated) == [f"ADD net1 {pod.path}"]


def test_the_device_that_danmpy_itself_puts_under_a_definition_is_no_stolen_one(
    delegated: AttachNode, pod: Namespace
) -> None:
    run("ip", "link", "set", delegated.bridge, "alias", "danmpy bridge:vlan:nic0:7")
    add_definition(delegated, master="nic0")
    key = nad_key("stolen")
    segment = SegmentKey(parent="nic0", kind=SegmentKind.VLAN, id=7)
    delegated.view.networks[key] = replace(
        delegated.view.networks[key], segment=segment, host_device=delegated.bridge
    )
    delegated.attacher.add(request(Verb.ADD, "web", pod))
    told = json.loads((delegated.folder / "said" / "stdin.ADD").read_text())
    assert told["master"] == delegated.bridge


def test_a_definition_comes_to_no_file_whose_network_does_not_admit_the_pod(
    delegated: AttachNode, pod: Namespace
) -> None:
    add_definition(delegated)
    key = nad_key("other")  # the name in the file rec-a.conf
    delegated.add_network(key, network_id="other", backend="nad", host_device="")
    conf = {"cniVersion": "1.1.0", "name": "other", "type": "recorder"}
    (delegated.conf_dir / "rec-a.conf").write_text(json.dumps(conf))
    asking = {"k8s.v1.cni.cncf.io/networks": "other"}
    delegated.view.pods["blue", "web"] = replace(
        delegated.view.pods["blue", "web"], annotations=asking
    )
    secret = {"network_id": "rec-a", "backend": "recorder", "host_device": ""}
    delegated.add_network(cluster_key("secret"), allowed_tenants=frozenset({"red"}), **secret)
    with pytest.raises(IntentError, match="rec-a of ClusterNetwork/secret"):
        delegated.attacher.add(request(Verb.ADD, "web", pod))
    assert calls(delegated) == []
    delegated.add_network(cluster_key("secret"), allowed_tenants=frozenset({"blue"}), **secret)
    delegated.attacher.add(request(Verb.ADD, "web", pod))


def test_pods_without_definitions_are_judged_without_a_look_at_the_node(
    delegated: AttachNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(names: object) -> NoReturn:
        raise AssertionError(names)

    monkeypatch.setattr(guarding, "read_host_links", look)
    key = tenant_key("rec")
    spec = delegated.view.networks[key]
    interface = InterfaceSpec(
        index=0,
        name="eth0",
        network=spec,
        backend=Backend.DELEGATE,
        ip=AddressAsk(),
        ip6=AddressAsk(),
        mac=None,
        owns_addresses=False,
        ipv6=True,
        mtu=None,
    )
    PodBuilder(delegated.delegates).require_possible([interface])
