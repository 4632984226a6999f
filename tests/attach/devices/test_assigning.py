"""Which device each interface of a pod gets."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.specs import NetworkSpec, SegmentKey, SegmentKind
from danmpy.attach.devices.assigning import (
    HeldDevice,
    Offer,
    device_problem,
    resource_of,
    wanted_devices,
    with_devices,
    with_sriov_conf,
)
from danmpy.attach.values import Backend, InterfaceSpec
from danmpy.errors import IntentError, NotReadyError
from support.specs import NONE, network, tenant_key

VF, NIC = "vendor/vf", "vendor/nic"
POD = "Pod/blue/web"


def on(resource: str, at: int = 0) -> InterfaceSpec:
    """An interface called net<at> on a network with that resource."""
    spec = replace(network(tenant_key(f"n{at}")), resource=resource)
    return InterfaceSpec(
        index=at,
        name=f"net{at}",
        network=spec,
        backend=Backend.DELEGATE,
        ip=NONE,
        ip6=NONE,
        mac=None,
        owns_addresses=False,
        ipv6=True,
        mtu=None,
    )


def interfaces(*resources: str) -> tuple[InterfaceSpec, ...]:
    return tuple(on(resource, at) for at, resource in enumerate(resources))


def ids(specs: tuple[InterfaceSpec, ...]) -> list[str]:
    return [spec.device_id for spec in specs]


def held(name: str, device: str, resource: str = VF) -> HeldDevice:
    return HeldDevice(interface=name, resource=resource, device_id=device)


def test_interfaces_get_devices_in_order_the_lowest_id_first_each_of_its_own_resource() -> None:
    specs = interfaces(VF, "", NIC, VF)
    offered = {VF: ("0000:3b:02.2", "0000:3b:02.1"), NIC: ("a",), "vendor/gpu": ("g",)}
    given = with_devices(specs, Offer(ids=offered), subject=POD)
    assert ids(given) == ["0000:3b:02.1", "", "a", "0000:3b:02.2"]
    assert [replace(spec, device_id="") for spec in given] == list(specs)
    assert wanted_devices(specs) == {VF: 2, NIC: 1}


def test_a_pod_without_such_networks_is_asked_for_no_devices() -> None:
    specs = interfaces("", "")
    assert with_devices(specs, None, subject=POD) == specs
    assert wanted_devices(specs) == {}


def test_too_few_devices_are_refused_with_the_resource_what_is_asked_and_what_there_is() -> None:
    offered = {VF: ("a", "b", "a")}  # a source may say a device twice: it is still one
    with pytest.raises(IntentError) as caught:
        with_devices(interfaces(VF, VF, VF), Offer(ids=offered), subject=POD)
    assert "interface 2 on TenantNetwork/blue/n2" in caught.value.message
    assert f"no device of {VF}" in caught.value.message
    assert "need 3" in caught.value.message
    assert "given 2" in caught.value.message
    assert VF in caught.value.hint
    assert caught.value.subject == POD
    with pytest.raises(IntentError, match="given 0"):
        with_devices(interfaces(NIC), Offer(ids=offered), subject=POD)


def test_a_pod_that_nobody_knows_yet_has_to_wait() -> None:
    with pytest.raises(NotReadyError, match="does not know this pod"):
        with_devices(interfaces(VF), None, subject=POD)


def test_an_interface_that_stands_keeps_its_device() -> None:
    offered = {VF: ("a", "b", "c")}
    again = with_devices(interfaces(VF, VF), Offer(ids=offered), [held("net0", "c")], subject=POD)
    assert ids(again) == ["c", "a"]


def test_an_interface_that_comes_later_gets_none_of_those_that_are_in_use() -> None:
    offered = {VF: ("a", "b"), NIC: ("a",)}
    stands = [held("eth7", "a"), held("eth8", "a", NIC)]
    assert ids(with_devices(interfaces(VF), Offer(ids=offered), stands, subject=POD)) == ["b"]
    with pytest.raises(IntentError):
        with_devices(interfaces(NIC), Offer(ids=offered), stands, subject=POD)


def test_a_device_that_the_pod_no_longer_has_is_not_kept() -> None:
    assert ids(
        with_devices(interfaces(VF), Offer(ids={VF: ("a",)}), [held("net0", "z")], subject=POD)
    ) == ["a"]


@given(
    resources=st.lists(st.sampled_from([VF, NIC, ""]), max_size=6),
    offered=st.dictionaries(
        st.sampled_from([VF, NIC]), st.lists(st.sampled_from("abcdef"), max_size=6)
    ),
    stands=st.dictionaries(
        st.sampled_from(["net0", "net1", "net9"]), st.sampled_from("abcdef"), max_size=3
    ),
)
def test_no_device_is_ever_given_twice_and_none_that_was_not_offered(
    resources: list[str], offered: dict[str, list[str]], stands: dict[str, str]
) -> None:
    specs = interfaces(*resources)
    devices = list(stands.values())
    has = [held(name, device) for name, device in stands.items() if devices.count(device) == 1]
    try:
        given = with_devices(specs, Offer(ids=offered), has, subject=POD)
    except IntentError:
        return
    pairs = [(resource_of(spec.network), spec.device_id) for spec in given if spec.device_id]
    assert len(set(pairs)) == len(pairs)
    assert all(device in offered[resource] for resource, device in pairs)
    assert [bool(spec.device_id) for spec in given] == [bool(each) for each in resources]
    elsewhere = {(VF, each.device_id) for each in has if each.interface == "net9"}
    assert not elsewhere & set(pairs)
    assert with_devices(given, Offer(ids=offered), has, subject=POD) == given


def pooled(kind: SegmentKind | None = None, number: int = 700, **more: str) -> NetworkSpec:
    segment = SegmentKey(parent=VF, kind=kind, id=number) if kind else None
    made = network(tenant_key("ext"), network_id="ext", **more)
    return replace(made, device_pool=VF, segment=segment, host_device="")


def test_the_pool_of_a_network_is_its_resource() -> None:
    assert resource_of(pooled()) == VF
    assert resource_of(replace(pooled(), device_pool="", resource=NIC)) == NIC
    assert resource_of(network(tenant_key("ext"))) == ""


@pytest.mark.parametrize(
    ("kind", "backend", "words"),
    [
        (SegmentKind.VLAN, Backend.MACVLAN, "belongs to no certain NIC"),
        (SegmentKind.VXLAN, Backend.IPVLAN, "belongs to no certain NIC"),
        (SegmentKind.VXLAN, Backend.DELEGATE, "no VXLAN"),
    ],
)
def test_a_segment_that_no_device_of_a_pool_can_carry_is_a_problem(
    kind: SegmentKind, backend: Backend, words: str
) -> None:
    problem = device_problem(pooled(kind), backend)
    assert problem is not None
    assert words in problem[0]


def test_a_vlan_on_a_virtual_function_is_none_nor_is_a_pool_without_a_segment() -> None:
    assert device_problem(pooled(SegmentKind.VLAN), Backend.DELEGATE) is None
    assert device_problem(pooled(), Backend.MACVLAN) is None
    elsewhere = replace(pooled(SegmentKind.VXLAN), device_pool="", host_device="ens4")
    assert device_problem(elsewhere, Backend.MACVLAN) is None


def test_the_configuration_of_sriov_has_the_name_and_the_vlan_of_the_network() -> None:
    conf = json.loads(with_sriov_conf(pooled(SegmentKind.VLAN)).conf)
    assert conf["name"] == "ext"
    (plugin,) = conf["plugins"]
    assert (plugin["type"], plugin["vlan"]) == ("sriov", 700)
    assert plugin["capabilities"] == {"mac": True}
    (plain,) = json.loads(with_sriov_conf(pooled()).conf)["plugins"]
    assert "vlan" not in plain
    assert json.loads(with_sriov_conf(replace(pooled(), network_id="")).conf)["name"] == "ext"
