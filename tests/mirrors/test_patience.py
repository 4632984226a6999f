from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from danmpy.mirrors.patience import FIRST_S, Delay, Delays


@given(failures=st.integers(1, 80), most=st.floats(1, 600))
def test_waits_double_up_to_the_most_and_a_success_ends_them(failures: int, most: float) -> None:
    delay = Delay(most_s=most)
    waits = []
    for _ in range(failures):
        delay = delay.after_failure(100.0)
        waits.append(delay.until - 100.0)
    assert waits[0] == min(FIRST_S, most) or abs(waits[0] - FIRST_S) < 1e-9
    assert all(low <= high for low, high in pairwise(waits))
    assert max(waits) <= most + 1e-9
    assert delay.after_success() == Delay(most_s=most)


def test_one_thing_that_fails_does_not_stop_another() -> None:
    delays: Delays[str] = Delays(60.0, {})
    assert delays.next_s(0.0) is None
    assert delays.note_failure("a", 10.0)
    assert not delays.note_failure("a", 10.5)
    assert not delays.may("a", 11.0)
    assert delays.may("b", 11.0)
    assert delays.next_s(11.0) == 0.5
    assert delays.may("a", 11.5)
    delays.note_success("a")
    assert delays.may("a", 11.0)


def test_what_is_not_wanted_any_more_is_forgotten() -> None:
    delays: Delays[str] = Delays(60.0, {})
    for key in "abc":
        delays.note_failure(key, 0.0)
    delays.keep({"b"})
    assert set(delays.of) == {"b"}
