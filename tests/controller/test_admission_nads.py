from __future__ import annotations

from typing import Any

import pytest

from danmpy.api.specs import SegmentKind
from danmpy.ipam.profiles import Holding
from support.admitting import World
from support.manifests import config_manifest, network_manifest
from support.nads import nad_manifest

CONFIG = config_manifest({"name": "ens4", "vniType": "vxlan", "vniRange": "700-710"})
WIRE = {"type": "macvlan", "master": "ens4", "vxlan": 700}
TENANT = Holding(
    network="TenantNetwork/red/a", uid="u", device="ens4", kind=SegmentKind.VXLAN, id=700, since=1
)


def codes(verdict: Any) -> list[str]:
    return [found.code for found in verdict.findings]


@pytest.mark.parametrize(
    "config",
    [
        {"type": "macvlan"},
        {"type": "bridge", "vlan": 7},
        {"type": "someones", "vlan": {"of": "theirs"}, "ipam": {"type": "theirs", "any": [1]}},
        {"plugins": [{"type": "ovs", "vlan": 9}]},
    ],
)
def test_what_is_other_plugins_passes_and_asks_nobody(config: dict[str, Any]) -> None:
    world = World(store_away=True, live=None)
    verdict = world.create(nad_manifest(**config))
    assert (verdict.allowed, verdict.warnings, world.questions) == (True, (), [])
    assert world.create(nad_manifest()).allowed


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "ConfigNotJson"),
        ('{"name": "x"}', "PluginTypeMissing"),
        ('{"type": "macvlan", "master": "ens4", "vlan": 4095}', "SegmentInvalid"),
        ('{"type": "danmpy-cni"}', "AliasInvalid"),
        ('{"type": "macvlan", "ipam": {"type": "danmpy-cni"}}', "SubnetMissing"),
    ],
)
@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
def test_what_nobody_could_use_is_refused_in_words(text: str, code: str, operation: str) -> None:
    old = nad_manifest(type="macvlan") if operation == "UPDATE" else None
    verdict = World().judge(operation, nad_manifest(text=text), old)
    assert not verdict.allowed
    assert codes(verdict) == [code]
    assert verdict.findings[0].path.startswith("spec.config")


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "x", "name": "-"}',
        '{"type": "x", "cniVersion": "newest"}',
        '{"type": "x", "disableGC": 1}',
        '{"type": "x", "type": "y"}',
    ],
)
def test_what_others_may_live_with_is_only_told(text: str) -> None:
    verdict = World().create(nad_manifest(text=text))
    assert verdict.allowed
    assert len(verdict.warnings) == 1


def test_what_was_wrong_before_keeps_nobody_from_other_changes() -> None:
    broken = nad_manifest(text="{")
    labelled = broken | {"metadata": broken["metadata"] | {"labels": {"a": "b"}}}
    verdict = World().update(broken, labelled)
    assert verdict.allowed
    assert "no JSON" in verdict.warnings[0]
    assert not World().update(broken, nad_manifest(text="{ ")).allowed


def test_a_wire_that_a_tenant_has_is_refused() -> None:
    world = World(cached=(CONFIG,), holdings=(TENANT,))
    verdict = world.create(nad_manifest(**WIRE))
    assert codes(verdict) == ["SegmentTaken"]
    assert verdict.conflicts[0].path == "spec.config.vxlan"
    assert "TenantNetwork/red/a" in verdict.conflicts[0].message
    same = nad_manifest(**WIRE)
    assert world.update(same, nad_manifest(**WIRE, mtu=1400)).allowed


def test_a_wire_of_a_cluster_network_of_others_is_refused() -> None:
    theirs = network_manifest(
        name="theirs", host_device="ens4", vxlan=700, more={"AllowedTenants": ["red"]}
    )
    world = World(cached=(theirs,))
    verdict = world.create(nad_manifest(**WIRE))
    assert codes(verdict) == ["SegmentTaken"]
    assert "ClusterNetwork/theirs" in verdict.conflicts[0].message
    assert world.create(nad_manifest("net", "red", **WIRE)).allowed


def test_a_wire_in_the_range_of_a_tenant_config_is_a_warning() -> None:
    verdict = World(cached=(CONFIG,)).create(nad_manifest(**WIRE))
    assert verdict.allowed
    assert "vniRange of a TenantConfig" in verdict.warnings[0]


def test_whose_a_wire_is_cannot_be_told_without_the_database() -> None:
    verdict = World(store_away=True).create(nad_manifest(**WIRE))
    assert verdict.unknown is not None
