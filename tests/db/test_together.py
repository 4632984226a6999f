"""Writers of one SQLite file that share a commit: the same for each as if it were alone."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event, text

from danmpy.db.engine import open_engine, read, run_write, write
from danmpy.db.errors import TransientError
from danmpy.db.together import BATCH
from danmpy.errors import IntentError, StoreError
from support.processes import clean_environment

PUT = text("INSERT INTO meta (key, value) VALUES (:key, 'x')")
KEYS = text("SELECT key FROM meta WHERE key LIKE 'k%' ORDER BY key")


@pytest.fixture
def sqlite_engine(sqlite_url: str):
    engine = open_engine(sqlite_url)
    yield engine
    engine.dispose()


def keys(engine) -> list[str]:
    with read(engine) as connection:
        return list(connection.execute(KEYS).scalars())


def put(key: str, error: Exception | None = None):
    def work(connection) -> str:
        connection.execute(PUT, {"key": key})
        if error is not None:
            raise error
        return key

    return work


def wrong(message: str = "wrong") -> IntentError:
    return IntentError(message, hint="none", subject="test")


def at_once(engine, works) -> list[object]:
    """The answers, or errors, of `works`; all of them wait before the first one may begin."""
    answers: list[object] = [None] * len(works)

    def run(number: int) -> None:
        try:
            answers[number] = run_write(engine, works[number])
        except Exception as error:
            answers[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    with write(engine):
        for thread in threads:
            thread.start()
        writers = engine.get_execution_options()["danmpy_queue"]
        deadline = time.monotonic() + 10
        while len(writers._waiting) < len(works) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert len(writers._waiting) == len(works)
    for thread in threads:
        thread.join(timeout=20)
    return answers


def commits(engine) -> list[int]:
    """Grows by one with every commit from now on."""
    done: list[int] = []
    event.listen(engine, "commit", lambda _: done.append(1))
    return done


def test_those_that_wait_share_one_commit(sqlite_engine) -> None:
    done = commits(sqlite_engine)
    answers = at_once(sqlite_engine, [put(f"k{number:02}") for number in range(20)])
    assert answers == keys(sqlite_engine) == [f"k{number:02}" for number in range(20)]
    assert len(done) <= 4  # that of the turn before them, theirs, and of those that came late


def test_a_batch_has_an_end(sqlite_engine) -> None:
    done = commits(sqlite_engine)
    at_once(sqlite_engine, [put(f"k{number:03}") for number in range(2 * BATCH + 1)])
    assert len(keys(sqlite_engine)) == 2 * BATCH + 1
    assert len(done) >= 4


@settings(max_examples=25)
@given(wishes=st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=12))
def test_any_mix_gives_each_what_it_would_get_alone(
    wishes: list[tuple[int, bool]], sqlite_template: Path
) -> None:
    # Several ask for one key: only one of those that mean it can have it.
    folder = Path(tempfile.mkdtemp(prefix="dt-together-"))
    shutil.copyfile(sqlite_template, folder / "danmpy.db")
    engine = open_engine(f"sqlite:///{folder}/danmpy.db")
    try:
        works = [
            put(f"k{key}", wrong(str(no)) if bad else None) for no, (key, bad) in enumerate(wishes)
        ]
        answers = at_once(engine, works)
        assert keys(engine) == sorted({f"k{key}" for key, bad in wishes if not bad})
        for no, ((key, bad), answer) in enumerate(zip(wishes, answers, strict=True)):
            if bad:
                # Its own error, or that of the key, which comes first.
                assert isinstance(answer, StoreError) or str(no) in str(answer)
            else:
                assert answer == f"k{key}" or "UNIQUE" in str(answer)
        meant = [key for key, bad in wishes if not bad]
        got = [answer for answer in answers if isinstance(answer, str)]
        assert sorted(got) == sorted({f"k{key}" for key in meant})
    finally:
        engine.dispose()
        shutil.rmtree(folder)


def test_nobody_is_answered_before_the_commit(sqlite_engine, sqlite_url) -> None:
    path = sqlite_url.removeprefix("sqlite:///")
    missing: list[str] = []

    def work(key: str):
        run_write(sqlite_engine, put(key))
        with sqlite3.connect(path) as other:
            if not other.execute("SELECT 1 FROM meta WHERE key = ?", (key,)).fetchone():
                missing.append(key)
        other.close()

    threads = [threading.Thread(target=work, args=(f"k{number}",)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert missing == []
    assert len(keys(sqlite_engine)) == 16


def test_a_commit_that_fails_fails_for_all_and_is_tried_again_by_each(sqlite_engine) -> None:
    failures = [TransientError("the disk", hint="none", subject="database")]

    def fail(_connection) -> None:
        if failures and len(keys_inside(_connection)) > 1:
            raise failures.pop()

    def keys_inside(connection) -> list[str]:
        return list(connection.exec_driver_sql("SELECT key FROM meta WHERE key LIKE 'k%'"))

    event.listen(sqlite_engine, "commit", fail)
    answers = at_once(sqlite_engine, [put(f"k{number}") for number in range(8)])
    assert failures == []
    assert answers == keys(sqlite_engine) == [f"k{number}" for number in range(8)]


def test_a_commit_that_cannot_succeed_is_an_error_of_each_and_leaves_nothing(sqlite_engine) -> None:
    armed = threading.Event()

    def fail(_connection) -> None:
        if armed.is_set():
            raise StoreError("the disk is full", hint="none", subject="database")

    event.listen(sqlite_engine, "commit", fail)
    works = [put(f"k{number}") for number in range(5)]

    def arming(connection) -> str:
        armed.set()
        return works[0](connection)

    answers = at_once(sqlite_engine, [arming, *works[1:]])
    armed.clear()
    assert all("the disk is full" in str(answer) for answer in answers)
    assert len({id(answer) for answer in answers}) == 5
    assert keys(sqlite_engine) == []


def test_a_writer_that_is_interrupted_leaves_the_others_to_try_again(sqlite_engine) -> None:
    answers: list[str] = []

    def interrupted() -> None:
        def work(connection) -> None:
            begun.set()
            for _ in range(500):
                if writers._waiting:
                    break
                time.sleep(0.01)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_write(sqlite_engine, work)

    writers = sqlite_engine.get_execution_options()["danmpy_queue"]
    begun = threading.Event()
    first = threading.Thread(target=interrupted)
    first.start()
    begun.wait(timeout=10)
    answers.append(run_write(sqlite_engine, put("k1")))
    first.join(timeout=10)
    assert answers == keys(sqlite_engine) == ["k1"]


KILLED = """
import sys, threading
from sqlalchemy import text
from danmpy.db.engine import open_engine, run_write
engine = open_engine(sys.argv[1])
PUT = text("INSERT INTO meta (key, value) VALUES (:key, 'x')")
lock = threading.Lock()
def run(number):
    for turn in range(1000):
        keys = [f"k{number}-{turn}-{part}" for part in "ab"]
        def work(connection):
            for key in keys:
                connection.execute(PUT, {"key": key})
        run_write(engine, work)
        with lock:
            print(keys[0], flush=True)
for number in range(8):
    threading.Thread(target=run, args=(number,)).start()
"""


def test_what_was_answered_is_there_after_a_kill_and_nothing_is_there_by_halves(
    sqlite_engine, sqlite_url
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, sqlite_url],
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment({}),
    )
    try:
        answered = [process.stdout.readline().strip() for _ in range(200)]
        os.kill(process.pid, signal.SIGKILL)
        answered += process.stdout.read().splitlines()[:-1]
    finally:
        process.kill()
        process.wait(timeout=10)
        process.stdout.close()
    stored = set(keys(sqlite_engine))
    assert set(answered) <= stored
    assert {key[:-2] for key in stored if key.endswith("a")} == {
        key[:-2] for key in stored if key.endswith("b")
    }


def test_readers_go_on_while_many_write(sqlite_engine) -> None:
    stop = threading.Event()
    seen: list[int] = []

    def look() -> None:
        while not stop.is_set():
            seen.append(len(keys(sqlite_engine)))

    reader = threading.Thread(target=look)
    reader.start()
    for turn in range(5):
        at_once(sqlite_engine, [put(f"k{turn}-{number}") for number in range(10)])
    stop.set()
    reader.join(timeout=10)
    assert seen == sorted(seen)
    assert len(keys(sqlite_engine)) == 50
