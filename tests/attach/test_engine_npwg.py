"""Pods in the words of the Network Plumbing Working Group, on the reference plugins themselves."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from danmpy.api.cni import CniResult, Verb
from danmpy.api.dialects.keys import NPWG_NETWORKS
from danmpy.api.dialects.reading import DialectRules
from danmpy.api.specs import NetworkKey, NetworkKind, SegmentKey, SegmentKind
from danmpy.attach.delegates.confs import DelegateConf
from danmpy.errors import ConflictError, DanmpyError, HostError, IntentError, NotReadyError
from danmpy.faults import ADD_POINTS
from danmpy.mirrors.attachments import facts_of
from danmpy.mirrors.endpoints import desired_endpoints
from danmpy.mirrors.network_status import render_status
from support.attaching import AttachNode, assert_empty, request, with_prev
from support.netns import Namespace
from support.requirements import need
from support.specs import pool, tenant_key

NODE_CONF = "cluster-net"


def nad_key(name: str, namespace: str = "blue") -> NetworkKey:
    return NetworkKey(kind=NetworkKind.NAD, namespace=namespace, name=name)


def conf(node: AttachNode, number: int, *, gateway: bool = False, **more: Any) -> dict[str, Any]:
    """A macvlan with addresses of host-local from 10.5<number>.0.0/24."""
    return {
        "cniVersion": "1.0.0",
        "type": "macvlan",
        "master": node.parent,
        "ipam": {
            "type": "host-local",
            "dataDir": str(node.folder / "host-local"),
            "subnet": f"10.5{number}.0.0/24",
            **({"routes": [{"dst": "0.0.0.0/0"}]} if gateway else {}),
        },
        **more,
    }


def add_nad(node: AttachNode, name: str, config: dict[str, Any], **more: Any) -> NetworkKey:
    key = nad_key(name)
    values = {"backend": "nad", "host_device": "", "network_id": name, "uid": f"uid-nad-{name}"}
    node.add_network(key, **{**values, "conf": json.dumps(config), **more})
    return key


def ask_for(node: AttachNode, *networks: dict[str, Any]) -> None:
    """The pod web asks for these, one after the other."""
    pod = node.add_pod("web")
    annotations = {NPWG_NETWORKS: json.dumps(list(networks))}
    node.view.pods["blue", "web"] = replace(pod, annotations=annotations)


@pytest.fixture
def meta(node: AttachNode) -> AttachNode:
    """A node whose pods get a configuration of the node first, and two definitions beside it."""
    need("cni-plugins")
    node.close()
    node.rules = DialectRules(default_network=NODE_CONF)
    node.open()
    first = conf(node, 0, gateway=True, capabilities={"bandwidth": True}, name=NODE_CONF)
    (node.conf_dir / "10-default.conf").write_text(json.dumps(first))
    add_nad(node, "red", conf(node, 1, gateway=True, capabilities={"ips": True}))
    add_nad(node, "green", conf(node, 2))
    return node


def held_files(node: AttachNode) -> list[str]:
    """The addresses that host-local has handed out."""
    return sorted(path.name for path in (node.folder / "host-local").glob("*/10.*"))


def default_links(pod: Namespace) -> list[str]:
    shown = json.loads(pod.ip("-j", "route", "show", "default").stdout or "[]")
    return [route["dev"] for route in shown]


def inside(result: CniResult) -> list[str]:
    return [link.name for link in result.interfaces if link.sandbox]


RED, GREEN = {"name": "red"}, {"name": "green"}


def test_the_default_network_comes_first_and_the_runtime_is_told_of_it_alone(
    meta: AttachNode, pod: Namespace
) -> None:
    ask_for(meta, RED, GREEN | {"interface": "data0"}, GREEN)
    call = request(Verb.ADD, "web", pod)
    result = meta.attacher.add(call)
    assert inside(result) == ["eth0"]
    assert [str(ip.address.ip) for ip in result.ips] == [*map(address, pod.addresses("eth0"))]
    assert set(pod.links()) == {"lo", "eth0", "net1", "data0", "net3"}
    assert len(held_files(meta)) == 4
    assert meta.attacher.add(call) == result, "a repeated ADD answers the same"
    assert len(held_files(meta)) == 4
    meta.attacher.check(with_prev(call, result))
    pod.ip("address", "flush", "dev", "data0")
    with pytest.raises(HostError, match="interface data0"):
        meta.attacher.check(with_prev(call, result))
    meta.view.networks.clear()  # what was attached goes by its record, not by the definition
    (meta.conf_dir / "10-default.conf").unlink()
    meta.attacher.delete(call)
    assert_empty(pod, meta, "c-web")
    assert held_files(meta) == []


@pytest.mark.parametrize(
    "text",
    ["green,red@eth0", '[{"name": "green"}, {"name": "red", "interface": "eth0"}]'],
)
def test_the_name_of_the_runtimes_interface_is_no_name_for_another_one(
    meta: AttachNode, pod: Namespace, text: str
) -> None:
    asking = replace(meta.add_pod("web"), annotations={NPWG_NETWORKS: text})
    meta.view.pods["blue", "web"] = asking
    with pytest.raises(ConflictError) as caught:
        meta.attacher.add(request(Verb.ADD, "web", pod))
    assert caught.value.message.startswith(f"{NPWG_NETWORKS}[1]")
    assert "same name as interface 0" in caught.value.message
    assert caught.value.message.endswith(": eth0")
    assert caught.value.hint == "give it another interface name"
    assert_empty(pod, meta, "c-web")


def address(text: str) -> str:
    return text.partition("/")[0]


def test_the_status_has_an_entry_for_each_interface_and_danm_s_objects_none(
    meta: AttachNode, pod: Namespace
) -> None:
    ask_for(meta, RED, RED)
    meta.attacher.add(request(Verb.ADD, "web", pod))
    (record,) = meta.journal.read_all()
    facts = facts_of(record)
    entries = json.loads(render_status(facts))
    assert [each["name"] for each in entries] == [NODE_CONF, "blue/red", "blue/red"]
    assert [each["interface"] for each in entries] == ["eth0", "net1", "net2"]
    assert [each["default"] for each in entries] == [True, False, False]
    for each in entries:
        assert each["ips"] == [*map(address, pod.addresses(each["interface"]))]
        assert each["mac"] == pod.links()[each["interface"]]["address"]
    assert desired_endpoints(facts, meta.view.pods["blue", "web"], "node-a") == {}


def test_a_network_of_danm_s_kinds_is_known_in_the_status_by_the_name_that_was_asked(
    meta: AttachNode, pod: Namespace
) -> None:
    meta.add_network(tenant_key("data"), v4="10.60.0.0/24")
    ask_for(meta, {"name": "data"})
    meta.attacher.add(request(Verb.ADD, "web", pod))
    (record,) = meta.journal.read_all()
    entries = json.loads(render_status(facts_of(record)))
    assert [each["name"] for each in entries] == [NODE_CONF, "blue/data"]
    assert meta.held("c-web") == {("net1", f"{entries[1]['ips'][0]}/24")}
    made = desired_endpoints(facts_of(record), meta.view.pods["blue", "web"], "node-a")
    assert [each["spec"]["Interface"]["Name"] for each in made.values()] == ["net1"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (GREEN | {"ips": ["10.52.0.9/24"]}, "ips"),
        (GREEN | {"bandwidth": {"ingressRate": 1000, "ingressBurst": 1000}}, "bandwidth"),
        ({"name": "blue"}, "none of"),
    ],
)
def test_what_cannot_be_honoured_refuses_the_whole_pod_before_anything_is_touched(
    meta: AttachNode, pod: Namespace, entry: dict[str, Any], words: str
) -> None:
    meta.add_network(tenant_key("data"), v4="10.60.0.0/24")
    ask_for(meta, RED, {"name": "data"}, entry)
    with pytest.raises(IntentError, match=words):
        meta.attacher.add(request(Verb.ADD, "web", pod))
    assert_empty(pod, meta, "c-web")
    assert held_files(meta) == []
    assert meta.history() == []


def test_a_definition_that_fails_takes_those_before_it_along(
    meta: AttachNode, pod: Namespace
) -> None:
    single = conf(meta, 3)
    single["ipam"]["subnet"] = "10.53.0.0/30"  # two addresses, and the gateway has the first
    add_nad(meta, "small", single)
    ask_for(meta, RED, {"name": "small"}, {"name": "small"})
    with pytest.raises(DanmpyError, match="no IP addresses available"):
        meta.attacher.add(request(Verb.ADD, "web", pod))
    assert_empty(pod, meta, "c-web")
    assert held_files(meta) == []


def test_a_literal_address_goes_to_the_plugin_that_has_the_addresses(
    meta: AttachNode, pod: Namespace
) -> None:
    ask_for(meta, RED | {"ips": ["10.51.0.77"]})
    meta.attacher.add(request(Verb.ADD, "web", pod))
    assert pod.addresses("net1") == ("10.51.0.77/24",)


@pytest.mark.parametrize("point", ADD_POINTS)
def test_an_add_that_was_killed_leaves_nothing_that_the_next_start_does_not_take_away(
    meta: AttachNode, pod: Namespace, point: str
) -> None:
    ask_for(meta, RED, GREEN | {"default-route": ["10.52.0.254"]})
    call = request(Verb.ADD, "web", pod)
    meta.die_at(point, lambda attacher: attacher.add(call))
    if point != "add:recorded":
        assert meta.attacher.repair() == 0
        assert_empty(pod, meta, "c-web")
        assert held_files(meta) == []
    result = meta.attacher.add(call)
    assert len(held_files(meta)) == 3
    assert default_links(pod) == ["net2"]
    meta.attacher.check(with_prev(call, result))
    meta.attacher.delete(call)
    assert_empty(pod, meta, "c-web")


# Default routes


def test_the_default_route_moves_to_the_interface_that_names_a_gateway(
    meta: AttachNode, pod: Namespace
) -> None:
    ask_for(meta, RED, GREEN | {"default-route": ["10.52.0.254"]})
    call = request(Verb.ADD, "web", pod)
    result = meta.attacher.add(call)
    assert default_links(pod) == ["net2"]
    assert "via 10.52.0.254" in pod.ip("route", "show", "default").stdout
    assert [route for route in result.routes if route.dst.prefixlen == 0] == []
    assert meta.attacher.add(call) == result
    meta.attacher.check(with_prev(call, result))  # the plugins miss none of their routes
    (record,) = meta.journal.read_all()
    gateways = [each.gateways for each in facts_of(record).interfaces]
    assert gateways == [(), (), ("10.52.0.254",)]
    pod.ip("route", "delete", "default")
    with pytest.raises(HostError, match="net2 has lost the route"):
        meta.attacher.check(with_prev(call, result))
    meta.attacher.delete(call)
    assert_empty(pod, meta, "c-web")


def test_several_gateways_of_one_family_get_rising_metrics(
    meta: AttachNode, pod: Namespace
) -> None:
    ask_for(meta, GREEN | {"default-route": ["10.52.0.254", "10.52.0.253"]})
    call = request(Verb.ADD, "web", pod)
    result = meta.attacher.add(call)
    shown = json.loads(pod.ip("-j", "route", "show", "default").stdout)
    assert [(each["gateway"], each.get("metric", 0)) for each in shown] == [
        ("10.52.0.254", 0),
        ("10.52.0.253", 1),
    ]
    meta.attacher.check(with_prev(call, result))


def test_an_empty_default_route_keeps_the_one_that_the_plugin_set(
    meta: AttachNode, pod: Namespace
) -> None:
    (meta.conf_dir / "10-default.conf").write_text(json.dumps(conf(meta, 0) | {"name": NODE_CONF}))
    ask_for(meta, RED | {"default-route": []})
    call = request(Verb.ADD, "web", pod)
    meta.attacher.check(with_prev(call, meta.attacher.add(call)))
    assert default_links(pod) == ["net1"]


def test_an_empty_default_route_makes_up_for_a_route_that_the_plugin_passed_over(
    meta: AttachNode, pod: Namespace
) -> None:
    ask_for(meta, RED | {"default-route": []})  # the default network has the kernel's one place
    call = request(Verb.ADD, "web", pod)
    result = meta.attacher.add(call)
    assert "default via 10.51.0.1 dev net1" in pod.ip("route", "show", "default").stdout
    assert default_links(pod) == ["net1"]
    assert [route for route in result.routes if route.dst.prefixlen == 0] == []
    meta.attacher.check(with_prev(call, result))
    (record,) = meta.journal.read_all()
    assert [each.gateways for each in facts_of(record).interfaces] == [(), ("10.51.0.1",)]


def test_an_empty_default_route_on_a_plugin_without_one_undoes_the_pod(
    meta: AttachNode, pod: Namespace
) -> None:
    ask_for(meta, GREEN | {"default-route": []})
    with pytest.raises(IntentError, match="its plugin has none"):
        meta.attacher.add(request(Verb.ADD, "web", pod))
    assert_empty(pod, meta, "c-web")
    assert held_files(meta) == []


def test_a_gateway_out_of_reach_undoes_the_pod(meta: AttachNode, pod: Namespace) -> None:
    ask_for(meta, GREEN | {"default-route": ["172.16.0.1"]})
    with pytest.raises(HostError, match="gateway must be in a subnet"):
        meta.attacher.add(request(Verb.ADD, "web", pod))
    assert_empty(pod, meta, "c-web")


# Addresses and devices of ours under a definition


def test_addresses_of_a_pool_of_ours_are_leased_and_end_with_the_pod(
    meta: AttachNode, pod: Namespace
) -> None:
    config = conf(meta, 0) | {"ipam": {"type": "danmpy-cni", "cidr": "10.61.0.0/24"}}
    add_nad(meta, "ours", config, v4="10.61.0.0/24")
    ask_for(meta, {"name": "ours"}, {"name": "ours", "ips": ["10.61.0.9/24"]})
    call = request(Verb.ADD, "web", pod)
    result = meta.attacher.add(call)
    held = {(name, each) for name in ("net1", "net2") for each in pod.addresses(name)}
    assert meta.held("c-web") == held
    assert ("net2", "10.61.0.9/24") in held
    meta.attacher.check(with_prev(call, result))
    meta.attacher.delete(call)
    assert_empty(pod, meta, "c-web")


def test_a_segment_s_device_takes_the_place_of_the_master(meta: AttachNode, pod: Namespace) -> None:
    segment = SegmentKey(parent="nic0", kind=SegmentKind.VLAN, id=7)
    config = conf(meta, 4) | {"master": "nic0", "vlan": 7}
    key = add_nad(meta, "tagged", config, segment=segment, host_device=meta.parent)
    ask_for(meta, {"name": "tagged"})
    meta.view.missing.add(key)
    with pytest.raises(NotReadyError, match="no device"):
        meta.attacher.add(request(Verb.ADD, "web", pod))
    assert held_files(meta) == []
    meta.view.missing.clear()
    meta.attacher.add(request(Verb.ADD, "web", pod))
    (record,) = meta.journal.read_all()
    plugin = DelegateConf.from_json(record.links[1].delegate).plugins[0]
    assert plugin["master"] == meta.parent
    assert "vlan" not in plugin
    assert pod.addresses("net1")


def test_what_the_runtime_offers_is_for_the_default_network_alone(
    meta: AttachNode, pod: Namespace
) -> None:
    add_nad(meta, "shaped", conf(meta, 4, capabilities={"bandwidth": True, "ips": True}))
    ask_for(meta, {"name": "shaped"})
    offered = {"bandwidth": {"ingressRate": 8000, "ingressBurst": 8000}, "unknown": 1}
    meta.attacher.add(request(Verb.ADD, "web", pod, config={"runtimeConfig": offered}))
    (record,) = meta.journal.read_all()
    first, second = (DelegateConf.from_json(link.delegate).plugins[0] for link in record.links)
    assert first["runtimeConfig"] == {"bandwidth": offered["bandwidth"]}
    assert "runtimeConfig" not in second


def test_a_pod_without_any_annotation_gets_the_default_network_of_the_cluster(
    meta: AttachNode, pod: Namespace
) -> None:
    meta.add_pod("web")
    result = meta.attacher.add(request(Verb.ADD, "web", pod))
    assert inside(result) == ["eth0"]
    assert result.ips[0].address.ip in pool("10.50.0.0/24").subnet
    (record,) = meta.journal.read_all()
    assert facts_of(record).interfaces[0].gateways == ("10.50.0.1",)
