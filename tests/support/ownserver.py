"""Databases that a test may crash, restart and put back to an earlier moment."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.databases import (
    PostgresServer,
    _as_user,
    _free_port,
    _initdb,
    _start,
    _stop,
    _wait_ready,
)
from support.requirements import need


class OwnServer:
    """A PostgreSQL server of one test alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = PostgresServer(folder, _free_port())
        self._user = _as_user()
        self._process: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        """Make its data folder."""
        if self._user is not None:
            os.chown(self.folder, self._user, -1)
        _initdb(self.folder, self._user)

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = _start(self.folder, self.server.port, self._user)
        _wait_ready(self.server, self._process)

    def crash(self) -> None:
        """Stop in immediate mode: every session ends at once, and what was begun is lost."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(timeout=10)

    def copy_data(self, to: Path) -> None:
        """A copy of the data of the stopped server."""
        shutil.copytree(self.folder / "data", to, symlinks=True)

    def put_back(self, copy: Path) -> None:
        """Have the data of `copy`; the server is stopped."""
        shutil.rmtree(self.folder / "data")
        shutil.copytree(copy, self.folder / "data", symlinks=True)
        if self._user is not None:
            for root, folders, files in os.walk(self.folder / "data"):
                for name in (*folders, *files):
                    os.chown(Path(root) / name, self._user, -1)
            os.chown(self.folder / "data", self._user, -1)
        (self.folder / "data").chmod(0o700)

    def close(self) -> None:
        """Stop it."""
        if self._process is not None:
            _stop(self._process)


@contextmanager
def own_server(*, start: bool = True) -> Iterator[OwnServer]:
    """A server that nobody else uses, removed at the end."""
    need("postgresql")
    # Short, because the path of a unix socket has at most 107 bytes (unix(7)).
    folder = Path(tempfile.mkdtemp(prefix=f"dt-pg-{os.getpid()}-", dir="/tmp"))
    server = OwnServer(folder)
    try:
        server.make()
        if start:
            server.start()
        yield server
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)


class Past:
    """Remembers a moment of a database and puts it back, as an operator with a backup does."""

    def __init__(self, url: str, server: PostgresServer | None) -> None:
        self._server = server
        self._name = url.rpartition("/")[2]
        self._file = Path(url.removeprefix("sqlite:///"))

    def remember(self) -> None:
        """Make the backup."""
        if self._server is None:
            _vacuum_into(self._file)
            return
        self._server.run_sql(
            *_cut(self._name), f"CREATE DATABASE {self._name}_past TEMPLATE {self._name}"
        )

    def put_back(self) -> None:
        """Restore it."""
        if self._server is None:
            for ending in ("-wal", "-shm"):
                Path(f"{self._file}{ending}").unlink(missing_ok=True)
            # As an operator does: another file under the same name.
            Path(f"{self._file}.backup").replace(self._file)
            return
        self._server.drop_database(self._name)
        self._server.run_sql(f"ALTER DATABASE {self._name}_past RENAME TO {self._name}")

    def forget(self) -> None:
        """Remove the backup, if it was not used."""
        if self._server is not None:
            self._server.drop_database(f"{self._name}_past")


def _cut(name: str) -> tuple[str, ...]:
    select = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    return (f"{select} WHERE datname = '{name}' AND pid <> pg_backend_pid()",)


def _vacuum_into(path: Path) -> None:
    connection = sqlite3.connect(path)
    try:
        connection.execute("VACUUM INTO ?", (f"{path}.backup",))
    finally:
        connection.close()
