"""Times as text and back, and clocks that go the right way."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.clock import MICROSECONDS, from_rfc3339, monotonic, sleep, to_rfc3339, wall_clock

YEAR_9999 = 253_402_300_799 * MICROSECONDS


@given(st.integers(min_value=0, max_value=YEAR_9999))
def test_a_time_survives_the_way_into_text_and_back(micros: int) -> None:
    assert from_rfc3339(to_rfc3339(micros)) == micros


@given(st.integers(0, YEAR_9999), st.integers(0, YEAR_9999))
def test_texts_sort_as_their_times_do(first: int, second: int) -> None:
    assert (first < second) == (to_rfc3339(first) < to_rfc3339(second))


def test_the_text_is_utc_with_all_six_digits() -> None:
    assert to_rfc3339(0) == "1970-01-01T00:00:00.000000Z"
    assert to_rfc3339(1_777_889_700_000_001) == "2026-05-04T10:15:00.000001Z"
    assert to_rfc3339(from_rfc3339("0001-01-01")) == "0001-01-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    "text",
    [
        "2026-05-04T10:15:00Z",
        "2026-05-04T10:15:00",
        "2026-05-04 10:15",
        "2026-05-04T12:15:00+02:00",
        "2026-05-04T10:15:00.000000Z",
    ],
)
def test_offsets_are_honoured_and_their_absence_means_utc(text: str) -> None:
    assert to_rfc3339(from_rfc3339(text)) == "2026-05-04T10:15:00.000000Z"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-13-01",
        "10:15",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_rfc3339(text)


def test_the_wall_clock_tells_microseconds_of_now() -> None:
    before = datetime.now(UTC).timestamp()
    told = wall_clock() / MICROSECONDS
    assert before - 0.001 <= told <= datetime.now(UTC).timestamp() + 0.001


def test_sleep_rests_at_least_as_long_as_asked_by_the_monotonic_clock() -> None:
    began, reference = monotonic(), time.monotonic()
    sleep(0.01)
    assert monotonic() - began >= 0.01
    assert time.monotonic() - reference >= 0.01
