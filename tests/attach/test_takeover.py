"""One interface takes the default routes of a pod from all others."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.cni import CniIp, CniResult, CniRoute
from danmpy.api.specs import AddressAsk
from danmpy.attach.journal import LinkRecord
from danmpy.attach.plan import MadeInterface
from danmpy.attach.takeover import Takeover, plan_takeover
from danmpy.attach.values import Backend, InterfaceSpec
from danmpy.errors import IntentError
from danmpy.kernel.podlinks import PodFacts, PodLinkConfig, PodRoute
from support.specs import network, tenant_key

NET1 = InterfaceSpec(
    index=1,
    name="net1",
    network=network(tenant_key("internal")),
    backend=Backend.DELEGATE,
    ip=AddressAsk(),
    ip6=AddressAsk(),
    mac=None,
    owns_addresses=False,
    ipv6=True,
    mtu=None,
    takes_default=True,
)
ETH0 = replace(NET1, index=0, name="eth0", takes_default=False)
FAR = PodRoute(destination="10.9.0.0/16", gateway="10.0.0.1")
POLICY = PodRoute(destination="0.0.0.0/0", gateway="10.0.0.1", table=77)


def default(gateway: str, metric: int = 0) -> PodRoute:
    family = "::/0" if ":" in gateway else "0.0.0.0/0"
    return PodRoute(destination=family, gateway=gateway, metric=metric)


def facts(**routes: tuple[PodRoute, ...]) -> PodFacts:
    return PodFacts(
        links={},
        addresses={},
        routes={name: frozenset(each) for name, each in routes.items()},
        rules=frozenset(),
    )


def leader(*gateways: str) -> InterfaceSpec:
    return replace(NET1, default_gateways=tuple(map(ip_address, gateways)))


def test_the_routes_of_the_family_go_from_the_others_and_the_named_ones_come() -> None:
    there = facts(eth0=(default("10.0.0.1"), default("fd00::1"), FAR, POLICY), net1=())
    found = plan_takeover(there, leader("10.1.0.1"), None)
    assert found.families == (4,)
    assert found.gone == (("eth0", default("10.0.0.1")),)
    assert found.new == (("net1", default("10.1.0.1")),)


def test_both_families_can_be_taken_at_once() -> None:
    there = facts(eth0=(default("10.0.0.1"), default("fd00::1")), net1=())
    found = plan_takeover(there, leader("10.1.0.1", "fd01::1"), None)
    assert {route.gateway for _, route in found.gone} == {"10.0.0.1", "fd00::1"}
    assert [route.gateway for _, route in found.new] == ["10.1.0.1", "fd01::1"]


def test_what_the_chosen_plugin_had_set_itself_gives_way_to_the_named_gateway() -> None:
    there = facts(eth0=(), net1=(default("10.1.0.254"),))
    found = plan_takeover(there, leader("10.1.0.1"), None)
    assert found.gone == (("net1", default("10.1.0.254")),)
    there = facts(eth0=(), net1=(default("10.1.0.1"),))
    found = plan_takeover(there, leader("10.1.0.1"), None)
    assert (found.gone, found.new) == ((), ()), "it is there already"


def test_several_gateways_of_a_family_have_rising_metrics() -> None:
    found = plan_takeover(
        facts(net1=()), leader("10.1.0.1", "fd01::1", "10.1.0.2", "fd01::2"), None
    )
    assert [route for _, route in found.new] == [
        default("10.1.0.1"),
        default("10.1.0.2", 1),
        default("fd01::1"),
        default("fd01::2", 1025),  # 1024 is what the kernel takes for the first
    ]


def test_without_gateways_the_plugin_s_own_route_stays_and_those_of_the_others_go() -> None:
    there = facts(eth0=(default("10.0.0.1"), default("fd00::1")), net1=(default("10.1.0.9"),))
    found = plan_takeover(there, NET1, None)
    assert found.gone == (("eth0", default("10.0.0.1")),)
    assert found.new == ()
    record = LinkRecord(
        name="net1", network="x", delegate_result='{"routes":[{"dst":"0.0.0.0/0"}]}'
    )
    assert found.recorded(record) is record


def test_a_route_that_the_plugin_says_and_the_kernel_does_not_show_is_made_up_for() -> None:
    said = CniResult(
        ips=(CniIp(address=ip_interface("10.1.0.5/24"), gateway=ip_address("10.1.0.1")),),
        routes=(CniRoute(dst=ip_network("0.0.0.0/0")), CniRoute(dst=ip_network("::/0"), table=7)),
    )
    found = plan_takeover(facts(eth0=(default("10.0.0.1"),), net1=()), NET1, said)
    assert found.gone == (("eth0", default("10.0.0.1")),)
    assert found.new == (("net1", default("10.1.0.1")),)
    assert found.leading == (default("10.1.0.1"),)


def test_a_plugin_that_set_no_route_cannot_keep_it() -> None:
    with pytest.raises(IntentError, match="interface 1 on TenantNetwork/blue/internal"):
        plan_takeover(facts(eth0=(default("10.0.0.1"),), net1=(FAR,)), NET1, CniResult())


TAKEN = Takeover(leader="net1", families=(4,), leading=(default("10.1.0.1"),))
EMPTY = PodLinkConfig(alias="a", ipv6=True)


@pytest.mark.parametrize("version", ["0.2.0", "1.1.0"])
def test_a_plugin_is_told_of_its_result_without_the_routes_that_went(version: str) -> None:
    routes: list[dict[str, object]] = [
        {"dst": "0.0.0.0/0", "gw": "10.0.0.1"},
        {"dst": "0.0.0.0/0", "table": 77},
        {"dst": "10.9.0.0/16"},
        {"dst": "::/0"},
    ]
    old = version == "0.2.0"
    document: dict[str, Any] = {"cniVersion": version}
    document |= {"ip4": {"ip": "10.0.0.2/24", "routes": routes}} if old else {"routes": routes}
    record = LinkRecord(
        name="eth0", network="x", config=EMPTY, delegate_result=json.dumps(document)
    )
    told = json.loads(TAKEN.recorded(record).delegate_result)
    assert told.pop("cniVersion") == version
    assert (told["ip4"] if old else told)["routes"] == routes[1:]


def test_the_record_says_what_check_has_to_find_from_now_on() -> None:
    planned = replace(EMPTY, routes=(default("10.0.0.1"), POLICY, FAR))
    record = LinkRecord(name="eth0", network="x", config=planned)
    assert TAKEN.recorded(record).config == replace(EMPTY, routes=(POLICY, FAR))
    chosen = LinkRecord(name="net1", network="x", config=replace(EMPTY, routes=(FAR,)))
    assert TAKEN.recorded(chosen).config == replace(EMPTY, routes=(default("10.1.0.1"), FAR))


def test_the_answer_has_the_routes_that_there_are() -> None:
    said = CniResult(
        routes=(
            CniRoute(dst=ip_network("0.0.0.0/0"), gw=ip_address("10.0.0.1")),
            CniRoute(dst=ip_network("10.9.0.0/16")),
        )
    )
    item = TAKEN.told(MadeInterface(spec=ETH0, config=EMPTY, delegate=said))
    assert item.delegate == replace(said, routes=said.routes[1:])
    item = TAKEN.told(MadeInterface(spec=NET1, config=EMPTY, delegate=said))
    assert item.config.routes == (default("10.1.0.1"),)


GATEWAYS = st.sampled_from(["10.0.0.1", "10.1.0.1", "10.1.0.2", "fd00::1", "fd01::1"])
ROUTES = st.lists(st.builds(default, GATEWAYS, st.integers(0, 2)), max_size=4, unique=True)


@given(eth0=ROUTES, net1=ROUTES, wanted=st.lists(GATEWAYS, min_size=1, max_size=4, unique=True))
def test_afterwards_the_families_named_lead_over_the_chosen_interface_alone(
    eth0: list[PodRoute], net1: list[PodRoute], wanted: list[str]
) -> None:
    there = {"eth0": set(eth0), "net1": set(net1)}
    found = plan_takeover(facts(eth0=tuple(eth0), net1=tuple(net1)), leader(*wanted), None)
    for name, route in found.gone:
        there[name].remove(route)
    for name, route in found.new:
        assert route not in there[name], "the kernel would refuse it"
        there[name].add(route)
    families = {6 if ":" in gateway else 4 for gateway in wanted}
    assert {route for route in there["eth0"] if route.family in families} == set()
    led = [route for route in there["net1"] if route.family in families]
    assert {route.gateway for route in led} == set(wanted)
    untouched = [route for route in eth0 if route.family not in families]
    assert there["eth0"] == set(untouched)
