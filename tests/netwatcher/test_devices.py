"""Which devices networks want, and why some do not get theirs."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import pytest

from danmpy.api.specs import Condition, NetworkKey, NetworkSpec, SegmentKey
from danmpy.kernel.hostlinks import OWN_GROUP, VxlanAttributes
from danmpy.netwatcher.devices import desired_devices, uses_own_bridge, wire_of
from danmpy.netwatcher.marks import bridge_name, device_name
from danmpy.netwatcher.values import (
    DEVICE_READY,
    PEERS_KNOWN,
    Desired,
    DeviceKind,
    DeviceSpec,
    Flooding,
    Reason,
    WatchContext,
)
from support.fakehost import FakeHost
from support.nads import nad_key
from support.specs import cluster_key, danm_key, network, tenant_key
from support.watching import Want, node, on, vlan, vxlan

BLUE, RED, SHARED = tenant_key("blue"), tenant_key("red", "red"), cluster_key("shared")
S700 = vxlan("ens4", 700)
STRANGER = VxlanAttributes(vni=700, port=4789, local=ip_address("192.0.2.1"))


def host(**nic: Any) -> FakeHost:
    fake = FakeHost()
    fake.put("ens4", **({"addresses": ("192.0.2.1/24", "2001:db8::1/64"), "up": True} | nic))
    return fake


def desired(*networks: NetworkSpec, fake: FakeHost | None = None, **context: Any) -> Desired:
    return Want(*networks, **context).desired((fake or host()).read())


def only(found: Desired) -> DeviceSpec:
    (device,) = found.devices
    return device


def reasons(found: Desired) -> dict[NetworkKey, list[str]]:
    return {key: [c.reason for c in conditions] for key, conditions in found.conditions.items()}


def condition(found: Desired, key: NetworkKey) -> Condition:
    (condition,) = found.conditions[key]
    return condition


# Segments.


def test_a_vxlan_network_wants_a_device_called_after_its_vni() -> None:
    device = only(desired(on(S700, BLUE, network_id="internal")))
    assert (device.name, device.kind, device.parent) == ("vx700", DeviceKind.VXLAN, "ens4")
    assert device.vxlan == VxlanAttributes(
        vni=700, port=4789, local=ip_address("192.0.2.1"), group=None, learning=True
    )
    assert (device.mark, device.mtu) == ("danmpy vxlan:ens4:700", 1450)
    assert device.altnames == {"vx_internal"}


@pytest.mark.parametrize(
    "wanted",
    [
        on(S700, BLUE),
        on(vlan("ens4", 7), BLUE),
        on(S700, BLUE, backend="bridge"),
        on(S700, BLUE, backend="flannel"),
        on(S700, BLUE, backend="sriov", device_pool="vendor/pool"),
        network(BLUE),
        network(BLUE, backend="bridge"),
        network(BLUE, backend="flannel"),
    ],
)
def test_a_device_has_the_name_that_people_are_told(wanted: NetworkSpec) -> None:
    assert desired(wanted).device_of == {BLUE: device_name(wanted)}


def test_a_vlan_network_wants_a_device_called_after_parent_and_id() -> None:
    device = only(desired(on(vlan("ens4", 7), BLUE, network_id="ext")))
    assert (device.name, device.kind, device.vlan_id) == ("ens4.7", DeviceKind.VLAN, 7)
    assert (device.mtu, device.vxlan, device.altnames) == (1500, None, {"ext.7"})


def test_networks_on_one_segment_share_one_device() -> None:
    found = desired(on(S700, BLUE), on(S700, SHARED))
    assert only(found).networks == (SHARED, BLUE)
    assert found.device_of == {BLUE: "vx700", SHARED: "vx700"}
    assert found.parents == {"ens4": (SHARED, BLUE)}


def test_a_missing_parent_concerns_only_the_networks_on_it() -> None:
    found = desired(on(vxlan("gone0", 1), BLUE), on(S700, RED))
    assert reasons(found) == {BLUE: [Reason.MISSING_PARENT]}
    assert "gone0" in condition(found, BLUE).message
    assert found.device_of == {RED: "vx700"}
    assert "danmpy vxlan:gone0:1" in found.marks


def test_a_parent_may_be_named_by_an_alternative_name() -> None:
    fake = host(altnames=frozenset({"enp0s4"}))
    device = only(desired(on(vlan("enp0s4", 7), BLUE), fake=fake))
    assert (device.parent, device.name) == ("ens4", "enp0s4.7")


def test_two_names_of_one_parent_do_not_make_two_tenants_meet() -> None:
    fake = host(altnames=frozenset({"enp0s4"}))
    found = desired(on(vlan("ens4", 7), BLUE), on(vlan("enp0s4", 7), RED), fake=fake)
    assert reasons(found) == {BLUE: [Reason.VLAN_TAKEN]}
    assert found.device_of == {RED: "enp0s4.7"}


def test_who_names_the_parent_otherwise_takes_no_device_that_stands() -> None:
    fake = host(altnames=frozenset({"enp0s4"}))
    blue = on(vlan("ens4", 7), BLUE)
    Want(blue).settle(fake)
    found = desired(blue, on(vlan("enp0s4", 7), nad_key("n")), fake=fake)
    assert reasons(found) == {nad_key("n"): [Reason.VLAN_TAKEN]}
    assert found.device_of == {BLUE: "ens4.7"}


@pytest.mark.parametrize("segment", [vlan("vx700", 9), vxlan("vx700", 9)])
def test_a_nad_does_not_stand_on_the_device_of_another_network(segment: SegmentKey) -> None:
    fake = host()
    blue = on(S700, BLUE)
    Want(blue).settle(fake)
    nad = on(segment, nad_key("n"))
    found = desired(blue, nad, fake=fake)
    assert [device.name for device in found.devices] == ["vx700"]
    assert found.device_of == {BLUE: "vx700"}
    assert "vx700 is the device of another network" in condition(found, nad.key).message
    admin = on(vlan("vx700", 9), SHARED)
    shared = desired(blue, on(vlan("vx700", 9), nad.key), admin, fake=fake)
    assert shared.device_of == {BLUE: "vx700", SHARED: "vx700.9"}


def test_a_network_on_a_device_pool_needs_no_device() -> None:
    found = desired(
        network(BLUE, backend="sriov", host_device="", device_pool="nokia.k8s.io/sriov"),
        on(vlan("ens4", 9), RED, backend="sriov"),
    )
    assert (found.devices, found.device_of) == ((), {BLUE: "", RED: ""})


def test_a_delegate_with_a_segment_has_its_device_made() -> None:
    found = desired(on(vlan("ens4", 9), BLUE, backend="flannel"))
    assert only(found).name == "ens4.9"
    assert found.device_of == {BLUE: "ens4.9"}


def test_a_delegate_without_a_segment_needs_nothing() -> None:
    found = desired(network(BLUE, backend="flannel", host_device=""))
    assert (found.devices, found.device_of, found.conditions) == ((), {BLUE: ""}, {})


# NICs without a segment.


def test_without_a_segment_the_nic_itself_is_the_device() -> None:
    found = desired(network(BLUE), network(RED))
    assert found.devices == ()
    assert found.device_of == {BLUE: "ens4", RED: "ens4"}
    assert found.parents == {"ens4": (BLUE, RED)}


def test_a_dynamic_backend_without_a_device_is_told_what_is_missing() -> None:
    found = desired(network(BLUE, host_device=""))
    assert reasons(found) == {BLUE: [Reason.NO_HOST_DEVICE]}
    assert found.device_of == {}


def test_a_nic_that_is_not_there_is_told() -> None:
    assert reasons(desired(network(BLUE, host_device="gone0"))) == {BLUE: [Reason.MISSING_PARENT]}


def test_a_nic_that_is_a_port_cannot_carry_a_macvlan_but_a_segment() -> None:
    fake = host()
    fake.alter("ens4", master=fake.put("br0", kind="bridge").index)
    found = desired(network(BLUE), on(vlan("ens4", 7), RED), fake=fake)
    assert reasons(found) == {BLUE: [Reason.BACKEND_CONFLICT]}
    assert "br0" in condition(found, BLUE).message
    assert found.device_of == {RED: "ens4.7"}


# Tunnel ends.


def test_a_parent_without_an_address_cannot_carry_a_vxlan_but_a_vlan() -> None:
    found = desired(on(S700, BLUE), on(vlan("ens4", 7), RED), fake=host(addresses=()))
    assert reasons(found) == {BLUE: [Reason.NO_VTEP_ADDRESS]}
    assert found.device_of == {RED: "ens4.7"}


def test_over_ipv6_the_overhead_is_larger() -> None:
    device = only(desired(on(S700, BLUE), fake=host(addresses=("2001:db8::1/64",))))
    assert device.mtu == 1430
    assert device.vxlan is not None
    assert device.vxlan.local == ip_address("2001:db8::1")


def test_unicast_flooding_goes_to_the_other_nodes_and_listed_remotes_and_never_to_itself() -> None:
    device = only(
        desired(
            on(S700, BLUE, vxlan_remotes=(ip_address("198.51.100.7"),)),
            on(S700, SHARED, vxlan_remotes=(ip_address("192.0.2.1"),)),
            nodes=(node("n1", ens4="192.0.2.1"), node("n2", ens4="192.0.2.2")),
        )
    )
    assert device.flooding == {ip_address("198.51.100.7"), ip_address("192.0.2.2")}


def test_a_node_without_a_tunnel_end_is_told_and_keeps_nobody_from_attaching() -> None:
    found = desired(on(S700, BLUE), nodes=(node("n2", ens5="192.0.2.2"), node("n3")))
    told = condition(found, BLUE)
    assert (told.type, told.reason) == (PEERS_KNOWN, Reason.MISSING_VTEP)
    assert "node n2, node n3" in told.message
    assert found.device_of == {BLUE: "vx700"}


def test_multicast_flooding_uses_danms_group() -> None:
    device = only(
        desired(
            on(vxlan("ens4", 5000), BLUE),
            nodes=(node("n2", ens4="192.0.2.2"),),
            flooding=Flooding.MULTICAST,
        )
    )
    assert device.vxlan is not None
    assert device.vxlan.group == ip_address("239.0.19.136")
    assert device.flooding == frozenset()


def test_the_udp_port_is_the_settings() -> None:
    device = only(desired(on(S700, BLUE), port=8472))
    assert device.vxlan is not None
    assert device.vxlan.port == 8472


# MTU.


@pytest.mark.parametrize(
    ("asked", "device_mtu"),
    [((None,), 1450), ((1400,), 1400), ((1300, 1400), 1400), ((1300, None), 1450), ((1450,), 1450)],
)
def test_a_shared_device_carries_the_largest_mtu_that_is_asked(
    asked: tuple[int | None, ...], device_mtu: int
) -> None:
    keys = (BLUE, RED, SHARED)
    networks = [on(S700, key, mtu=mtu) for key, mtu in zip(keys, asked, strict=False)]
    assert only(desired(*networks)).mtu == device_mtu


def test_an_mtu_that_the_parent_cannot_carry_is_refused_to_that_network_alone() -> None:
    found = desired(on(S700, BLUE, mtu=1451), on(S700, RED, mtu=1400))
    assert reasons(found) == {BLUE: [Reason.MTU_TOO_BIG]}
    assert "1450" in condition(found, BLUE).message
    assert only(found).networks == (RED,)
    assert only(found).mtu == 1400


def test_ipv6_needs_a_parent_that_carries_it() -> None:
    found = desired(on(S700, BLUE, v6="fd00::/64"), on(S700, RED), fake=host(mtu=1300))
    assert reasons(found) == {BLUE: [Reason.MTU_TOO_BIG]}
    assert "IPv6" in condition(found, BLUE).message


def test_a_network_straight_on_a_nic_obeys_its_mtu() -> None:
    assert reasons(desired(network(BLUE, mtu=9000))) == {BLUE: [Reason.MTU_TOO_BIG]}


# Bridges.


def test_our_bridge_has_the_segment_as_its_port() -> None:
    found = desired(on(S700, BLUE, backend="bridge", mtu=1400), on(S700, RED, backend="bridge"))
    bridge, device = found.devices
    assert (bridge.kind, bridge.name) == (DeviceKind.BRIDGE, bridge_name(S700))
    assert (bridge.networks, bridge.mtu, device.master) == ((BLUE, RED), 1450, bridge.name)
    assert found.device_of == {BLUE: bridge.name, RED: bridge.name}


def test_a_bridge_network_without_a_segment_has_a_bridge_of_its_own_and_no_nic() -> None:
    found = desired(network(BLUE, backend="bridge"), network(RED, backend="bridge", mtu=9000))
    names = {key: found.device_of[key] for key in (BLUE, RED)}
    assert names == {BLUE: bridge_name(BLUE), RED: bridge_name(RED)}
    assert len(set(names.values())) == 2
    assert [device.mtu for device in found.devices] == [1500, 9000]
    assert found.parents == {}


def test_a_bridge_with_a_delegate_configuration_is_the_delegates() -> None:
    spec = network(BLUE, backend="bridge", network_id="lan", host_device="")
    assert not uses_own_bridge(spec, frozenset({"lan"}))
    found = desired(spec, conf_names=frozenset({"lan"}))
    assert (found.devices, found.device_of) == ((), {BLUE: ""})


def test_a_bridge_that_is_a_strangers_is_left_alone() -> None:
    fake = host()
    fake.put(bridge_name(S700), kind="bridge")
    found = desired(on(S700, BLUE, backend="bridge"), on(S700, RED, backend="flannel"), fake=fake)
    assert reasons(found) == {BLUE: [Reason.NAME_TAKEN]}
    device = only(found)
    assert (device.name, device.master, device.networks) == ("vx700", "", (RED,))
    assert desired(on(S700, BLUE, backend="bridge"), fake=fake).devices == ()


# Backends that cannot share.


def test_of_two_backends_on_one_device_the_first_by_key_is_served() -> None:
    found = desired(on(S700, RED), on(S700, BLUE, backend="ipvlan"))
    assert reasons(found) == {RED: [Reason.BACKEND_CONFLICT]}
    assert found.device_of == {BLUE: "vx700"}
    assert "TenantNetwork/blue/blue" in condition(found, RED).message


def test_who_could_attach_until_now_is_not_pushed_out() -> None:
    found = desired(on(S700, RED), on(S700, BLUE, backend="ipvlan"), standing=frozenset({RED}))
    assert reasons(found) == {BLUE: [Reason.BACKEND_CONFLICT]}


@pytest.mark.parametrize(("first", "second"), [("macvlan", "bridge"), ("bridge", "macvlan")])
def test_the_backend_whose_device_stands_stays_also_after_a_restart(
    first: str, second: str
) -> None:
    fake = host()
    Want(on(S700, RED, backend=first)).settle(fake)
    found = desired(on(S700, BLUE, backend=second), on(S700, RED, backend=first), fake=fake)
    assert reasons(found) == {BLUE: [Reason.BACKEND_CONFLICT]}


def test_a_port_of_a_bridge_that_is_still_half_made_counts_as_one() -> None:
    fake = host()
    Want(on(S700, RED, backend="bridge")).settle(fake)
    fake.alter(bridge_name(S700), alias="")
    found = desired(on(S700, BLUE), on(S700, RED, backend="bridge"), fake=fake)
    assert reasons(found) == {BLUE: [Reason.BACKEND_CONFLICT]}


def test_delegates_share_with_everyone() -> None:
    found = desired(on(S700, BLUE, backend="flannel"), on(S700, RED, backend="ipvlan"))
    assert found.conditions == {}


def test_a_bridge_of_a_delegate_is_the_delegates_own_business() -> None:
    found = desired(
        on(S700, BLUE, backend="bridge", network_id="lan"),
        on(S700, RED),
        conf_names=frozenset({"lan"}),
    )
    assert found.device_of == {BLUE: "vx700", RED: "vx700"}


def test_two_backends_straight_on_one_nic_conflict_too() -> None:
    found = desired(network(BLUE, backend="ipvlan"), network(RED))
    assert reasons(found) == {RED: [Reason.BACKEND_CONFLICT]}


# Strangers.


def test_a_strangers_name_is_left_to_him() -> None:
    fake = host()
    fake.put("vx700", kind="dummy")
    found = desired(on(S700, BLUE), on(vxlan("ens4", 701), RED), fake=fake)
    assert reasons(found) == {BLUE: [Reason.NAME_TAKEN]}
    assert found.device_of == {RED: "vx701"}
    assert "danmpy vxlan:ens4:700" in found.marks


def test_a_strangers_alternative_name_is_a_name() -> None:
    fake = host()
    fake.put("mine", kind="dummy", altnames=frozenset({"vx700"}))
    found = desired(on(S700, BLUE), fake=fake)
    assert reasons(found) == {BLUE: [Reason.NAME_TAKEN]}
    assert "alternative name of mine" in condition(found, BLUE).message


def test_a_strangers_vlan_is_not_adopted() -> None:
    fake = host()
    fake.put("ens4.7", kind="vlan", vlan_id=7, parent=fake.link("ens4").index)
    assert reasons(desired(on(vlan("ens4", 7), BLUE), fake=fake)) == {BLUE: [Reason.VLAN_TAKEN]}


def test_the_same_vlan_id_on_another_parent_is_another_wire() -> None:
    fake = host()
    fake.put("ens5", up=True)
    fake.put("other", kind="vlan", vlan_id=7, parent=fake.link("ens5").index)
    assert desired(on(vlan("ens4", 7), BLUE), fake=fake).device_of == {BLUE: "ens4.7"}


def test_a_strangers_vni_is_taken_whatever_its_parent() -> None:
    fake = host()
    fake.put("flannel.1", kind="vxlan", vxlan=STRANGER)
    found = desired(on(S700, BLUE), fake=fake)
    assert reasons(found) == {BLUE: [Reason.VNI_TAKEN]}
    assert "flannel.1" in condition(found, BLUE).message
    assert desired(on(S700, BLUE), fake=fake, port=8472).conditions == {}


# One VNI on several parents.


def two_nics(second: str) -> FakeHost:
    fake = host(addresses=("192.0.2.1/24",))
    fake.put("ens5", addresses=(second,), up=True)
    return fake


def on_ens4_and_ens5() -> tuple[NetworkSpec, NetworkSpec]:
    return on(S700, RED), on(vxlan("ens5", 700), BLUE)


def test_one_vni_on_two_parents_goes_to_the_first() -> None:
    found = desired(*on_ens4_and_ens5(), fake=two_nics("198.51.100.1/24"))
    assert reasons(found) == {BLUE: [Reason.VNI_TAKEN]}
    assert found.device_of == {RED: "vx700"}
    assert "vxlan:ens4:700" in condition(found, BLUE).message


def test_one_vni_on_two_parents_stays_where_it_stands() -> None:
    fake = two_nics("198.51.100.1/24")
    first, second = on_ens4_and_ens5()
    Want(second).settle(fake)
    found = desired(first, second, fake=fake)
    assert found.device_of == {BLUE: "vx700"}
    assert reasons(found) == {RED: [Reason.VNI_TAKEN]}


def test_one_vni_on_two_parents_of_two_families_makes_two_devices() -> None:
    fake = two_nics("2001:db8:5::1/64")
    found = desired(*on_ens4_and_ens5(), fake=fake)
    assert found.device_of[RED] == "vx700"
    assert found.device_of[BLUE].startswith("vx700-")
    assert len(found.device_of[BLUE]) <= 15


def test_a_second_parent_with_that_vni_never_renames_a_device_that_stands() -> None:
    fake = two_nics("2001:db8:5::1/64")
    first, second = on_ens4_and_ens5()
    Want(second).settle(fake)
    found = desired(first, second, fake=fake)
    assert found.device_of[BLUE] == "vx700"
    assert found.device_of[RED].startswith("vx700-")


def test_the_vni_of_a_device_that_is_kept_for_a_refused_manifest_is_taken() -> None:
    fake = two_nics("198.51.100.1/24")
    Want(on(S700, RED)).settle(fake)
    want = Want(on(vxlan("ens5", 700), BLUE), claims=[S700])
    assert reasons(want.desired(fake.read())) == {BLUE: [Reason.VNI_TAKEN]}


# Names.


def test_alternative_names_that_two_segments_want_are_given_to_none() -> None:
    found = desired(on(S700, BLUE, network_id="int"), on(vxlan("ens4", 701), RED, network_id="int"))
    assert [device.altnames for device in found.devices] == [frozenset(), frozenset()]


def test_an_alternative_name_of_a_stranger_is_left_to_him() -> None:
    fake = host()
    fake.put("vx_int", kind="dummy")
    found = desired(on(S700, BLUE, network_id="int"), fake=fake)
    assert only(found).altnames == frozenset()
    assert found.conditions == {}


def test_an_alternative_name_that_is_another_devices_own_name_is_not_wanted() -> None:
    found = desired(
        on(vlan("ens4", 7), BLUE, network_id="lan"),
        on(vxlan("ens4", 7), RED),
        on(vlan("ens5", 7), danm_key("x"), network_id="ens4"),
        fake=two_nics("198.51.100.1/24"),
    )
    names = {device.name: device.altnames for device in found.devices}
    assert names == {"ens4.7": {"lan.7"}, "vx7": {"vx_red"}, "ens5.7": frozenset()}


def test_a_name_that_a_kept_device_has_is_not_taken_from_it() -> None:
    fake = host()
    Want(on(S700, BLUE)).settle(fake)
    fake.alter("vx700", name="vx701")
    want = Want(on(vxlan("ens4", 701), RED), claims=[S700])
    assert reasons(want.desired(fake.read())) == {RED: [Reason.NAME_TAKEN]}


def test_half_made_links_are_ours_and_take_no_name_from_us() -> None:
    fake = host()
    fake.put("vx700", kind="vxlan", group=OWN_GROUP)
    assert desired(on(S700, BLUE), fake=fake).device_of == {BLUE: "vx700"}


# The rest.


def test_nothing_wanted_is_nothing_desired() -> None:
    found = desired_devices({}, WatchContext(node_name="n1", host=host().read()))
    assert (found.devices, found.marks, found.conditions) == ((), frozenset(), {})


def test_the_segment_of_every_network_is_told_also_of_those_with_a_problem() -> None:
    gone: SegmentKey = vxlan("gone0", 1)
    found = desired(on(gone, BLUE), on(S700, RED), network(SHARED))
    assert found.segment_of == {BLUE: gone, RED: S700}


def test_every_refusal_is_a_false_condition_with_a_message() -> None:
    found = desired(on(vxlan("gone0", 1), BLUE), on(S700, RED, mtu=9000))
    for conditions in found.conditions.values():
        for each in conditions:
            assert (each.type, str(each.status)) == (DEVICE_READY, "False")
            assert ":" in each.message


def test_a_link_that_is_neither_vlan_nor_vxlan_has_no_wire() -> None:
    assert wire_of(host().link("ens4")) is None


# NetworkAttachmentDefinitions.


def nad(segment: SegmentKey | None, name: str = "n", plugin: str = "macvlan") -> NetworkSpec:
    conf = json.dumps({"type": plugin, "master": "ens4"})
    return network(
        nad_key(name),
        segment=segment,
        host_device=segment.parent if segment else "",
        backend="nad",
        network_id=name,
        conf=conf,
    )


def test_a_nad_that_names_a_wire_gets_its_device_and_no_name_of_danm() -> None:
    for segment in (S700, vlan("ens4", 7)):
        found = desired(nad(segment))
        device = only(found)
        assert device.name in {"vx700", "ens4.7"}
        assert device.altnames == frozenset()
        assert found.device_of == {nad_key("n"): device.name}
        assert device_name(nad(segment)) == device.name


def test_a_nad_that_names_none_needs_nothing() -> None:
    found = desired(nad(None))
    assert (found.devices, found.device_of, found.conditions) == ((), {nad_key("n"): ""}, {})


def test_plugins_that_cannot_share_a_wire_are_told_apart_in_nads_too() -> None:
    found = desired(nad(S700, "a"), nad(S700, "b", "ipvlan"), nad(S700, "c"))
    assert reasons(found) == {nad_key("b"): [Reason.BACKEND_CONFLICT]}
    assert condition(found, nad_key("b")).message.startswith("ipvlan cannot share vxlan:ens4:700")
    assert reasons(desired(on(S700, SHARED), nad(S700, plugin="ipvlan"))) == {
        nad_key("n"): [Reason.BACKEND_CONFLICT]
    }
    assert desired(on(S700, BLUE), nad(S700)).conditions == {}
    assert desired(on(S700, BLUE), nad(S700, plugin="someones")).conditions == {}
