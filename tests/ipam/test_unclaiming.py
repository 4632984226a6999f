"""What is kept for a claim, given free: with an event also where the lease itself is forgotten."""

from __future__ import annotations

import json

from danmpy.db.engine import run_write
from danmpy.ipam.unclaiming import Forgotten, Unclaiming
from support.leasing import COOLDOWN, World
from support.specs import network, tenant_key

NET = network(tenant_key("a"), v4="10.0.0.0/29", vni=700)
MICROSECONDS = 1_000_000


def unclaim(world: World, claim: str = "db-0") -> tuple[Forgotten, ...]:
    def work(connection) -> tuple[Forgotten, ...]:
        return Unclaiming(
            connection=connection,
            now=world.now(),
            cooldown=COOLDOWN * MICROSECONDS,
            reason="unclaimed",
            detail={"why": "a test"},
        ).of("blue", claim)

    return run_write(world.engine, work)


def told(world: World) -> list[tuple[object, object, object]]:
    rows = world.rows(
        "SELECT address, closed_id, detail FROM event WHERE kind = 'UNCLAIM' ORDER BY seq"
    )
    return [(address, closed, json.loads(str(detail))) for address, closed, detail in rows]


def test_everything_of_one_claim_is_given_free_and_of_no_other(world: World) -> None:
    first = world.bind(NET, "db-0", claim="db-0")
    world.bind(NET, "db-1", claim="db-1")
    for pod in ("db-0", "db-1"):
        world.leases.release(f"container-{pod}")

    (gone,) = unclaim(world)

    assert (gone.address, gone.claim, gone.lease_id) == (first.address.ip, "db-0", first.id)
    assert unclaim(world) == ()
    assert world.rows("SELECT claim FROM freed ORDER BY claim") == [("",), ("db-1",)]
    ((address, closed, detail),) = told(world)
    assert (address, closed, detail["why"]) == ("10.0.0.1", first.id, "a test")
    assert world.ledger.verify().ok


def test_an_address_whose_lease_was_pruned_is_told_of_all_the_same(world: World) -> None:
    world.bind(NET, "db-0", claim="db-0")
    world.leases.release("container-db-0")
    world.sql("DELETE FROM lease")

    (gone,) = unclaim(world)

    assert (str(gone.address), gone.lease_id) == ("10.0.0.1", None)
    ((address, closed, detail),) = told(world)
    assert (address, closed, detail["claim"]) == ("10.0.0.1", None, "db-0")
