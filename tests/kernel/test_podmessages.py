"""Requests and facts about a pod as netlink messages: what is written is what is read."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from danmpy.kernel import podmessages
from danmpy.kernel.podlinks import POD_GROUP, PodLink, PodRoute, PodRule
from danmpy.kernel.rtnl import CREATE, decode, pack

_V4 = st.ip_addresses(v=4).map(str)
_V6 = st.ip_addresses(v=6).map(str)
_TABLES = st.integers(min_value=1, max_value=2**32 - 1)
_INDICES = st.integers(min_value=1, max_value=2**31 - 1)


@st.composite
def _routes(draw: st.DrawFn) -> PodRoute:
    version = draw(st.sampled_from([4, 6]))
    network = draw(st.ip_addresses(v=version))
    length = draw(st.integers(min_value=0, max_value=32 if version == 4 else 128))
    bits = network.max_prefixlen - length
    host = type(network)(int(network) >> bits << bits)
    gateway = draw(st.none() | st.ip_addresses(v=version).map(str))
    # 1024 is what an IPv6 route has that asks for none.
    metric = draw(st.integers(min_value=0, max_value=2**32 - 1).filter(lambda m: m != 1024))
    return PodRoute(
        destination=f"{host}/{length}", gateway=gateway, table=draw(_TABLES), metric=metric
    )


@given(_routes(), _INDICES)
def test_a_route_comes_back_as_it_was(route: PodRoute, index: int) -> None:
    data = podmessages.add_route(index, route)
    message = decode(rtmsg, data)
    family = socket.AF_INET6 if ":" in route.destination else socket.AF_INET
    assert message["family"] == family
    assert podmessages.route_facts(data, family) == (index, route)
    assert message["scope"] == (0 if route.gateway else 253)


@given(_routes(), _INDICES)
def test_a_route_is_removed_whoever_made_it(route: PodRoute, index: int) -> None:
    message = decode(rtmsg, podmessages.remove_route(index, route))
    family = socket.AF_INET6 if route.family == 6 else socket.AF_INET
    assert podmessages.route_facts(podmessages.remove_route(index, route), family) == (index, route)
    assert (message["proto"], message["scope"], message["type"]) == (0, 255, 0)


def test_the_metric_that_the_kernel_gives_ipv6_routes_is_none() -> None:
    route = PodRoute(destination="::/0", gateway="fd00::1", metric=1024)
    data = podmessages.add_route(3, route)
    assert podmessages.route_facts(data, socket.AF_INET6)[1].metric == 0


@given(_V4 | _V6, _TABLES)
def test_a_rule_comes_back_as_it_was_for_making_and_for_removing(source: str, table: int) -> None:
    rule = PodRule(source=source, table=table)
    for request in (podmessages.add_rule(rule), podmessages.remove_rule(rule)):
        message = decode(fibmsg, request)
        assert podmessages.rule_facts(request) == rule
        assert message["src_len"] == (128 if ":" in source else 32)


def test_a_rule_that_goes_by_no_source_is_none_of_ours() -> None:
    header = bytes([socket.AF_INET, 0, 0, 0, 254, 0, 0, 1]) + bytes(4)
    assert podmessages.rule_facts(pack(podmessages.RTM_NEWRULE, 0, header)) is None


@given(_V4 | _V6, st.integers(min_value=0, max_value=32), _INDICES)
def test_an_address_comes_back_as_it_was_and_only_ipv6_skips_the_detection(
    host: str, length: int, index: int
) -> None:
    data = podmessages.add_address(index, f"{host}/{length}")
    message = decode(ifaddrmsg, data)
    assert podmessages.address_facts(data) == (index, f"{host}/{length}")
    flags = message.get_attr("IFA_FLAGS") or 0
    assert bool(flags & podmessages.IFA_F_NODAD) == (":" in host)


@pytest.mark.parametrize("kind", ["macvlan", "ipvlan"])
@pytest.mark.parametrize("mtu", [None, 1400])
def test_a_child_link_is_asked_for_in_the_pod_s_namespace_under_its_final_name(
    kind: str, mtu: int | None
) -> None:
    link = PodLink(name="eth0", kind=kind, parent="ens4", mac="02:00:00:00:00:01", mtu=mtu)
    (request,) = podmessages.make_link(link, 5, 9)
    message = decode(ifinfmsg, request)
    facts = podmessages.link_facts(request)
    assert (facts.name, facts.kind, facts.mtu) == ("eth0", kind, mtu or 0)
    assert facts.group == POD_GROUP
    assert facts.mac == ("02:00:00:00:00:01" if kind == "macvlan" else "")
    assert message.get_attr("IFLA_NET_NS_FD") == 9
    assert message.get_attr("IFLA_LINK") == 5
    data = message.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")
    mode = data.get_attr(f"IFLA_{kind.upper()}_MODE")
    assert mode == ("bridge" if kind == "macvlan" else 0)
    assert not facts.up
    assert message["header"]["flags"] == CREATE


def test_a_veth_pair_is_born_on_the_bridge_and_its_pod_end_in_the_pod() -> None:
    link = PodLink(
        name="eth0", kind="veth", parent="br0", mtu=1400, host_name="dmp1", host_alias="mark"
    )
    pair, alias = (decode(ifinfmsg, each) for each in podmessages.make_link(link, 5, 9))
    assert (pair.get_attr("IFLA_IFNAME"), pair.get_attr("IFLA_MASTER")) == ("dmp1", 5)
    assert pair.get_attr("IFLA_GROUP") is None, "the node's end is no pod link"
    peer = pair.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert peer.get_attr("IFLA_IFNAME") == "eth0"
    assert peer.get_attr("IFLA_GROUP") == POD_GROUP
    assert peer.get_attr("IFLA_NET_NS_FD") == 9
    assert (alias.get_attr("IFLA_IFALIAS"), alias.get_attr("IFLA_IFNAME")) == ("mark", "dmp1")


def test_several_links_go_in_one_removal_and_a_single_one_needs_no_group() -> None:
    (one,) = podmessages.remove_links((7,))
    assert decode(ifinfmsg, one)["index"] == 7
    *marks, removal = (decode(ifinfmsg, each) for each in podmessages.remove_links((7, 8)))
    assert [mark["index"] for mark in marks] == [7, 8]
    assert {m.get_attr("IFLA_GROUP") for m in (*marks, removal)} == {podmessages.DOOMED_GROUP}
    assert removal["index"] == 0
    assert removal["header"]["type"] == podmessages.RTM_DELLINK


@given(_routes())
def test_every_request_tells_its_own_length(route: PodRoute) -> None:
    request = podmessages.add_route(1, route)
    assert struct.unpack_from("=I", request)[0] == len(request)
