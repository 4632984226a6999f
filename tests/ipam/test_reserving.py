"""What operators do to addresses by hand, and what the ledger knows of it."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address

import pytest

from danmpy.api.specs import AddressMode
from danmpy.errors import ConflictError, IntentError, NotReadyError
from danmpy.ipam.findings import find
from danmpy.ipam.invariants import violations
from danmpy.ipam.leases import EndReason, LeaseRequest
from danmpy.ipam.registry import NetworkRegistry
from danmpy.ipam.reserving import Cause, OperatorStore, parse_group
from support.leasing import COOLDOWN, World, owner
from support.specs import DYNAMIC, cluster_key, network, static, tenant_key

NET = network(tenant_key("a"), v4="10.0.0.0/29", v6="fd00::/64", vni=700)
TWIN = network(cluster_key("twin"), v4="10.0.0.0/29", vni=700)
VIP = ip_address("10.0.0.3")
WHY = Cause(actor="ada@desk", reason="the uplink router")
DAY = 86_400


@pytest.fixture
def hand(world: World):
    yield OperatorStore(world.engine, world.clock, COOLDOWN)
    assert violations(world.engine) == ()
    assert world.moved or world.ledger.verify().ok


def details(world: World, kind: str) -> list[dict[str, object]]:
    rows = world.rows("SELECT detail FROM event WHERE kind = :kind ORDER BY seq", kind=kind)
    return [json.loads(str(row[0])) for row in rows]


def test_a_reserved_address_is_given_to_no_pod(world: World, hand: OperatorStore) -> None:
    made = hand.reserve(NET, VIP, WHY)
    assert (made.mode, made.note, made.pod, made.node) == (AddressMode.RESERVED, WHY.reason, "", "")

    given = {str(world.bind(NET, f"p{n}").address.ip) for n in range(5)}

    assert given == {f"10.0.0.{n}" for n in (1, 2, 4, 5, 6)}
    with pytest.raises(ConflictError, match=r"held by a reservation \(the uplink router\)"):
        world.bind(NET, "late", static(str(VIP)))
    with pytest.raises(ConflictError, match="held by a reservation"):
        world.bind(TWIN, "late", static(str(VIP)))


def test_who_says_what_it_is_for_and_who_shares_it(world: World, hand: OperatorStore) -> None:
    hand.reserve(NET, VIP, WHY, ["blue/keepalived-*", "red/lb-0"])

    answer = world.audit.who(VIP)

    assert answer.holder is not None
    shown = answer.holder.to_json()
    assert (shown["mode"], shown["note"], shown["network"]) == (
        "reserved",
        "the uplink router",
        "TenantNetwork/blue/a",
    )
    assert shown["shared_by"] == ["blue/keepalived-*", "red/lb-0"]
    assert hand.reservations() == (answer.holder,)


@pytest.mark.parametrize("pod", ["keepalived-0", "keepalived-x"])
def test_a_pod_of_the_group_is_told_that_its_software_moves_the_address(
    world: World, hand: OperatorStore, pod: str
) -> None:
    hand.reserve(NET, VIP, WHY, ["blue/keepalived-*"])

    with pytest.raises(ConflictError, match=r"is shared by blue/keepalived-\*") as refused:
        world.bind(NET, pod, static(str(VIP)))
    assert "keepalived, VRRP" in refused.value.hint
    with pytest.raises(ConflictError, match="held by a reservation"):
        world.bind(NET, pod, static(str(VIP)), namespace="red")


def test_a_held_address_cannot_be_reserved_and_its_holder_is_named(
    world: World, hand: OperatorStore
) -> None:
    world.bind(NET, "web-0", static(str(VIP)))
    with pytest.raises(ConflictError, match="held by Pod/blue/web-0") as refused:
        hand.reserve(TWIN, VIP, WHY)
    assert refused.value.subject == "ClusterNetwork/twin"

    hand.reserve(NET, ip_address("10.0.0.4"), WHY)
    with pytest.raises(ConflictError, match="held by a reservation"):
        hand.reserve(NET, ip_address("10.0.0.4"), WHY)


def test_a_cooling_address_may_be_reserved_but_not_one_kept_for_a_claim(
    world: World, hand: OperatorStore
) -> None:
    world.bind(NET, "web-0", static(str(VIP)))
    world.leases.release("container-web-0")
    assert hand.reserve(NET, VIP, WHY).address.ip == VIP

    kept = world.bind(NET, "db-0", claim="db-0")
    world.leases.release("container-db-0")
    with pytest.raises(ConflictError, match="kept for claim blue/db-0 until"):
        hand.reserve(NET, kept.address.ip, WHY)


@pytest.mark.parametrize(
    ("spec", "address", "words"),
    [
        (NET, "10.0.0.9", "address 10.0.0.9 is outside"),
        (NET, "10.0.0.7", "address 10.0.0.7 is reserved"),
        (TWIN, "fd00::1", "has no IPv6 subnet"),
        (replace(NET, terminating=True), "10.0.0.3", "being deleted"),
    ],
)
def test_what_the_network_does_not_give_cannot_be_reserved(
    hand: OperatorStore, spec, address: str, words: str
) -> None:
    with pytest.raises(IntentError, match=words):
        hand.reserve(spec, ip_address(address), WHY)


def test_a_network_with_a_reservation_is_not_retired_and_a_retired_one_has_none(
    world: World, hand: OperatorStore
) -> None:
    hand.reserve(NET, VIP, WHY)
    registry = NetworkRegistry(world.engine, world.clock)
    holders = registry.retire(NET.key, NET.uid)
    assert holders.example is not None
    assert holders.example.holder == "a reservation (the uplink router)"

    hand.end(hand.held(str(NET.key), VIP), WHY)
    assert registry.retire(NET.key, NET.uid).count == 0
    with pytest.raises(IntentError, match="being deleted"):
        hand.reserve(NET, VIP, WHY)


def test_an_unreserved_address_cools_down_and_is_given_again(
    world: World, hand: OperatorStore
) -> None:
    hand.reserve(NET, VIP, WHY)

    (ended,) = hand.end(hand.held(str(NET.key), VIP), WHY)

    assert ended.end_reason == EndReason.UNRESERVED
    assert hand.reservations() == ()
    with pytest.raises(NotReadyError, match="cooling down after a reservation"):
        world.bind(NET, "web-0", static(str(VIP)))
    world.wait(COOLDOWN + 1)
    assert world.bind(NET, "web-0", static(str(VIP))).address.ip == VIP


def test_the_ledger_has_the_actor_and_the_reason(world: World, hand: OperatorStore) -> None:
    hand.reserve(NET, VIP, WHY, ["blue/lb-*"])
    hand.end(hand.held(str(NET.key), VIP), Cause(actor="bob@desk", reason="moved"))

    (reserved,) = details(world, "RESERVE")
    assert (reserved["actor"], reserved["note"], reserved["shared_by"]) == (
        "ada@desk",
        "the uplink router",
        "blue/lb-*",
    )
    (released,) = details(world, "RELEASE")
    assert (released["actor"], released["reason"]) == ("bob@desk", "moved")


@pytest.mark.parametrize("column", ["note", "shared_by"])
def test_what_a_reservation_says_cannot_be_rewritten_unseen(world: World, column: str) -> None:
    OperatorStore(world.engine, world.clock, COOLDOWN).reserve(NET, VIP, WHY, ["blue/lb-*"])

    world.sql(f"UPDATE lease SET {column} = 'blue/other'")

    assert f"{column} is 'blue/other'" in str(world.ledger.verify())


def test_a_removed_reservation_is_missed(world: World) -> None:
    OperatorStore(world.engine, world.clock, COOLDOWN).reserve(NET, VIP, WHY)

    world.sql("DELETE FROM lease")

    assert "LeaseRemoved" in str(world.ledger.verify())


def test_a_release_by_hand_ends_that_lease_and_the_late_del_frees_nothing_else(
    world: World, hand: OperatorStore
) -> None:
    world.bind(NET, "web-0", static(str(VIP)))
    other = world.bind(NET, "web-1")

    (ended,) = hand.end(hand.held(str(NET.key), VIP), WHY)
    assert ended.end_reason == EndReason.BY_HAND
    world.wait(COOLDOWN + 1)
    after = world.bind(NET, "web-2", static(str(VIP)))

    assert world.leases.release("container-web-0") == ()
    for pod, lease in (("web-1", other), ("web-2", after)):
        (held,) = world.leases.held_by(f"container-{pod}")
        assert (held.id, held.address, held.to) == (lease.id, lease.address, None)


def test_what_ended_meanwhile_is_passed_over(world: World, hand: OperatorStore) -> None:
    held = world.bind(NET, "web-0", static(str(VIP)))
    world.leases.release("container-web-0")
    world.bind(NET, "web-0", static(str(VIP)), container_id="next")

    assert hand.end([held], WHY) == ()
    assert len(world.leases.held_by("next")) == 1


def test_everything_of_a_node_ends_and_nothing_of_another(
    world: World, hand: OperatorStore
) -> None:
    large = network(tenant_key("b"), v4="10.1.0.0/22", vni=701)
    for number in range(205):
        world.bind(large, f"p{number}", node="node-b")
    mine = world.bind(NET, "web-0")
    hand.reserve(NET, VIP, WHY)

    ended = hand.end(hand.held_on("node-b"), WHY)

    assert len(ended) == 205
    assert hand.held_on("node-b") == ()
    assert world.leases.held_by("container-web-0") == (mine,)
    assert len(hand.reservations()) == 1


def test_a_lease_under_a_claim_stays_kept_until_it_is_unclaimed(
    world: World, hand: OperatorStore
) -> None:
    held = world.bind(NET, "db-0", claim="db-0")
    place = (str(NET.key), held.address.ip)
    assert hand.unclaim(*place, WHY) == ()

    hand.end(hand.held(*place), WHY)
    (gone,) = hand.unclaim(*place, Cause(actor="bob@desk", reason="scaled down"))

    assert (gone.lease_id, gone.claim) == (held.id, "db-0")
    assert hand.unclaim(*place, WHY) == ()
    (told,) = details(world, "UNCLAIM")
    assert (told["actor"], told["reason"]) == ("bob@desk", "scaled down")
    with pytest.raises(NotReadyError, match="cooling down after Pod/blue/db-0 until"):
        world.bind(NET, "web-0", static(str(held.address.ip)))
    world.wait(COOLDOWN + 1)
    assert world.bind(NET, "web-0", static(str(held.address.ip))).address == held.address


def test_a_claim_that_rested_long_enough_is_free_at_once_when_unclaimed(
    world: World, hand: OperatorStore
) -> None:
    held = world.bind(NET, "db-0", claim="db-0")
    world.leases.release("container-db-0")
    world.wait(COOLDOWN + 1)
    assert len(hand.unclaim(str(NET.key), held.address.ip, WHY)) == 1

    assert world.bind(NET, "web-0", static(str(held.address.ip))).address == held.address


def test_reservations_are_no_leak_and_do_not_count_for_a_quota(
    world: World, hand: OperatorStore
) -> None:
    made = hand.reserve(NET, VIP, WHY)

    assert find([made], [], {}, "node-a") == ()
    assert find([made], [], {}, "") == ()
    asks = replace(owner("web-0"), quota=1)
    assert len(world.leases.bind(asks, [LeaseRequest(interface="n", network=NET, ip=DYNAMIC)])) == 1


@pytest.mark.parametrize("text", ["blue/web-*", "blue/web-[0-9]", "b/x"])
def test_a_group_is_a_namespace_and_a_pattern(text: str) -> None:
    assert parse_group(text) == text


@pytest.mark.parametrize("text", ["", "web", "*/web", "blue/", "blue/a/b", "Blue/x", "blue/a b"])
def test_everything_else_is_no_group(text: str) -> None:
    with pytest.raises(IntentError, match="names no group of pods"):
        parse_group(text)
