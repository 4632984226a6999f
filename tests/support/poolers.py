"""A real PgBouncer before the tests' PostgreSQL: each transaction may get another connection."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from support.databases import USER, PostgresServer
from support.requirements import need

_CONFIG = """
[databases]
* = host={server.folder} port={server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir = {folder}
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = {size}
ignore_startup_parameters = options
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return cast("int", probe.getsockname()[1])


@contextmanager
def run_pooler(server: PostgresServer, size: int) -> Iterator[int]:
    """The port of a pooler with `size` connections to each database, stopped at the end."""
    need("pgbouncer")
    # PgBouncer refuses to run as root, and has to get at the server's socket.
    user = server.folder.stat().st_uid if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix=f"dt-pool-{os.getpid()}-", dir="/tmp"))
    port = _free_port()
    process = None
    try:
        (folder / "users").write_text(f'"{USER}" ""\n')
        config = folder / "pgbouncer.ini"
        config.write_text(_CONFIG.format(server=server, port=port, folder=folder, size=size))
        if user is not None:
            for path in (folder, *folder.iterdir()):
                os.chown(path, user, -1)
        binary = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [binary, str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=user
            )
        _wait(process, port, folder)
        yield port
    finally:
        if process is not None:
            process.terminate()
            process.wait(timeout=10)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                log = (folder / "log").read_text(errors="replace")
                pytest.fail(f"PgBouncer did not start:\n{log}")
            time.sleep(0.02)
        else:
            return
