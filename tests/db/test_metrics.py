"""Prometheus sees how often transactions had to be begun anew, and why."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, Engine, text

from danmpy.db.engine import open_engine, run_write, write
from danmpy.db.errors import REASONS, TransientError
from danmpy.db.metrics import RetryMetrics

NAME = "danmpy_database_retries_total"


@pytest.fixture
def registry(engine: Engine) -> CollectorRegistry:
    made = CollectorRegistry()
    RetryMetrics(engine, made)
    return made


@pytest.fixture
def other(database_url: str) -> Iterator[Engine]:
    """Another process."""
    made = open_engine(database_url)
    yield made
    made.dispose()


def counted(registry: CollectorRegistry) -> dict[str, float]:
    found = {each: registry.get_sample_value(NAME, {"reason": each}) for each in REASONS}
    return {reason: value for reason, value in found.items() if value}


def test_every_reason_is_shown_before_anything_happened(registry: CollectorRegistry) -> None:
    assert {registry.get_sample_value(NAME, {"reason": each}) for each in REASONS} == {0.0}


def test_what_is_tried_again_is_counted_by_its_reason(
    engine: Engine, registry: CollectorRegistry
) -> None:
    tries = iter(["collision", "lock", "collision"])

    def work(connection: Connection) -> int:
        for reason in tries:
            raise TransientError("again", hint="h", subject="s", reason=reason)
        return 1

    assert run_write(engine, work) == 1
    assert counted(registry) == {"collision": 2, "lock": 1}


def test_a_lock_of_another_process_is_named(
    engine: Engine, other: Engine, registry: CollectorRegistry
) -> None:
    is_sqlite = engine.dialect.name == "sqlite"
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with write(other) as connection:
            connection.execute(text("UPDATE meta SET value = value"))
            held.set()
            done.wait(10)

    def work(connection: Connection) -> None:
        connection.execute(text("UPDATE meta SET value = value"))

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        held.wait(10)
        timer = threading.Timer(2.4 if is_sqlite else 1.2, done.set)
        timer.start()
        run_write(engine, work)
        timer.cancel()
    finally:
        done.set()
        thread.join()
    assert set(counted(registry)) == {"busy" if is_sqlite else "lock"}
