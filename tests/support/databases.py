"""Databases for tests: a SQLite file each, and one PostgreSQL server for the whole run.

The server belongs to the test run: its own data folder in a temporary folder, a unix socket and a
free port, an unprivileged user, stopped and removed at the end, also when tests fail. Each test
gets a fresh database of it, copied from a template that is migrated once.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from support.requirements import POSTGRESQL_BIN, need

if TYPE_CHECKING:
    from sqlalchemy import Engine

# The database libraries are imported where they are used: not every test run needs them.

USER = "danmpy"
PASSWORD = "correct-horse-battery"
ENGINES = ("sqlite", "postgresql")

FAST = ("fsync=off", "max_connections=100", "shared_buffers=32MB")
"""Settings of a server whose data nobody needs after the run."""

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server. Over TCP it wants the password, over its socket it trusts."""

    folder: Path
    port: int

    @property
    def pid(self) -> int:
        """The process that accepts connections."""
        return int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])

    def url(self, database: str) -> str:
        """The URL of one database over TCP."""
        return f"postgresql+psycopg://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def socket_url(self, database: str) -> str:
        """The URL over the server's socket, which reaches into network namespaces."""
        return f"postgresql+psycopg://{USER}@/{database}?host={self.folder}&port={self.port}"

    def run_sql(self, *statements: str, database: str = "postgres") -> None:
        """Run statements one by one, each committed by itself."""
        import psycopg

        with psycopg.connect(
            host=str(self.folder), port=self.port, user=USER, dbname=database, autocommit=True
        ) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def make_database(self, *, template: str = "template0") -> str:
        """A new database; its name."""
        name = f"t{next(_numbers)}"
        self.run_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop_database(self, name: str) -> None:
        """Drop it, whoever is still connected."""
        self.run_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _as_user() -> int | None:
    """The user of Debian's package when we are root: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return cast("int", probe.getsockname()[1])


def _initdb(folder: Path, user: int | None) -> None:
    secret = folder / "password"
    secret.write_text(PASSWORD)
    if user is not None:
        os.chown(secret, user, -1)
    subprocess.run(
        [
            str(POSTGRESQL_BIN / "initdb"),
            *("--pgdata", str(folder / "data"), "--username", USER, "--pwfile", str(secret)),
            *("--auth-local", "trust", "--auth-host", "scram-sha-256"),
            *("--encoding", "UTF8", "--locale", "C", "--no-sync"),
        ],
        check=True,
        capture_output=True,
        user=user,
        cwd=folder,
    )


def _start(
    folder: Path, port: int, user: int | None, settings: tuple[str, ...] = FAST
) -> subprocess.Popen[bytes]:
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [
                str(POSTGRESQL_BIN / "postgres"),
                *("-D", str(folder / "data"), "-p", str(port), "-k", str(folder)),
                *("-c", "listen_addresses=127.0.0.1"),
                *(word for setting in settings for word in ("-c", setting)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            user=user,
            cwd=folder,
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Fast shutdown; then by force, to all processes of the server."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)
        process.wait(timeout=10)


def _wait_ready(server: PostgresServer, process: subprocess.Popen[bytes]) -> None:
    import psycopg

    deadline = time.monotonic() + 30
    while True:
        try:
            server.run_sql("SELECT 1")
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                log = (server.folder / "log").read_text(errors="replace")
                pytest.fail(f"PostgreSQL did not start:\n{log}")
            time.sleep(0.05)
        else:
            return


@contextmanager
def run_server(*settings: str) -> Iterator[PostgresServer]:
    """A server with these settings (``name=value``), stopped and removed at the end."""
    need("postgresql")
    user = _as_user()
    # Short, because the path of a unix socket has at most 107 bytes (unix(7)).
    folder = Path(tempfile.mkdtemp(prefix=f"dt-pg-{os.getpid()}-", dir="/tmp"))
    process = None
    try:
        if user is not None:
            os.chown(folder, user, -1)
        _initdb(folder, user)
        server = PostgresServer(folder, _free_port())
        process = _start(folder, server.port, user, settings)
        _wait_ready(server, process)
        yield server
    finally:
        if process is not None:
            _stop(process)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresServer]:
    """The server of this test run."""
    with run_server(*FAST) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_template(postgresql: PostgresServer) -> str:
    """The name of a migrated database that nobody writes to."""
    from danmpy.db.migrate import upgrade

    name = postgresql.make_database()
    upgrade(postgresql.url(name))
    return name


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file that nobody writes to."""
    from danmpy.db.migrate import upgrade

    path = tmp_path_factory.mktemp("template") / "danmpy.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def empty_postgresql_url(postgresql: PostgresServer) -> Iterator[str]:
    """A PostgreSQL database without any table."""
    name = postgresql.make_database()
    try:
        yield postgresql.url(name)
    finally:
        postgresql.drop_database(name)


@pytest.fixture
def postgresql_url(postgresql: PostgresServer, postgresql_template: str) -> Iterator[str]:
    """A migrated, empty PostgreSQL database."""
    name = postgresql.make_database(template=postgresql_template)
    try:
        yield postgresql.url(name)
    finally:
        postgresql.drop_database(name)


@pytest.fixture
def sqlite_url(tmp_path: Path, sqlite_template: Path) -> str:
    """A migrated, empty SQLite file."""
    path = tmp_path / "danmpy.db"
    shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(params=ENGINES)
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated, empty database, once on each engine."""
    return cast("str", request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(params=ENGINES)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database before its first migration, once on each engine; the SQLite file is missing."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/danmpy.db"
    return cast("str", request.getfixturevalue("empty_postgresql_url"))


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on `database_url`."""
    from danmpy.db.engine import open_engine

    made = open_engine(database_url)
    try:
        yield made
    finally:
        made.dispose()


@pytest.fixture(params=ENGINES)
def node_database_url(request: pytest.FixtureRequest) -> str:
    """As `database_url`, for daemons in namespaces, which do not reach the host's loopback."""
    if request.param == "sqlite":
        return cast("str", request.getfixturevalue("sqlite_url"))
    server = request.getfixturevalue("postgresql")
    tcp = request.getfixturevalue("postgresql_url")
    return cast("str", server.socket_url(tcp.rpartition("/")[2]))
