"""When the leader looks."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from danmpy.controller.loops import Loop
from danmpy.errors import StoreError
from support.netns import wait_until


class Leadership:
    def __init__(self) -> None:
        self.leads = True
        self.term = 1

    def leading(self) -> bool:
        return self.leads

    def outgrow(self, term: int) -> None:
        self.term = term + 1


class Looks:
    """Counts looks; raises what it is told to."""

    def __init__(self) -> None:
        self.count = 0
        self.error: Exception | None = None
        self.looked = threading.Event()

    def look(self) -> bool:
        self.count += 1
        self.looked.set()
        if self.error is not None:
            raise self.error
        return False


@pytest.fixture
def parts() -> Iterator[tuple[Loop, Looks, Leadership, CollectorRegistry]]:
    looks, leader, registry = Looks(), Leadership(), CollectorRegistry()
    loop = Loop(looks, leader, registry)  # type: ignore[arg-type]
    yield loop, looks, leader, registry
    loop.close()


Parts = tuple[Loop, Looks, Leadership, CollectorRegistry]


def test_a_wake_is_followed_by_a_look(parts: Parts) -> None:
    loop, looks, _, registry = parts
    loop.start()
    wait_until(lambda: looks.count == 1)
    loop.wake()
    wait_until(lambda: looks.count == 2, seconds=1)
    assert registry.get_sample_value("danmpy_controller_leads") == 1


def test_who_does_not_lead_does_not_look(parts: Parts) -> None:
    loop, looks, leader, _ = parts
    leader.leads = False
    loop.start()
    loop.wake()
    assert not looks.looked.wait(0.4)


@pytest.mark.parametrize("error", [StoreError("away", hint="", subject=""), ValueError("a defect")])
def test_a_look_that_fails_is_repeated_soon_and_said(parts: Parts, error: Exception) -> None:
    loop, looks, _, _ = parts
    looks.error = error
    loop.start()
    wait_until(lambda: bool(loop.error))
    wait_until(lambda: looks.count >= 2, seconds=3)
    looks.error = None
    wait_until(lambda: not loop.error, seconds=3)
