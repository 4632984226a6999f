from __future__ import annotations

from danmpy.attach.retries import MOST_S, Retries


def test_what_never_failed_may_be_tried_at_once() -> None:
    assert Retries().is_due("a", 0.0)


def test_what_keeps_failing_is_tried_ever_more_rarely_and_never_given_up() -> None:
    retries = Retries()
    now, waits = 100.0, []
    for _ in range(8):
        retries.failed("a", now)
        began = now
        while not retries.is_due("a", now):
            now += 0.5
        waits.append(now - began)
    assert waits == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, MOST_S, MOST_S]
    assert retries.is_due("b", now)


def test_what_is_gone_is_not_remembered() -> None:
    retries = Retries()
    for thing in "ab":
        retries.failed(thing, 0.0)
    retries.keep({"b", "c"})
    assert retries.is_due("a", 0.0)
    assert not retries.is_due("b", 0.0)


def test_a_success_begins_anew() -> None:
    retries = Retries()
    retries.failed("a", 0.0)
    retries.forget("a")
    assert retries.is_due("a", 0.0)
    retries.failed("a", 0.0)
    assert retries.is_due("a", 2.0)
