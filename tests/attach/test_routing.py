"""Routes, policy routes and the default route, decided over all interfaces of a pod."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from danmpy.api.specs import InterfaceAsk, NetworkSpec
from danmpy.attach.resolve import ResolveContext, resolve
from danmpy.attach.values import InterfaceSpec
from danmpy.errors import IntentError
from support.specs import DYNAMIC, ask, network, pod, route, tenant_key

A, B = tenant_key("a"), tenant_key("b")
R1 = route("172.16.0.0/16", "10.0.0.1")
R6 = route("fd99::/48", "fd00::1")
DUAL = {"v4": "10.0.0.0/24", "v6": "fd00::/64"}


def net(key: Any = A, **more: Any) -> NetworkSpec:
    return network(key, **{**DUAL, **more})


def solve(
    *asks: InterfaceAsk, networks: Iterable[NetworkSpec], conf_names: Iterable[str] = ()
) -> tuple[InterfaceSpec, ...]:
    context = ResolveContext(container_id="c", conf_names=frozenset(conf_names))
    return resolve(pod(), asks, {spec.key: spec for spec in networks}, context)


def refusal(*asks: InterfaceAsk, networks: Iterable[NetworkSpec]) -> str:
    with pytest.raises(IntentError) as caught:
        solve(*asks, networks=networks)
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
