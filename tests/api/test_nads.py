from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.findings import Finding
from danmpy.api.nads import judge_nad, named_segment
from danmpy.api.specs import NetworkKey, NetworkSpec, SegmentKey, SegmentKind
from support.nads import nad_key, nad_manifest
from support.specs import cluster_key, danm_key, tenant_key

KEY = nad_key("net")


def accepted(**given: Any) -> NetworkSpec:
    verdict = judge_nad(KEY, "u-1", nad_manifest(**given))
    assert verdict.findings == ()
    assert verdict.network is not None
    return verdict.network


def findings(**given: Any) -> tuple[Finding, ...]:
    verdict = judge_nad(KEY, "u-1", nad_manifest(**given))
    assert verdict.network is None
    assert all(each.path and each.code and each.message and each.hint for each in verdict.findings)
    return verdict.findings


def codes(**given: Any) -> list[str]:
    return [each.code for each in findings(**given)]


def macvlan(**more: Any) -> dict[str, Any]:
    return {"type": "macvlan", "master": "ens4", **more}


# Other plugins' configurations


def test_the_configuration_stays_as_it_is_written() -> None:
    text = '{"cniVersion":"1.0.0",  "type": "bridge", "bridge": "br0", "x": [1]}\n'
    network = accepted(text=text)
    assert network.conf == text
    assert (network.key, network.uid) == (KEY, "u-1")
    assert (network.network_id, network.backend) == ("net", "nad")
    assert (network.segment, network.host_device, network.alias) == (None, "", None)
    assert (network.v4, network.v6) == (None, None)


@pytest.mark.parametrize("body", [{}, {"spec": {}}, {"spec": {"config": " \n"}}, {"spec": None}])
def test_without_a_configuration_the_one_on_the_node_is_meant(body: dict[str, Any]) -> None:
    verdict = judge_nad(KEY, "u", body)
    assert verdict.network is not None
    assert verdict.network.conf == ""


def test_the_annotation_names_the_resource() -> None:
    assert accepted(resource="vendor.com/vf", type="sriov").resource == "vendor.com/vf"
    assert codes(resource="two words", type="sriov") == ["ResourceInvalid"]


@pytest.mark.parametrize(
    "config",
    [
        {"type": "bridge", "bridge": "br0", "vlan": 7},
        {"type": "sriov", "vlan": 7, "master": "ens4"},
        {"type": "vlan", "vlanId": 7, "master": "ens4"},
        {"type": "someones", "vlan": "any", "vxlan": {}},
        {"type": "macvlan", "master": "ens4"},
        {"type": "macvlan", "master": "ens4", "vlan": 0, "mtu": "theirs"},
        {"plugins": [{"type": "ptp", "ipam": {"type": "host-local"}}, {"type": "portmap"}]},
    ],
)
def test_words_of_other_plugins_mean_nothing_to_us(config: dict[str, Any]) -> None:
    network = accepted(**config)
    assert (network.segment, network.host_device, network.mtu) == (None, "", None)


# What no plugin could use


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("{", "ConfigNotJson", "line 1 column 2"),
        ("[]", "ConfigNotJson", "a list"),
        ("7", "ConfigNotJson", "a number"),
        ("[" * 100_000, "ConfigNotJson", "nested too deeply"),
        ('{"type": "a", "type": "b"}', "ConfigAmbiguous", "'type' stands twice"),
        ("{}", "PluginTypeMissing", "neither type nor plugins"),
        ('{"type": ""}', "PluginTypeMissing", "neither type nor plugins"),
        ('{"type": 7}', "PluginTypeInvalid", "7"),
        ('{"type": {"a": 1}}', "PluginTypeInvalid", "'a'"),
        ('{"type": "../sh"}', "PluginTypeInvalid", "'../sh'"),
        ('{"plugins": []}', "PluginsInvalid", "empty"),
        ('{"plugins": {}}', "PluginsInvalid", "an object"),
        ('{"plugins": [7]}', "PluginsInvalid", "plugins[0] is a number"),
        ('{"plugins": [{"type": "a"}, {}]}', "PluginTypeMissing", "plugins[1] has no type"),
        ('{"type": "a", "name": "-x"}', "NameInvalid", "'-x'"),
        ('{"type": "a", "name": 7}', "NameInvalid", "7"),
        ('{"type": "a", "cniVersion": 1.0}', "VersionInvalid", "1.0"),
        ('{"type": "a", "cniVersions": ["1.0.0", "x"]}', "VersionInvalid", "'x'"),
        ('{"type": "a", "disableCheck": "maybe"}', "FlagInvalid", "disableCheck is 'maybe'"),
    ],
)
def test_a_configuration_that_no_plugin_can_use_is_refused(
    text: str, code: str, words: str
) -> None:
    (found,) = findings(text=text)
    assert found.code == code
    assert words in found.message


@pytest.mark.parametrize("flag", [True, False, "True", "false"])
def test_flags_may_be_text_as_libcni_takes_them(flag: object) -> None:
    accepted(type="a", disableCheck=flag, disableGC=flag)


@pytest.mark.parametrize("spec", [7, "x", {"config": 7}, {"config": {"type": "macvlan"}}])
def test_a_configuration_that_is_no_text_is_refused(spec: object) -> None:
    verdict = judge_nad(KEY, "u", {"spec": spec})
    assert [each.code for each in verdict.findings] == ["TypeWrong"]


def test_every_broken_rule_is_told() -> None:
    said = codes(plugins=[{"type": "macvlan", "vlan": 7, "ipam": {"type": "danmpy-cni"}}, {}])
    assert said == ["PluginTypeMissing", "HostDeviceMissing", "SubnetMissing"]


# Host devices


@pytest.mark.parametrize(
    ("word", "number", "kind"),
    [
        ("vlan", 1, SegmentKind.VLAN),
        ("vlan", 4094, SegmentKind.VLAN),
        ("vxlan", 1, SegmentKind.VXLAN),
        ("vxlan", 16777215, SegmentKind.VXLAN),
    ],
)
@pytest.mark.parametrize("plugin", ["macvlan", "ipvlan", "someones"])
def test_a_segment_is_named_by_master_and_id(
    word: str, number: int, kind: SegmentKind, plugin: str
) -> None:
    network = accepted(**macvlan(type=plugin, mtu=1400, **{word: number}))
    assert network.segment == SegmentKey(parent="ens4", kind=kind, id=number)
    assert (network.host_device, network.mtu) == ("ens4", 1400)
    assert network.domain == f"{word}:ens4:{number}"


def test_a_list_counts_by_its_first_plugin_with_a_master() -> None:
    network = accepted(
        plugins=[{"type": "tuning", "vlan": 9}, macvlan(vxlan=700), macvlan(master="ens5", vlan=3)]
    )
    assert network.segment == SegmentKey(parent="ens4", kind=SegmentKind.VXLAN, id=700)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"vlan": 4095}, "SegmentInvalid"),
        ({"vlan": -1}, "SegmentInvalid"),
        ({"vlan": "7"}, "SegmentInvalid"),
        ({"vlan": True}, "SegmentInvalid"),
        ({"vlan": False}, "SegmentInvalid"),
        ({"vxlan": 16777216}, "SegmentInvalid"),
        ({"vxlan": 7.5}, "SegmentInvalid"),
        ({"vlan": 7, "vxlan": 7}, "SegmentTwice"),
        ({"vlan": 7, "master": ""}, "HostDeviceMissing"),
        ({"vxlan": 7, "master": None}, "HostDeviceMissing"),
        ({"vlan": 7, "master": "a/b"}, "HostDeviceInvalid"),
        ({"vlan": 7, "master": ["ens4"]}, "HostDeviceInvalid"),
        ({"vlan": 7, "mtu": "big"}, "OutOfRange"),
        ({"vlan": 7, "mtu": 1}, "OutOfRange"),
    ],
)
def test_a_segment_that_cannot_be_is_refused(more: dict[str, Any], code: str) -> None:
    assert codes(**macvlan(**more)) == [code]


def test_a_refused_manifest_still_names_its_segment() -> None:
    manifest = nad_manifest(**macvlan(vxlan=700, disableGC=7, ipam={"type": "danmpy-cni"}))
    assert judge_nad(KEY, "u", manifest).network is None
    assert named_segment(manifest) == SegmentKey(parent="ens4", kind=SegmentKind.VXLAN, id=700)
    assert named_segment(nad_manifest(text="{")) is None
    assert named_segment(nad_manifest(**macvlan(vlan=7, vxlan=7))) is None


# Addresses


def test_pools_are_those_of_options() -> None:
    network = accepted(
        **macvlan(
            vlan=7,
            ipam={
                "type": "danmpy-cni",
                "cidr": "10.0.0.0/24",
                "allocation_pool": {"start": "10.0.0.10", "end": "10.0.0.20"},
                "routes": {"10.9.0.0/16": "10.0.0.1"},
                "net6": "2001:db8::/64",
                "gateway6": "2001:db8::1",
                "exclude": ["10.0.0.15"],
            },
        )
    )
    assert network.v4 is not None
    assert network.v6 is not None
    assert network.v4.subnet == ip_network("10.0.0.0/24")
    assert network.v4.address(network.v4.first) == ip_address("10.0.0.10")
    assert network.v4.address(network.v4.last) == ip_address("10.0.0.20")
    excluded = int(ip_address("10.0.0.15"))
    assert network.v4.excluded == ((excluded, excluded),)
    assert network.gateway6 == ip_address("2001:db8::1")
    assert [str(route.gateway) for route in network.routes] == ["10.0.0.1"]


def test_pools_need_no_segment() -> None:
    network = accepted(type="bridge", ipam={"type": "danmpy-cni", "cidr": "10.0.0.0/24"})
    assert network.v4 is not None
    assert network.domain == str(KEY)


@pytest.mark.parametrize(
    ("ipam", "path", "code"),
    [
        ({}, "spec.config.ipam", "SubnetMissing"),
        ({"cidr": "x"}, "spec.config.ipam.cidr", "SubnetInvalid"),
        (
            {"cidr": "10.0.0.0/24", "gateway": "10.1.0.1"},
            "spec.config.ipam.gateway",
            "GatewayOutside",
        ),
        ({"cidr": "10.0.0.0/24", "subnet": "x"}, "spec.config.ipam.subnet", "FieldUnknown"),
        ({"cidr": 7}, "spec.config.ipam.cidr", "TypeWrong"),
        (
            {"cidr": "10.0.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]},
            "spec.config.ipam.routes",
            "TypeWrong",
        ),
        (
            {"cidr": "10.0.0.0/24", "exclude": ["10.1.0.1"]},
            "spec.config.ipam.exclude[0]",
            "ExcludeOutside",
        ),
        (
            {"cidr": "10.0.0.0/24", "ranges": ["10.1.0.1"]},
            "spec.config.ipam.ranges[0]",
            "RangesOutside",
        ),
    ],
)
def test_addresses_are_judged_by_the_rules_of_all_networks(
    ipam: dict[str, Any], path: str, code: str
) -> None:
    (found,) = findings(type="macvlan", ipam={"type": "danmpy-cni", **ipam})
    assert (found.path, found.code) == (path, code)


def test_ipv6_needs_an_mtu_that_carries_it() -> None:
    ipam = {"type": "danmpy-cni", "net6": "2001:db8::/64"}
    assert codes(**macvlan(vlan=7, mtu=1000, ipam=ipam)) == ["MtuTooSmall"]


# Networks by another name


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("network", danm_key("web")),
        ("tenantNetwork", tenant_key("web")),
        ("clusterNetwork", cluster_key("web")),
    ],
)
@pytest.mark.parametrize("as_list", [False, True])
def test_an_own_type_stands_for_another_network(word: str, key: NetworkKey, as_list: bool) -> None:
    plugin = {"type": "danmpy-cni", word: "web"}
    network = accepted(**({"plugins": [plugin]} if as_list else plugin))
    assert network.alias == key
    assert (network.segment, network.v4, network.v6) == (None, None, None)


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"type": "danmpy-cni"}, "AliasInvalid"),
        ({"type": "danm"}, "AliasInvalid"),
        ({"type": "danmpy-cni", "network": "a", "clusterNetwork": "b"}, "AliasInvalid"),
        ({"type": "danmpy-cni", "network": "A b"}, "AliasInvalid"),
        ({"type": "danmpy-cni", "network": ["a"]}, "AliasInvalid"),
        ({"type": "danmpy-cni", "network": "a", "master": "ens4"}, "AliasMixed"),
        ({"type": "danmpy-cni", "network": "a", "vlan": 7}, "AliasMixed"),
        (
            {"plugins": [{"type": "danmpy-cni", "network": "a"}, {"type": "tuning"}]},
            "AliasChained",
        ),
    ],
)
def test_an_alias_names_one_network_and_nothing_else(config: dict[str, Any], code: str) -> None:
    assert codes(**config) == [code]


# Whatever people write

WORDS = [
    *("type", "plugins", "master", "vlan", "vxlan", "ipam", "cidr", "net6", "mtu", "name"),
    *("network", "tenantNetwork", "cniVersion", "disableGC", "routes", "exclude", "x"),
]

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(WORDS),
            inner | st.sampled_from(["danmpy-cni", "macvlan", "10.0.0.0/24", "ens4", 7]),
            max_size=6,
        )
    ),
    max_leaves=20,
)


@given(_JSON)
def test_any_json_is_accepted_or_refused_with_reasons(document: Any) -> None:
    for manifest in ({"spec": document}, {"spec": {"config": json.dumps(document)}}):
        verdict = judge_nad(KEY, "u", manifest)
        assert (verdict.network is None) == bool(verdict.findings)
        assert all(each.message and each.hint for each in verdict.findings)
        named_segment(manifest)


@given(st.text(max_size=40))
def test_any_text_is_accepted_or_refused_with_reasons(text: str) -> None:
    verdict = judge_nad(KEY, "u", {"spec": {"config": text}})
    assert (verdict.network is None) == bool(verdict.findings)
