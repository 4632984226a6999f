"""Many processes on one pool while the database crashes, connections break and processes die."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from danmpy.db.migrate import upgrade
from support.databases import PostgresServer
from support.interpose import Interposer
from support.ownserver import OwnServer, own_server
from support.storm import Storm

pytestmark = pytest.mark.system

PROCESSES = 16
SEED = int(os.environ.get("DANMPY_CHAOS_SEED") or random.SystemRandom().randrange(10**6))

Storms = Callable[[str], Storm]


@pytest.fixture
def storms(tmp_path: Path) -> Iterator[Storms]:
    made: list[Storm] = []

    def make(url: str) -> Storm:
        made.append(Storm(url, tmp_path, range(PROCESSES)))
        return made[-1]

    yield make
    for storm in made:
        storm.close()


@pytest.fixture
def dice() -> random.Random:
    print(f"DANMPY_CHAOS_SEED={SEED}")
    return random.Random(SEED)


def is_patient(storm: Storm) -> None:
    """Every refusal came in time, with code 11, and named the database."""
    away = storm.said("away")
    assert away
    for _, seconds, code, words in away:
        assert float(seconds) < 5, words
        assert code == "11"
        assert "postgresql+psycopg://" in words
        assert "correct-horse" not in words


@pytest.fixture
def crashing() -> Iterator[OwnServer]:
    with own_server() as server:
        yield server


def test_a_server_that_crashes_under_load_loses_nothing_that_was_answered(
    crashing: OwnServer, storms: Storms, dice: random.Random
) -> None:
    url = crashing.server.url(crashing.server.make_database())
    upgrade(url)
    storm = storms(url)
    storm.start()
    storm.wait_for_binds(50)
    workers = sorted(storm.children())
    for _ in range(3):
        time.sleep(dice.uniform(0.2, 1.0))
        crashing.crash()
        time.sleep(dice.uniform(0, 1.0))
        crashing.start()
        storm.wait_for_binds(50)
    assert sorted(storm.children()) == workers  # none was started anew
    storm.stop()
    is_patient(storm)
    storm.check()


def test_a_server_that_is_away_for_long_is_used_again_without_a_restart(
    crashing: OwnServer, storms: Storms
) -> None:
    url = crashing.server.url(crashing.server.make_database())
    upgrade(url)
    storm = storms(url)
    storm.start()
    storm.wait_for_binds(50)
    crashing.crash()
    time.sleep(6)
    held = len(storm.said("held"))
    crashing.start()
    storm.wait_for_binds(50)
    assert held > 0
    storm.stop()
    is_patient(storm)
    storm.check()


def test_connections_that_are_cut_at_any_moment_lose_nothing(
    postgresql: PostgresServer, postgresql_url: str, storms: Storms, dice: random.Random
) -> None:
    """By a middleman, so that nobody says goodbye, and by the server's own administrator."""
    name = postgresql_url.rpartition("/")[2]
    middle = Interposer(postgresql.port)
    over = threading.Event()

    def terminate() -> None:
        while not over.wait(0.05):
            postgresql.run_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
                f"'{name}' AND random() < 0.2"
            )

    terminator = threading.Thread(target=terminate)
    try:
        storm = storms(postgresql_url.replace(f":{postgresql.port}/", f":{middle.port}/"))
        storm.start()
        storm.wait_for_binds(20)
        terminator.start()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            time.sleep(dice.uniform(0.05, 0.4))
            middle.cut()
        over.set()
        terminator.join()
        storm.wait_for_binds(50)
        storm.stop()
        storm.check()
    finally:
        over.set()
        middle.close()


def test_processes_that_are_killed_at_any_moment_leave_whole_leases(
    database_url: str, storms: Storms, dice: random.Random
) -> None:
    storm = storms(database_url)
    storm.start()
    storm.wait_for_binds(20)
    kills = 0
    for _ in range(3):
        for _ in range(PROCESSES - 4):
            kills += storm.kill_one(dice)
            time.sleep(dice.uniform(0, 0.08))
        storm.start()  # others, beside what is left
        storm.wait_for_binds(50)
    assert kills > PROCESSES
    storm.stop()
    storm.check()
