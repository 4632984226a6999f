"""Forgetting history: what goes, what stays, and that the ledger still stands; on both engines."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy.exc import DBAPIError

from danmpy.errors import IntentError
from danmpy.ipam import retention
from danmpy.ipam.reserving import Cause
from danmpy.ipam.retaining import DAY, Hold
from danmpy.ipam.retention import Pruning, Retention
from support.leasing import World
from support.specs import network, tenant_key

NET = network(tenant_key("internal"), v4="10.0.0.0/24", vni=700)
Prune = Callable[..., Pruning]
CAUSE = Cause(actor="alice@here", reason="case 7")


def keeper_of(world: World, default: int = 400) -> Retention:
    return Retention(world.engine, world.clock, default, "node-a")


@pytest.fixture(autouse=True)
def ahead(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many days the keeper of the history is ahead; PostgreSQL's own clock is moved as well."""
    days = [0]
    real = retention.database_now
    monkeypatch.setattr(retention, "database_now", lambda *asked: real(*asked) + days[0] * DAY)
    return days


@pytest.fixture
def prune(world: World, ahead: list[int]) -> Callable[..., Pruning]:
    """Prune so many days from now."""

    def run(days: int, default: int = 400, *, dry_run: bool = False) -> Pruning:
        ahead[0] = days
        try:
            return keeper_of(world, default).run_once(dry_run=dry_run)
        finally:
            ahead[0] = 0

    return run


def some_history(world: World) -> None:
    """Two pods that are gone and one that stays; a seal each."""
    for pod in ("first", "stays", "second"):
        world.bind(NET, pod)
        if pod != "stays":
            world.leases.release(f"container-{pod}")
        world.ledger.seal()


def counts(world: World) -> tuple[object, ...]:
    (row,) = world.rows("SELECT (SELECT count(*) FROM event), (SELECT count(*) FROM lease)")
    return row


def test_old_history_goes_the_open_lease_stays_and_the_ledger_verifies(
    world: World, prune: Prune
) -> None:
    some_history(world)
    before = world.ledger.verify()

    assert prune(401) == Pruning(seals=2, events=4, leases=2)
    assert prune(401) == Pruning()

    assert counts(world) == (3, 1)  # its beginning, and two that tell of the pruning
    after = world.ledger.verify()
    assert after.ok, str(after)
    assert (after.seals, after.root, after.pruned) == (3, before.root, 2)
    assert "the events of 2 seals were pruned" in str(after)
    assert world.audit.violations() == ()
    world.ledger.seal()
    assert world.ledger.verify().ok
    world.bind(NET, "next")
    world.ledger.seal()
    assert world.ledger.verify().ok


def test_history_that_is_young_or_kept_for_ever_stays(world: World, prune: Prune) -> None:
    some_history(world)
    assert prune(399) == Pruning()
    assert prune(4000, default=0) == Pruning()
    assert counts(world) == (5, 3)


def test_a_dry_run_counts_and_changes_nothing(world: World, prune: Prune) -> None:
    some_history(world)
    assert prune(401, dry_run=True) == Pruning(seals=2, events=4, leases=2)
    assert counts(world) == (5, 3)


def test_a_hold_keeps_history_until_it_is_lifted_and_both_are_told(
    world: World, prune: Prune
) -> None:
    some_history(world)
    keeper = keeper_of(world)
    hold = keeper.hold(Hold(namespace="blue"), CAUSE)
    assert prune(401) == Pruning()
    assert keeper.rules().holds == (hold,)

    keeper.lift(hold.id, CAUSE)
    with pytest.raises(IntentError, match="there is no hold"):
        keeper.lift(hold.id, CAUSE)

    assert prune(401).leases == 2
    told = world.rows("SELECT detail, reason, namespace FROM event WHERE kind = 'HOLD'")
    assert len(told) == 2
    assert all("alice@here" in str(detail) for detail, _, _ in told)
    assert {row[1:] for row in told} == {("case 7", "blue")}


def test_a_namespace_has_days_of_its_own(world: World, prune: Prune) -> None:
    some_history(world)
    keeper = keeper_of(world)
    keeper.set_days("blue", 0, CAUSE)
    assert prune(4000) == Pruning()
    keeper.set_days("blue", 3, CAUSE)
    assert prune(2) == Pruning()
    assert prune(4).leases == 2
    keeper.set_days("blue", None, CAUSE)
    assert keeper.rules().days == {}
    assert len(world.rows("SELECT 1 FROM event WHERE kind = 'RETENTION'")) == 3


def test_many_that_prune_at_once_prune_once(world: World, ahead: list[int]) -> None:
    some_history(world)
    ahead[0] = 401
    found: list[Pruning] = []
    threads = [
        threading.Thread(target=lambda: found.append(keeper_of(world).run_once())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert sum(each.events for each in found) == 4
    assert world.ledger.verify().ok


def test_what_is_not_pruned_as_a_whole_seal_cannot_be_deleted(world: World, prune: Prune) -> None:
    some_history(world)
    with pytest.raises(DBAPIError, match="append-only"):
        world.sql("DELETE FROM event WHERE seq = 1")
    with pytest.raises(DBAPIError, match="whole seals"):
        world.sql("INSERT INTO pruned VALUES (1, 1, 0, 2, 1, 1)")
    prune(401)
    for statement in ("DELETE FROM pruned", "UPDATE pruned SET count = 0"):
        with pytest.raises(DBAPIError, match="append-only"):
            world.sql(statement)
    with pytest.raises(DBAPIError, match="append-only"):
        world.sql("DELETE FROM event WHERE kind = 'PRUNE'")


def test_a_closed_lease_cannot_be_changed_or_opened_or_deleted(world: World) -> None:
    some_history(world)
    for statement, words in (
        ("UPDATE\nlease SET pod = 'other' WHERE held_to IS NOT NULL", "is history"),
        ("UPDATE\nlease SET held_to = NULL, end_reason = NULL", "is history"),
        ("DELETE\nFROM lease WHERE held_to IS NOT NULL", "is history"),
        ("DELETE\nFROM lease WHERE held_to IS NULL", "is history"),
    ):
        with pytest.raises(DBAPIError, match=words):
            world.sql(statement)


def test_pruning_that_nobody_told_of_is_found(world: World) -> None:
    some_history(world)
    (bounds,) = world.rows("SELECT txid_from, txid_to FROM seal WHERE no = 1")
    world.sql("INSERT INTO pruned VALUES (1, 1, :low, :high, 2, 1)", low=bounds[0], high=bounds[1])
    world.sql("DELETE FROM event WHERE txid < :high", high=bounds[1])
    world.sql("DELETE FROM lease WHERE pod = 'first'")
    first = world.ledger.verify().first
    assert first is not None
    assert (first.kind, first.subject) == ("PruningUntold", "seal 1")


def test_what_was_altered_is_still_named_after_pruning(world: World, prune: Prune) -> None:
    some_history(world)
    prune(401)
    world.ledger.seal()
    world.unlock_ledger()
    (row,) = world.rows("SELECT seq FROM event WHERE kind = 'ALLOCATE'")
    world.sql("UPDATE event SET pod = 'innocent' WHERE seq = :seq", seq=row[0])
    first = world.ledger.verify().first
    assert first is not None
    assert (first.kind, first.subject) == ("EventChanged", f"event {row[0]}")


def test_a_seal_whose_events_were_tampered_with_is_not_pruned(world: World, prune: Prune) -> None:
    some_history(world)
    world.unlock_ledger()
    world.sql("DELETE FROM event WHERE seq = 1")
    assert prune(401).seals == 1
    assert not world.ledger.verify().ok
