"""The fence: a database that has forgotten commits hands out nothing until the nodes have told."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.db.engine import read
from danmpy.errors import NotReadyError
from danmpy.ipam.epoch import HOLD_S, Epoch, EpochStore, Mark, Sight, Trouble, judge
from support.leasing import COOLDOWN, World
from support.specs import network, tenant_key

NET = network(tenant_key("a"), v4="10.0.0.0/24", vni=700)
LOST = Trouble(why="it ends at event 7", strict=True)
MOVED = Trouble(why="it was elsewhere", strict=False)

SIGHT = Sight(
    ledger="L", home="1/01", said_home="1/01", seq=50, uid="u50", uid_at_mark="u40", epoch=Epoch()
)
MARK = Mark(ledger="L", home="1/01", seq=40, uid="u40")


@pytest.fixture
def epochs(world: World) -> EpochStore:
    return EpochStore(world.engine, world.clock, COOLDOWN)


def move_clock(world: World, epochs: EpochStore, seconds: int) -> None:
    """Let the clock jump; PostgreSQL has its own, so there the beginning moves instead."""
    if not world.is_postgresql:
        world.clock.now += seconds * 1_000_000
        return
    began = epochs.look(None).epoch.began_at
    world.sql(
        "UPDATE meta SET value = replace(value, :began, :then) WHERE key = 'epoch'",
        began=str(began),
        then=str(began - seconds * 1_000_000),
    )


def held_long_enough(world: World, epochs: EpochStore) -> None:
    """Let the time pass that an epoch is closed at least."""
    move_clock(world, epochs, HOLD_S + 1)


# The decision


def test_a_database_that_is_ahead_of_what_was_seen_is_trusted() -> None:
    assert judge(MARK, SIGHT) is None
    assert judge(None, SIGHT) is None
    assert judge(replace(MARK, seq=50, uid="u50"), replace(SIGHT, uid_at_mark="u50")) is None


@pytest.mark.parametrize(
    ("sight", "words"),
    [
        (replace(SIGHT, seq=39, uid_at_mark=""), "ends at event 39.*seen event 40"),
        (replace(SIGHT, uid_at_mark="other"), "event 40 is another one"),
        (replace(SIGHT, uid_at_mark=""), "event 40 is another one"),
        (replace(SIGHT, ledger="M"), "another ledger"),
    ],
)
def test_a_database_with_another_past_has_lost_commits(sight: Sight, words: str) -> None:
    trouble = judge(MARK, sight)
    assert trouble is not None
    assert trouble.strict
    assert re.search(words, trouble.why)


def test_a_database_without_the_last_epoch_has_lost_commits() -> None:
    trouble = judge(replace(MARK, epoch=3), replace(SIGHT, epoch=Epoch(number=2)))
    assert trouble is not None
    assert trouble.strict


def test_a_database_that_has_moved_may_have_lost_commits() -> None:
    for mark in (MARK, None):
        trouble = judge(mark, replace(SIGHT, home="1/02"))
        assert trouble is not None
        assert not trouble.strict
        assert "1/02" in trouble.why


def test_a_node_that_was_away_in_an_epoch_does_not_begin_another_one() -> None:
    """Its mark is of the time before; the others have told what they have already."""
    assert judge(MARK, replace(SIGHT, seq=3, uid_at_mark="", epoch=Epoch(number=1))) is None


@given(st.integers(1, 100), st.integers(0, 100), st.booleans())
def test_whatever_lies_before_the_mark_is_noticed(seen: int, there: int, same: bool) -> None:
    sight = replace(SIGHT, seq=there, uid_at_mark=f"u{seen}" if same and there >= seen else "x")
    trouble = judge(Mark(ledger="L", seq=seen, uid=f"u{seen}"), sight)
    assert (trouble is None) == (there >= seen and same)


# The database


def test_while_an_epoch_is_closed_no_address_is_handed_out_by_anybody(
    world: World, epochs: EpochStore
) -> None:
    kept = world.bind(NET, "old")
    epochs.begin(LOST, None, "node-a")
    with pytest.raises(NotReadyError, match="no address is handed out until the nodes have told"):
        world.bind(NET, "new")
    assert world.bind(NET, "old") == kept  # what is held already can be asked for again
    assert [lease.pod for lease in world.held_on("node-a")] == ["old"]
    assert world.leases.release("container-old") != ()


def test_an_epoch_is_told_in_the_ledger_with_its_reason(world: World, epochs: EpochStore) -> None:
    epochs.begin(LOST, None, "node-a")
    epochs.settle(by="alice@here: the backup is of a minute ago")
    told = world.rows("SELECT node, reason, detail FROM event WHERE kind = 'EPOCH' ORDER BY seq")
    assert [(row[0], row[1]) for row in told] == [("node-a", LOST.why), ("", LOST.why)]
    assert '"what":"began"' in str(told[0][2])
    assert "alice@here: the backup" in str(told[1][2])
    world.ledger.seal()
    assert world.ledger.verify().ok


def test_a_strict_epoch_waits_for_every_node_that_holds_leases(
    world: World, epochs: EpochStore
) -> None:
    world.bind(NET, "a", node="node-a")
    world.bind(NET, "b", node="node-b")
    epoch = epochs.begin(LOST, None, "node-a")
    held_long_enough(world, epochs)
    epochs.told("node-a", epoch.number)
    assert epochs.missing() == ("node-b",)
    assert epochs.settle().closed
    epochs.told("node-b", epoch.number - 1)  # of another epoch
    assert epochs.settle().closed
    epochs.told("node-b", epoch.number)
    assert not epochs.settle().closed
    assert world.bind(NET, "c").pod == "c"


def test_an_epoch_after_a_move_waits_only_for_those_that_are_there(
    world: World, epochs: EpochStore
) -> None:
    world.bind(NET, "a", node="node-away")
    epochs.begin(MOVED, None, "node-a")
    assert epochs.settle().closed  # too early: a node that has seen more may still come
    held_long_enough(world, epochs)
    assert not epochs.settle().closed


def test_an_epoch_becomes_strict_when_a_node_has_seen_more(
    world: World, epochs: EpochStore
) -> None:
    world.bind(NET, "a", node="node-away")
    first = epochs.begin(MOVED, None, "node-a")
    second = epochs.begin(LOST, None, "node-b")
    assert (second.number, second.strict) == (first.number, True)
    held_long_enough(world, epochs)
    assert epochs.settle().closed


def test_a_clock_that_was_set_back_does_not_keep_an_epoch_closed(
    world: World, epochs: EpochStore
) -> None:
    epochs.begin(MOVED, None, "node-a")
    move_clock(world, epochs, -3600)
    assert not epochs.settle().closed


def test_what_rested_rests_anew_from_the_beginning_of_the_epoch(
    world: World, epochs: EpochStore
) -> None:
    """Its last holder may be one that is forgotten, and may have let go of it just now."""
    world.bind(NET, "gone")
    world.leases.release("container-gone")
    world.wait(COOLDOWN + 1)
    epoch = epochs.begin(LOST, None, "node-a")
    ((ready_at,),) = world.rows("SELECT ready_at FROM freed")
    assert ready_at == epoch.began_at + COOLDOWN * 1_000_000


def test_a_node_remembers_what_it_saw_in_this_epoch(world: World, epochs: EpochStore) -> None:
    world.bind(NET, "a")
    epochs.settle_home(epochs.look(None))
    mark = epochs.look(None).mark(0)
    assert judge(mark, epochs.look(mark)) is None
    world.bind(NET, "b")
    assert judge(mark, epochs.look(mark)) is None
    newer = epochs.look(None).mark(0)
    assert newer.seq > mark.seq
    assert newer.ledger


def test_an_event_that_retention_took_away_is_not_missed(world: World, epochs: EpochStore) -> None:
    """A node that was away for so long has forgotten nothing, and neither has the database."""
    world.bind(NET, "a")
    mark = epochs.look(None).mark(0)
    world.bind(NET, "b")
    world.ledger.seal()
    world.sql(
        "INSERT INTO pruned (no_from, no_to, txid_from, txid_to, count, at) "
        "SELECT no, no, txid_from, txid_to, count, at FROM seal"
    )
    world.sql("DELETE FROM event WHERE seq = :seq", seq=mark.seq)
    assert judge(mark, epochs.look(mark)) is None


def test_a_new_connection_is_examined_once_and_an_old_one_not_again(
    world: World, epochs: EpochStore
) -> None:
    """Behind a new one may be another database."""
    lost = replace(world.bind(NET, "web"), container_id="c-lost")
    mark = epochs.look(None).mark(0)
    with read(world.engine) as connection:
        assert not epochs.is_known(connection)
        found = epochs.examine(connection, mark, [lost])
        assert found is not None
        assert found.strict
        assert not epochs.is_known(connection)
        assert epochs.examine(connection, mark, []) is None
        assert epochs.is_known(connection)
    assert not epochs.look(mark).is_first
    world.engine.dispose()
    assert epochs.look(mark).is_first
    with read(world.engine) as connection:
        assert not epochs.is_known(connection)
