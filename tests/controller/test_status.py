"""What people read of a network, out of what is known of it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest

from danmpy.api.specs import (
    Condition,
    ConditionStatus,
    NetworkKey,
    NetworkKind,
    NetworkSpec,
    PoolSpec,
    SegmentKey,
    SegmentKind,
)
from danmpy.controller.status import (
    NetworkFacts,
    compose_status,
    is_farewell,
    is_urgent,
    patch_of,
)
from danmpy.intent.objects import NetworkObject
from danmpy.intent.values import Problem
from danmpy.ipam.realised import NodeFailure, Realised
from danmpy.ipam.values import NetworkUsage, PoolUsage

KEY = NetworkKey(kind=NetworkKind.TENANT, namespace="blue", name="internal")
FOUND = NetworkObject(key=KEY, uid="u-1", generation=3, resource_version="7")
NETWORK = NetworkSpec(
    key=KEY,
    uid="u-1",
    network_id="internal",
    backend="macvlan",
    segment=SegmentKey(parent="ens4", kind=SegmentKind.VXLAN, id=700),
    v4=PoolSpec(family=4, subnet=IPv4Network("10.0.0.0/24"), first=0x0A000001, last=0x0A0000FE),
)
EVERYWHERE = Realised(ready=3, failed=0, attached=0)
PROBLEM = Problem(where="", subject=str(KEY), code="SubnetInvalid", message="no", hint="do")


def usage(held: int = 0) -> NetworkUsage:
    pool = PoolUsage(
        cidr="10.0.0.0/24", capacity=254, held=held, outside=0, cooling=1, free=253 - held
    )
    return NetworkUsage(network=str(KEY), v4=pool, v6=None)


def facts(**changes: Any) -> NetworkFacts:
    standard = NetworkFacts(network=NETWORK, usage=usage(), realised=EVERYWHERE)
    return replace(standard, **changes)


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    (found,) = (each for each in status["conditions"] if each["type"] == kind)
    return found


def test_a_network_that_every_node_has_is_ready_and_says_where_it_is() -> None:
    status = compose_status(FOUND, facts(), 0)
    assert condition(status, "Ready")["status"] == "True"
    assert condition(status, "ParametersValid")["status"] == "True"
    assert condition(status, "InUse")["status"] == "False"
    assert status["device"] == "vx700"
    assert status["segment"] == {"parent": "ens4", "kind": "vxlan", "id": 700}
    assert status["v4"] == {
        "cidr": "10.0.0.0/24",
        "capacity": "254",
        "held": "0",
        "cooling": "1",
        "free": "253",
    }
    assert status["v6"]["cidr"] == ""
    assert (status["realised"], status["observedGeneration"]) == ("3/3", 3)


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"realised": Realised(ready=0, failed=0, attached=0)}, "Unknown", "NoReports"),
        ({"network": None}, "Unknown", "Pending"),
        ({"network": None, "rejected": (PROBLEM,)}, "False", "ParametersInvalid"),
        (
            {
                "network": None,
                "problem": Condition(
                    type="SegmentAssigned",
                    status=ConditionStatus.FALSE,
                    reason="RangeFull",
                    message="full",
                ),
            },
            "False",
            "RangeFull",
        ),
    ],
)
def test_a_network_that_cannot_be_used_says_why(
    changes: dict[str, Any], status: str, reason: str
) -> None:
    ready = condition(compose_status(FOUND, facts(**changes), 0), "Ready")
    assert (ready["status"], ready["reason"]) == (status, reason)


def test_nodes_that_failed_are_named_with_their_reason() -> None:
    failure = NodeFailure(node="n7", reason="KernelRefused", message="no vxlan module")
    status = compose_status(
        FOUND, facts(realised=Realised(ready=2, failed=1, attached=0, failures=(failure,))), 0
    )
    assert condition(status, "Ready")["reason"] == "NodesFailed"
    assert "n7: no vxlan module" in condition(status, "Ready")["message"]
    assert status["realised"] == "2/3"
    assert [each["name"] for each in status["nodes"]] == ["n7"]


def test_what_a_network_that_is_being_deleted_waits_for_is_said() -> None:
    leaving = replace(FOUND, terminating=True)
    ready = condition(compose_status(leaving, facts(waits_for="2 addresses are held"), 0), "Ready")
    assert (ready["reason"], ready["message"]) == ("Terminating", "2 addresses are held")


def test_a_network_that_is_being_deleted_is_in_use_as_long_as_addresses_are_held() -> None:
    leaving = replace(FOUND, terminating=True)
    for counted in (usage(held=0), None):
        told = replace(leaving, status=compose_status(FOUND, facts(), 0))
        status = compose_status(told, facts(usage=counted, held=1), 0)
        assert condition(status, "InUse")["reason"] == "Attached"
        status = compose_status(told, facts(usage=counted, held=0), 0)
        assert condition(status, "InUse")["reason"] == "Unused"


def test_addresses_of_a_network_that_is_being_deleted_are_counted_on() -> None:
    told = replace(FOUND, terminating=True, status=compose_status(FOUND, facts(), 0))
    status = compose_status(told, facts(network=None, usage=usage(held=1), held=1), 0)
    assert (status["v4"]["held"], status["device"]) == ("1", "vx700")


def test_only_the_first_word_of_a_deletion_is_a_farewell() -> None:
    ready = replace(FOUND, status=compose_status(FOUND, facts(), 0))
    leaving = replace(ready, terminating=True)
    first = compose_status(leaving, facts(waits_for="1 address is held"), 0)
    assert is_farewell(leaving, first)
    assert not is_farewell(ready, compose_status(ready, facts(), 0))
    told = replace(leaving, status=first)
    assert not is_farewell(told, compose_status(told, facts(waits_for="none"), 0))
    assert not is_farewell(replace(leaving, status={}), first), "nobody was told that it is ready"


def test_said_again_it_is_the_same_and_nothing_is_written() -> None:
    first = compose_status(FOUND, facts(), 1_000_000)
    told = replace(FOUND, status=first)
    again = compose_status(told, facts(), 9_000_000)
    assert again == first
    assert patch_of(told, again) == {}
    assert not is_urgent(told, again)


def test_a_transition_gets_the_time_at_which_it_was_seen() -> None:
    first = compose_status(FOUND, facts(), 1_000_000)
    told = replace(FOUND, status=first)
    later = compose_status(told, facts(usage=usage(held=2)), 9_000_000)
    assert condition(later, "InUse")["status"] == "True"
    assert condition(later, "InUse")["lastTransitionTime"].startswith("1970-01-01T00:00:09")
    assert condition(later, "Ready")["lastTransitionTime"].startswith("1970-01-01T00:00:01")


def test_without_the_database_what_was_said_of_addresses_stays() -> None:
    first = compose_status(FOUND, facts(usage=usage(held=2)), 0)
    told = replace(FOUND, status=first)
    later = compose_status(told, facts(usage=None), 0)
    assert later["v4"] == first["v4"]
    assert condition(later, "InUse") == condition(first, "InUse")


def test_a_patch_is_for_this_object_only_and_takes_away_what_is_over() -> None:
    told = replace(FOUND, status={"strange": 1})
    patch = patch_of(told, compose_status(told, facts(), 0))
    assert patch["metadata"] == {"uid": "u-1"}
    assert patch["status"]["strange"] is None


def test_the_first_word_and_a_new_segment_are_urgent() -> None:
    status = compose_status(FOUND, facts(), 0)
    assert is_urgent(FOUND, status)
    moved = replace(FOUND, status={**status, "segment": {}})
    assert is_urgent(moved, status)


def test_a_network_without_a_segment_has_no_id_and_forgets_the_one_that_it_had() -> None:
    bare = replace(NETWORK, segment=None, host_device="ens4")
    status = compose_status(FOUND, facts(network=bare), 0)
    assert status["segment"] == {"parent": "ens4", "kind": ""}
    before = compose_status(FOUND, facts(), 0)
    patch = patch_of(replace(FOUND, status=before), status)
    assert patch["status"]["segment"] == {"parent": "ens4", "kind": "", "id": None}
    assert patch_of(replace(FOUND, status=status), status) == {}


@pytest.mark.parametrize(("backend", "pool"), [("sriov", "example.com/vf"), ("ipvlan", "a.com/b")])
def test_a_network_of_a_device_plugin_is_as_ready_as_any_other(backend: str, pool: str) -> None:
    network = replace(NETWORK, backend=backend, device_pool=pool)
    ready = condition(compose_status(FOUND, facts(network=network), 0), "Ready")
    assert (ready["status"], ready["reason"]) == ("True", "Realised")


def test_a_bitmap_of_danm_is_said_to_be_ignored() -> None:
    stored = replace(FOUND, spec={"Options": {"alloc": "gAA=", "alloc6": ""}})
    valid = condition(compose_status(stored, facts(), 0), "ParametersValid")
    assert valid["status"] == "True"
    assert "ignored (spec.Options.alloc)" in valid["message"]
    valid = condition(compose_status(FOUND, facts(), 0), "ParametersValid")
    assert "ignored" not in valid["message"]


def test_a_network_that_only_somebody_else_holds_is_terminating() -> None:
    leaving = replace(FOUND, terminating=True, finalizers=("example.com/other",))
    ready = condition(compose_status(leaving, facts(), 0), "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "Terminating")
