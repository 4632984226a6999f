"""Engine and transactions: the only place that knows how SQLite and PostgreSQL differ in manners.

SQLite: WAL, synchronous=FULL (a commit that was answered survives a power cut), BEGIN IMMEDIATE
for every write (a transaction that reads first and writes later fails at once with SQLITE_BUSY,
which the busy timeout does not cover: sqlite.org/lang_transaction.html), and a queue of our
own for the writers of one process (`db.together`), because SQLite's busy handler only sleeps and
tries again, and because many that wait can share one commit.
"""

from __future__ import annotations

import random
import select
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    DisconnectionError,
    InvalidatePoolError,
    SQLAlchemyError,
)

from danmpy.clock import Clock, monotonic, sleep
from danmpy.db.errors import TransientError, explain
from danmpy.db.retries import Retries
from danmpy.db.together import Writers
from danmpy.errors import StoreError

T = TypeVar("T")

_LAST_START_S: Final = 3.0
"""No new try begins later: with one more wait of 2 s an ADD is still answered within 5 s."""

_BUSY_S: Final = 2.0
"""Seconds; after them `run_write` tries again."""

_STUDY_S: Final = 60
"""How long one statement of a report may take; those of an ADD get 2 s."""

_QUIET_S: Final = 1.0
"""A connection that was used so long ago is asked whether it still works before it is used."""

_WRITING: Final = "danmpy_writing"
_QUEUE: Final = "danmpy_queue"
_RETRIES: Final = "danmpy_retries"

POOL_SIZE: Final = 4

_POSTGRESQL: Final = {
    "connect_timeout": 1,
    # libpq, 34.1.2: without these a cut cable is noticed after two hours.
    "tcp_user_timeout": 3000,
    "keepalives_idle": 5,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "application_name": "danmpy",
    # Each statement sees what others committed before it: what is done behind a lock needs that.
    "options": "-c default_transaction_isolation=read\\ committed -c lock_timeout=1s"
    " -c statement_timeout=2s -c timezone=UTC -c idle_in_transaction_session_timeout=10s",
}


def parse_url(url: str) -> URL:
    """The database URL, understood.

    Raises:
        StoreError: it is no URL of a database that danmpy can use.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreError(
            "the database URL cannot be understood",
            hint="sqlite:////var/lib/danmpy/danmpy.db or postgresql+psycopg://user@host/name",
            subject="database_url",
        ) from error
    if parsed.get_backend_name() == "sqlite" and parsed.database not in {None, "", ":memory:"}:
        return parsed
    if parsed.get_backend_name() == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    raise StoreError(
        f"{parsed.get_backend_name()} without a file, or of a kind that danmpy does not know",
        hint="sqlite:////var/lib/danmpy/danmpy.db or postgresql+psycopg://user@host/name",
        subject="database_url",
    )


def sqlite_path(url: URL) -> Path | None:
    """The file of a SQLite URL; None for PostgreSQL."""
    return Path(url.database or "") if url.get_backend_name() == "sqlite" else None


def open_engine(
    url: str,
    *,
    create: bool = False,
    busy_s: float = _BUSY_S,
    prepare: bool = True,
    pool_size: int = POOL_SIZE,
) -> Engine:
    """An engine for `url`. Nothing is connected yet; a SQLite file is made only with `create`.

    `busy_s`: how long SQLite waits for another process's lock before we hear of it. `prepare`: may
    PostgreSQL remember statements? `pool_size`: connections to it that stay; twice as many at most.

    Raises:
        StoreError: the URL is no database that danmpy can use.
    """
    parsed = parse_url(url)
    path = sqlite_path(parsed)
    if path is None:
        extra = {key: value for key, value in _POSTGRESQL.items() if key not in parsed.query}
        # psycopg: None means never, also where a statement asks for it.
        never = {} if prepare else {"prepare_threshold": None}
        engine = create_engine(
            parsed,
            connect_args=extra | never,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=_LAST_START_S,
            execution_options={_RETRIES: Retries()},
        )
        event.listen(engine, "do_connect", _connect_postgresql)
        event.listen(engine, "checkout", _require_living)
        event.listen(engine, "checkin", _note_use)
        event.listen(engine, "begin", _begin_postgresql)
        return engine
    engine = create_engine(
        parsed,
        creator=_sqlite_creator(path, create=create, busy_s=busy_s),
        pool_size=4,
        max_overflow=12,
        pool_timeout=_LAST_START_S,
        execution_options={_QUEUE: Writers(), _RETRIES: Retries()},
    )
    event.listen(engine, "connect", lambda _, record: record.info.update(file=_identity(path)))
    event.listen(engine, "checkout", lambda _, record, __: _require_same_file(path, record))
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _require_same_file(path: Path, record: Any) -> None:
    """A connection to a file that was deleted or replaced writes where nobody reads: open anew."""
    if record.info.get("file") != _identity(path):
        raise InvalidatePoolError


def _require_living(driver: Any, record: Any, _proxy: Any) -> None:
    """After a restart of the server the first read must not fail, and no read should pay for that.

    A server that went away closed the connection, which shows as something to read where nothing
    was asked. What that cannot show, a cable that was cut, is asked for when there was a pause.
    """
    used = record.info.get("used")
    if used is None:
        return  # just made
    poll = select.poll()
    poll.register(driver.fileno(), select.POLLIN)
    if not poll.poll(0) and monotonic() - used < _QUIET_S:
        return
    try:
        driver.autocommit = True
        driver.execute("")
        driver.autocommit = False
    except driver_error() as error:
        raise DisconnectionError from error


def _note_use(_driver: Any, record: Any) -> None:
    record.info["used"] = monotonic()


def _sqlite_creator(path: Path, *, create: bool, busy_s: float) -> Callable[[], sqlite3.Connection]:
    mode = "rwc" if create else "rw"
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"

    def connect() -> sqlite3.Connection:
        # isolation_level None: the driver begins nothing by itself; `_begin_sqlite` does.
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, timeout=busy_s, check_same_thread=False
        )
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        return connection

    return connect


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get(_WRITING, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _connect_postgresql(_dialect: Any, _record: Any, words: Any, named: Any) -> Any:
    # The driver takes 10 MB, which a node on SQLite need not carry.
    from danmpy.db.patience import PatientConnection  # noqa: PLC0415

    return PatientConnection.connect(*words, **named)


def _begin_postgresql(connection: Connection) -> None:
    """A read is marked as one, so that a slip of ours cannot write."""
    writing = connection.get_execution_options().get(_WRITING, False)
    driver: Any = connection.connection.driver_connection
    if driver is not None and driver.read_only is not (not writing):
        driver.read_only = not writing


@contextmanager
def read(engine: Engine) -> Iterator[Connection]:
    """One read transaction; driver errors leave as StoreError."""
    with _translated(engine), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A read for people: all statements see the same moment, and each may take a minute.

    Read in pages all the same: PostgreSQL cleans up behind the oldest snapshot. SQLite gives every
    read transaction its snapshot (sqlite.org/isolation.html) and knows no limits.
    """
    if engine.dialect.name != "postgresql":
        with read(engine) as connection:
            yield connection
        return
    level = {"isolation_level": "REPEATABLE READ"}
    with (
        _translated(engine),
        engine.connect().execution_options(**level) as connection,
        connection.begin(),
        patience(connection, _STUDY_S),
    ):
        yield connection


@contextmanager
def patience(connection: Connection, seconds: int) -> Iterator[None]:
    """Let the statements of this PostgreSQL transaction take `seconds` each."""
    connection.execute(text(f"SET LOCAL statement_timeout = '{seconds}s'"))
    driver: Any = connection.connection.driver_connection
    driver.answer_s += seconds
    try:
        yield
    finally:
        driver.answer_s -= seconds


@contextmanager
def write(engine: Engine, *, wait_s: float = _LAST_START_S) -> Iterator[Connection]:
    """One write transaction, committed at the end or undone whole.

    `wait_s` is how long to wait for the other writers of this process.

    Raises:
        StoreError: the database refused. Collisions that a new try can settle are of the subclass
            `TransientError`; `run_write` tries them again.
    """
    writers = _writers(engine)
    if writers is None:
        with _writing(engine) as connection:
            yield connection
        return
    with writers.alone(wait_s, busy=lambda: _busy(engine)), _writing(engine) as connection:
        yield connection


@contextmanager
def _writing(engine: Engine) -> Iterator[Connection]:
    with (
        _translated(engine),
        engine.connect().execution_options(**{_WRITING: True}) as connection,
        connection.begin(),
    ):
        yield connection


def run_write(engine: Engine, work: Callable[[Connection], T], *, since: float | None = None) -> T:
    """`work` in a write transaction, tried again while the trouble may pass, within 5 s.

    `work` may run several times and must leave its result only in the database and its return
    value. A connection that died while committing is tried again too, so `work` must be one whose
    repetition finds what is already there. On SQLite it may run in the thread of another caller,
    and share its commit; what one of them does wrong is undone alone.

    `since`: when the caller began (`monotonic`), if it tried in another way before.

    Raises:
        StoreError: the database refused, or was busy all the time.
    """
    start = monotonic() if since is None else since
    attempt = 0
    while True:
        try:
            return _write_once(engine, work, max(0, start + _LAST_START_S - monotonic()))
        except TransientError as error:
            attempt += 1
            count_retry(engine, error)
            pause = random.uniform(0, min(0.2, 0.002 * 2**attempt))  # noqa: S311 - jitter
            if monotonic() + pause - start > _LAST_START_S:
                raise StoreError(error.message, hint=error.hint, subject=error.subject) from error
            sleep(pause)


def retries(engine: Engine) -> Mapping[str, int]:
    """How often a transaction was begun anew, by the reason (`TransientError.reason`)."""
    counted: Retries = engine.get_execution_options()[_RETRIES]
    return counted.by_reason()


def count_retry(engine: Engine, error: TransientError) -> None:
    """Note that something is done anew because of `error`."""
    counted: Retries = engine.get_execution_options()[_RETRIES]
    counted.note(error.reason)


def _write_once(engine: Engine, work: Callable[[Connection], T], wait_s: float) -> T:
    writers = _writers(engine)
    if writers is None:
        with _writing(engine) as connection:
            return work(connection)

    def translated(connection: Connection) -> T:
        with _translated(engine):
            return work(connection)

    return writers.together(
        translated, lambda: _writing(engine), wait_s, busy=lambda: _busy(engine)
    )


def run_call(
    engine: Engine,
    statement: str,
    parameters: Sequence[Any],
    *,
    guard: Callable[[Connection], None] | None = None,
) -> list[Any]:
    """The rows of one PostgreSQL statement that is a transaction of its own: one round trip.

    The statement is in the driver's words (``%s``); it is prepared by the server once a connection.
    `guard` looks at the connection before, in another transaction if it asks something.

    Raises:
        StoreError: as `write`.
    """
    with _translated(engine), engine.connect() as connection:
        if guard is not None:
            guard(connection)
            connection.rollback()
        driver: Any = connection.connection.driver_connection
        try:
            driver.autocommit = True
            # Making a cursor costs as much as the call, so each connection keeps one.
            kept = connection.connection.info
            if "calls" not in kept:
                kept["calls"] = driver.cursor()
            rows: list[Any] = kept["calls"].execute(statement, parameters, prepare=True).fetchall()
        except driver_error() as error:
            raise DBAPIError(None, None, error, connection_invalidated=driver.closed) from error
        finally:
            if driver.closed:
                connection.invalidate()
            else:
                driver.autocommit = False
        return rows


def driver_error() -> type[Exception]:
    """What psycopg raises; loaded only where PostgreSQL is in use."""
    from psycopg import Error  # noqa: PLC0415 - as in _connect_postgresql

    return Error


def _writers(engine: Engine) -> Writers | None:
    """The queue of SQLite's writers, which take turns as SQLite lets one write at a time."""
    writers: Writers | None = engine.get_execution_options().get(_QUEUE)
    return writers


def _busy(engine: Engine) -> StoreError:
    return StoreError(
        f"{_name(engine)} is busy with another writer of this process",
        hint="the disk may be slow or another process may hold a lock",
        subject="database",
    )


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise explain(error, _name(engine)) from error


def _name(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=True)


_NOW: Final = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")


def database_now(connection: Connection, clock: Clock) -> int:
    """Now in microseconds: PostgreSQL's own clock, so that all nodes share one; else `clock`."""
    if connection.dialect.name == "postgresql":
        now: Any = connection.execute(_NOW).scalar_one()
        return int(now)
    return clock()
