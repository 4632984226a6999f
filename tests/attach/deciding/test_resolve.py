"""Which interfaces a pod gets, and what refuses it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.dialects.reading import default_ask
from danmpy.api.specs import (
    AddressAsk,
    AddressMode,
    InterfaceAsk,
    NetworkSpec,
    SegmentKey,
    SegmentKind,
)
from danmpy.attach.deciding.resolve import ResolveContext, derived_mac, examine, resolve
from danmpy.attach.values import Backend, InterfaceSpec
from danmpy.errors import ConflictError, DanmpyError, IntentError, NotReadyError
from support.specs import (
    DYNAMIC,
    NONE,
    ask,
    cluster_key,
    danm_key,
    network,
    pod,
    static,
    tenant_key,
)

MGMT = tenant_key("mgmt")
DATA = tenant_key("data")
EXT = cluster_key("ext")
CONTEXT = ResolveContext(container_id="c0ffee", conf_dir="/etc/cni/net.d")
NETWORKS = (
    network(MGMT, v4="10.0.0.0/24", vni=700),
    network(DATA, v4="10.1.0.0/24", v6="fd00:1::/64", vni=701, container_prefix="data"),
    network(EXT, backend="ipvlan"),
)


def solve(
    *asks: InterfaceAsk,
    networks: Iterable[NetworkSpec] = NETWORKS,
    namespace: str = "blue",
    **context: Any,
) -> tuple[InterfaceSpec, ...]:
    known = {spec.key: spec for spec in networks}
    wanted = asks or (default_ask(namespace),)
    return resolve(pod(namespace), wanted, known, replace(CONTEXT, **context))


def refusal(*asks: InterfaceAsk, **more: Any) -> str:
    with pytest.raises(IntentError) as caught:
        solve(*asks, **more)
    assert caught.value.subject == "Pod/blue/web-0"
    assert caught.value.hint
    return str(caught.value)


def test_names_follow_position_and_prefix_and_the_first_is_eth0() -> None:
    specs = solve(ask(DATA, DYNAMIC), ask(DATA, DYNAMIC), ask(MGMT, DYNAMIC))
    assert [spec.name for spec in specs] == ["eth0", "data1", "eth2"]
    assert [spec.index for spec in specs] == [0, 1, 2]


def test_the_legacy_scheme_uses_the_prefix_without_a_number() -> None:
    specs = solve(ask(DATA), ask(DATA), ask(MGMT), naming_scheme="legacy")
    assert [spec.name for spec in specs] == ["eth0", "data", "eth2"]


def test_an_explicit_name_wins_also_for_the_first() -> None:
    specs = solve(ask(DATA, name="uplink"), ask(DATA, name="tap7"))
    assert [spec.name for spec in specs] == ["uplink", "tap7"]


@pytest.mark.parametrize("legacy", ["", "legacy"])
def test_two_interfaces_of_one_name_are_refused(legacy: str) -> None:
    networks = (network(MGMT), network(DATA, container_prefix="data"))
    asks = (ask(MGMT), ask(DATA, name="data2"), ask(DATA, name=None))
    if legacy:
        asks = (ask(MGMT), ask(DATA), ask(DATA))
    said = refusal(*asks, networks=networks, naming_scheme=legacy)
    assert "interfaces 1 and 2 have the same name: data" in said


def test_a_name_may_have_fifteen_bytes_and_not_sixteen() -> None:
    fits = network(DATA, container_prefix="a" * 14)
    assert solve(ask(MGMT), ask(DATA), networks=(*NETWORKS, fits))[1].name == "a" * 14 + "1"
    long = network(DATA, container_prefix="a" * 15)
    assert "longer than 15 bytes" in refusal(ask(MGMT), ask(DATA), networks=(*NETWORKS, long))


def test_the_position_counts_in_the_length_of_the_name() -> None:
    """Position 10 takes two bytes."""
    networks = (network(MGMT), network(DATA, container_prefix="a" * 14))
    asks = [ask(MGMT)] * 10 + [ask(DATA)]
    assert "interface 10" in refusal(*asks, networks=networks)


def test_the_loopback_name_is_refused() -> None:
    assert "lo" in refusal(ask(MGMT), ask(DATA, name="lo"))


# ---- the default network ----


def test_a_pod_without_interfaces_gets_the_default_network_in_danms_order() -> None:
    danm, tenant, cluster = danm_key("default"), tenant_key("default"), cluster_key("default")
    networks = [network(cluster), network(tenant), network(danm)]
    for expected in (danm, tenant, cluster):
        assert solve(networks=networks)[0].network.key == expected
        networks.pop()


def test_the_default_network_of_another_namespace_is_not_used() -> None:
    said = refusal(networks=(network(tenant_key("default", "red")),))
    assert "TenantNetwork/blue/default" in said
    assert "ClusterNetwork/default" in said


@pytest.mark.parametrize(
    ("v4", "v6", "ip", "ip6"),
    [
        ("10.0.0.0/24", "", "dynamic", "absent"),
        ("", "fd00::/64", "absent", "dynamic"),
        ("10.0.0.0/24", "fd00::/64", "dynamic", "dynamic"),
        ("", "", "absent", "absent"),
    ],
)
def test_the_default_network_gives_all_that_it_has(v4: str, v6: str, ip: str, ip6: str) -> None:
    (spec,) = solve(networks=(network(cluster_key("default"), v4=v4, v6=v6),))
    assert (spec.ip.mode, spec.ip6.mode) == (ip, ip6)
    assert spec.name == "eth0"


def test_a_rejected_default_network_refuses_and_is_not_passed_over() -> None:
    said = refusal(
        networks=(network(cluster_key("default")),),
        rejected={tenant_key("default"): "vlan 5000 is out of range"},
    )
    assert "vlan 5000 is out of range" in said


def test_a_pod_that_asks_for_any_interface_does_not_get_the_default_one() -> None:
    networks = (*NETWORKS, network(cluster_key("default")))
    assert [spec.network.key for spec in solve(ask(MGMT), networks=networks)] == [MGMT]


# ---- which network ----


def test_an_unknown_network_is_named_with_the_nearest_known() -> None:
    said = refusal(ask(tenant_key("mgnt")))
    assert "interface 0 on TenantNetwork/blue/mgnt" in said
    assert "did you mean mgmt?" in said


def test_a_network_of_another_kind_is_pointed_at() -> None:
    said = refusal(ask(tenant_key("ext")))
    assert "ClusterNetwork/ext exists: refer to it with clusterNetwork" in said


def test_networks_of_other_tenants_are_never_told() -> None:
    secret = network(tenant_key("secrets", "red"))
    said = refusal(ask(tenant_key("secret")), networks=(secret,))
    assert "secrets" not in said
    assert "red" not in said


def test_a_rejected_network_says_why() -> None:
    assert "cidr: no subnet" in refusal(ask(MGMT), networks=(), rejected={MGMT: "cidr: no subnet"})


def test_allowed_tenants_are_the_only_ones_when_given() -> None:
    for_red = network(EXT, allowed_tenants=frozenset({"red"}))
    assert "AllowedTenants" in refusal(ask(EXT), networks=(for_red,))
    assert solve(ask(EXT), networks=(for_red,), namespace="red")
    assert solve(ask(EXT), networks=(network(EXT, allowed_tenants=None),))


def test_a_network_that_is_being_deleted_takes_no_new_pods() -> None:
    going = network(EXT, terminating=True)
    assert "being deleted" in refusal(ask(EXT), networks=(going,))
    default = network(cluster_key("default"), terminating=True)
    assert "being deleted" in refusal(networks=(default,))


def test_allowed_tenants_hold_for_the_default_network_too() -> None:
    default = network(cluster_key("default"), allowed_tenants=frozenset({"red"}))
    assert "AllowedTenants" in refusal(networks=(default,))


# ---- who makes it ----


@pytest.mark.parametrize(
    ("kind", "conf_names", "expected"),
    [
        ("ipvlan", {"mgmt"}, Backend.IPVLAN),
        ("macvlan", {"mgmt"}, Backend.MACVLAN),
        ("bridge", set(), Backend.BRIDGE),
        ("bridge", {"mgmt"}, Backend.DELEGATE),
        ("flannel", {"mgmt"}, Backend.DELEGATE),
    ],
)
def test_the_backend_follows_type_and_files(
    kind: str, conf_names: set[str], expected: Backend
) -> None:
    (spec,) = solve(
        ask(MGMT),
        networks=(network(MGMT, backend=kind),),
        conf_names=frozenset(conf_names),
    )
    assert spec.backend is expected
    assert spec.delegate_conf == ("mgmt" if expected is Backend.DELEGATE else "")


def test_a_delegate_without_its_file_names_the_file() -> None:
    said = refusal(ask(MGMT), networks=(network(MGMT, backend="flannel"),))
    assert "/etc/cni/net.d" in said
    assert "mgmt.conf" in said


def test_a_virtual_function_is_a_delegates_and_its_addresses_are_ours() -> None:
    sriov = network(MGMT, v4="10.0.0.0/24", backend="sriov", host_device="", device_pool="a.com/vf")
    (spec,) = solve(ask(MGMT, DYNAMIC), networks=(sriov,))
    assert spec.backend is Backend.DELEGATE
    assert spec.is_leased
    assert json.loads(spec.network.conf)["plugins"][0]["type"] == "sriov"
    (bare,) = solve(ask(MGMT), networks=(sriov,))
    assert bare.owns_addresses  # nobody else gives it any
    assert not bare.ipv6
    flat = replace(sriov, v4=None)
    assert "no IPv4 subnet" in refusal(ask(MGMT, DYNAMIC), networks=(flat,))


def test_an_own_backend_on_a_pool_waits_for_the_device_and_takes_no_segment() -> None:
    pooled = network(MGMT, host_device="", device_pool="a.com/vf")
    (spec,) = solve(ask(MGMT), networks=(pooled,))
    assert spec.backend is Backend.MACVLAN
    vlan = SegmentKey(parent="a.com/vf", kind=SegmentKind.VLAN, id=7)
    said = refusal(ask(MGMT), networks=(replace(pooled, segment=vlan),))
    assert "no certain NIC" in said
    vxlan = replace(pooled, backend="sriov", segment=replace(vlan, kind=SegmentKind.VXLAN))
    assert "no VXLAN" in refusal(ask(MGMT), networks=(vxlan,))


def test_who_asks_for_a_device_is_refused_where_there_is_none_to_give() -> None:
    pooled = network(EXT, backend="sriov", device_pool="vendor.com/vf")
    wanted = replace(ask(EXT), needs_device=True)
    assert solve(wanted, networks=[pooled])[0].backend is Backend.DELEGATE
    said = refusal(replace(ask(MGMT, DYNAMIC), needs_device=True))
    assert "it asks for a device (nic_type direct or physical, or accelerate)" in said


def test_a_tenant_network_without_device_is_not_ready_and_others_are_wrong() -> None:
    with pytest.raises(NotReadyError, match="no host device yet"):
        solve(ask(MGMT), networks=(network(MGMT, host_device=""),))
    assert "host_device" in refusal(ask(EXT), networks=(network(EXT, host_device=""),))


def test_a_bridge_needs_no_device() -> None:
    (spec,) = solve(ask(MGMT), networks=(network(MGMT, backend="bridge", host_device=""),))
    assert spec.backend is Backend.BRIDGE


# ---- addresses ----


def test_ipv6_asked_on_a_v4_only_network_is_refused() -> None:
    said = refusal(ask(MGMT, DYNAMIC, ip6=DYNAMIC))
    assert "ip6 asks an IPv6 address and the network has no IPv6 subnet" in said
    assert "net6" in said


def test_ipv4_asked_on_an_l2_network_is_refused() -> None:
    assert "cidr" in refusal(ask(EXT, DYNAMIC))


@pytest.mark.parametrize("address", ["10.0.1.5", "fd00::5"])
def test_a_static_address_outside_the_subnet_is_refused(address: str) -> None:
    assert "10.0.0.0/24" in refusal(ask(MGMT, static(address)))


@pytest.mark.parametrize("address", ["10.0.0.0", "10.0.0.255"])
def test_a_reserved_address_is_refused(address: str) -> None:
    assert "reserved" in refusal(ask(MGMT, static(address)))


def test_an_excluded_address_is_refused() -> None:
    spec = network(MGMT, v4="10.0.0.0/24")
    assert spec.v4
    number = int(ip_address("10.0.0.9"))
    excluding = replace(spec, v4=replace(spec.v4, excluded=((number, number),)))
    assert "excluded" in refusal(ask(MGMT, static("10.0.0.9")), networks=(excluding,))


def test_a_static_address_outside_the_pool_is_accepted() -> None:
    spec = network(MGMT, v4="10.0.0.0/24")
    assert spec.v4
    small = replace(spec, v4=replace(spec.v4, last=spec.v4.first))
    (made,) = solve(ask(MGMT, static("10.0.0.200")), networks=(small,))
    assert made.ip == static("10.0.0.200")


def test_one_static_address_twice_in_a_pod_is_refused() -> None:
    both = (ask(MGMT, static("10.0.0.5")), ask(MGMT, static("10.0.0.5")))
    assert "10.0.0.5" in refusal(*both)


def test_the_same_address_on_two_wires_is_no_conflict() -> None:
    other = network(DATA, v4="10.0.0.0/24", vni=999)
    asks = (ask(MGMT, static("10.0.0.5")), ask(DATA, static("10.0.0.5")))
    assert len(solve(*asks, networks=(NETWORKS[0], other))) == 2


@pytest.mark.parametrize(("ip6", "enabled"), [(AddressAsk(), False), (NONE, True), (DYNAMIC, True)])
def test_ipv6_stays_enabled_only_where_it_was_asked(ip6: AddressAsk, enabled: bool) -> None:
    (spec,) = solve(ask(DATA, DYNAMIC, ip6=ip6))
    assert spec.ipv6 is enabled


# ---- delegates' addresses (DANM 3.3) ----


def delegated(*asks: InterfaceAsk, **fields: Any) -> tuple[InterfaceSpec, ...]:
    spec = network(MGMT, backend="flannel", host_device="", **fields)
    return solve(*asks, networks=(spec,), conf_names=frozenset({"mgmt"}))


def test_a_delegate_keeps_its_ipam_when_nothing_is_asked() -> None:
    (spec,) = delegated(ask(MGMT), v4="10.0.0.0/24")
    assert not spec.owns_addresses
    assert spec.ipv6
    assert spec.mac is None


def test_one_family_asked_on_a_subnet_makes_the_addresses_ours() -> None:
    (spec,) = delegated(ask(MGMT, DYNAMIC), v4="10.0.0.0/24", v6="fd00::/64")
    assert spec.owns_addresses
    assert spec.ip6.mode is AddressMode.ABSENT
    assert not spec.ipv6


def test_dynamic_on_a_delegate_without_subnet_is_the_delegates_matter() -> None:
    (spec,) = delegated(ask(MGMT, DYNAMIC, ip6=DYNAMIC))
    assert not spec.owns_addresses
    assert spec.ip.mode is AddressMode.ABSENT


def test_none_on_a_delegate_leaves_its_ipam() -> None:
    (spec,) = delegated(ask(MGMT, NONE), v4="10.0.0.0/24")
    assert not spec.owns_addresses


def test_a_literal_address_that_nobody_would_honour_is_refused() -> None:
    spec = network(MGMT, backend="flannel")
    asked = ask(MGMT, static("10.0.0.5"))
    assert "no IPv4 subnet" in refusal(asked, networks=(spec,), conf_names=frozenset({"mgmt"}))


# ---- MAC ----


def test_a_mac_is_derived_from_sandbox_and_name_and_stays() -> None:
    first, second = solve(ask(MGMT), ask(MGMT))
    assert first.mac == derived_mac("c0ffee", "eth0") == solve(ask(MGMT))[0].mac
    assert first.mac != second.mac
    assert first.mac != solve(ask(MGMT), container_id="other")[0].mac


@given(st.text(), st.text())
def test_a_derived_mac_is_unicast_and_locally_administered(container_id: str, name: str) -> None:
    octets = [int(part, 16) for part in derived_mac(container_id, name).split(":")]
    assert len(octets) == 6
    assert octets[0] & 0b11 == 0b10


def test_a_requested_mac_is_kept_but_not_on_ipvlan() -> None:
    mac = "02:00:00:00:00:07"
    assert solve(ask(MGMT, mac=mac))[0].mac == mac
    assert solve(ask(EXT))[0].mac is None
    assert "ipvlan shares" in refusal(ask(EXT, mac=mac))


def test_one_mac_twice_on_a_wire_is_refused() -> None:
    mac = "02:00:00:00:00:07"
    assert mac in refusal(ask(MGMT, mac=mac), ask(MGMT, mac=mac))
    assert len(solve(ask(MGMT, mac=mac), ask(DATA, mac=mac))) == 2


def test_the_mtu_of_the_network_is_handed_on() -> None:
    assert solve(ask(MGMT))[0].mtu is None
    assert solve(ask(MGMT), networks=(network(MGMT, mtu=1400),))[0].mtu == 1400


def test_a_conflict_is_its_own_kind_of_error() -> None:
    with pytest.raises(ConflictError):
        solve(ask(MGMT, name="a"), ask(MGMT, name="a"))


def test_each_entry_can_be_examined_by_itself_so_that_every_problem_is_told() -> None:
    known = {spec.key: spec for spec in NETWORKS}
    asks = (ask(tenant_key("nope")), ask(DATA, DYNAMIC), ask(MGMT, ip6=DYNAMIC))
    first, second, third = examine(pod(), asks, known, CONTEXT)
    assert isinstance(first, DanmpyError)
    assert str(first) == refusal(*asks), "what resolve stops at is among them"
    assert isinstance(second, InterfaceSpec)
    assert (second.index, second.name) == (1, "data1")
    assert isinstance(third, IntentError)
    assert "interface 2 on TenantNetwork/blue/mgmt" in str(third)


def test_a_pod_has_no_more_interfaces_than_its_namespace_allows() -> None:
    asks = (ask(MGMT, DYNAMIC), ask(DATA, DYNAMIC), ask(DATA, DYNAMIC))
    assert len(solve(*asks, interface_limit=3)) == 3

    words = refusal(*asks, interface_limit=2)

    assert "interface 2 on TenantNetwork/blue/data: a pod of namespace blue may have 2" in words
    known = {spec.key: spec for spec in NETWORKS}
    found = examine(pod(), asks, known, replace(CONTEXT, interface_limit=2))
    assert [isinstance(each, IntentError) for each in found] == [False, False, True]
