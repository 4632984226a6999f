"""Every rule of DANM 4.3's webhook for networks, by its number, and our own; by whole reviews."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_interface
from typing import Any

import pytest

from danmpy.api.specs import AddressMode, NetworkKind
from danmpy.ipam.values import Lease
from support.admitting import World, codes, holding
from support.manifests import config_manifest, network_manifest
from support.nads import nad_manifest
from support.specs import cluster_key, tenant_key

T, C, D = NetworkKind.TENANT, NetworkKind.CLUSTER, NetworkKind.DANM
PROFILE = {"name": "ens4", "vniType": "vxlan", "vniRange": "700-710"}
CONFIG = config_manifest(PROFILE, {"name": "ens5"}, {"name": "example.com/vf"})
V4, V6 = {"cidr": "10.0.0.0/24"}, {"net6": "2001:db8::/64"}


def net(kind: NetworkKind = C, **words: Any) -> dict[str, Any]:
    return network_manifest(kind, "net", "" if kind is C else "blue", **words)


def lease(
    address: str, pod: str = "web-0", mode: AddressMode = AddressMode.DYNAMIC, **more: Any
) -> Lease:
    interface = ip_interface(address)
    return replace(
        Lease(
            id=1,
            network="ClusterNetwork/net",
            domain="ClusterNetwork/net",
            family=6 if interface.version == 6 else 4,
            address=interface,
            interface="eth0",
            namespace="blue",
            pod=pod,
            pod_uid="uid",
            container_id="c",
            node="a",
            mac=None,
            mode=mode,
            from_=0,
        ),
        **more,
    )


def world(*leases: Lease, **more: Any) -> World:
    key = more.pop("key", cluster_key("net"))
    return World(cached=(CONFIG,), leases={key: leases} if leases else {}, **more)


EVERY = (T, C, D)
PLACED = (C, D)


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
@pytest.mark.parametrize(
    ("number", "kinds", "words", "found"),
    [
        (1, EVERY, {"routes": {"10.9.0.0/16": "10.0.0.1"}}, [("SubnetMissing", "routes")]),
        (2, EVERY, {"cidr": "10.0.0"}, [("SubnetInvalid", "cidr")]),
        (3, EVERY, V4 | {"routes": {"10.9.0.0/16": "10.1.0.1"}},
            [("GatewayOutside", "routes.10.9.0.0/16")]),
        (4, EVERY, {"routes6": {"2001:db9::/64": "2001:db8::1"}}, [("SubnetMissing", "routes6")]),
        (5, EVERY, {"net6": "2001:db8"}, [("SubnetInvalid", "net6")]),
        (6, EVERY, V6 | {"routes6": {"2001:db9::/64": "2001:db7::1"}},
            [("GatewayOutside", "routes6.2001:db9::/64")]),
        (7, EVERY, V4 | {"alloc": "gAA="}, [("AllocSet", "alloc")]),
        (7, EVERY, V6 | {"alloc6": "gAA="}, [("AllocSet", "alloc6")]),
        (8, EVERY, {"allocation_pool": {"start": "10.0.0.5"}},
            [("SubnetMissing", "allocation_pool.start")]),
        (8, EVERY, {"allocation_pool": {"end": "10.0.0.5"}},
            [("SubnetMissing", "allocation_pool.end")]),
        (9, EVERY, {"cidr": "2001:db8::/64"}, [("SubnetInvalid", "cidr")]),
        (10, EVERY, {"cidr": "10.0.0.0/7"}, [("SubnetTooLarge", "cidr")]),
        (11, EVERY, V4 | {"allocation_pool": {"start": "10.0.1.5"}},
            [("PoolOutside", "allocation_pool.start")]),
        (12, EVERY, V4 | {"allocation_pool": {"start": "10.0.0.9", "end": "10.0.0.5"}},
            [("PoolReversed", "allocation_pool.end")]),
        (13, EVERY, {"allocation_pool_v6": {"cidr": "2001:db8::/80"}},
            [("SubnetMissing", "allocation_pool_v6.cidr")]),
        (14, EVERY, {"net6": "10.0.0.0/24"}, [("SubnetInvalid", "net6")]),
        (15, EVERY, V6 | {"allocation_pool_v6": {"cidr": "x"}},
            [("PoolInvalid", "allocation_pool_v6.cidr")]),
        (16, EVERY, V6 | {"allocation_pool_v6": {"cidr": "10.0.0.0/24"}},
            [("PoolInvalid", "allocation_pool_v6.cidr")]),
        # 17 limits a pool to what fits into a bitmap; there is none here.
        (17, EVERY, V6 | {"allocation_pool_v6": {"cidr": "2001:db8::/66"}}, []),
        (18, EVERY, V6 | {"allocation_pool_v6": {"cidr": "2001:db8::/80", "end": "2001:db8:1::"}},
            [("PoolOutside", "allocation_pool_v6.end")]),
        (19, EVERY, V6 | {"allocation_pool_v6": {"cidr": "2001:db7::/80"}},
            [("PoolOutside", "allocation_pool_v6.cidr")]),
        (20, EVERY, V6 | {"allocation_pool_v6": {"start": "2001:db8::9", "end": "2001:db8::5"}},
            [("PoolReversed", "allocation_pool_v6.end")]),
        (21, PLACED, {"host_device": "e", "vlan": 5, "vxlan": 5}, [("SegmentTwice", "vxlan")]),
        (25, EVERY, {"network_type": "sriov"}, [("DevicePoolMissing", "device_pool")]),
        (26, EVERY, {"host_device": "ens5", "device_pool": "example.com/vf"},
            [("DeviceTwice", "device_pool")]),
        (27, (T,), {"vlan": 5}, [("SegmentMisplaced", "vlan")]),
        (27, (T,), {"vxlan": 5}, [("SegmentMisplaced", "vxlan")]),
    ],
)  # fmt: skip
def test_rules_1_to_27_hold_for_new_and_for_changed_networks(
    operation: str, number: int, kinds: Sequence[NetworkKind], words: dict[str, Any], found: Any
) -> None:
    for kind in kinds:
        new = net(kind, **words)
        old = net(kind, container_prefix="old", **{
            field: value for field, value in words.items()
            if field in {"host_device", "device_pool", "vlan", "vxlan", "network_type"}
            and number != 27  # what stands there already may stay: DANM wrote it
        })  # fmt: skip
        verdict = world().judge(operation, new, old if operation == "UPDATE" else None)
        assert [(code, path) for code, path in codes(verdict) if code != "FieldImmutable"] == [
            (code, f"Options.{field}") for code, field in found
        ], (number, kind)


@pytest.mark.parametrize("kind", PLACED)
def test_rules_22_and_23_a_network_id_is_there_and_short_enough(kind: NetworkKind) -> None:
    verdict = world().create(net(kind, network_id=""))
    assert codes(verdict) == [("NetworkIdMissing", "NetworkID")]
    verdict = world().create(net(kind, network_id="a" * 11, host_device="ens4", vlan=5))
    assert codes(verdict) == [("NetworkIdTooLong", "NetworkID")]


def test_rule_22_a_tenant_gets_its_network_id_from_a_tenant_config_in_any_case() -> None:
    new = net(T, network_id="", network_type="flannel")
    assert codes(world().create(new)) == [("NetworkIdMissing", "NetworkID")]
    mapping = config_manifest(PROFILE, networkIds={"FLANNEL": "main"})
    assert World(cached=(mapping,)).create(new).allowed


def test_rule_23_counts_for_a_tenant_where_it_comes_to_lie_on_a_segment() -> None:
    long = net(T, network_id="a" * 11)
    assert codes(world().create(long)) == [("NetworkIdTooLong", "NetworkID")]
    assert world().create(net(T, network_id="a" * 11, host_device="ens5")).allowed
    assert world().create(net(T, network_id="a" * 11, network_type="bridge")).allowed


@pytest.mark.parametrize("kind", [T, D])
def test_rule_24_only_a_cluster_network_names_tenants(kind: NetworkKind) -> None:
    verdict = world().create(net(kind, more={"AllowedTenants": ["blue"]}))
    assert codes(verdict) == [("AllowedTenantsMisplaced", "AllowedTenants")]


@pytest.mark.parametrize("in_use", [False, True])
@pytest.mark.parametrize("field", ["host_device", "device_pool"])
def test_rule_28_a_tenant_network_never_moves(field: str, in_use: bool) -> None:
    leases = (lease("10.0.0.5/24"),) if in_use else ()
    verdict = world(*leases, key=tenant_key("net")).update(net(T), net(T, **{field: "x"}))
    assert codes(verdict) == [("FieldImmutable", f"Options.{field}")]


@pytest.mark.parametrize("kind", PLACED)
@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ({"vlan": 5}, {"vlan": 6}, "vlan"),
        ({"vxlan": 5}, {"vxlan": 6}, "vxlan"),
        ({"vlan": 5}, {"vlan": 5, "host_device": "ens9"}, "host_device"),
        ({}, {"vlan": 5}, "vlan"),
        ({}, {"host_device": "ens9"}, "host_device"),
    ],
)
def test_rule_29_a_network_that_is_in_use_is_not_moved(
    kind: NetworkKind, old: dict[str, Any], new: dict[str, Any], field: str
) -> None:
    key = replace(cluster_key("net"), kind=kind, namespace="" if kind is C else "blue")
    before, after = (
        net(kind, **{"host_device": "ens4"} | old),
        net(kind, **{"host_device": "ens4"} | new),
    )
    used = world(lease("10.0.0.5/24"), lease("10.0.0.6/24", "web-1"), key=key)
    verdict = used.update(before, after)
    assert codes(verdict) == [("FieldImmutable", f"Options.{field}")]
    assert verdict.conflicts
    assert "2 addresses held, one of them by Pod/blue/web-0" in verdict.conflicts[0].message
    assert world().update(before, after).allowed
    only_reported = world(reported={key: 3})
    (found,) = only_reported.update(before, after).conflicts
    assert "nodes report 3 interfaces of pods" in found.message


def test_the_type_of_a_network_in_use_stays() -> None:
    verdict = world(lease("10.0.0.5/24")).update(net(network_type="macvlan"), net(network_type=""))
    assert codes(verdict) == [("FieldImmutable", "NetworkType")]
    assert "1 address held by Pod/blue/web-0" in verdict.conflicts[0].message


@pytest.mark.parametrize("kind", EVERY)
def test_rule_30_a_network_in_use_is_not_deleted(kind: NetworkKind) -> None:
    key = replace(cluster_key("net"), kind=kind, namespace="" if kind is C else "blue")
    used = world(lease("10.0.0.5/24"), lease("10.0.0.6/24", "web-1"), key=key)
    (found,) = used.delete(net(kind)).conflicts
    assert found.code == "NetworkInUse"
    assert found.message == "it is in use: 2 addresses held, one of them by Pod/blue/web-0"
    assert found.hint == "delete the pods that are attached first"
    (found,) = world(reported={key: 1}).delete(net(kind)).conflicts
    assert found.message == "nodes report 1 interface of pods on it"
    assert world().delete(net(kind)).allowed


@pytest.mark.parametrize("operation", ["DELETE", "UPDATE"])
def test_rule_31_what_cannot_be_looked_up_is_refused_in_words(operation: str) -> None:
    away = world(store_away=True)
    new = None if operation == "DELETE" else net(host_device="ens4")
    verdict = away.judge(operation, new, net())
    assert not verdict.allowed
    assert str(verdict.unknown) == "database: no answer (start it)"


@pytest.mark.parametrize("kind", EVERY)
def test_a_network_that_is_going_already_may_be_deleted_again(kind: NetworkKind) -> None:
    going = net(kind)
    going["metadata"]["deletionTimestamp"] = "2026-05-04T03:02:01Z"
    assert world(store_away=True).delete(going).allowed


def test_rules_32_and_33_deleting_a_tenant_network_asks_no_tenant_config() -> None:
    """Nothing is freed in admission, so nothing of that can fail."""
    assert World().delete(net(T)).allowed


# What may change under running pods


@pytest.mark.parametrize(
    "change",
    [
        {"routes": {"10.9.0.0/16": "10.0.0.254"}},
        {"mtu": 1400},
        {"cidr": "10.0.0.0/23"},
        {"allocation_pool": {"start": "10.0.0.5", "end": "10.0.0.6"}},
        {"exclude": ["10.0.0.100-10.0.0.200"]},
        {"gateway": "10.0.0.1"},
        {"container_prefix": "ext"},
        {"rt_tables": 200},
        {"net6": "2001:db8::/64"},
    ],
)
def test_what_hits_no_lease_may_change(change: dict[str, Any]) -> None:
    used = world(lease("10.0.0.5/24"), lease("10.0.0.6/24", "web-1"))
    assert used.update(net(**V4), net(**V4 | change)).allowed


def test_a_change_that_takes_nothing_away_asks_the_database_nothing() -> None:
    for change in (V4 | {"mtu": 1400}, V4 | V6, V4 | {"routes": {"10.9.0.0/16": "10.0.0.5"}}):
        new = net(**change)
        new["spec"]["Options"].pop("routes", None)
        asked = world(store_away=True)
        assert asked.update(net(**V4), new).allowed
        assert asked.questions == []


@pytest.mark.parametrize(
    ("change", "found", "words"),
    [
        ({"cidr": "10.0.1.0/24"}, ("SubnetInUse", "cidr"), "Pod/blue/web-0 holds 10.0.0.5 and 1"),
        ({"cidr": ""}, ("SubnetInUse", "cidr"), "Pod/blue/web-0"),
        ({"allocation_pool": {"start": "10.0.0.6"}}, ("PoolInUse", "allocation_pool"), "10.0.0.5"),
        ({"exclude": ["10.0.0.6"]}, ("ExcludeInUse", "exclude"), "Pod/blue/web-1 holds 10.0.0.6"),
        ({"gateway": "10.0.0.5"}, ("GatewayInUse", "gateway"), "Pod/blue/web-0 holds 10.0.0.5"),
        ({"routes": {"10.9.0.0/16": "10.0.0.5"}}, ("GatewayInUse", "routes"), "web-0"),
    ],
)
def test_what_hits_a_lease_is_refused_with_pod_and_address(
    change: dict[str, Any], found: tuple[str, str], words: str
) -> None:
    used = world(lease("10.0.0.5/24"), lease("10.0.0.6/24", "web-1"))
    verdict = used.update(net(**V4), net(**V4 | change))
    assert codes(verdict) == [(found[0], f"Options.{found[1]}")]
    assert words in verdict.conflicts[0].message
    assert world().update(net(**V4), net(**V4 | change)).allowed


def test_tenants_that_hold_addresses_are_not_shut_out() -> None:
    used = world(lease("10.0.0.5/24"), lease("10.0.0.6/24", "db-0", namespace="red"))
    both = net(**V4, more={"AllowedTenants": ["blue", "red"]})
    (found,) = used.update(both, net(**V4, more={"AllowedTenants": ["blue"]})).conflicts
    assert (found.path, found.code) == ("spec.AllowedTenants", "TenantInUse")
    assert "red is left out, and Pod/red/db-0 holds 10.0.0.6" in found.message
    assert used.update(net(**V4), both).allowed
    assert used.update(both, net(**V4)).allowed


def test_what_a_network_keeps_back_is_kept_back_from_the_others_on_its_wire() -> None:
    wire = {"host_device": "ens4", "vxlan": 900}
    other = network_manifest("ClusterNetwork", "other", **wire, cidr="10.0.0.0/24")
    shared = World(cached=(other,), leases={cluster_key("other"): (lease("10.0.0.7/24", "far"),)})
    verdict = shared.update(net(**V4, **wire), net(**V4, **wire, gateway="10.0.0.7"))
    assert codes(verdict) == [("GatewayInUse", "Options.gateway")]
    assert "Pod/blue/far" in verdict.conflicts[0].message
    assert shared.update(net(**V4, **wire), net(cidr="10.1.0.0/24", **wire)).allowed


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("store_away", [False, True])
def test_metadata_of_a_network_that_breaks_a_rule_can_change(
    kind: NetworkKind, store_away: bool
) -> None:
    old = net(kind, cidr="nonsense", surprise=5, vlan=5, vxlan=5)
    new = json.loads(json.dumps(old))
    new["metadata"] |= {"labels": {"a": "b"}, "finalizers": []}
    new["status"] = {"device": "ens4"}
    asked = world(store_away=store_away)
    assert asked.update(old, new).allowed
    assert asked.questions == []


def test_a_network_that_breaks_a_rule_can_be_corrected_as_far_as_its_leases_allow() -> None:
    used = world(lease("10.0.0.5/24"))
    broken = net(cidr="10.0.0.0/24", surprise=5)
    assert used.update(broken, net(**V4)).allowed
    verdict = used.update(broken, net(cidr="10.1.0.0/24"))
    assert codes(verdict) == [("SubnetInUse", "Options.cidr")]


# Where a TenantNetwork may lie


def test_a_tenant_network_without_any_tenant_config_is_refused() -> None:
    verdict = World().create(net(T))
    assert codes(verdict) == [("NoTenantConfig", "spec")]
    assert "administrator" in verdict.invalid[0].message


@pytest.mark.parametrize("field", ["host_device", "device_pool"])
def test_a_device_that_no_profile_offers_is_refused_with_those_that_are(field: str) -> None:
    verdict = world().create(net(T, **{field: "eth7"}))
    assert codes(verdict) == [("DeviceNotAllowed", f"Options.{field}")]
    assert "ens4, ens5" in verdict.invalid[0].message


def test_everything_that_is_wrong_with_a_network_is_told_at_once() -> None:
    verdict = world().create(net(T, cidr="x", vlan=5, host_device="eth7"))
    assert codes(verdict) == [
        ("SubnetInvalid", "Options.cidr"),
        ("SegmentMisplaced", "Options.vlan"),
        ("DeviceNotAllowed", "Options.host_device"),
    ]


def test_a_namespace_with_a_config_of_its_own_gets_no_other_device() -> None:
    own = config_manifest({"name": "ens7"}, name="own", namespaces=["blue"])
    both = World(cached=(CONFIG, own))
    assert both.create(net(T, host_device="ens7")).allowed
    assert codes(both.create(net(T, host_device="ens5"))) == [
        ("DeviceNotAllowed", "Options.host_device")
    ]
    red = network_manifest(T, "net", "red", host_device="ens5")
    assert both.create(red).allowed


def test_a_tenant_config_that_the_cache_has_not_heard_of_counts() -> None:
    fresh = World(live=(CONFIG,))
    assert fresh.create(net(T)).allowed
    assert "api" in fresh.questions
    assert "api" not in (known := world()).questions
    assert known.create(net(T)).allowed


def test_without_an_api_server_the_cache_decides() -> None:
    assert codes(World(cached=(CONFIG,), live=None).create(net(T, host_device="eth7")))
    assert World(cached=(CONFIG,), live=None).create(net(T)).allowed


def test_a_range_that_is_full_is_a_warning_because_the_controller_decides() -> None:
    config = config_manifest({"name": "ens4", "vniType": "vxlan", "vniRange": "700"})
    theirs = network_manifest("TenantNetwork", "a", "red")
    full = World(cached=(config, theirs), holdings=(holding("TenantNetwork/red/a"),))
    verdict = full.create(net(T))
    assert verdict.allowed
    assert "no vxlan id is free" in verdict.warnings[0]
    by_hand = network_manifest("ClusterNetwork", "hand", host_device="ens9", vxlan=700)
    verdict = World(cached=(config, by_hand)).create(net(T))
    assert "no vxlan id is free" in verdict.warnings[0]
    assert World(cached=(config, theirs)).create(net(T)).warnings == ()
    wide = config_manifest(PROFILE)
    roomy = World(cached=(wide, theirs))
    assert (roomy.create(net(T)).warnings, roomy.questions) == ((), [])
    away = World(cached=(config, theirs), store_away=True)
    assert away.create(net(T)).allowed


# The wire that a ClusterNetwork or DanmNet names


@pytest.mark.parametrize("kind", PLACED)
@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
@pytest.mark.parametrize("device", ["ens4", "ens9"])
def test_a_wire_that_a_tenant_has_is_refused_also_on_another_parent(
    kind: NetworkKind, operation: str, device: str
) -> None:
    held = World(cached=(CONFIG,), holdings=(holding("TenantNetwork/red/a"),))
    new = net(kind, host_device=device, vxlan=700)
    verdict = held.judge(operation, new, net(kind) if operation == "UPDATE" else None)
    assert codes(verdict) == [("SegmentTaken", "Options.vxlan")]
    assert verdict.conflicts
    assert "TenantNetwork/red/a" in verdict.conflicts[0].message


def test_a_vlan_is_a_wire_of_its_parent_alone() -> None:
    held = World(holdings=(holding("TenantNetwork/red/a", "ens4", "vlan", 5),))
    assert codes(held.create(net(host_device="ens4", vlan=5))) == [("SegmentTaken", "Options.vlan")]
    assert held.create(net(host_device="ens5", vlan=5)).allowed


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
def test_a_wire_in_the_range_of_a_tenant_config_is_a_warning(operation: str) -> None:
    new = net(host_device="ens9", vxlan=705)
    verdict = world().judge(operation, new, net() if operation == "UPDATE" else None)
    assert verdict.allowed
    assert "vniRange of a TenantConfig" in verdict.warnings[0]
    assert world().create(net(host_device="ens9", vxlan=711)).warnings == ()


def test_a_wire_that_does_not_change_is_not_judged_again() -> None:
    held = World(cached=(CONFIG,), holdings=(holding("TenantNetwork/red/a"),))
    wire = {"host_device": "ens4", "vxlan": 700}
    verdict = held.update(net(**wire), net(**wire, mtu=1400))
    assert (verdict.allowed, verdict.warnings) == (True, ())


def test_a_wire_that_cannot_be_looked_up_is_refused_in_words() -> None:
    verdict = world(store_away=True).create(net(host_device="ens4", vxlan=900))
    assert not verdict.allowed
    assert verdict.unknown is not None
    assert world(store_away=True).create(net(host_device="ens4")).allowed


@pytest.mark.parametrize("kind", EVERY)
def test_an_unknown_field_is_named_with_the_nearest_known_one(kind: NetworkKind) -> None:
    new = net(kind, cidrr="10.0.0.0/24", more={"NetworkTyp": "ipvlan"})
    verdict = world().create(new)
    assert codes(verdict)[:2] == [
        ("FieldUnknown", "NetworkTyp"), ("FieldUnknown", "Options.cidrr")
    ]  # fmt: skip
    assert [found.hint for found in verdict.invalid[:2]] == [
        "did you mean NetworkType?", "did you mean cidr?"
    ]  # fmt: skip


def test_a_namespace_has_no_more_networks_than_its_quota() -> None:
    config = CONFIG | {"quotas": {"networks": 2}}
    others = [network_manifest(kind, name, "blue") for kind, name in ((T, "a"), (D, "b"))]
    full = World(cached=(config, *others, network_manifest(T, "c", "red")))

    verdict = full.create(net(T))

    assert codes(verdict) == [("QuotaExceeded", "metadata.namespace")]
    assert "namespace blue may have 2 networks" in verdict.conflicts[0].message
    assert "has 2" in verdict.conflicts[0].message
    assert full.create(net(C)).allowed
    assert World(cached=(config, others[0])).create(net(T)).allowed
    nads = [nad_manifest(f"n{number}", "blue") for number in range(3)]
    assert World(cached=(config, others[0], *nads)).create(net(T)).allowed
    changed = network_manifest(T, "a", "blue", cidr="10.3.0.0/24")
    assert full.update(others[0], changed).allowed


def test_a_quota_that_is_gone_in_the_same_moment_refuses_nothing() -> None:
    config = CONFIG | {"quotas": {"networks": 0}}
    own = config_manifest({"name": "ens9"}, name="own", namespaces=["blue"])

    assert codes(World(cached=(config,)).create(net(T))) == [
        ("QuotaExceeded", "metadata.namespace")
    ]
    assert World(cached=(config,), live=(own,)).create(net(T)).allowed


DANMS = {"host_device": "ens4", "vxlan": 701, "alloc": "gAA=", "alloc6": "gAA="} | V4 | V6


def test_what_a_running_danm_has_written_may_stay_and_is_not_for_people() -> None:
    stored = net(T, **DANMS)
    verdict = world().update(stored, net(T, mtu=1400, **DANMS))
    assert verdict.allowed
    assert [words.partition(":")[0] for words in verdict.warnings] == [
        "spec.Options.alloc",
        "spec.Options.alloc6",
    ]
    assert all("ignored" in words for words in verdict.warnings)
    less = {field: value for field, value in DANMS.items() if field not in {"alloc", "vxlan"}}
    assert world().update(stored, net(T, **less)).allowed
    assert not world().create(stored).allowed
    for change in ({"alloc": "gAE="}, {"vxlan": 702}):
        assert not world().update(stored, net(T, **(DANMS | change))).allowed


def test_a_bitmap_that_is_no_text_is_refused_and_breaks_nothing() -> None:
    odd = net(C, alloc=["gAA="], **V4)
    assert codes(world().update(odd, net(C, alloc=["gAA="], mtu=1400, **V4))) == [
        ("TypeWrong", "Options.alloc")
    ]


def test_a_new_network_on_a_wire_in_use_keeps_back_no_address_of_a_neighbour() -> None:
    place = {"host_device": "ens4", "vxlan": 900} | V4
    neighbour = network_manifest("ClusterNetwork", "first", **place)
    held = {cluster_key("first"): (lease("10.0.0.7/24"),)}
    busy = World(cached=(neighbour,), leases=held)
    assert codes(busy.create(net(C, gateway="10.0.0.7", **place))) == [
        ("GatewayInUse", "Options.gateway")
    ]
    assert codes(busy.create(net(C, exclude=["10.0.0.0/29"], **place))) == [
        ("ExcludeInUse", "Options.exclude")
    ]
    assert busy.create(net(C, gateway="10.0.0.8", **place)).allowed
    elsewhere = place | {"vxlan": 901}
    assert busy.create(net(C, gateway="10.0.0.7", **elsewhere)).allowed


def test_a_tenant_hears_that_the_config_is_refused_and_why() -> None:
    broken = config_manifest({"name": "ens4", "vniType": "vxlan", "vniRange": "9-1"})
    (found,) = World(cached=(broken,)).create(net(T)).findings
    assert found.code == "NoTenantConfig"
    assert "TenantConfig/tenants is refused: vniRange: 9-1 ends before it starts" in found.message
    assert "there is no TenantConfig" not in found.message
