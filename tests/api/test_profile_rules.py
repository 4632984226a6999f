from __future__ import annotations

from typing import Any

import pytest

from danmpy.api.addresses import TextError
from danmpy.api.profile_rules import (
    judge_tenant_config,
    overlaps,
    parse_ids,
    quotas_for,
    serving,
)
from danmpy.api.specs import HostDeviceProfile, QuotaSpec, SegmentKind, TenantConfigSpec
from support.manifests import config_manifest

VXLAN = {"name": "ens4", "vniType": "vxlan", "vniRange": "700-799"}


def codes(*devices: dict[str, Any], **more: Any) -> list[tuple[str, str]]:
    verdict = judge_tenant_config("tenants", config_manifest(*devices, **more))
    assert bool(verdict.findings) is (verdict.config is None)
    assert all(found.message and found.hint for found in verdict.findings)
    return [(found.code, found.path) for found in verdict.findings]


def accepted(*devices: dict[str, Any], **more: Any) -> TenantConfigSpec:
    config = judge_tenant_config("tenants", config_manifest(*devices, **more)).config
    assert config is not None
    return config


def test_profiles_become_values() -> None:
    config = accepted(
        VXLAN | {"vniRange": "16777215,700-709, 705-720"},
        {"name": "ens4", "vniType": "vlan", "vniRange": "1-4094"},
        {"name": "ens5"},
        {"name": "intel.com/vf", "vniType": "", "vniRange": "", "alloc": ""},
        networkIds={"Flannel": "flannel_conf"},
    )
    assert config.host_devices == (
        HostDeviceProfile(
            name="ens4", kind=SegmentKind.VXLAN, ids=((700, 720), (16777215, 16777215))
        ),
        HostDeviceProfile(name="ens4", kind=SegmentKind.VLAN, ids=((1, 4094),)),
        HostDeviceProfile(name="ens5"),
        HostDeviceProfile(name="intel.com/vf"),
    )
    assert config.network_ids == {"flannel": "flannel_conf"}


def test_mappings_alone_are_enough() -> None:
    assert accepted(networkIds={"flannel": "f"}).host_devices == ()


@pytest.mark.parametrize(
    ("device", "code", "field"),
    [
        ({"name": ""}, "NameMissing", "name"),
        ({"name": "a b"}, "HostDeviceInvalid", "name"),
        ({"name": "/x"}, "HostDeviceInvalid", "name"),
        ({"name": "x/.."}, "HostDeviceInvalid", "name"),
        ({"name": "ens4", "vniType": "vlan"}, "RangeIncomplete", "vniRange"),
        ({"name": "ens4", "vniRange": "5"}, "RangeIncomplete", "vniType"),
        (VXLAN | {"vniType": "VXLAN"}, "VniTypeInvalid", "vniType"),
        (VXLAN | {"alloc": "gAAA"}, "AllocSet", "alloc"),
        (VXLAN | {"vniRange": "700-"}, "RangeInvalid", "vniRange"),
        (VXLAN | {"vniRange": "0-9"}, "RangeInvalid", "vniRange"),
        (VXLAN | {"vniRange": "16777216"}, "RangeInvalid", "vniRange"),
        (VXLAN | {"vniType": "vlan", "vniRange": "4095"}, "RangeInvalid", "vniRange"),
    ],
)
def test_a_broken_profile_is_told(device: dict[str, Any], code: str, field: str) -> None:
    assert codes(device) == [(code, f"hostDevices[0].{field}")]


def test_an_empty_config_is_refused() -> None:
    assert codes() == [("ConfigEmpty", "hostDevices")]


def test_one_device_and_type_stands_there_once() -> None:
    assert codes(VXLAN, VXLAN | {"vniRange": "5"}) == [("ProfileTwice", "hostDevices[1]")]


def test_the_hint_names_the_type_that_was_meant() -> None:
    (found,) = judge_tenant_config("t", config_manifest(VXLAN | {"vniType": "Vlan"})).findings
    assert found.hint == "did you mean vlan?"


@pytest.mark.parametrize(
    "mapping",
    [{"": "x"}, {"flannel": ""}, {"flannel": "a/b"}, {"ipvlan": "a" * 11}, {"a": "x", "A": "y"}],
)
def test_a_broken_mapping_is_told(mapping: dict[str, str]) -> None:
    assert [code for code, _ in codes(networkIds=mapping)] == ["NetworkIdInvalid"]


def test_a_long_network_id_is_fine_for_a_delegate() -> None:
    assert accepted(networkIds={"flannel": "a" * 40}).network_ids == {"flannel": "a" * 40}


def test_a_spec_is_told_where_its_fields_belong() -> None:
    verdict = judge_tenant_config("t", {"spec": {"hostDevices": []}})
    assert "top level" in verdict.findings[0].hint


def test_a_wrong_shape_is_told() -> None:
    assert codes(VXLAN | {"vniRange": 700}) == [("TypeWrong", "hostDevices[0].vniRange")]


@pytest.mark.parametrize(
    ("text", "ids"),
    [("5", ((5, 5),)), ("5,6,8", ((5, 6), (8, 8))), (" 9 - 12 , 2", ((2, 2), (9, 12)))],
)
def test_a_range_is_sorted_and_merged(text: str, ids: tuple[tuple[int, int], ...]) -> None:
    assert parse_ids(text, SegmentKind.VLAN) == ids


@pytest.mark.parametrize(
    "text", ["", ",", "5,", "a", "5-4", "-5", "5--6", "99999999999", "\N{ARABIC-INDIC DIGIT FIVE}"]
)
def test_other_ranges_are_refused_with_a_way_out(text: str) -> None:
    with pytest.raises(TextError) as caught:
        parse_ids(text, SegmentKind.VXLAN)
    assert caught.value.hint


def config(name: str, *devices: dict[str, Any]) -> TenantConfigSpec:
    found = judge_tenant_config(name, config_manifest(*devices)).config
    assert found is not None
    return found


def test_ids_that_another_config_gives_out_are_found() -> None:
    later = config("b", {"name": "ens5"}, VXLAN | {"vniRange": "1,790-800"})
    (found,) = overlaps([config("a", VXLAN)], later)
    assert (found.code, found.path) == ("RangesOverlap", "hostDevices[1].vniRange")
    assert found.message == "TenantConfig/a already has vxlan 790 to 799 on ens4"


@pytest.mark.parametrize(
    "device",
    [
        VXLAN | {"vniRange": "800"},
        VXLAN | {"name": "ens5"},
        VXLAN | {"vniType": "vlan"},
        {"name": "ens4"},
    ],
)
def test_other_ids_devices_and_kinds_do_not_overlap(device: dict[str, Any]) -> None:
    assert list(overlaps([config("a", VXLAN, {"name": "ens4"})], config("b", device))) == []


@pytest.mark.parametrize(
    ("namespaces", "code", "field"),
    [
        ([], "NamespacesEmpty", "namespaces"),
        (["blue", ""], "NamespaceInvalid", "namespaces[1]"),
        (["Blue"], "NamespaceInvalid", "namespaces[0]"),
        (["blue.red"], "NamespaceInvalid", "namespaces[0]"),
        ("blue", "TypeWrong", "namespaces"),
    ],
)
def test_namespaces_must_name_namespaces(namespaces, code, field) -> None:
    assert codes(VXLAN, namespaces=namespaces) == [(code, field)]


def test_a_config_may_name_the_namespaces_that_it_serves() -> None:
    assert accepted(VXLAN, namespaces=["red", "blue", "red"]).namespaces == {"blue", "red"}
    assert accepted(VXLAN, namespaces=None).namespaces is None
    assert accepted(VXLAN).namespaces is None


def test_a_namespace_that_is_named_uses_only_what_names_it() -> None:
    def config(name: str, *namespaces: str) -> TenantConfigSpec:
        return TenantConfigSpec(name=name, namespaces=frozenset(namespaces) or None)

    configs = [config("d", "blue"), config("c"), config("b", "blue", "red"), config("a")]

    def names(namespace: str) -> list[str]:
        return [item.name for item in serving(configs, namespace)]

    assert names("blue") == ["b", "d"]
    assert names("red") == ["b"]
    assert names("green") == ["a", "c"]
    assert serving(configs[:1], "green") == ()


def test_quotas_become_values_and_are_enough_for_a_config() -> None:
    config = accepted(quotas={"addresses": 0, "interfaces_per_pod": 4})

    assert config.quotas == QuotaSpec(addresses=0, interfaces_per_pod=4)
    assert accepted(VXLAN).quotas == QuotaSpec()
    assert codes(quotas={}) == [("ConfigEmpty", "hostDevices")]


@pytest.mark.parametrize(
    ("quotas", "code", "path"),
    [
        ({"addresses": -1}, "OutOfRange", "quotas.addresses"),
        ({"interfaces_per_pod": 0}, "OutOfRange", "quotas.interfaces_per_pod"),
        ({"networks": "3"}, "TypeWrong", "quotas.networks"),
        ({"networks": True}, "TypeWrong", "quotas.networks"),
        ({"adresses": 3}, "FieldUnknown", "quotas.adresses"),
        ([], "TypeWrong", "quotas"),
    ],
)
def test_a_quota_is_a_number_of_a_known_kind(quotas: Any, code: str, path: str) -> None:
    assert codes(VXLAN, quotas=quotas) == [(code, path)]


def test_of_several_configs_that_count_the_smallest_quota_of_each_kind_does() -> None:
    def config(name: str, *namespaces: str, **quotas: int) -> TenantConfigSpec:
        served = frozenset(namespaces) or None
        return TenantConfigSpec(name=name, namespaces=served, quotas=QuotaSpec(**quotas))

    configs = [
        config("a", "blue", addresses=9, networks=2),
        config("b", "blue", addresses=5, interfaces_per_pod=3),
        config("c", addresses=1),
    ]

    assert quotas_for(configs, "blue") == QuotaSpec(addresses=5, networks=2, interfaces_per_pod=3)
    assert quotas_for(configs, "red") == QuotaSpec(addresses=1)
    assert quotas_for(configs[:2], "red") == QuotaSpec()
