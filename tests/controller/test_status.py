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
    is_urgent,
    patch_of,
)
from danmpy.intent.objects import NetworkObject
from danmpy.intent.values import Problem
from danmpy.ipam.nodereports import NodeFailure, Realised
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
