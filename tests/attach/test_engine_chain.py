"""Behind other plugins of a CNI chain: one of them may have made the pod's first interface."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from danmpy.api.cni import (
    Attachment,
    CniInterface,
    CniIp,
    CniRequest,
    CniResult,
    CniRoute,
    Verb,
    parse_result,
)
from danmpy.api.dialects.keys import NPWG_NETWORKS
from danmpy.attach.journal import JOURNAL_VERSION
from danmpy.errors import HostError, IntentError
from danmpy.mirrors.attachments import facts_of
from support.attaching import EXT, FRONT, AttachNode, assert_empty, request, with_prev
from support.netns import Namespace
from support.specs import tenant_key

EXTERNAL = {"tenantNetwork": "ext", "ip": "dynamic"}


def primary(pod: Namespace) -> CniResult:
    """What a plugin before danmpy makes in `pod`: eth0 with the default routes."""
    pod.batch(
        "link add eth0 type bridge",
        "address add 10.9.0.2/24 dev eth0",
        "address add fd09::2/64 dev eth0 nodad",
        "link set eth0 up",
        "route add default via 10.9.0.1 dev eth0",
        "route add ::/0 via fd09::1 dev eth0",
    )
    gateways = (ip_address("10.9.0.1"), ip_address("fd09::1"))
    return CniResult(
        interfaces=(CniInterface(name="br0"), CniInterface(name="eth0", sandbox=str(pod.path))),
        ips=(
            CniIp(address=ip_interface("10.9.0.2/24"), gateway=gateways[0], interface=1),
            CniIp(address=ip_interface("fd09::2/64"), gateway=gateways[1], interface=1),
        ),
        routes=(
            CniRoute(dst=ip_network("0.0.0.0/0"), gw=gateways[0]),
            CniRoute(dst=ip_network("::/0"), gw=gateways[1]),
        ),
    )


def add_of(pod: Namespace) -> CniRequest:
    return request(Verb.ADD, "web", pod, prev_result=primary(pod))


def defaults(pod: Namespace, family: str = "-4") -> list[str]:
    return pod.ip(family, "route", "show", "default").stdout.split("\n")[:-1]


def test_the_pod_s_own_interfaces_come_behind_the_one_that_is_there(
    three: AttachNode, pod: Namespace
) -> None:
    three.add_pod("web", EXTERNAL, {"clusterNetwork": "front", "ip": "dynamic"})
    call = add_of(pod)
    result = three.attacher.add(call)
    assert call.prev_result is not None
    inside = [link.name for link in result.interfaces if link.sandbox]
    assert inside == ["eth0", "eth1", "front2"]
    assert result.interfaces[:2] == call.prev_result.interfaces
    assert result.ips[:2] == call.prev_result.ips
    assert result.routes == call.prev_result.routes, "no default route is set that nobody asked"
    assert set(pod.links()) == {"lo", *inside}
    assert len(defaults(pod)) == 1
    for ip in result.ips[2:]:
        name = result.interfaces[ip.interface or 0].name
        assert str(ip.address) in pod.addresses(name)
    assert three.attacher.add(call) == result
    three.attacher.check(with_prev(call, result))
    three.attacher.delete(call)
    pod.ip("link", "delete", "eth0")
    assert_empty(pod, three, "c-web")


def test_a_pod_that_asks_nothing_keeps_the_answer_as_it_was_and_every_verb_succeeds(
    node: AttachNode, pod: Namespace
) -> None:
    node.add_pod("web")
    call = add_of(pod)
    before = set(pod.links()), defaults(pod), pod.addresses("eth0")
    assert node.attacher.add(call) == call.prev_result
    assert node.attacher.add(call) == call.prev_result
    assert (set(pod.links()), defaults(pod), pod.addresses("eth0")) == before
    node.attacher.check(with_prev(call, node.attacher.add(call)))
    held = frozenset({Attachment(container_id="c-web", ifname="eth0")})
    node.attacher.collect(replace(call, verb=Verb.GC, valid_attachments=held))
    assert node.journal.read("c-web", "eth0") is not None
    node.attacher.collect(replace(call, verb=Verb.GC, valid_attachments=frozenset()))
    assert node.journal.read("c-web", "eth0") is None
    node.attacher.delete(call)
    node.attacher.delete(call)
    assert set(pod.links()) == {"lo", "eth0"}


def test_an_interface_outside_of_the_pod_or_of_another_name_is_not_the_pod_s(
    three: AttachNode, pod: Namespace
) -> None:
    three.add_pod("web", EXTERNAL)
    others = (CniInterface(name="eth0"), CniInterface(name="tun0", sandbox=str(pod.path)))
    result = three.attacher.add(
        request(Verb.ADD, "web", pod, prev_result=CniResult(interfaces=others))
    )
    assert [link.name for link in result.interfaces] == ["eth0", "tun0", "eth0"]
    assert pod.addresses("eth0")


def test_the_interface_of_the_other_plugin_is_refused_and_nothing_is_touched(
    three: AttachNode, pod: Namespace
) -> None:
    three.add_pod("web", EXTERNAL | {"name": "eth0"})
    call = add_of(pod)
    with pytest.raises(IntentError, match="another plugin has made"):
        three.attacher.add(call)
    assert set(pod.links()) == {"lo", "eth0"}
    assert three.history() == []
    assert three.journal.read_all() == ()


def test_a_default_route_that_is_asked_is_taken_from_the_plugin_before(
    three: AttachNode, pod: Namespace
) -> None:
    three.add_pod("web", EXTERNAL | {"default_route": True})
    call = add_of(pod)
    result = three.attacher.add(call)
    assert [line.strip() for line in defaults(pod)] == [
        "default via 10.1.0.1 dev eth1 proto static"
    ]
    assert "via fd09::1" in defaults(pod, "-6")[0], "the other family stays where it is"
    led = [(str(r.dst), str(r.gw)) for r in result.routes if r.dst.prefixlen == 0]
    assert led == [("::/0", "fd09::1"), ("0.0.0.0/0", "10.1.0.1")]
    assert three.attacher.add(call) == result, "said once as the other time"
    three.attacher.check(with_prev(call, result))
    pod.ip("route", "delete", "default")
    with pytest.raises(HostError, match=r"lost the route to 0\.0\.0\.0/0"):
        three.attacher.check(with_prev(call, result))


def test_an_attachment_that_was_broken_behind_another_plugin_is_made_again(
    three: AttachNode, pod: Namespace
) -> None:
    three.add_pod("web", EXTERNAL | {"default_route": True})
    call = add_of(pod)
    first = three.attacher.add(call)
    pod.ip("link", "delete", "eth1")
    again = three.attacher.add(call)
    assert {ip.address for ip in again.ips} == {ip.address for ip in first.ips}
    assert "dev eth1" in defaults(pod)[0]


def test_the_status_has_the_other_plugin_s_interface_as_the_default_one(
    three: AttachNode, pod: Namespace
) -> None:
    three.add_pod("web", EXTERNAL | {"default_route": True})
    three.attacher.add(add_of(pod))
    (record,) = three.journal.read_all()
    assert parse_result(record.previous).interfaces[1].name == "eth0"
    assert record.previous["cniVersion"] == JOURNAL_VERSION
    first, second = facts_of(record).interfaces
    assert (first.name, first.is_pods, first.is_foreign) == ("eth0", True, True)
    assert first.network.name == "danmpy"
    assert first.addresses == ("10.9.0.2/24", "fd09::2/64")
    assert first.gateways == ("fd09::1",), "the one of IPv4 was taken"
    assert not first.has_endpoint
    assert (second.name, second.is_pods, second.has_endpoint) == ("eth1", False, True)
    assert second.gateways == ("10.1.0.1",)


def test_a_pod_in_the_words_of_the_working_group_is_answered_with_the_primary_alone(
    three: AttachNode, pod: Namespace
) -> None:
    shown = three.add_pod("web")
    three.view.pods["blue", "web"] = replace(shown, annotations={NPWG_NETWORKS: "ext"})
    call = add_of(pod)
    result = three.attacher.add(call)
    assert result == call.prev_result
    assert set(pod.links()) == {"lo", "eth0", "net1"}
    assert {name for name, _ in three.held("c-web")} == {"net1"}
    (record,) = three.journal.read_all()
    assert [link["name"] for link in record.result["interfaces"]] == ["net1"]
    assert [each.name for each in facts_of(record).interfaces] == ["eth0", "net1"]
    three.attacher.check(with_prev(call, result))
    pod.ip("link", "delete", "net1")
    with pytest.raises(HostError, match="interface net1 is gone"):
        three.attacher.check(with_prev(call, result))
    three.attacher.delete(call)
    assert three.held("c-web") == set()


def test_the_networks_of_these_tests_are_the_ones_of_the_node(three: AttachNode) -> None:
    assert {EXT, FRONT, tenant_key("internal")} == three.view.networks.keys()
