"""Tunnel ends: whose address, to whom, and in which group."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

import pytest

from danmpy.api.specs import NodeSpec
from danmpy.kernel.hostlinks import HostFacts, LinkFacts, VxlanAttributes
from danmpy.netwatcher.underlay import flood_of, group_of, local_vtep, overhead_of, own_vteps
from danmpy.netwatcher.values import Flooding, WatchContext
from support.fakehost import FakeHost
from support.specs import tenant_key
from support.watching import Want, node, on, vlan, vxlan

SEGMENT = vxlan("ens4", 700)


def context(*nodes: NodeSpec, flooding: Flooding = Flooding.UNICAST) -> WatchContext:
    return WatchContext(node_name="n1", host=HostFacts(), nodes=nodes, flooding=flooding)


def nic(*addresses: str) -> LinkFacts:
    return LinkFacts(index=2, name="ens4", addresses=tuple(map(ip_interface, addresses)))


@pytest.mark.parametrize(
    ("vni", "group4", "group6"),
    [
        (600, "239.0.2.88", "ff02::258"),
        (5000, "239.0.19.136", "ff02::1388"),
        (16777214, "239.255.255.254", "ff02::ff:fffe"),
        (16777215, "239.255.255.255", "ff02::ff:ffff"),
    ],
)
def test_the_group_is_danms(vni: int, group4: str, group6: str) -> None:
    assert group_of(vni, 4) == ip_address(group4)
    assert group_of(vni, 6) == ip_address(group6)


def test_the_overhead_is_that_of_the_underlay() -> None:
    assert (overhead_of(4), overhead_of(6)) == (50, 70)


@pytest.mark.parametrize(
    ("published", "present", "local"),
    [
        (None, ("2001:db8::1/64", "192.0.2.1/24"), "192.0.2.1"),
        (None, ("2001:db8::1/64",), "2001:db8::1"),
        (None, (), None),
        ("2001:db8::1", ("192.0.2.1/24", "2001:db8::1/64"), "2001:db8::1"),
        ("192.0.2.77 192.0.2.2", ("192.0.2.1/24", "192.0.2.2/24"), "192.0.2.2"),
        ("192.0.2.77", ("192.0.2.1/24",), "192.0.2.1"),
    ],
)
def test_the_nodes_own_end_is_one_that_is_published_and_there_else_the_first_by_danms_rule(
    published: str | None, present: tuple[str, ...], local: str | None
) -> None:
    nodes = (node("n1", ens4=published),) if published else ()
    found = local_vtep(nic(*present), SEGMENT, context(*nodes))
    assert found == (ip_address(local) if local else None)


@pytest.mark.parametrize(
    ("stands_on", "published", "present", "local"),
    [
        ("192.0.2.1", None, ("2001:db8::1/64",), None),
        ("192.0.2.1", "192.0.2.1", ("2001:db8::1/64",), None),
        ("192.0.2.1", "2001:db8::1", ("192.0.2.1/24", "2001:db8::1/64"), "2001:db8::1"),
        ("192.0.2.1", None, ("2001:db8::1/64", "192.0.2.9/24"), "192.0.2.9"),
        ("2001:db8::1", None, ("192.0.2.1/24", "2001:db8::1/64"), "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1", ("192.0.2.1/24",), None),
        ("2001:db8::1", "2001:db8::1 192.0.2.1", ("192.0.2.1/24",), "192.0.2.1"),
        (None, None, ("2001:db8::1/64",), "2001:db8::1"),
    ],
)
def test_tunnels_go_to_the_other_family_only_when_that_is_published_or_ipv4_came_late(
    stands_on: str | None, published: str | None, present: tuple[str, ...], local: str | None
) -> None:
    nodes = (node("n1", ens4=published),) if published else ()
    end = ip_address(stands_on) if stands_on else None
    device = LinkFacts(index=3, name="vx700", vxlan=VxlanAttributes(vni=700, port=4789, local=end))
    found = local_vtep(nic(*present), SEGMENT, context(*nodes), device)
    assert found == (ip_address(local) if local else None)


def test_the_star_stands_for_every_parent() -> None:
    peers = NodeSpec(name="n2", vteps={"*": (ip_address("192.0.2.2"),)})
    flood = flood_of(SEGMENT, ip_address("192.0.2.1"), (), context(peers))
    assert flood.remotes == {ip_address("192.0.2.2")}


def test_of_a_nodes_addresses_the_first_of_the_family_counts() -> None:
    peer = node("n2", ens4="2001:db8::2 192.0.2.2 192.0.2.3")
    flood = flood_of(SEGMENT, ip_address("192.0.2.1"), (), context(peer))
    assert flood.remotes == {ip_address("192.0.2.2")}
    flood = flood_of(SEGMENT, ip_address("2001:db8::1"), (), context(peer))
    assert flood.remotes == {ip_address("2001:db8::2")}


def test_remotes_of_another_family_are_missed() -> None:
    remote = on(SEGMENT, tenant_key("a"), vxlan_remotes=(ip_address("2001:db8::9"),))
    flood = flood_of(SEGMENT, ip_address("192.0.2.1"), (remote,), context())
    assert (flood.remotes, flood.missing) == (frozenset(), ("remote 2001:db8::9",))


def test_a_multicast_group_replaces_the_nodes_but_not_the_listed_remotes() -> None:
    remote = on(SEGMENT, tenant_key("a"), vxlan_remotes=(ip_address("203.0.113.1"),))
    found = context(node("n2", ens4="192.0.2.2"), flooding=Flooding.MULTICAST)
    flood = flood_of(SEGMENT, ip_address("192.0.2.1"), (remote,), found)
    assert flood.remotes == {ip_address("203.0.113.1")}
    assert flood.missing == ()


def test_this_node_is_no_peer_of_itself() -> None:
    flood = flood_of(SEGMENT, ip_address("192.0.2.1"), (), context(node("n1", ens4="192.0.2.1")))
    assert (flood.remotes, flood.missing) == (frozenset(), ())


def test_this_node_goes_by_what_people_wrote_and_the_others_by_what_it_observed() -> None:
    echo = NodeSpec(name="n1", observed={"ens4": (ip_address("2001:db8::1"),)})
    late = nic("2001:db8::1/64", "192.0.2.9/24")
    old = VxlanAttributes(vni=700, port=4789, local=ip_address("2001:db8::1"))
    device = LinkFacts(index=3, name="vx700", vxlan=old)
    # IPv4 came late, and nothing but its own echo speaks for IPv6.
    assert local_vtep(late, SEGMENT, context(echo), device) == ip_address("192.0.2.9")
    peer = NodeSpec(
        name="n2",
        vteps={"*": (ip_address("198.51.100.2"),)},
        observed={"ens4": (ip_address("192.0.2.2"),)},
    )
    flood = flood_of(SEGMENT, ip_address("192.0.2.1"), (), context(peer))
    assert flood.remotes == {ip_address("192.0.2.2")}


def test_the_ends_of_this_node_are_told_by_the_parents_names_in_the_networks() -> None:
    host = FakeHost()
    host.put("ens4", addresses=("192.0.2.1/24",), up=True)
    host.put("ens5", addresses=("2001:db8::1/64",), up=True)
    want = Want(
        on(vxlan("ens4", 700), tenant_key("a")),
        on(vxlan("ens4", 701), tenant_key("b")),
        on(vxlan("ens5", 702), tenant_key("c")),
        on(vlan("ens4", 7), tenant_key("d")),
    )
    assert own_vteps(want.desired(host.read())) == {
        "ens4": (ip_address("192.0.2.1"),),
        "ens5": (ip_address("2001:db8::1"),),
    }
