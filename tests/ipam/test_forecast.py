"""When a pool is full: what does not grow never is, jumps do not count, and a line is found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.ipam.forecast import HORIZON, exhausted_at, growth
from danmpy.ipam.retaining import DAY

HOUR = DAY // 24
NOW = 20_000 * DAY


def week(used: list[int]) -> list[tuple[int, int]]:
    return [(NOW - (len(used) - 1 - place) * HOUR, each) for place, each in enumerate(used)]


@given(st.integers(1, 50), st.integers(3, 168), st.integers(0, 10_000))
def test_steady_growth_is_told_exactly(step: int, count: int, free: int) -> None:
    samples = week([place * step for place in range(count)])
    told = exhausted_at(samples, free, NOW)
    assert told == pytest.approx(NOW + free / step * HOUR, rel=1e-9)


@given(st.lists(st.integers(0, 1000), max_size=168), st.integers(0, 10**30))
def test_the_answer_is_never_in_the_past_or_beyond_the_horizon(used: list[int], free: int) -> None:
    told = exhausted_at(week(used), free, NOW)
    assert told is None or NOW <= told <= NOW + HORIZON


@given(st.lists(st.integers(0, 1000), max_size=168))
def test_what_shrinks_or_stands_is_never_full(used: list[int]) -> None:
    assert exhausted_at(week(sorted(used, reverse=True)), 10, NOW) is None


@given(st.lists(st.integers(0, 1000), min_size=3, max_size=42), st.integers(1, 1000))
def test_moving_all_samples_up_changes_nothing(used: list[int], more: int) -> None:
    moved = [each + more for each in used]
    assert growth(week(moved)) == pytest.approx(growth(week(used)))


@given(st.integers(1, 100), st.integers(500, 900))
def test_a_burst_that_came_and_went_does_not_bend_it(step: int, burst: int) -> None:
    used = [place * step for place in range(168)]
    bent = [each + (burst * step if 80 <= place < 100 else 0) for place, each in enumerate(used)]
    assert growth(week(bent)) == pytest.approx(growth(week(used)), rel=0.35)


@pytest.mark.parametrize("samples", [[], week([1]), week([1, 2]), [(0, 1), (1, 2), (2, 3)]])
def test_a_past_that_is_too_short_says_nothing(samples: list[tuple[int, int]]) -> None:
    assert exhausted_at(samples, 5, NOW) is None


def test_a_full_pool_that_grows_is_full_now() -> None:
    assert exhausted_at(week([1, 2, 3]), 0, NOW) == NOW
