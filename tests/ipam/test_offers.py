"""What TenantConfigs offer; test_segments has the choices made from it."""

from __future__ import annotations

from danmpy.api.specs import HostDeviceProfile, SegmentKey, SegmentKind, TenantConfigSpec
from danmpy.ipam.offers import no_tenant_config, not_allowed, offer_to, range_text, wire_of, within
from support.specs import network, tenant_key

ENS4 = HostDeviceProfile(name="ens4", kind=SegmentKind.VXLAN, ids=((700, 709), (720, 720)))
ENS5 = HostDeviceProfile(name="ens5")
COMMON = TenantConfigSpec(name="b", host_devices=(ENS4,), network_ids={"flannel": "two"})
EARLIER = TenantConfigSpec(name="a", host_devices=(ENS5,), network_ids={"flannel": "one"})
BLUE = TenantConfigSpec(name="c", host_devices=(ENS5,), namespaces=frozenset({"blue"}))


def vxlan(parent: str, number: int) -> SegmentKey:
    return SegmentKey(parent=parent, kind=SegmentKind.VXLAN, id=number)


def test_configs_are_put_together_in_the_order_of_their_names() -> None:
    for given in ([COMMON, EARLIER, BLUE], [BLUE, EARLIER, COMMON]):
        offer = offer_to("red", given)
        assert offer.configs == (EARLIER, COMMON)
        assert offer.profiles == (ENS5, ENS4)
        assert offer.network_ids == {"flannel": "one"}


def test_a_namespace_with_configs_of_its_own_gets_nothing_of_the_others() -> None:
    offer = offer_to("blue", [COMMON, EARLIER, BLUE])

    assert (offer.configs, offer.profiles, offer.network_ids) == ((BLUE,), (ENS5,), {})


def test_one_vni_is_one_wire_on_every_parent_and_one_vlan_is_not() -> None:
    assert wire_of(vxlan("ens4", 7)) == wire_of(vxlan("ens5", 7))
    one, other = (SegmentKey(parent=name, kind=SegmentKind.VLAN, id=7) for name in ("a", "b"))
    assert wire_of(one) != wire_of(other)


def test_a_profile_knows_the_wires_that_it_gives_out() -> None:
    inside = {wire_of(vxlan("ens9", number)) for number in (700, 709, 720)}
    outside = {wire_of(vxlan("ens4", number)) for number in (699, 710, 721)}
    vlan = SegmentKey(parent="ens4", kind=SegmentKind.VLAN, id=700)

    assert within(ENS4, inside | outside | {vlan}) == inside
    assert within(ENS5, inside | outside | {vlan}) == set()
    assert range_text(ENS4) == "vxlan 700-709,720 on ens4"


def test_a_refusal_tells_only_of_what_the_namespace_may_know() -> None:
    spec = network(tenant_key("a"))
    error = not_allowed(spec, "ens4", offer_to("blue", [COMMON, BLUE]))

    assert error.message == "device ens4 is in no TenantConfig for namespace blue"
    assert error.hint == "the TenantConfigs offer: ens5"
    assert "serves namespace blue" in no_tenant_config(spec, others=True).message
    assert "there is no TenantConfig" in no_tenant_config(spec, others=False).message
