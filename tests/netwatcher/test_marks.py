"""Names and marks: stable, unique, short enough, and never a stranger's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.specs import NetworkKey, NetworkKind, SegmentKey, SegmentKind
from danmpy.kernel.hostlinks import OWN_GROUP, LinkFacts
from danmpy.netwatcher.marks import (
    bridge_mark,
    bridge_name,
    danm_name,
    is_danm_name,
    is_ours,
    mark_of,
    segment_mark,
    segment_names,
)
from support.specs import cluster_key, network, tenant_key
from support.watching import vlan, vxlan

SEGMENTS = st.builds(
    SegmentKey,
    parent=st.from_regex(r"[a-z0-9@.-]{1,15}", fullmatch=True),
    kind=st.sampled_from(SegmentKind),
    id=st.integers(1, 4094),
)


def link(**values: object) -> LinkFacts:
    return LinkFacts(**({"index": 9, "name": "x"} | values))  # type: ignore[arg-type]


@given(one=SEGMENTS, other=SEGMENTS)
def test_names_fit_the_kernel_and_differ_for_different_wires(
    one: SegmentKey, other: SegmentKey
) -> None:
    for segment in (one, other):
        for name in segment_names(segment):
            assert 0 < len(name.encode()) <= 15
    same_vni = one.kind is other.kind is SegmentKind.VXLAN and one.id == other.id
    if one != other and not same_vni:
        assert not set(segment_names(one)) & set(segment_names(other))
    if one != other:
        assert segment_names(one)[-1] != segment_names(other)[-1]
        assert segment_mark(one) != segment_mark(other)


def test_a_vlan_on_a_long_parent_gets_a_short_stable_name() -> None:
    (name,) = segment_names(vlan("enp129s0f1np1", 4094))
    assert name == segment_names(vlan("enp129s0f1np1", 4094))[0]
    assert (len(name), name.endswith(".4094")) == (15, True)


def test_the_mark_of_a_device_names_its_segment() -> None:
    assert segment_mark(vxlan("ens4", 700)) == "danmpy vxlan:ens4:700"
    assert bridge_mark(vxlan("ens4", 700)) == "danmpy bridge:vxlan:ens4:700"
    assert bridge_mark(cluster_key("a")) == "danmpy bridge:ClusterNetwork/a"


@given(
    namespace=st.text("ab", min_size=1, max_size=63), name=st.text("ab", min_size=1, max_size=253)
)
def test_marks_and_bridge_names_of_the_longest_networks_fit(namespace: str, name: str) -> None:
    key = NetworkKey(kind=NetworkKind.TENANT, namespace=namespace, name=name)
    assert len(bridge_mark(key)) <= 255
    assert bridge_mark(key).startswith("danmpy bridge:")
    assert len(bridge_name(key)) <= 15
    made = link(kind="bridge", alias=bridge_mark(key))
    assert mark_of(made) == bridge_mark(key)


def test_a_mark_that_would_be_too_long_is_shortened_and_still_tells_networks_apart() -> None:
    keys = [
        NetworkKey(kind=NetworkKind.TENANT, namespace="n" * 63, name="x" * 250 + end)
        for end in ("a", "b")
    ]
    marks = {bridge_mark(key) for key in keys}
    assert len(marks) == 2
    assert all(len(mark) <= 255 for mark in marks)


def test_ours_is_what_has_a_mark_of_its_kind_or_our_group() -> None:
    assert is_ours(link(kind="vxlan", alias="danmpy vxlan:ens4:7"))
    assert is_ours(link(kind="vlan", group=OWN_GROUP))
    assert is_ours(link(kind="vlan", group=OWN_GROUP, alias="by hand"))


def test_a_copied_mark_a_pods_link_and_a_nic_in_our_group_are_not_ours() -> None:
    assert not is_ours(link(kind="", alias="danmpy vxlan:ens4:7"))
    assert not is_ours(link(kind="vlan", alias="danmpy vxlan:ens4:7"))
    assert not is_ours(link(kind="veth", alias="danmpy pod=c1"))
    assert not is_ours(link(kind="", group=OWN_GROUP))
    assert not is_ours(link(kind="vxlan", alias="somebody's"))


def test_danms_names_are_known() -> None:
    spec = network(tenant_key("a"), network_id="internal")
    assert danm_name(spec, vxlan("ens4", 7)) == "vx_internal"
    assert danm_name(spec, vlan("ens4", 7)) == "internal.7"
    assert is_danm_name("vx_internal")
    assert is_danm_name("internal.7")


def test_a_name_that_the_kernel_would_not_take_is_none() -> None:
    for network_id in ("", "a b", "a/b", "x" * 126):
        spec = network(tenant_key("a"), network_id=network_id)
        assert danm_name(spec, vxlan("ens4", 7)) == ""


def test_other_names_are_not_taken_for_danms() -> None:
    for name in ("enp0s4", "x.y", ".7", "7", "myvx_"):
        assert not is_danm_name(name)
