"""Which nodes count as there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from danmpy.controller.presence import ABSENT_S, Presence

A, B = frozenset({"a"}), frozenset({"b"})
NONE: frozenset[str] = frozenset()


def test_a_node_that_is_missing_for_a_moment_counts_as_there() -> None:
    presence = Presence()
    presence.note(A | B, NONE, 0)
    for second in range(10, 120, 10):
        assert presence.note(A, NONE, second) == A | B
    presence.note(A | B, NONE, 120)
    assert presence.note(A, NONE, 140) == A | B, "it was back, so it is missing anew"


def test_a_node_that_is_missing_for_more_than_two_minutes_is_gone() -> None:
    presence = Presence()
    presence.note(A | B, NONE, 0)
    for second in range(1, 122, 10):
        presence.note(A, NONE, second)
    assert presence.note(A, NONE, 122) == A
    assert presence.note(A | B, NONE, 123) == A | B


def test_a_node_of_which_there_are_only_reports_is_waited_for_from_the_first_look() -> None:
    presence = Presence()
    assert presence.note(A, B, 1000) == A | B
    for second in range(1010, 1121, 10):
        assert presence.note(A, NONE, second) == A | B
    assert presence.note(A, NONE, 1121) == A


def test_a_time_without_looks_proves_nothing() -> None:
    presence = Presence()
    presence.note(A | B, NONE, 0)
    presence.note(A, NONE, 10)
    assert presence.note(A, NONE, 500) == A | B
    assert presence.note(A, B, 510) == A | B


@given(
    looks=st.lists(st.tuples(st.integers(1, 60), st.booleans()), min_size=1, max_size=60),
)
def test_who_was_seen_in_the_last_two_minutes_is_never_gone(
    looks: list[tuple[int, bool]],
) -> None:
    presence, now, seen_at = Presence(), 0, 0
    presence.note(A | B, NONE, now)
    for wait, is_there in looks:
        now += wait
        seen_at = now if is_there else seen_at
        found = presence.note(A | B if is_there else A, NONE, now)
        if now - seen_at <= ABSENT_S:
            assert "b" in found


@given(waits=st.lists(st.integers(1, 30), min_size=20, max_size=60))
def test_who_is_missing_in_every_look_is_gone_in_the_end(waits: list[int]) -> None:
    presence, times = Presence(), [0]
    presence.note(A | B, NONE, 0)
    found = A | B
    for wait in waits:
        times.append(times[-1] + wait)
        found = presence.note(A, NONE, times[-1])
    if times[-1] - times[1] > ABSENT_S:
        assert found == A
