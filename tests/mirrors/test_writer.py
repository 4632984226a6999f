from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from danmpy.errors import DanmpyError, StoreError
from danmpy.kube.errors import error_of, unreachable
from danmpy.mirrors.writer import LINGER_MOST_S, LINGER_S, MOST_S, Writer
from support.netns import wait_until


class Mirror:
    """Counts its turns; a test says how they end."""

    def __init__(
        self, name: str, place: str = "API server", ends: Callable[[], float | None] | None = None
    ) -> None:
        self.name = name
        self.place = place
        self.ends = ends or (lambda: None)
        self.turns: list[float] = []

    def run(self, now: float) -> float | None:
        self.turns.append(now)
        return self.ends()


def failing(error: Exception) -> Callable[[], float | None]:
    def end() -> float | None:
        raise error

    return end


class Hand:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_each_target_has_a_turn_at_once_and_then_when_it_asked_for_one() -> None:
    clock = Hand()
    one, other = Mirror("one", ends=lambda: 3.0), Mirror("other")
    writer = Writer([one, other], seconds=clock)
    assert writer.run_due() == 3.0
    clock.now += 1
    assert writer.run_due() == 2.0
    clock.now += 2
    writer.run_due()
    assert (len(one.turns), len(other.turns)) == (2, 1)


def test_an_api_server_that_is_away_is_asked_by_one_target_and_the_database_goes_on() -> None:
    clock = Hand()
    one = Mirror("one", ends=failing(unreachable("refused", "x")))
    other, rows = Mirror("other"), Mirror("rows", "database", lambda: 0.1)
    writer = Writer([one, other, rows], seconds=clock)
    for _ in range(600):
        writer.run_due()
        clock.now += 0.1
    assert len(rows.turns) == 600
    assert other.turns == []
    assert 60 / MOST_S <= len(one.turns) <= 60 / MOST_S + 6
    one.ends = lambda: None
    clock.now += MOST_S  # the server is back: everything is told within this time
    writer.run_due()
    assert len(other.turns) == 1


@pytest.mark.parametrize(
    "error", [StoreError("away", hint="wait"), error_of(403, {}, "x"), KeyError("a bug")]
)
def test_what_fails_for_one_target_is_tried_again_and_stops_no_other(
    error: DanmpyError | Exception,
) -> None:
    clock = Hand()
    one, other = Mirror("one", ends=failing(error)), Mirror("other", ends=lambda: 0.1)
    writer = Writer([one, other], seconds=clock)
    for _ in range(100):
        writer.run_due()
        clock.now += 0.1
    assert len(other.turns) == 100
    assert 3 <= len(one.turns) <= 8


def test_a_wake_is_a_turn_for_all_soon_after_and_many_wakes_are_one() -> None:
    one = Mirror("one")
    writer = Writer([one])
    writer.start()
    try:
        wait_until(lambda: len(one.turns) == 1, what="first turn")
        began = time.perf_counter()
        for _ in range(1000):
            writer.wake()
        assert time.perf_counter() - began < 0.5
        wait_until(lambda: len(one.turns) == 2, what="turn after the wake")
        assert one.turns[1] - one.turns[0] >= LINGER_S
        time.sleep(3 * LINGER_S)
        assert len(one.turns) == 2
    finally:
        writer.close()


def test_a_stream_of_wakes_is_a_turn_a_second() -> None:
    one = Mirror("one")
    writer = Writer([one])
    writer.start()
    try:
        wait_until(lambda: len(one.turns) == 1, what="first turn")
        until = time.monotonic() + 2.5 * LINGER_MOST_S
        while time.monotonic() < until:
            writer.wake()
            time.sleep(LINGER_S / 4)
        assert 2 <= len(one.turns) <= 4
    finally:
        writer.close()


def test_a_wake_does_not_hurry_what_is_away() -> None:
    one = Mirror("one", ends=failing(unreachable("refused", "x")))
    writer = Writer([one])
    writer.start()
    try:
        for _ in range(20):
            writer.wake()
            time.sleep(0.05)
    finally:
        writer.close()
    assert len(one.turns) <= 3


def test_it_ends_also_while_a_target_asks_for_turns_without_end() -> None:
    writer = Writer([Mirror("one", ends=lambda: 0.0)])
    writer.start()
    time.sleep(0.1)
    writer.close()
    assert "mirrors" not in {thread.name for thread in threading.enumerate()}


def test_one_that_was_never_started_can_be_closed() -> None:
    Writer([]).close()
