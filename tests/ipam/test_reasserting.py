"""Leases that a database has forgotten, stored again on the word of the node that has them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface

import pytest

from danmpy.ipam.epoch import EpochStore, Trouble
from support.leasing import COOLDOWN, World
from support.specs import network, tenant_key

NET = network(tenant_key("a"), v4="10.0.0.0/24", vni=700)
LOST = Trouble(why="it ends at event 7", strict=True)


@pytest.fixture
def epochs(world: World) -> EpochStore:
    return EpochStore(world.engine, world.clock, COOLDOWN)


def test_forgotten_leases_are_stored_again_with_their_owner_and_their_time(
    world: World, epochs: EpochStore
) -> None:
    lost = replace(world.bind(NET, "web"), container_id="c-lost", pod="lost", pod_uid="uid-lost")
    world.leases.release("container-web")
    world.wait(COOLDOWN + 1)
    address = world.rows("SELECT max(held_to) FROM lease")[0][0]
    assert epochs.unknown([lost]) == (lost,)
    epoch = epochs.begin(LOST, None, "node-a")
    assert epochs.assert_leases([lost], epoch.number) == ()
    assert epochs.unknown([lost]) == ()
    assert epochs.assert_leases([lost], epoch.number) == ()  # told twice
    (again,) = world.leases.held_by("c-lost")
    assert (again.address, again.pod, again.pod_uid, again.node) == (
        lost.address,
        "lost",
        "uid-lost",
        "node-a",
    )
    assert again.from_ >= address  # never before the end of another one of the address
    epochs.settle(by="test")
    assert world.bind(NET, "other").address != lost.address
    assert world.audit.violations() == ()
    if not world.moved:
        world.ledger.seal()
        report = world.ledger.verify()
        assert report.ok, str(report)


def test_an_ended_lease_is_not_stored_again(world: World, epochs: EpochStore) -> None:
    """An operator may have ended it: the database knows its end, so it has forgotten nothing."""
    ended = world.bind(NET, "web")
    world.leases.release("container-web", reason="by hand")
    assert epochs.unknown([ended]) == ()
    assert epochs.assert_leases([ended], 1) == ()
    assert world.leases.held_by("container-web") == ()


def test_an_address_in_other_hands_is_refused_and_nothing_is_taken(
    world: World, epochs: EpochStore
) -> None:
    there = world.bind(NET, "new")
    lost = replace(there, container_id="c-lost", pod="lost", pod_uid="uid-lost")
    assert epochs.assert_leases([lost], 1) == (lost,)
    assert world.leases.held_by("container-new") == (there,)
    assert epochs.unknown([lost]) == (lost,)
    assert world.audit.violations() == ()


def test_a_forgotten_new_sandbox_takes_over_from_the_remembered_old_one(
    world: World, epochs: EpochStore
) -> None:
    old = world.bind(NET, "web")
    lost = replace(old, container_id="container-new")
    assert epochs.assert_leases([lost], 1) == ()
    assert world.leases.held_by("container-web") == ()
    (now,) = world.leases.held_by("container-new")
    assert now.address == old.address
    assert world.audit.violations() == ()
    world.ledger.seal()
    report = world.ledger.verify()
    assert report.ok, str(report)


@pytest.mark.parametrize("address", ["10.0.0.1/24", "10.0.0.77/24"])
def test_the_forgotten_next_pod_of_a_claim_takes_over_from_the_one_before(
    world: World, epochs: EpochStore, address: str
) -> None:
    """It got the claim in the time that was lost, so the one before it had ended by then."""
    old = world.bind(NET, "db-0", claim="db-0")
    assert str(old.address) == "10.0.0.1/24"
    lost = replace(
        old,
        address=ip_interface(address),
        container_id="c-next",
        pod_uid="uid-next",
        from_=old.from_ + 1,
    )
    assert epochs.assert_leases([lost], 1) == ()
    assert world.leases.held_by(old.container_id) == ()
    (now,) = world.leases.held_by("c-next")
    assert (str(now.address), now.claim) == (address, "db-0")
    assert world.audit.violations() == ()
    world.ledger.seal()
    report = world.ledger.verify()
    assert report.ok, str(report)


def test_a_forgotten_earlier_pod_of_a_claim_leaves_it_to_the_later_one(
    world: World, epochs: EpochStore
) -> None:
    later = world.bind(NET, "db-0", claim="db-0")
    lost = replace(later, container_id="c-early", pod_uid="uid-early", from_=later.from_ - 1)
    assert epochs.assert_leases([lost], 1) == (lost,)
    elsewhere = replace(lost, address=ip_interface("10.0.0.77/24"))
    assert epochs.assert_leases([elsewhere], 1) == ()
    assert world.leases.held_by(later.container_id) == (later,)
    (found,) = world.leases.held_by("c-early")
    assert (str(found.address), found.claim) == ("10.0.0.77/24", "")
    assert world.audit.violations() == ()


def test_a_lease_of_a_pool_that_was_forgotten_too_makes_the_pool_anew(
    world: World, epochs: EpochStore
) -> None:
    lost = replace(
        world.bind(NET, "web"),
        network="TenantNetwork/blue/b",
        domain="vxlan:ens4:701",
        container_id="c-b",
        pod="b",
        pod_uid="uid-b",
    )
    assert epochs.assert_leases([lost], 1) == ()
    other = network(tenant_key("b"), v4="10.0.0.0/24", vni=701)
    assert world.bind(other, "x").address != lost.address
    assert world.leases.release("c-b") != ()
    assert world.audit.violations() == ()
