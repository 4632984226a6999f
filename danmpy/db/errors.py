"""Driver errors in our words: which database, what is wrong, the way out, is it worth a new try."""

from __future__ import annotations

import sqlite3
from typing import Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from danmpy.errors import StoreError

REASONS: Final = ("busy", "collision", "connection", "deadlock", "lock", "serialization", "unique")
"""Why a transaction has to be begun anew, for metrics."""


class TransientError(StoreError):
    """Trouble that a new transaction can settle: a collision, a lock, a connection that died.

    `reason` is one of `REASONS`: ``collision`` when we saw it ourselves.
    """

    def __init__(
        self, message: str, *, hint: str, subject: str = "", reason: str = "collision"
    ) -> None:
        super().__init__(message, hint=hint, subject=subject)
        self.reason = reason


class SchemaTooNewError(StoreError):
    """The database was made by a later release: no new try can help."""


_SQLSTATES: Final = {
    "23505": "unique",
    "40001": "serialization",
    "40P01": "deadlock",
    "55P03": "lock",
}
"""PostgreSQL, appendix A: unique violation (somebody else had the same thought and was faster: what
we insert is looked up first), serialization failure, deadlock detected, lock not available."""

_UPGRADE: Final = "run `danmpy db upgrade`"

_SQLITE_HINTS: Final = {
    sqlite3.SQLITE_CANTOPEN: "check that the file exists and may be opened; "
    "`danmpy db upgrade` makes a new one",
    sqlite3.SQLITE_READONLY: "the file and its folder must be writable for this user",
    sqlite3.SQLITE_PERM: "the file and its folder must be writable for this user",
    sqlite3.SQLITE_NOTADB: "this file is no SQLite database; check database_url",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore it from a backup",
    sqlite3.SQLITE_FULL: "make room on the disk",
    sqlite3.SQLITE_IOERR: "check the disk",
    sqlite3.SQLITE_BUSY: "another process holds the database; find it with `fuser` on the file",
    sqlite3.SQLITE_LOCKED: "another process holds the database; find it with `fuser` on the file",
}

_POSTGRESQL_HINTS: Final = {
    "28P01": "check the password in database_url",
    "28000": "check user and password in database_url and pg_hba.conf",
    "3D000": "create the database or correct its name in database_url",
    "23502": "the database was restored: it is used again when a node daemon has looked at it; "
    "start one",
    "42P01": _UPGRADE,
    "42703": _UPGRADE,
    "42501": "grant this user the rights on danmpy's tables",
    "25006": "this server is a read-only standby; point database_url at the primary",
    "53300": "the server has no connection left; raise max_connections",
    "57014": "the server is overloaded or a query is too slow; try again",
}


_CONNECTING: Final = {
    "password authentication failed": "28P01",
    "no pg_hba.conf entry": "28000",
    "does not exist": "3D000",
    "too many clients": "53300",
    "remaining connection slots": "53300",
}
"""libpq tells no SQLSTATE when connecting fails; a server that speaks English tells these words."""


def explain(error: SQLAlchemyError | sqlite3.Error, database: str) -> StoreError:
    """The StoreError for `error`; `database` is its URL without the password."""
    if isinstance(error, PoolTimeout):
        return StoreError(
            f"{database}: no connection became free", hint="try again later", subject="database"
        )
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        return _explain_sqlite(cause, database)
    words = _first_line(cause)
    state = getattr(cause, "sqlstate", None) or _state_of(words)
    if state in _SQLSTATES or (isinstance(error, DBAPIError) and error.connection_invalidated):
        return TransientError(
            f"{database}: {words}",
            hint="try again later",
            subject="database",
            reason=_SQLSTATES.get(state or "", "connection"),
        )
    hint = _POSTGRESQL_HINTS.get(
        state or "", "check that the server runs and that database_url names it"
    )
    return StoreError(f"{database}: {words}", hint=hint, subject="database")


def _state_of(words: str) -> str | None:
    if "connection failed" not in words:
        return None
    return next((state for part, state in _CONNECTING.items() if part in words), None)


def _explain_sqlite(cause: sqlite3.Error, database: str) -> StoreError:
    # The low byte is the primary code (sqlite.org/rescode.html).
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    words = _first_line(cause)
    hint = _SQLITE_HINTS.get(code, "check database_url and the file")
    if words.startswith(("no such table", "no such column")):
        hint = _UPGRADE
    message = f"{database}: {words}"
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return TransientError(message, hint=hint, subject="database", reason="busy")
    return StoreError(message, hint=hint, subject="database")


def _first_line(error: BaseException | None) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
