"""The rules of DANM 4.3's webhook for TenantConfigs by their numbers, and those it lacks."""

from __future__ import annotations

from typing import Any

import pytest

from support.admitting import World, codes, holding
from support.manifests import config_manifest, network_manifest

VXLAN = {"name": "ens4", "vniType": "vxlan", "vniRange": "700-710"}
BARE = {"name": "ens5"}
POOL = {"name": "example.com/vf", "vniType": "vlan", "vniRange": "5-9"}
CONFIG = config_manifest(VXLAN, BARE, POOL)

OF_BLUE = (
    holding("TenantNetwork/blue/a", number=705),
    holding("TenantNetwork/blue/b", "ens5", "", 0),
    holding("TenantNetwork/blue/c", "example.com/vf", "vlan", 7),
)


NETWORKS = tuple(network_manifest("TenantNetwork", name, "blue") for name in "abc")


def used(*cached: dict[str, Any], **more: Any) -> World:
    return World(cached=cached or (CONFIG,), live=NETWORKS, holdings=OF_BLUE, **more)


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
@pytest.mark.parametrize(
    ("number", "config", "found"),
    [
        (1, config_manifest(), [("ConfigEmpty", "hostDevices")]),
        (2, config_manifest({"vniType": "vlan", "vniRange": "5"}),
            [("NameMissing", "hostDevices[0].name")]),
        (3, config_manifest({"name": "a", "vniType": "vlan"}),
            [("RangeIncomplete", "hostDevices[0].vniRange")]),
        (3, config_manifest({"name": "a", "vniRange": "5"}),
            [("RangeIncomplete", "hostDevices[0].vniType")]),
        (4, config_manifest({"name": "a", "vniType": "gre", "vniRange": "5"}),
            [("VniTypeInvalid", "hostDevices[0].vniType")]),
        (5, config_manifest({"name": "a", "alloc": "AA=="}),
            [("AllocSet", "hostDevices[0].alloc")]),
        (6, config_manifest({"name": "a", "vniType": "vlan", "vniRange": "x"}),
            [("RangeInvalid", "hostDevices[0].vniRange")]),
        (7, config_manifest({"name": "a", "vniType": "vlan", "vniRange": "4095"}),
            [("RangeInvalid", "hostDevices[0].vniRange")]),
        (8, config_manifest(networkIds={"flannel": ""}),
            [("NetworkIdInvalid", "networkIds.flannel")]),
        (9, config_manifest(networkIds={"IPVLAN": "a" * 11}),
            [("NetworkIdInvalid", "networkIds.IPVLAN")]),
        (0, config_manifest({"name": "a", "vnType": "vlan"}),
            [("FieldUnknown", "hostDevices[0].vnType")]),
        (0, config_manifest(hostDevice=[]), [("FieldUnknown", "hostDevice")]),
    ],
)  # fmt: skip
def test_rules_1_to_9_hold_for_new_and_for_changed_configs(
    operation: str, number: int, config: dict[str, Any], found: Any
) -> None:
    verdict = World().judge(operation, config, CONFIG if operation == "UPDATE" else None)
    assert codes(verdict) == found, number
    assert verdict.invalid


def test_large_vnis_are_fine() -> None:
    big = config_manifest({"name": "a", "vniType": "vxlan", "vniRange": "5001,16777215"})
    assert World().create(big).allowed


def test_profiles_of_one_config_do_not_repeat_each_other() -> None:
    verdict = World().create(config_manifest(VXLAN, VXLAN | {"vniRange": "720"}))
    assert codes(verdict) == [("ProfileTwice", "hostDevices[1]")]


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
def test_ranges_of_two_configs_do_not_overlap(operation: str) -> None:
    new = config_manifest(VXLAN | {"vniRange": "690-700"}, name="other")
    old = config_manifest(BARE, name="other") if operation == "UPDATE" else None
    verdict = World(cached=(CONFIG,)).judge(operation, new, old)
    assert codes(verdict) == [("RangesOverlap", "hostDevices[0].vniRange")]
    assert verdict.conflicts
    assert "TenantConfig/tenants" in verdict.conflicts[0].message


def test_a_config_does_not_overlap_with_itself() -> None:
    wider = config_manifest(VXLAN | {"vniRange": "700-800"}, BARE, POOL)
    assert used().update(CONFIG, wider).allowed
    assert used().create(CONFIG).allowed


def test_an_overlap_that_the_cache_only_believes_in_is_none() -> None:
    """The other config has just been deleted, and the watch has not told yet."""

    class Late(World):
        def tenant_configs(self) -> list[dict[str, Any]]:
            return []

    late = Late(cached=(CONFIG,))
    assert late.create(config_manifest(VXLAN, name="other")).allowed


@pytest.mark.parametrize(
    ("new", "found"),
    [
        (config_manifest(VXLAN | {"vniRange": "700-704"}, BARE, POOL),
            ("hostDevices[0].vniRange", "vxlan 705 on ens4 is assigned to TenantNetwork/blue/a")),
        (config_manifest(VXLAN, POOL),
            ("hostDevices", "ens5 is assigned to TenantNetwork/blue/b")),
        (config_manifest(VXLAN, BARE, POOL | {"vniRange": "5-6,8"}),
            ("hostDevices[2].vniRange", "vlan 7 on example.com/vf is assigned")),
        (config_manifest(VXLAN | {"vniType": "vlan"}, BARE, POOL),
            ("hostDevices", "vxlan 705 on ens4 is assigned to TenantNetwork/blue/a")),
    ],
)  # fmt: skip
def test_shrinking_below_what_is_assigned_is_refused_with_network_and_id(
    new: dict[str, Any], found: tuple[str, str]
) -> None:
    verdict = used().update(CONFIG, new)
    assert codes(verdict) == [("ProfileInUse", found[0])]
    assert found[1] in verdict.conflicts[0].message
    assert World(cached=(CONFIG,)).update(CONFIG, new).allowed


def test_shrinking_to_what_is_assigned_is_allowed() -> None:
    new = config_manifest(VXLAN | {"vniRange": "705"}, BARE, POOL | {"vniRange": "7"})
    assert used().update(CONFIG, new).allowed


def test_a_config_with_assignments_is_not_deleted() -> None:
    verdict = used().delete(CONFIG)
    assert [found.message.rpartition(" ")[2] for found in verdict.conflicts] == [
        f"TenantNetwork/blue/{name}" for name in "abc"
    ]
    assert codes(verdict) == [("ProfileInUse", "hostDevices")] * 3
    assert World(cached=(CONFIG,)).delete(CONFIG).allowed


def test_many_assignments_are_counted() -> None:
    many = World(
        cached=(CONFIG,),
        holdings=[holding(f"TenantNetwork/blue/n{n:02}", number=700 + n % 11) for n in range(40)],
    )
    verdict = many.delete(CONFIG)
    assert len(verdict.conflicts) == 6
    assert "35 more assignments" in verdict.conflicts[-1].message


def test_what_another_config_offers_as_well_can_be_given_up() -> None:
    """A bare device may be in two configs: no id can be given out twice there."""
    both = (config_manifest(BARE), config_manifest(BARE, name="other"))
    world = World(cached=both, holdings=(holding("TenantNetwork/blue/b", "ens5", "", 0),))
    assert world.delete(both[0]).allowed
    assert not World(cached=both[:1], holdings=world.holdings).delete(both[0]).allowed
    late = World(cached=both[:1], live=both[1:], holdings=world.holdings)
    assert late.delete(both[0]).allowed, "the other one has just been created"


def test_a_namespace_that_is_no_longer_served_keeps_its_config() -> None:
    served = config_manifest(VXLAN, BARE, POOL, namespaces=["blue", "red"])
    world = used(served)
    fewer = config_manifest(VXLAN, BARE, POOL, namespaces=["red"])
    verdict = world.update(served, fewer)
    assert codes(verdict) == [("ProfileInUse", "namespaces")] * 3
    assert world.update(served, config_manifest(VXLAN, BARE, POOL)).allowed


def test_an_assignment_that_no_config_offered_before_is_nobodys_fault() -> None:
    stray = World(cached=(CONFIG,), holdings=(holding("TenantNetwork/blue/a", number=9000),))
    assert stray.update(CONFIG, config_manifest(BARE)).allowed
    assert stray.delete(CONFIG).allowed


def test_a_config_that_breaks_a_rule_keeps_its_metadata_free_and_can_be_corrected() -> None:
    broken = config_manifest(VXLAN, surprise=5)
    labelled = broken | {"metadata": broken["metadata"] | {"labels": {"a": "b"}}, "status": {}}
    world = used(broken, store_away=True)
    assert world.update(broken, labelled).allowed
    assert world.questions == []
    assert used(broken).update(broken, CONFIG).allowed
    assert used(broken).delete(broken).allowed


def test_without_the_database_nothing_shrinks_and_new_configs_come() -> None:
    away = used(store_away=True)
    for verdict in (away.update(CONFIG, config_manifest(VXLAN)), away.delete(CONFIG)):
        assert not verdict.allowed
        assert verdict.unknown is not None
    assert away.create(config_manifest({"name": "ens9"}, name="other")).allowed


def test_the_id_of_a_network_that_is_gone_rests_and_nobody_is_sent_to_delete_it() -> None:
    young = holding("TenantNetwork/blue/a", number=705)
    for live in ((), None):
        (found,) = World(cached=(CONFIG,), live=live, holdings=(young,)).delete(CONFIG).conflicts
        assert ("delete" in found.hint) == (live is None), "who cannot be asked may have it"
    found = World(cached=(CONFIG,), holdings=(young,)).delete(CONFIG).conflicts[0]
    assert "which is gone, and it rests" in found.message
    assert "after 1970-01-01T00:00:30" in found.hint


def test_a_new_config_takes_no_namespace_from_the_one_that_serves_it() -> None:
    rival = config_manifest({"name": "ens9"}, name="rival", namespaces=["blue"])
    assert codes(used().create(rival)) == [("ProfileInUse", "namespaces")] * 3
    assert used().create(rival | {"namespaces": ["red"]}).allowed
    same = config_manifest(BARE, name="rival", namespaces=["blue"])
    only_bare = World(cached=(CONFIG,), live=NETWORKS, holdings=OF_BLUE[1:2])
    assert only_bare.create(same).allowed, "it offers what is in use"


def test_a_new_config_for_everybody_does_not_ask_the_database() -> None:
    world = used()
    assert world.create(config_manifest({"name": "ens9"}, name="other")).allowed
    assert "assigned" not in world.questions


def test_bitmaps_that_danm_has_stored_may_stay_and_are_not_for_people() -> None:
    stored = config_manifest(VXLAN | {"alloc": "gAAA"}, BARE, POOL)
    verdict = used(stored).update(stored, config_manifest(BARE, VXLAN | {"alloc": "gAAA"}, POOL))
    assert verdict.allowed
    assert [words.partition(":")[0] for words in verdict.warnings] == ["hostDevices[1].alloc"]
    assert not used().create(stored).allowed
    changed = config_manifest(VXLAN | {"alloc": "gAAB"}, BARE, POOL)
    assert codes(used(stored).update(stored, changed)) == [("AllocSet", "hostDevices[0].alloc")]
    assert codes(used(stored).delete(stored)) == [("ProfileInUse", "hostDevices")] * 3
