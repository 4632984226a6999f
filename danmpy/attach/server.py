"""The node daemon's CNI socket: accepts, reads one request a connection, answers, closes."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import structlog

from danmpy.attach.wire import WireAnswer, WireRequest, encode_answer, read_request
from danmpy.errors import DanmpyError, HostError, NotReadyError, WireError

_log = structlog.get_logger(__name__)

WORKERS = 16
"""Threads. An ADD mostly waits for the kernel and the disk; more would only queue elsewhere."""

BACKLOG = 512
"""Connections. A node that boots starts all its pods at once."""

READ_TIMEOUT_S = 10.0
"""Seconds for a shim to send its whole request; it has it ready when it connects."""


class CniServer:
    """Serves `answer` on a unix socket of mode 0600 until it is closed."""

    def __init__(self, path: Path, answer: Callable[[WireRequest], WireAnswer]) -> None:
        self._path = path
        self._answer = answer
        self._socket: socket.socket | None = None
        self._pool = ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="cni")
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Bind and begin to serve.

        Raises:
            NotReadyError: another daemon listens on this socket.
            HostError: the socket cannot be made there.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _clear_stale(self._path)
            mask = os.umask(0o177)
            try:
                listener.bind(str(self._path))
            finally:
                os.umask(mask)
            listener.listen(BACKLOG)
        except DanmpyError:
            listener.close()
            raise
        except OSError as error:
            listener.close()
            raise HostError(
                f"cannot listen on {self._path}: {error.strerror or error}",
                hint="set `socket` to a path that this process may make (107 bytes at most)",
            ) from error
        self._socket = listener
        self._thread = threading.Thread(target=self._accept, name="cni-accept", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop accepting, let running calls finish, remove the socket."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            self._path.unlink(missing_ok=True)
        if self._thread is not None:
            self._thread.join()
        self._pool.shutdown(wait=True)

    def _accept(self) -> None:
        listener = self._socket
        if listener is None:
            return
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._pool.submit(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(READ_TIMEOUT_S)
            try:
                request = read_request(connection.recv)
                connection.settimeout(None)
                connection.sendall(encode_answer(self._answer(request)))
            except WireError as error:
                _log.warning("not a request", error=str(error))
            except OSError as error:
                # The caller went away; the runtime sends DEL for an ADD that it did not wait for.
                _log.warning("caller went away", error=str(error))


def _clear_stale(path: Path) -> None:
    """Remove a socket that a dead daemon left; refuse to take one that is served.

    Raises:
        NotReadyError: somebody listens.
        HostError: something that is no socket is in the way.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise HostError(
            f"{path} exists and is no socket", hint="move it away or set `socket` to another path"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise NotReadyError(
        f"another danmpy node daemon listens on {path}",
        hint="stop it first, or give this one a socket and a state_dir of its own",
    )
