"""The checker of the tables finds what it is there to find, on both engines."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import IntegrityError

from danmpy.ipam import invariants
from support.leasing import World
from support.specs import network, static, tenant_key

NET = network(tenant_key("internal"), v4="10.0.0.0/24", vni=700)


def two_turns(world: World) -> None:
    """One address in two hands, one after the other, and another one that is held now."""
    world.bind(NET, "first", static("10.0.0.1"))
    world.wait(10)
    world.leases.release("container-first")
    world.wait(500)
    world.bind(NET, "second", static("10.0.0.1"))
    world.bind(NET, "third")


ALSO_FREED = """
    INSERT INTO freed (domain, address, family, released_at, ready_at, network, interface,
        namespace, pod, end_reason)
    SELECT domain, address, 4, 1, 1, network, interface, namespace, pod, 'released'
    FROM lease WHERE id = 3
"""
BREAKING = {
    "HeldTwice": (
        "DROP INDEX lease_open_address_key",
        "UPDATE lease SET address = (SELECT address FROM lease WHERE id = 2) WHERE id = 3",
    ),
    "RestCutShort": ("UPDATE lease SET cool_until = cool_until + 1000000000 WHERE id = 1",),
    "PassedToStranger": (
        "UPDATE lease SET end_reason = 'rebound', cool_until = NULL WHERE id = 1",
    ),
    "HeldAndFreed": (ALSO_FREED,),
    "ClaimHeldTwice": (
        "DROP INDEX lease_open_claim_key",
        "UPDATE lease SET claim = 'vm' WHERE held_to IS NULL",
    ),
    "CursorOutside": ("UPDATE pool SET next = (SELECT outside)",),
    "SegmentAssignedTwice": (
        "DROP INDEX segment_open_id_key",
        *(
            "INSERT INTO segment_assignment (network, network_uid, profile, kind, number,"
            f" assigned_at) VALUES ('TenantNetwork/blue/{name}', '', 'ens4', 'vxlan', 700, 1)"
            for name in "ab"
        ),
    ),
}


@pytest.mark.parametrize("kind", BREAKING)
def test_every_broken_promise_is_found(world, kind) -> None:
    two_turns(world)
    assert world.audit.violations() == ()

    outside = "'\\x0b000001'::bytea" if world.is_postgresql else "x'0b000001'"
    for statement in BREAKING[kind]:
        world.sql(statement.replace("(SELECT outside)", outside))

    assert [str(finding.kind) for finding in world.audit.violations()] == [kind]
    (finding,) = world.audit.violations()
    assert finding.subject
    assert finding.hint


def test_overlaps_in_the_past_are_found_across_pages(world, monkeypatch) -> None:
    monkeypatch.setattr(invariants, "_PAGE", 1)
    monkeypatch.setattr(invariants, "_HISTORY", invariants._HISTORY.limit(1))
    two_turns(world)
    world.sql("UPDATE lease SET held_to = held_to + 1000000000, cool_until = NULL WHERE id = 1")

    (finding,) = world.audit.violations()

    assert finding.kind == "HeldTwice"
    assert "Pod/blue/first" in finding.message
    assert "Pod/blue/second" in finding.message


def test_one_address_in_two_domains_is_no_violation(world) -> None:
    world.bind(NET, "a")
    world.bind(network(tenant_key("other"), v4="10.0.0.0/24", vni=701), "b")

    assert world.audit.violations() == ()


def test_a_static_address_that_its_pod_got_back_at_once_is_no_violation(world) -> None:
    world.bind(NET, "db-0", static("10.0.0.9"))
    world.leases.release("container-db-0")
    world.bind(NET, "db-0", static("10.0.0.9"), pod_uid="new", container_id="new")

    assert world.audit.violations() == ()


def test_a_lease_of_a_pool_that_is_not_there_is_refused_or_found(world) -> None:
    two_turns(world)
    stray = "UPDATE lease SET pool_id = 99 WHERE id = 3"
    if not world.is_postgresql:
        with pytest.raises(IntegrityError):
            world.sql(stray)
        return
    world.sql(stray)
    (finding,) = world.audit.violations()
    assert (finding.kind, finding.subject) == ("PoolMissing", str(NET.key))
