"""Routes, policy routes and the default route, decided over all interfaces of a pod."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

import pytest

from danmpy.api.specs import InterfaceAsk, NetworkSpec, PluginAsk
from danmpy.attach.deciding.resolve import ResolveContext, resolve
from danmpy.attach.deciding.routing import default_routes
from danmpy.attach.values import InterfaceSpec
from danmpy.errors import ConflictError, IntentError
from support.specs import DYNAMIC, ask, network, pod, route, tenant_key

A, B = tenant_key("a"), tenant_key("b")
R1 = route("172.16.0.0/16", "10.0.0.1")
DEFAULT = route("0.0.0.0/0", "10.0.0.1")
R6 = route("fd99::/48", "fd00::1")
DUAL = {"v4": "10.0.0.0/24", "v6": "fd00::/64"}


def net(key: Any = A, **more: Any) -> NetworkSpec:
    return network(key, **{**DUAL, **more})


def solve(
    *asks: InterfaceAsk,
    networks: Iterable[NetworkSpec],
    conf_names: Iterable[str] = (),
    **more: Any,
) -> tuple[InterfaceSpec, ...]:
    context = ResolveContext(container_id="c", conf_names=frozenset(conf_names), **more)
    return resolve(pod(), asks, {spec.key: spec for spec in networks}, context)


def refusal(*asks: InterfaceAsk, networks: Iterable[NetworkSpec], **more: Any) -> str:
    with pytest.raises(IntentError) as caught:
        solve(*asks, networks=networks, **more)
    return str(caught.value)


def texts(values: Iterable[object]) -> list[str]:
    return [str(value) for value in values]


def test_routes_of_a_family_need_an_address_of_that_family() -> None:
    networks = (net(routes=(R1,), routes6=(R6,)),)
    assert solve(ask(A, DYNAMIC), networks=networks)[0].routes == (R1,)
    assert solve(ask(A, ip6=DYNAMIC), networks=networks)[0].routes == (R6,)
    assert solve(ask(A, DYNAMIC, ip6=DYNAMIC), networks=networks)[0].routes == (R1, R6)
    assert solve(ask(A), networks=networks)[0].routes == ()


def test_a_second_interface_on_one_network_leaves_the_routes_to_the_first() -> None:
    first, second = solve(ask(A, DYNAMIC), ask(A, DYNAMIC), networks=(net(routes=(R1,)),))
    assert first.routes == (R1,)
    assert second.routes == ()


def test_two_networks_with_one_destination_are_refused() -> None:
    networks = (net(A, routes=(R1,)), net(B, routes=(R1,)))
    said = refusal(ask(A, DYNAMIC), ask(B, DYNAMIC), networks=networks)
    assert "172.16.0.0/16" in said
    assert "TenantNetwork/blue/a" in said
    assert "TenantNetwork/blue/b" in said


def test_a_delegate_that_addresses_itself_may_use_all_routes() -> None:
    networks = (net(backend="flannel", routes=(R1,), routes6=(R6,)),)
    (spec,) = solve(ask(A), networks=networks, conf_names={"a"})
    assert spec.routes == (R1, R6)


# ---- policy routes ----


def test_policy_routes_need_a_table_on_the_network() -> None:
    said = refusal(ask(A, DYNAMIC, proutes=(R1,)), networks=(net(),))
    assert "rt_tables" in said


def test_policy_routes_follow_the_families_too() -> None:
    networks = (net(rt_table=100),)
    asked = ask(A, DYNAMIC, proutes=(R1,), proutes6=(R6,))
    assert solve(asked, networks=networks)[0].proutes == (R1,)
    both = ask(A, DYNAMIC, ip6=DYNAMIC, proutes=(R1,), proutes6=(R6,))
    assert solve(both, networks=networks)[0].proutes == (R1, R6)


def test_a_policy_gateway_out_of_reach_is_refused() -> None:
    far = route("172.16.0.0/16", "10.9.9.9")
    said = refusal(ask(A, DYNAMIC, proutes=(far,)), networks=(net(rt_table=100),))
    assert "10.9.9.9" in said
    assert "10.0.0.0/24" in said


def test_one_destination_twice_in_one_table_is_refused_and_in_two_is_not() -> None:
    asks = (ask(A, DYNAMIC, proutes=(R1,)), ask(B, DYNAMIC, proutes=(R1,)))
    said = refusal(*asks, networks=(net(A, rt_table=100), net(B, rt_table=100)))
    assert "table 100" in said
    specs = solve(*asks, networks=(net(A, rt_table=100), net(B, rt_table=101)))
    assert [spec.proutes for spec in specs] == [(R1,), (R1,)]


def test_a_policy_table_that_is_the_main_one_meets_the_ordinary_routes() -> None:
    asks = (ask(A, DYNAMIC), ask(B, DYNAMIC, proutes=(R1,)))
    assert "table 254" in refusal(*asks, networks=(net(A, routes=(R1,)), net(B, rt_table=254)))


# ---- the default route ----


def test_the_first_interface_gets_the_default_routes_of_its_network() -> None:
    gateways = net(gateway=R1.gateway, gateway6=R6.gateway)
    first, second = solve(ask(A, DYNAMIC, ip6=DYNAMIC), ask(A, DYNAMIC), networks=(gateways,))
    assert texts(first.default_gateways) == ["10.0.0.1", "fd00::1"]
    assert second.default_gateways == ()
    (only4,) = solve(ask(A, DYNAMIC), networks=(gateways,))
    assert texts(only4.default_gateways) == ["10.0.0.1"]


def test_an_entry_that_asks_gets_it_instead_of_the_first() -> None:
    networks = (net(A, gateway=R1.gateway), net(B, gateway=R1.gateway))
    first, second = solve(ask(A, DYNAMIC), ask(B, DYNAMIC, default_route=True), networks=networks)
    assert first.default_gateways == ()
    assert texts(second.default_gateways) == ["10.0.0.1"]


def test_the_first_interface_can_decline() -> None:
    networks = (net(gateway=R1.gateway),)
    assert solve(ask(A, DYNAMIC, default_route=False), networks=networks)[0].default_gateways == ()


def test_two_that_ask_are_refused() -> None:
    asks = (ask(A, DYNAMIC, default_route=True),) * 2
    assert "both ask default_route" in refusal(*asks, networks=(net(gateway=R1.gateway),))


def test_asking_without_a_gateway_or_an_address_is_refused() -> None:
    said = refusal(ask(A, DYNAMIC, default_route=True), networks=(net(gateway6=R6.gateway),))
    assert "Options.gateway" in said
    l2 = refusal(ask(A, default_route=True), networks=(net(gateway=R1.gateway),))
    assert "ask an address" in l2


def test_a_declared_default_route_stays_the_only_one() -> None:
    everything = route("0.0.0.0/0", "10.0.0.2")
    networks = (net(A, gateway=R1.gateway), net(B, routes=(everything,)))
    first, second = solve(ask(A, DYNAMIC), ask(B, DYNAMIC), networks=networks)
    assert first.default_gateways == ()
    assert second.routes == (everything,)


def test_an_asked_default_route_against_a_declared_one_is_refused() -> None:
    everything = route("0.0.0.0/0", "10.0.0.2")
    networks = (net(A, gateway=R1.gateway, routes=(everything,)),)
    assert "0.0.0.0/0" in refusal(ask(A, DYNAMIC, default_route=True), networks=networks)


def test_an_asked_default_route_that_is_declared_alike_is_installed_once() -> None:
    everything = route("0.0.0.0/0", "10.0.0.1")
    networks = (net(A, gateway=R1.gateway, routes=(everything,)),)
    (spec,) = solve(ask(A, DYNAMIC, default_route=True), networks=networks)
    assert spec.routes == (everything,)
    assert spec.default_gateways == ()


def test_a_delegate_that_addresses_itself_gets_no_default_route_unasked() -> None:
    networks = (net(backend="flannel", gateway=R1.gateway),)
    (spec,) = solve(ask(A), networks=networks, conf_names={"a"})
    assert spec.default_gateways == ()


# Default routes in the words of the Network Plumbing Working Group


def via(*gateways: str) -> PluginAsk:
    """The entry's ``default-route``."""
    return PluginAsk(gateways=tuple(map(ip_address, gateways)))


def test_named_gateways_lead_over_the_interface_that_names_them_and_over_no_other() -> None:
    first_gateway = ip_address("10.0.0.1")
    networks = (
        net(A, gateway=first_gateway, routes=(DEFAULT,)),
        net(B, v4="10.2.0.0/24"),
    )
    first, second = solve(
        ask(A, DYNAMIC), ask(B, DYNAMIC, plugin=via("10.2.0.9")), networks=networks
    )
    assert (first.default_gateways, first.routes) == ((), ())
    assert texts(second.default_gateways) == ["10.2.0.9"]
    assert not second.takes_default, "nobody else sets routes here: no need to look"


def test_the_other_family_stays_where_it_is() -> None:
    six = route("::/0", "fd00::1")
    networks = (net(A, routes=(DEFAULT,), routes6=(six,)), net(B, v4="10.2.0.0/24"))
    asks = (ask(A, DYNAMIC, ip6=DYNAMIC), ask(B, DYNAMIC, plugin=via("10.2.0.9")))
    assert solve(*asks, networks=networks)[0].routes == (six,)


def test_an_empty_list_means_the_gateways_of_the_network() -> None:
    networks = (net(A), net(B, v4="10.2.0.0/24", gateway=ip_address("10.2.0.1")))
    asks = (ask(A, DYNAMIC), ask(B, DYNAMIC, plugin=via()))
    assert texts(solve(*asks, networks=networks)[1].default_gateways) == ["10.2.0.1"]
    said = refusal(ask(A, DYNAMIC, plugin=via()), networks=networks)
    assert "there is no gateway" in said


def test_a_delegate_that_has_an_ipam_of_its_own_keeps_its_route_when_the_list_is_empty() -> None:
    delegate = network(B, backend="flannel")
    asks = (ask(A, DYNAMIC), ask(B, DYNAMIC, plugin=via()))
    specs = solve(*asks, networks=(net(A), delegate), conf_names=["b"])
    assert specs[1].takes_default
    assert specs[1].default_gateways == ()


def test_beside_a_delegate_the_default_routes_are_settled_when_all_is_made() -> None:
    delegate = network(B, backend="flannel")
    networks = (net(A, routes=(DEFAULT, R1)), delegate)
    asks = (ask(B, DYNAMIC), ask(A, DYNAMIC, plugin=via("10.0.0.1")))
    _, spec = solve(*asks, networks=networks, conf_names=["b"])
    assert spec.takes_default
    assert spec.routes == (R1,), (
        "the default one would be refused by the kernel if there is another"
    )
    assert texts(spec.default_gateways) == ["10.0.0.1"]


def test_where_another_plugin_made_the_first_interface_nothing_leads_unasked() -> None:
    networks = (net(A, gateway=ip_address("10.0.0.1")),)
    (spec,) = solve(ask(A, DYNAMIC), networks=networks, has_primary=False)
    assert (spec.default_gateways, spec.takes_default) == ((), False)
    asked = ask(A, DYNAMIC, default_route=True)
    (spec,) = solve(asked, networks=networks, has_primary=False)
    assert texts(spec.default_gateways) == ["10.0.0.1"]
    assert spec.takes_default


def test_gateways_out_of_reach_are_refused_with_the_reason() -> None:
    networks = (net(A, v6=""),)
    said = refusal(ask(A, DYNAMIC, plugin=via("10.9.0.1")), networks=networks)
    assert "the gateway 10.9.0.1 of its default-route" in said
    assert "not in 10.0.0.0/24" in said
    said = refusal(ask(A, DYNAMIC, plugin=via("fd00::1")), networks=networks)
    assert "no IPv6 address" in said


def test_several_gateways_of_a_family_need_the_strict_reading() -> None:
    asks = (ask(A, DYNAMIC, plugin=via("10.0.0.1", "10.0.0.2", "10.0.0.1")),)
    (spec,) = solve(*asks, networks=(net(A),))
    assert texts(spec.default_gateways) == ["10.0.0.1", "10.0.0.2"]
    assert [made.metric for made in default_routes(spec.default_gateways)] == [0, 1]
    assert "npwg.strict" in refusal(*asks, networks=(net(A),), strict=False)
    one_each = (ask(A, DYNAMIC, ip6=DYNAMIC, plugin=via("10.0.0.1", "fd00::1")),)
    assert solve(*one_each, networks=(net(A),), strict=False)


def test_two_interfaces_that_both_name_gateways_are_a_conflict() -> None:
    asks = (ask(A, DYNAMIC, plugin=via("10.0.0.1")), ask(B, DYNAMIC, plugin=via("10.0.0.1")))
    with pytest.raises(ConflictError, match="interfaces 0 and 1 both ask default-route"):
        solve(*asks, networks=(net(A), net(B)))
