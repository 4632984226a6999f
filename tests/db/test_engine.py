"""Engines and transactions: what happens when a database is missing, busy, broken or far away."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from danmpy.clock import wall_clock
from danmpy.db import engine as engine_module
from danmpy.db.engine import (
    database_now,
    open_engine,
    parse_url,
    read,
    run_write,
    snapshot,
    write,
)
from danmpy.db.errors import TransientError
from danmpy.errors import StoreError
from support.processes import clean_environment
from support.requirements import need

NOTE = text("INSERT INTO meta (key, value) VALUES (:key, 'x')")
COUNT = text("SELECT count(*) FROM meta")


def put(engine, key: str) -> None:
    run_write(engine, lambda connection: connection.execute(NOTE, {"key": key}))


def count(engine) -> int:
    with read(engine) as connection:
        return connection.execute(COUNT).scalar_one()


@contextmanager
def opened(url: str, **more) -> Iterator:
    engine = open_engine(url, **more)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def lock_of_another_process(url: str) -> Iterator[subprocess.Popen]:
    """Another process that holds the write lock of a SQLite file until its input ends."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, url.removeprefix("sqlite:///")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        yield holder
    finally:
        holder.stdin.close()
        holder.kill()
        holder.stdout.close()
        holder.wait(timeout=10)


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://host/db", "sqlite://", "sqlite:///:memory:", "oracle+x://h/d"]
)
def test_what_is_no_usable_url_is_refused_with_examples(url) -> None:
    with pytest.raises(StoreError) as caught:
        parse_url(url)
    assert "postgresql+psycopg://" in caught.value.hint


def test_postgresql_urls_use_psycopg() -> None:
    assert parse_url("postgresql://u@h/d").drivername == "postgresql+psycopg"


def test_what_was_written_is_read_and_what_failed_is_undone(engine) -> None:
    put(engine, "kept")

    def fail(connection) -> None:
        connection.execute(NOTE, {"key": "lost"})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_write(engine, fail)

    assert count(engine) == 2  # and the ledger's own id


def test_a_read_cannot_write(postgresql_url) -> None:
    def put_in_a_read(engine) -> None:
        with read(engine) as connection:
            connection.execute(NOTE, {"key": "x"})

    with opened(postgresql_url) as engine, pytest.raises(StoreError, match="read-only"):
        put_in_a_read(engine)


def test_a_snapshot_sees_one_moment(engine) -> None:
    with snapshot(engine) as connection:
        before = connection.execute(COUNT).scalar_one()
        thread = threading.Thread(target=put, args=(engine, "meanwhile"))
        thread.start()
        thread.join(timeout=10)
        assert connection.execute(COUNT).scalar_one() == before
    assert count(engine) == before + 1


def test_a_report_may_take_longer_than_an_add_and_nobody_after_it(postgresql_url) -> None:
    slow = text("SELECT pg_sleep(2.2)")
    with opened(postgresql_url) as engine:
        with snapshot(engine) as connection:
            connection.execute(slow)
        with pytest.raises(StoreError) as caught:
            run_write(engine, lambda other: other.execute(slow))
    assert "too slow" in caught.value.hint


def test_commits_of_sqlite_survive_a_power_cut(sqlite_url) -> None:
    with opened(sqlite_url) as engine, read(engine) as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert pragmas == ["wal", 2, 1]


def test_time_is_that_of_postgresql_and_for_sqlite_that_of_the_clock(engine) -> None:
    with read(engine) as connection:
        now = database_now(connection, lambda: 17)
    if engine.dialect.name == "sqlite":
        assert now == 17
    else:
        assert abs(now - wall_clock()) < 60_000_000


def test_a_missing_file_is_not_made_by_looking_at_it(tmp_path) -> None:
    path = tmp_path / "missing.db"

    with opened(f"sqlite:///{path}") as engine, pytest.raises(StoreError) as caught:
        count(engine)

    assert "danmpy db upgrade" in caught.value.hint
    assert str(path) in caught.value.message
    assert not path.exists()


def test_a_file_that_is_deleted_or_replaced_is_noticed(sqlite_url, tmp_path) -> None:
    path = tmp_path / "danmpy.db"
    backup = tmp_path / "backup.db"
    shutil.copyfile(path, backup)
    with opened(sqlite_url) as engine:
        put(engine, "lost with the file")
        path.unlink()
        for action in (count, lambda engine: put(engine, "x")):
            with pytest.raises(StoreError) as caught:
                action(engine)
            assert "danmpy db upgrade" in caught.value.hint
        assert not path.exists()

        for rest in tmp_path.glob("danmpy.db-*"):
            rest.unlink()
        backup.rename(path)
        assert count(engine) == 1
        put(engine, "x")
        assert count(engine) == 2


def test_a_file_that_is_no_database_is_named(tmp_path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are my notes.\n" * 100)

    with opened(f"sqlite:///{path}") as engine, pytest.raises(StoreError) as caught:
        count(engine)

    assert "no SQLite database" in caught.value.hint


def test_an_empty_database_asks_for_the_migration(tmp_path) -> None:
    path = tmp_path / "empty.db"
    sqlite3.connect(path).close()
    path.touch()

    with opened(f"sqlite:///{path}") as engine, pytest.raises(StoreError) as caught:
        count(engine)

    assert "danmpy db upgrade" in caught.value.hint


def test_a_lock_of_another_process_that_goes_is_waited_for(sqlite_url) -> None:
    with opened(sqlite_url) as engine, lock_of_another_process(sqlite_url) as holder:
        threading.Timer(0.5, holder.stdin.close).start()
        put(engine, "x")
        assert count(engine) == 2


def test_a_lock_of_another_process_that_stays_is_reported_within_five_seconds(sqlite_url) -> None:
    with opened(sqlite_url) as engine, lock_of_another_process(sqlite_url):
        start = time.monotonic()
        with pytest.raises(StoreError) as caught:
            put(engine, "x")
        assert time.monotonic() - start < 5.5
        assert count(engine) == 1  # readers are not held up

    assert "another process holds the database" in caught.value.hint
    assert not isinstance(caught.value, TransientError)


@pytest.fixture
def short(monkeypatch) -> None:
    """The time for new tries is a tenth: most tests need not wait for all of it."""
    monkeypatch.setattr(engine_module, "_LAST_START_S", engine_module._LAST_START_S / 10)


def test_the_last_try_begins_early_enough_to_end_within_five_seconds() -> None:
    assert engine_module._LAST_START_S + engine_module._BUSY_S <= 5


@pytest.mark.usefixtures("short")
def test_a_stuck_writer_of_this_process_is_reported_in_time(sqlite_url) -> None:
    with opened(sqlite_url) as engine, write(engine):
        start = time.monotonic()
        with pytest.raises(StoreError, match="busy"):
            put(engine, "x")
        assert time.monotonic() - start < 0.5


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_file_or_folder_that_may_not_be_written_is_reported(what, sqlite_template) -> None:
    need("root")  # to become somebody who may not do everything
    nobody = pwd.getpwnam("nobody").pw_uid
    folder = Path(tempfile.mkdtemp(prefix="dt-read-only-"))
    try:
        path = folder / "danmpy.db"
        shutil.copyfile(sqlite_template, path)
        path.chmod(0o444 if what == "file" else 0o666)
        folder.chmod(0o777 if what == "file" else 0o755)
        code = (
            "import sys; from danmpy.db.engine import open_engine, run_write\n"
            "from danmpy.errors import StoreError\n"
            "from sqlalchemy import text\n"
            "engine, change = open_engine(sys.argv[1]), text('DELETE FROM meta')\n"
            "try: run_write(engine, lambda connection: connection.execute(change))\n"
            "except StoreError as error: print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, f"sqlite:///{path}"],
            capture_output=True,
            text=True,
            user=nobody,
            group=nobody,
            extra_groups=[],
            env=clean_environment({"HOME": "/"}),
            cwd="/",
            timeout=60,
        )
    finally:
        shutil.rmtree(folder)
    assert str(path) in done.stdout, done.stderr
    assert "writ" in done.stdout or "opened" in done.stdout


def test_a_server_that_does_not_run_is_reported_at_once() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"postgresql://danmpy:secret-word@127.0.0.1:{reserved.getsockname()[1]}/x"
        with opened(url) as engine:
            start = time.monotonic()
            with pytest.raises(StoreError) as caught:
                put(engine, "x")
    assert time.monotonic() - start < 5
    assert "check that the server runs" in caught.value.hint
    assert "secret-word" not in str(caught.value)


def test_a_server_that_does_not_answer_is_given_up_within_five_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"postgresql://danmpy:secret-word@127.0.0.1:{silent.getsockname()[1]}/x"
        with opened(url) as engine:
            start = time.monotonic()
            with pytest.raises(StoreError):
                put(engine, "x")
    assert time.monotonic() - start < 5


def test_a_wrong_password_is_not_printed_and_leads_to_the_setting(postgresql) -> None:
    url = postgresql.url("postgres").replace("correct-horse-battery", "wrong-secret-word")
    with opened(url) as engine:
        with pytest.raises(StoreError) as caught:
            count(engine)
        shown = f"{caught.value} {caught.value!r} {engine!r}"

    assert caught.value.hint == "check the password in database_url"
    assert "wrong-secret-word" not in shown
    assert "correct-horse-battery" not in shown


def test_a_database_that_is_missing_is_named(postgresql) -> None:
    with opened(postgresql.url("nowhere")) as engine, pytest.raises(StoreError) as caught:
        count(engine)
    assert "nowhere" in str(caught.value)
    assert "create the database" in caught.value.hint


def test_after_a_restart_of_the_server_the_next_read_and_write_succeed(
    postgresql, postgresql_url
) -> None:
    with opened(postgresql_url) as engine:
        put(engine, "before")
        cut = (
            # They are gone when it answers, as they are after a restart.
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'danmpy'"
        )
        postgresql.run_sql(cut)
        assert count(engine) == 2
        postgresql.run_sql(cut)
        put(engine, "after")
        assert count(engine) == 3


def test_a_connection_that_dies_in_the_middle_is_tried_again(postgresql, postgresql_url) -> None:
    tries = []

    def work(connection) -> None:
        tries.append(1)
        connection.execute(NOTE, {"key": "once"})
        if len(tries) == 1:
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            postgresql.run_sql(f"SELECT pg_terminate_backend({pid})")

    with opened(postgresql_url) as engine:
        run_write(engine, work)
        assert count(engine) == 2
    assert len(tries) == 2


@contextmanager
def stopped(engine, server) -> Iterator[None]:
    """The server of `engine` with all its connections, as when its machine hangs."""
    pids = [server.pid]
    with read(engine) as connection:
        query = "SELECT pid FROM pg_stat_activity WHERE pid IS NOT NULL"
        pids += connection.exec_driver_sql(query).scalars().all()
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_a_server_that_hangs_is_given_up_within_five_seconds(postgresql, postgresql_url) -> None:
    with opened(postgresql_url) as engine:
        with stopped(engine, postgresql):
            start = time.monotonic()
            with pytest.raises(StoreError):
                count(engine)
            assert time.monotonic() - start < 5.5
        put(engine, "afterwards")
        assert count(engine) == 2


def test_a_server_that_hangs_in_the_middle_of_the_work_is_given_up(
    postgresql, postgresql_url
) -> None:
    def work(connection) -> None:
        connection.execute(NOTE, {"key": "x"})
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        os.kill(pid, signal.SIGSTOP)
        try:
            connection.execute(NOTE, {"key": "y"})
        finally:
            os.kill(pid, signal.SIGCONT)

    with opened(postgresql_url) as engine:
        start = time.monotonic()
        with pytest.raises(StoreError, match="has not answered"):
            run_write(engine, work)
        assert time.monotonic() - start < 5.5
        assert count(engine) == 1


@pytest.mark.usefixtures("short")
def test_a_row_that_somebody_holds_too_long_is_given_up(postgresql_url) -> None:
    update = text("UPDATE meta SET value = 'x' WHERE key = 'ledger_id'")
    with opened(postgresql_url) as engine, write(engine) as connection:
        connection.execute(update)
        start = time.monotonic()
        with pytest.raises(StoreError):
            run_write(engine, lambda other: other.execute(update))
        assert time.monotonic() - start < 2


def test_collisions_are_tried_again_and_other_trouble_is_not(engine) -> None:
    tries = []

    def collide(_) -> str:
        tries.append(1)
        if len(tries) < 4:
            raise TransientError("collision", hint="", subject="")
        return "done"

    def fail(connection) -> None:
        tries.append(1)
        connection.execute(text("SELECT * FROM nowhere"))

    assert run_write(engine, collide) == "done"
    tries.clear()
    with pytest.raises(StoreError) as caught:
        run_write(engine, fail)
    assert len(tries) == 1
    assert "danmpy db upgrade" in caught.value.hint


@pytest.mark.usefixtures("short")
def test_collisions_without_end_are_given_up_in_time(engine) -> None:
    def collide(_) -> None:
        raise TransientError("collision", hint="h", subject="s")

    start = time.monotonic()
    with pytest.raises(StoreError, match="collision") as caught:
        run_write(engine, collide)
    assert time.monotonic() - start < 0.5
    assert not isinstance(caught.value, TransientError)
