"""When an address of another tool may be taken over."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, ip_address
from typing import Any

import pytest

from danmpy.api.specs import AddressMode
from danmpy.ipam.adoptions import (
    Adoption,
    Resting,
    Standing,
    Verdict,
    judge,
    named_apart,
    vacant,
)
from danmpy.ipam.values import Lease
from support.leasing import owner
from support.specs import network, tenant_key

NOW = 1_000
NET = network(tenant_key("a"), v4="10.0.0.0/24", vni=7)
ADOPTION = Adoption(
    network=NET,
    address=ip_address("10.0.0.5"),
    owner=owner("web-0"),
    interface="net1",
    source="DANM",
)
RESTING = Resting(namespace="blue", pod="other", claim="", released_at=500, ready_at=NOW + 1)


def lease(address: str = "10.0.0.5/24", **more: Any) -> Lease:
    values = {
        "id": 1,
        "network": str(NET.key),
        "domain": NET.domain,
        "family": 4,
        "address": IPv4Interface(address),
        "interface": "net1",
        "namespace": "blue",
        "pod": "web-0",
        "pod_uid": "uid-web-0",
        "container_id": "container-web-0",
        "node": "node-a",
        "mac": None,
        "mode": AddressMode.DYNAMIC,
        "from_": 1,
    }
    return Lease(**(values | more))


def verdict(adoption: Adoption = ADOPTION, **standing: Any) -> Verdict | None:
    outcome = judge(adoption, Standing(**standing), NOW)
    assert outcome is None or outcome.message
    return outcome.verdict if outcome else None


def test_an_address_that_nobody_has_is_adopted() -> None:
    assert verdict() is None


def test_the_same_container_or_another_sandbox_of_the_pod_holds_it_already() -> None:
    assert verdict(holder=lease()) is Verdict.HELD
    assert verdict(holder=lease(container_id="newer")) is Verdict.HELD
    assert verdict(holder=lease(container_id="newer", pod_uid="")) is Verdict.HELD


@pytest.mark.parametrize(
    "more",
    [
        {"container_id": "newer", "pod_uid": "uid-2"},
        {"container_id": "other", "pod": "other"},
        {"container_id": "reservation:1", "pod": "", "mode": AddressMode.RESERVED, "note": "vip"},
    ],
)
def test_what_somebody_else_holds_is_a_conflict(more: dict[str, Any]) -> None:
    assert verdict(holder=lease(**more)) is Verdict.CONFLICT


def test_containers_of_unknown_pods_are_not_the_same_for_that() -> None:
    nameless = replace(ADOPTION, owner=owner("", namespace="", pod_uid="", container_id="c1"))
    holder = lease(pod="", namespace="", pod_uid="", container_id="c2")
    assert verdict(nameless, holder=holder) is Verdict.CONFLICT


def test_what_the_container_had_and_gave_back_is_not_given_to_it_again() -> None:
    outcome = judge(ADOPTION, Standing(last=lease(to=900, end_reason="released")), NOW)
    assert outcome is not None
    assert outcome.verdict is Verdict.ENDED
    assert "(released)" in outcome.message
    assert not outcome.verdict.is_finding


def test_an_address_that_rests_is_not_taken_but_by_its_own_pod() -> None:
    assert verdict(resting=RESTING) is Verdict.CONFLICT
    assert verdict(resting=replace(RESTING, claim="db", pod="")) is Verdict.CONFLICT
    assert verdict(resting=replace(RESTING, ready_at=NOW)) is None
    assert verdict(resting=replace(RESTING, pod="web-0")) is None


def test_a_network_that_is_gone_takes_nobody_in() -> None:
    assert verdict(retired=True) is Verdict.CONFLICT


def test_a_newer_sandbox_with_another_address_in_the_same_place_makes_the_old_one_stale() -> None:
    newer = lease("10.0.0.9/24", container_id="newer")
    assert verdict(own=(newer,)) is Verdict.CONFLICT
    assert verdict(own=(replace(newer, interface="net2"),)) is None


def test_two_addresses_of_one_interface_are_told_apart_by_name() -> None:
    assert named_apart(ADOPTION, ()).interface == "net1"
    first = lease("10.0.0.9/24")
    assert named_apart(ADOPTION, (first,)).interface == "net1:10.0.0.5"
    assert named_apart(ADOPTION, (replace(first, family=6),)).interface == "net1"
    assert named_apart(replace(ADOPTION, interface=""), ()).interface == "?:10.0.0.5"


def test_a_claim_keeps_one_dynamic_address_a_place() -> None:
    mine = replace(ADOPTION, owner=owner("web-0", claim="front"))
    assert vacant(mine, ()).owner.claim == "front"
    assert vacant(replace(mine, mode=AddressMode.STATIC), ()).owner.claim == ""
    kept = lease("10.0.0.9/24", claim="front", container_id="other")
    assert vacant(mine, (kept,)).owner.claim == ""
    assert vacant(mine, (replace(kept, interface="net2"),)).owner.claim == "front"
    assert vacant(mine, (replace(kept, claim="back"),)).owner.claim == "front"


def test_only_what_a_person_must_look_at_is_a_finding() -> None:
    assert {each for each in Verdict if each.is_finding} == {
        Verdict.UNOWNED,
        Verdict.CONFLICT,
        Verdict.OUTSIDE,
        Verdict.UNKNOWN_NETWORK,
    }
