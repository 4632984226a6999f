"""From decided interfaces and leases to links, settings and results."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_interface, ip_network

import pytest

from danmpy.api.cni import CniDns, CniInterface, CniIp, CniResult, CniRoute
from danmpy.api.specs import (
    AddressAsk,
    AddressMode,
    NetworkKey,
    NetworkKind,
    NetworkSpec,
    RouteSpec,
)
from danmpy.attach.plan import (
    MadeInterface,
    addresses_by_interface,
    alias_of,
    default_gateways,
    differences,
    extend_result,
    host_link_name,
    lost_routes,
    plan_config,
    plan_link,
    plan_result,
    stand_ins,
    without_defaults,
)
from danmpy.attach.values import Backend, InterfaceSpec, PodIdentity
from danmpy.kernel.podlinks import PodFacts, PodLink, PodLinkConfig, PodLinkFacts, PodRoute, PodRule
from support.specs import pool, static

NETWORK = NetworkSpec(
    key=NetworkKey(kind=NetworkKind.TENANT, namespace="blue", name="internal"),
    uid="u1",
    network_id="internal",
    backend="macvlan",
    rt_table=201,
    gateway=IPv4Address("10.0.0.1"),
)
SPEC = InterfaceSpec(
    index=0,
    name="eth0",
    network=NETWORK,
    backend=Backend.MACVLAN,
    ip=AddressAsk(mode=AddressMode.DYNAMIC),
    ip6=AddressAsk(),
    mac="02:00:00:00:00:01",
    owns_addresses=True,
    ipv6=False,
    mtu=1400,
)
IDENTITY = PodIdentity(
    namespace="blue", pod="web-0", uid="p1", container_id="c1", netns="/run/netns/x", ifname="eth0"
)
FACTS = PodLinkFacts(
    name="eth0",
    index=5,
    kind="macvlan",
    alias="danmpy pod=c1",
    mac="02:00:00:00:00:01",
    mtu=1400,
    up=True,
)


def route(destination: str, gateway: str) -> RouteSpec:
    return RouteSpec(destination=ip_network(destination), gateway=ip_address(gateway))


def test_a_macvlan_is_made_under_its_final_name_with_its_own_mac() -> None:
    link = plan_link(SPEC, "vx700", IDENTITY)
    assert link == PodLink(
        name="eth0", kind="macvlan", parent="vx700", mac="02:00:00:00:00:01", mtu=1400
    )


def test_an_ipvlan_never_gets_a_mac_because_it_shares_its_parents() -> None:
    link = plan_link(replace(SPEC, backend=Backend.IPVLAN), "ens4.7", IDENTITY)
    assert link is not None
    assert (link.kind, link.mac) == ("ipvlan", None)


def test_a_bridge_attachment_names_the_nodes_end_stably_and_within_15_bytes() -> None:
    link = plan_link(replace(SPEC, backend=Backend.BRIDGE), "br-1", IDENTITY)
    assert link is not None
    assert link.kind == "veth"
    assert link.host_name == host_link_name("c1", "eth0") != host_link_name("c1", "eth1")
    assert len(link.host_name) <= 15
    assert link.host_alias == "danmpy pod=c1"


def test_a_delegate_makes_its_own_link() -> None:
    assert plan_link(replace(SPEC, backend=Backend.DELEGATE), "", IDENTITY) is None


def test_routes_of_a_family_without_address_are_left_out() -> None:
    spec = replace(
        SPEC,
        routes=(route("10.9.0.0/16", "10.0.0.254"), route("fd09::/64", "fd00::1")),
        default_gateways=(ip_address("10.0.0.1"), ip_address("fd00::1")),
    )
    config = plan_config(spec, [ip_interface("10.0.0.7/24")], "c1")
    assert config.routes == (
        PodRoute(destination="0.0.0.0/0", gateway="10.0.0.1"),
        PodRoute(destination="10.9.0.0/16", gateway="10.0.0.254"),
    )


def test_a_policy_rule_is_made_for_each_address_and_not_for_its_subnet() -> None:
    spec = replace(SPEC, proutes=(route("10.8.0.0/16", "10.0.0.254"),))
    config = plan_config(spec, [ip_interface("10.0.0.7/24"), ip_interface("fd00::7/64")], "c1")
    assert config.rules == (PodRule(source="10.0.0.7", table=201),)
    assert PodRoute(destination="10.8.0.0/16", gateway="10.0.0.254", table=201) in config.routes


def test_leases_are_grouped_by_interface_with_ipv4_first() -> None:
    v4, v6 = ip_interface("10.0.0.7/24"), ip_interface("fd00::7/64")
    assert addresses_by_interface([("eth0", v6), ("eth0", v4), ("net1", v6)]) == {
        "eth0": (v4, v6),
        "net1": (v6,),
    }


def made(name: str, address: str, **changes: object) -> MadeInterface:
    config = PodLinkConfig(alias="", ipv6=False, addresses=(address,))
    return MadeInterface(
        spec=replace(SPEC, name=name), config=config, facts=replace(FACTS, name=name), **changes
    )


def test_the_result_lists_the_pods_interfaces_in_order_and_the_nodes_ends_last() -> None:
    result = plan_result(
        [made("eth0", "10.0.0.7/24", host_name="dmp1"), made("ext1", "10.1.0.7/24")], "/run/netns/x"
    )
    assert [(link.name, link.sandbox) for link in result.interfaces] == [
        ("eth0", "/run/netns/x"),
        ("ext1", "/run/netns/x"),
        ("dmp1", ""),
    ]
    assert [(str(ip.address), ip.interface) for ip in result.ips] == [
        ("10.0.0.7/24", 0),
        ("10.1.0.7/24", 1),
    ]
    assert result.interfaces[0].mac == "02:00:00:00:00:01"
    assert result.interfaces[0].mtu == 1400
    assert result.ips[0].gateway == IPv4Address("10.0.0.1")


def test_a_delegates_indices_move_behind_the_interfaces_before_it() -> None:
    delegate = CniResult(
        interfaces=(
            CniInterface(name="br0"),
            CniInterface(name="veth1"),
            CniInterface(name="net1", sandbox="/run/netns/x", mac="02:00:00:00:00:09"),
        ),
        ips=(
            CniIp(address=ip_interface("10.2.0.2/24"), interface=2),
            CniIp(address=ip_interface("fd02::2/64")),
            CniIp(address=ip_interface("fd02::3/64"), interface=-1),
        ),
        routes=(CniRoute(dst=IPv4Network("0.0.0.0/0")),),
    )
    second = MadeInterface(
        spec=replace(SPEC, name="net1", backend=Backend.DELEGATE),
        config=PodLinkConfig(alias="", ipv6=True),
        delegate=delegate,
    )
    result = plan_result([made("eth0", "10.0.0.7/24"), second], "/run/netns/x")
    assert [link.name for link in result.interfaces] == ["eth0", "net1"]
    assert [ip.interface for ip in result.ips] == [0, 1, 1, 1]
    assert result.routes[-1].dst == IPv4Network("0.0.0.0/0")


LINK = PodLink(name="eth0", kind="macvlan", parent="vx700", mac="02:00:00:00:00:01", mtu=1400)
CONFIG = PodLinkConfig(
    alias="danmpy pod=c1",
    ipv6=False,
    addresses=("10.0.0.7/24",),
    routes=(PodRoute(destination="10.9.0.0/16", gateway="10.0.0.1"),),
    rules=(PodRule(source="10.0.0.7", table=201),),
)
WHOLE = PodFacts(
    links={"eth0": FACTS},
    addresses={"eth0": frozenset({"10.0.0.7/24", "10.0.0.99/24"})},
    routes={"eth0": frozenset(CONFIG.routes)},
    rules=frozenset(CONFIG.rules),
)


def test_nothing_is_different_when_the_pod_has_what_was_made_and_more() -> None:
    assert differences("eth0", LINK, CONFIG, WHOLE) == ()


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (replace(WHOLE, links={}), "is gone"),
        (replace(WHOLE, links={"eth0": replace(FACTS, up=False)}), "is down"),
        (replace(WHOLE, links={"eth0": replace(FACTS, mac="02:00:00:00:00:02")}), "MAC"),
        (replace(WHOLE, links={"eth0": replace(FACTS, mtu=1500)}), "MTU 1500, not 1400"),
        (replace(WHOLE, links={"eth0": replace(FACTS, kind="veth")}), "is a veth link"),
        (replace(WHOLE, addresses={"eth0": frozenset()}), "lost address 10.0.0.7/24"),
        (replace(WHOLE, routes={"eth0": frozenset()}), "lost the route to 10.9.0.0/16"),
        (replace(WHOLE, rules=frozenset()), "rule from 10.0.0.7 into table 201 is gone"),
    ],
)
def test_each_thing_broken_by_hand_is_named(facts: PodFacts, words: str) -> None:
    found = differences("eth0", LINK, CONFIG, facts)
    assert len(found) == 1
    assert words in found[0]


def test_default_routes_cover_each_family_that_has_an_address() -> None:
    spec = replace(SPEC, default_gateways=(ip_address("fd00::1"),))
    config = plan_config(spec, [ip_interface("fd00::7/64")], "c1")
    assert [r.destination for r in config.routes] == [str(IPv6Network("::/0"))]


def test_no_two_sandboxes_share_an_alias_and_none_is_longer_than_the_kernel_takes() -> None:
    ids = ["c", "c" * 64, "c" * 65, "c" * 66, "c" * 4000, "c" * 64 + "~"]
    aliases = [alias_of(one) for one in ids]
    assert len(set(aliases)) == len(ids)
    assert max(map(len, aliases)) <= 255
    assert aliases[1] == "danmpy pod=" + "c" * 64


def test_what_plugins_before_us_made_is_passed_on_and_ours_comes_behind() -> None:
    before = CniResult(
        interfaces=(CniInterface(name="net0", sandbox="/run/netns/x"),),
        ips=(CniIp(address=ip_interface("10.9.0.2/24"), interface=0),),
        routes=(CniRoute(dst=ip_network("10.9.0.0/16")),),
        dns=CniDns(nameservers=("10.9.0.1",)),
    )
    own = CniResult(
        interfaces=(CniInterface(name="eth0", sandbox="/run/netns/x"),),
        ips=(
            CniIp(address=ip_interface("10.0.0.7/24"), interface=0),
            CniIp(address=ip_interface("10.0.0.8/24")),
        ),
        routes=(CniRoute(dst=ip_network("10.1.0.0/16")),),
    )
    both = extend_result(before, own)
    assert [link.name for link in both.interfaces] == ["net0", "eth0"]
    assert [(str(ip.address.ip), ip.interface) for ip in both.ips] == [
        ("10.9.0.2", 0),
        ("10.0.0.7", 1),
        ("10.0.0.8", None),
    ]
    assert both.routes == (*before.routes, *own.routes)
    assert both.dns == before.dns
    assert extend_result(None, own) is own


def test_default_routes_that_are_settled_later_are_not_planned() -> None:
    gateways = (ip_address("10.0.0.1"), ip_address("10.0.0.2"))
    spec = replace(SPEC, default_gateways=gateways)
    addresses = [ip_interface("10.0.0.7/24")]
    assert [r.metric for r in plan_config(spec, addresses, "c1").routes] == [0, 1]
    assert plan_config(replace(spec, takes_default=True), addresses, "c1").routes == ()


def test_only_default_routes_of_the_main_table_and_of_these_families_are_left_out() -> None:
    routes = tuple(
        CniRoute(dst=ip_network(text), table=table)
        for text, table in (
            ("0.0.0.0/0", None),
            ("0.0.0.0/0", 254),
            ("0.0.0.0/0", 7),
            ("10.0.0.0/8", None),
            ("::/0", None),
        )
    )
    result = CniResult(routes=routes)
    assert without_defaults(result, (4,)).routes == routes[2:]
    assert without_defaults(result, (6,)).routes == routes[:4]
    assert without_defaults(result, ()) == result


def test_a_route_without_a_next_hop_goes_over_the_gateway_of_its_family() -> None:
    ips = (
        CniIp(address=ip_interface("10.0.0.7/24"), gateway=ip_address("10.0.0.1")),
        CniIp(address=ip_interface("10.0.0.8/24"), gateway=ip_address("10.0.0.2")),
    )
    routes = (
        CniRoute(dst=ip_network("0.0.0.0/0")),
        CniRoute(dst=ip_network("0.0.0.0/0"), gw=ip_address("10.0.0.1")),
        CniRoute(dst=ip_network("::/0")),
        CniRoute(dst=ip_network("10.0.0.0/8"), gw=ip_address("10.0.0.9")),
    )
    assert default_gateways(CniResult(ips=ips, routes=routes)) == (ip_address("10.0.0.1"),)
    assert default_gateways(CniResult(routes=routes[:1])) == ()


def test_an_interface_that_has_its_routes_has_lost_none() -> None:
    assert lost_routes("eth0", CONFIG, WHOLE) == []
    bare = replace(WHOLE, routes={"eth0": frozenset()})
    assert len(lost_routes("eth0", CONFIG, bare)) == len(CONFIG.routes)


def test_stand_ins_are_such_addresses_as_will_be_leased() -> None:
    pools = replace(NETWORK, v4=pool("10.0.0.0/24"), v6=pool("fd00::/64"))
    dynamic, fixed = AddressAsk(mode=AddressMode.DYNAMIC), static("fd00::9")
    spec = replace(SPEC, network=pools, ip=dynamic, ip6=fixed)
    assert stand_ins(spec) == (ip_interface("10.0.0.1/24"), ip_interface("fd00::9/64"))
    assert stand_ins(replace(spec, ip=AddressAsk(), ip6=AddressAsk())) == ()
