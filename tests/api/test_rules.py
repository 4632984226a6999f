from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.addresses import bounds
from danmpy.api.rules import judge_network, judge_update
from danmpy.api.specs import DANM_KINDS, NetworkKey, NetworkKind, NetworkSpec, PoolSpec
from support.manifests import network_manifest

C, T, D = NetworkKind.CLUSTER, NetworkKind.TENANT, NetworkKind.DANM


def key(kind: NetworkKind) -> NetworkKey:
    return NetworkKey(kind=kind, namespace="" if kind is C else "blue", name="net")


def codes(kind: NetworkKind = C, **words: Any) -> list[tuple[str, str]]:
    verdict = judge_network(key(kind), "uid", network_manifest(kind, **words))
    assert bool(verdict.findings) is (verdict.network is None)
    assert all(found.message and found.hint for found in verdict.findings)
    return [(found.code, found.path.removeprefix("spec.")) for found in verdict.findings]


def accepted(kind: NetworkKind = C, **words: Any) -> NetworkSpec:
    verdict = judge_network(key(kind), "uid", network_manifest(kind, **words))
    assert verdict.network is not None, verdict.findings
    return verdict.network


def test_a_good_network_becomes_a_value() -> None:
    spec = accepted(host_device="ens4", vxlan=700, cidr="10.0.0.0/24")
    assert (spec.key, spec.uid, str(spec.segment)) == (key(C), "uid", "vxlan:ens4:700")


@pytest.mark.parametrize("kind", [C, D])
@pytest.mark.parametrize(
    ("words", "code", "path"),
    [
        # rule 21
        ({"host_device": "ens4", "vlan": 5, "vxlan": 5}, "SegmentTwice", "Options.vxlan"),
        # rules 22, 23
        ({"network_id": ""}, "NetworkIdMissing", "NetworkID"),
        ({"network_id": "a" * 11, "host_device": "e", "vlan": 5}, "NetworkIdTooLong", "NetworkID"),
        ({"network_id": "../x"}, "NetworkIdInvalid", "NetworkID"),
        ({"network_id": ".."}, "NetworkIdInvalid", "NetworkID"),
        # rules 25, 26
        ({"network_type": "sriov"}, "DevicePoolMissing", "Options.device_pool"),
        ({"network_type": "SRIOV"}, "DevicePoolMissing", "Options.device_pool"),
        (
            {"network_type": "sriov", "device_pool": "a/b", "host_device": "e"},
            "HostDeviceMisplaced",
            "Options.host_device",
        ),
        ({"host_device": "ens4", "device_pool": "a/b"}, "DeviceTwice", "Options.device_pool"),
        # ours
        ({"network_type": "../x"}, "NetworkTypeInvalid", "NetworkType"),
        ({"host_device": "a" * 16}, "HostDeviceInvalid", "Options.host_device"),
        ({"host_device": "a b"}, "HostDeviceInvalid", "Options.host_device"),
        ({"device_pool": "a b"}, "DevicePoolInvalid", "Options.device_pool"),
        ({"vlan": 5}, "HostDeviceMissing", "Options.host_device"),
        ({"vxlan": 5}, "HostDeviceMissing", "Options.host_device"),
        ({"container_prefix": "a" * 15}, "PrefixInvalid", "Options.container_prefix"),
        ({"container_prefix": "a/b"}, "PrefixInvalid", "Options.container_prefix"),
        ({"rt_tables": 254}, "TableReserved", "Options.rt_tables"),
        ({"mtu": 1279, "net6": "2001:db8::/64"}, "MtuTooSmall", "Options.mtu"),
        ({"vxlan_remotes": ["192.0.2.1"]}, "RemotesMisplaced", "Options.vxlan_remotes"),
        (
            {"host_device": "e", "vxlan": 5, "vxlan_remotes": ["192.0.2.1", "224.0.0.1"]},
            "RemoteInvalid",
            "Options.vxlan_remotes[1]",
        ),
        # shape
        ({"vlan": 4095}, "OutOfRange", "Options.vlan"),
        ({"vlna": 5}, "FieldUnknown", "Options.vlna"),
    ],
)
def test_a_broken_rule_is_told_once_with_its_field(
    kind: NetworkKind, words: dict[str, Any], code: str, path: str
) -> None:
    assert codes(kind, **words) == [(code, path)]


@pytest.mark.parametrize("kind", [D, T])
def test_allowed_tenants_belong_on_cluster_networks(kind: NetworkKind) -> None:
    more = {"AllowedTenants": ["blue"]}
    assert codes(kind, more=more) == [("AllowedTenantsMisplaced", "AllowedTenants")]
    assert accepted(kind, more={"AllowedTenants": []}).allowed_tenants is None
    assert accepted(C, more=more).allowed_tenants == {"blue"}


@pytest.mark.parametrize("field", ["vlan", "vxlan"])
def test_a_tenant_does_not_choose_its_segment(field: str) -> None:
    options: dict[str, Any] = {"host_device": "ens4", field: 5}
    assert codes(T, **options) == [("SegmentMisplaced", f"Options.{field}")]


def test_a_tenant_network_may_leave_its_network_id_to_the_assignment() -> None:
    assert accepted(T, network_id="").network_id == ""


def test_a_tenant_network_keeps_a_long_network_id() -> None:
    assert accepted(T, network_id="a" * 40).network_id == "a" * 40


def test_remotes_may_wait_for_the_assignment_of_a_vni() -> None:
    assert len(accepted(T, vxlan_remotes=["192.0.2.1"]).vxlan_remotes) == 1


@pytest.mark.parametrize(
    "words",
    [
        {"network_type": "flannel", "network_id": "a" * 40},
        {"network_type": "flannel", "network_id": "flannel", "vlan": 5},
        {"network_id": "a" * 11, "host_device": "ens4"},
        {"network_type": "sriov", "device_pool": "intel.com/vf", "vlan": 5},
        {"network_type": ""},
        {"container_prefix": "a" * 14},
        {"rt_tables": 252},
        {"mtu": 1280, "net6": "2001:db8::/64"},
        {"mtu": 68},
        {"host_device": "bond0.100", "vxlan": 16_777_215},
        {"host_device": "ens4", "vlan": 4094},
    ],
)
def test_what_danm_accepted_is_accepted(words: dict[str, Any]) -> None:
    accepted(C, **words)


def test_rules_about_addresses_are_judged_too() -> None:
    assert codes(C, cidr="x", network_id="") == [
        ("SubnetInvalid", "Options.cidr"),
        ("NetworkIdMissing", "NetworkID"),
    ]


def changed(
    kind: NetworkKind, old: dict[str, Any], new: dict[str, Any], *, in_use: bool
) -> list[str]:
    """The fields that an update must leave alone."""
    found = judge_update(kind, network_manifest(**old), network_manifest(**new), in_use=in_use)
    assert {one.code for one in found} <= {"FieldImmutable"}
    return [one.path.rpartition(".")[2] for one in found]


@pytest.mark.parametrize(
    ("field", "value"), [("host_device", "b"), ("device_pool", "b/b"), ("vlan", 6), ("vxlan", 6)]
)
@pytest.mark.parametrize("in_use", [False, True])
def test_rule_28_a_tenant_network_never_changes_its_place(
    field: str, value: Any, in_use: bool
) -> None:
    old = {"host_device": "a", "vlan": 5}
    assert changed(T, old, old | {field: value}, in_use=in_use) == [field]


def test_an_id_that_no_tenant_may_set_can_be_taken_out() -> None:
    assert changed(T, {"host_device": "a", "vlan": 5}, {"host_device": "a"}, in_use=True) == []


@pytest.mark.parametrize("kind", [C, D])
@pytest.mark.parametrize(
    ("old", "new", "fields"),
    [
        ({"host_device": "a", "vlan": 5}, {"host_device": "a", "vlan": 6}, ["vlan"]),
        ({"host_device": "a", "vlan": 5}, {"host_device": "b", "vlan": 5}, ["host_device"]),
        ({"host_device": "a", "vxlan": 5}, {"host_device": "b"}, ["host_device", "vxlan"]),
        ({"host_device": "a"}, {"host_device": "b", "vlan": 5}, ["host_device", "vlan"]),
        ({"device_pool": "a/a"}, {"device_pool": "a/b"}, ["device_pool"]),
        ({"network_type": "macvlan"}, {"network_type": "ipvlan"}, ["NetworkType"]),
        ({"network_type": ""}, {"network_type": "IPVLAN"}, []),
        ({"vlan": 0, "host_device": ""}, {}, []),
        ({"network_id": "a"}, {"network_id": "b"}, []),
        ({"host_device": "a", "vlan": 5}, {"host_device": "a", "vlan": 5, "mtu": 1400}, []),
    ],
)
def test_rule_29_a_segment_stays_while_pods_are_attached(
    kind: NetworkKind, old: dict[str, Any], new: dict[str, Any], fields: list[str]
) -> None:
    assert changed(kind, old, new, in_use=True) == fields
    assert changed(kind, old, new, in_use=False) == []


def test_an_update_of_what_no_rule_knows_is_compared_all_the_same() -> None:
    for old in ({}, {"spec": None}, {"spec": {"Options": 5, "NetworkType": 7}}):
        found = judge_update(C, old, network_manifest(vlan=5, network_type=""), in_use=True)
        assert [one.path for one in found] == ["spec.Options.vlan"]


texts = st.sampled_from(
    ["", "x", "10.0.0.0/24", "10.0.0.128/25", "2001:db8::/64", "10.0.0.7", "10.0.0.9-10.0.0.20",
     "2001:db8::5", "2001:db8::/120", "ens4", "10.0.0.0/31"]
)  # fmt: skip
pools = st.fixed_dictionaries({}, optional={"start": texts, "end": texts, "cidr": texts})
garbage = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=4,
)
likely = st.fixed_dictionaries(
    {},
    optional={
        "cidr": texts,
        "net6": texts,
        "allocation_pool": pools | garbage,
        "allocation_pool_v6": pools,
        "routes": st.dictionaries(texts, texts, max_size=2),
        "gateway": texts,
        "gateway6": texts,
        "exclude": st.lists(texts, max_size=4),
        "vlan": st.integers(-1, 5000),
        "host_device": texts,
    },
)


@given(
    likely | st.dictionaries(st.text(max_size=6), garbage, max_size=3), st.sampled_from(DANM_KINDS)
)
def test_any_manifest_is_accepted_or_refused_with_reasons(options: Any, kind: NetworkKind) -> None:
    manifest = network_manifest(kind)
    manifest["spec"]["Options"] = options
    verdict = judge_network(key(kind), "uid", manifest)
    if verdict.network is None:
        assert verdict.findings
        assert all(found.message and found.hint and found.code for found in verdict.findings)
    else:
        assert not verdict.findings
        for pool in (verdict.network.v4, verdict.network.v6):
            if pool is not None:
                assert_sound(pool)


def assert_sound(pool: PoolSpec) -> None:
    low, high = bounds(pool.subnet)
    assert low <= pool.first <= pool.last <= high
    for ranges in (pool.reserved, pool.excluded):
        flat = [value for span in ranges for value in span]
        assert flat == sorted(flat)
        assert all(low <= first <= last <= high for first, last in ranges)
        assert all(a[1] < b[0] for a, b in pairwise(ranges))


good_pools = st.tuples(st.integers(0, 255), st.integers(0, 255)).map(sorted)


@given(good_pools, st.lists(st.integers(0, 255), max_size=8), st.integers(1, 254))
def test_pools_of_good_manifests_are_sound(
    span: list[int], exclude: list[int], gateway: int
) -> None:
    spec = accepted(
        cidr="10.0.0.0/24",
        allocation_pool={"start": f"10.0.0.{span[0]}", "end": f"10.0.0.{span[1]}"},
        exclude=[f"10.0.0.{value}" for value in exclude],
        gateway=f"10.0.0.{gateway}",
    )
    assert spec.v4 is not None
    assert_sound(spec.v4)
    base = bounds(spec.v4.subnet)[0]
    assert {v - base for a, b in spec.v4.excluded for v in range(a, b + 1)} == set(exclude)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ({"vxlan": 900}, {}, "vxlan is taken away (it was 900)"),
        ({}, {"vxlan": 900}, "vxlan changes from unset to 900"),
        ({"vxlan": 900}, {"vxlan": 901}, "vxlan changes from 900 to 901"),
    ],
)
def test_a_change_is_told_without_the_words_of_a_program(
    old: dict[str, Any], new: dict[str, Any], words: str
) -> None:
    (found,) = judge_update(C, network_manifest(**old), network_manifest(**new), in_use=True)
    assert found.message == words


def test_the_tables_that_are_left_to_people_are_all_named() -> None:
    (found,) = judge_network(key(C), "", network_manifest(rt_tables=254)).findings
    assert found.hint == "use a table from 1 to 252, or from 256 up"
    assert codes(rt_tables=256) == []
