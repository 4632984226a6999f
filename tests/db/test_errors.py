"""Driver errors in our words."""

from __future__ import annotations

import sqlite3

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from danmpy.db.errors import TransientError, explain


class DriverError(Exception):
    def __init__(self, words: str, sqlstate: str | None = None) -> None:
        super().__init__(words)
        self.sqlstate = sqlstate


def explained(sqlstate: str | None, *, invalidated: bool = False):
    error = DBAPIError("SELECT secret", {}, DriverError("first line\nDETAIL: row", sqlstate))
    error.connection_invalidated = invalidated
    return explain(error, "postgresql://user:***@host/db")


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03"])
def test_collisions_and_locks_may_be_tried_again(state) -> None:
    assert isinstance(explained(state), TransientError)


def test_a_lost_connection_may_be_tried_again() -> None:
    assert isinstance(explained(None, invalidated=True), TransientError)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("28P01", "password"),
        ("3D000", "create the database"),
        ("42P01", "danmpy db upgrade"),
        ("25006", "standby"),
        ("XX000", "check that the server runs"),
        (None, "check that the server runs"),
    ],
)
def test_every_state_has_its_way_out(state, words) -> None:
    error = explained(state)

    assert words in error.hint
    assert not isinstance(error, TransientError)


def test_neither_the_statement_nor_its_rows_are_shown() -> None:
    error = explained("42501")

    assert error.message == "postgresql://user:***@host/db: first line"


@pytest.mark.parametrize(
    ("code", "words", "again"),
    [
        (sqlite3.SQLITE_BUSY, "another process", True),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, "another process", True),
        (sqlite3.SQLITE_FULL, "make room", False),
        (sqlite3.SQLITE_CORRUPT, "backup", False),
        (sqlite3.SQLITE_IOERR_WRITE, "disk", False),
    ],
)
def test_codes_of_sqlite_are_told_apart_by_their_low_byte(code, words, again) -> None:
    cause = sqlite3.OperationalError("words")
    cause.sqlite_errorcode = code
    error = explain(cause, "sqlite:///x")

    assert words in error.hint
    assert isinstance(error, TransientError) is again


def test_a_full_pool_of_connections_is_said_to_be_one() -> None:
    assert "no connection became free" in explain(PoolTimeout(), "x").message
