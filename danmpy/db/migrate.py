"""Bringing a database to this release's schema, and refusing one that does not fit."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, text

from danmpy.clock import monotonic, sleep
from danmpy.db.engine import open_engine, parse_url, patience, read, sqlite_path, write
from danmpy.db.errors import SchemaTooNewError
from danmpy.errors import StoreError

REVISIONS: Final = ("0001", "0002", "0003", "0004", "0005", "0006")
"""Every schema that this release knows, oldest first; the last one is what it needs.

Kept here so that a command which only looks at the database need not load alembic.
"""

HEAD: Final = REVISIONS[-1]

_MIGRATOR_LOCK: Final = 0x64616E6D7079
"""Key of the advisory lock that lets one migrator in at a time: "danmpy" in ASCII."""

_MIGRATION_WAIT_S: Final = 60.0


def scripts_folder() -> Path:
    """Where the migrations lie: in a wheel inside the package, else beside it in the repository."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def upgrade(url: str) -> tuple[str, str]:
    """Bring the database to `HEAD`; gives the revision before and after ("" for an empty one).

    Makes the SQLite file and its folder when they are missing. Several migrators at once: one
    works, the others wait and find it done.

    Raises:
        StoreError: unreachable, not writable, or already newer than this release.
    """
    path = sqlite_path(parse_url(url))
    if path is not None:
        _prepare_file(path)
    engine = open_engine(url, create=True, busy_s=_MIGRATION_WAIT_S, prepare=False)
    try:
        with _locked(engine) as connection:
            before = _revision(connection)
            _refuse_unknown(before, engine)
            if before != HEAD:
                _run_alembic(connection)
        return before, HEAD
    finally:
        engine.dispose()


def upgrade_apart(url: str) -> None:
    """As `upgrade`, with alembic in a process of its own: the 7 MB that it loads go with it.

    Raises:
        StoreError: as `upgrade`.
    """
    engine = open_engine(url, prepare=False)
    try:
        require_current(engine)
    except SchemaTooNewError:
        raise
    except StoreError:
        # Missing, empty, older or away: the child tries, and the second look says what is left.
        child = [sys.executable, "-c", _CHILD]
        subprocess.run(child, input=url.encode(), capture_output=True, check=False)
        require_current(engine)
    finally:
        engine.dispose()


_CHILD: Final = "import sys; from danmpy.db.migrate import upgrade; upgrade(sys.stdin.read())"
"""The URL goes over stdin: a command line, with a password in it, can be read by everybody."""


def current(url: str) -> tuple[str, str]:
    """The revision of the database ("" for an empty one) and the one this release needs.

    Raises:
        StoreError: the database cannot be read.
    """
    engine = open_engine(url, prepare=False)
    try:
        _require_file(engine)
        with read(engine) as connection:
            return _revision(connection), HEAD
    finally:
        engine.dispose()


def require_current(engine: Engine) -> None:
    """Refuse a database whose schema this release cannot use.

    Raises:
        StoreError: missing, empty, older or newer; the hint says what to do.
    """
    _require_file(engine)
    with read(engine) as connection:
        revision = _revision(connection)
    _refuse_unknown(revision, engine)
    if revision != HEAD:
        state = f"has schema {revision}, older than {HEAD}" if revision else "is empty"
        raise StoreError(
            f"{_name(engine)} {state}", hint="run `danmpy db upgrade`", subject="database"
        )


def _prepare_file(path: Path) -> None:
    """Make folder and file, in WAL mode: that switch needs the file for itself, so it is made once.

    sqlite.org/wal.html: the mode stays with the file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Who held which address is not for every user of the machine.
        path.touch(mode=0o600)
        _switch_to_wal(path)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            f"sqlite:///{path}: {error}",
            hint="folder and file must be writable, on a local disk, and a SQLite database",
            subject="database",
        ) from error


def _switch_to_wal(path: Path) -> None:
    """Set the mode. SQLite does not wait for somebody else who is just setting it, so we do."""
    deadline = monotonic() + _MIGRATION_WAIT_S
    while True:
        connection = sqlite3.connect(path, timeout=_MIGRATION_WAIT_S)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or monotonic() > deadline:
                raise
        else:
            return
        finally:
            connection.close()
        sleep(0.02)


def _require_file(engine: Engine) -> None:
    path = sqlite_path(engine.url)
    if path is not None and not path.exists():
        raise StoreError(
            f"{_name(engine)}: the file does not exist",
            hint="start `danmpy node` or run `danmpy db upgrade`; check database_url",
            subject="database",
        )


@contextmanager
def _locked(engine: Engine) -> Iterator[Connection]:
    with write(engine, wait_s=_MIGRATION_WAIT_S) as connection:
        if connection.dialect.name != "postgresql":
            yield connection
            return
        # One migrator at a time; and its statements may take longer than those of an ADD, but may
        # not queue for ever behind a long query, as everybody else would queue behind them.
        with patience(connection, int(_MIGRATION_WAIT_S)):
            connection.execute(text("SET LOCAL lock_timeout = '60s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATOR_LOCK})
            connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            yield connection


def _revision(connection: Connection) -> str:
    if not connection.dialect.has_table(connection, "alembic_version"):
        return ""
    rows = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    return str(rows[0]) if rows else ""


def _refuse_unknown(revision: str, engine: Engine) -> None:
    if revision and revision not in REVISIONS:
        raise SchemaTooNewError(
            f"{_name(engine)} has schema {revision}, newer than this release ({HEAD})",
            hint="use the danmpy release that made it, or a later one",
            subject="database",
        )


def _run_alembic(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - 0.2 s that only a migration has to pay
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(scripts_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)


def _name(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=True)
