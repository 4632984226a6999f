"""The node daemon's CNI socket: accepts, reads one request a connection, answers, closes.

One thread accepts and reads, whatever many callers are slow to send; a request is handed to a
worker when it is there as a whole, so a caller that says nothing keeps nobody waiting.
"""

from __future__ import annotations

import os
import selectors
import socket
import stat
import threading
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from danmpy.attach.wire import (
    WireAnswer,
    WireRequest,
    decode_request,
    encode_answer,
    request_size,
)
from danmpy.clock import monotonic, sleep
from danmpy.errors import DanmpyError, HostError, NotReadyError, WireError

_log = structlog.get_logger(__name__)

WORKERS = 16
"""Threads. An ADD mostly waits for the kernel and the disk; more would only queue elsewhere."""

QUICK_VERBS = frozenset({"STATUS", "VERSION"})
"""Verbs that wait for no container; they have a worker of their own."""

BACKLOG = 512
"""Connections. A node that boots starts all its pods at once."""

READ_TIMEOUT_S = 10.0
"""Seconds for a shim to send its whole request; it has it ready when it connects."""

SEND_TIMEOUT_S = 10.0
"""Seconds for a shim to take its answer, which it waits for."""

_PIECE = 256 * 1024
_ACCEPT_PAUSE_S = 0.05


@dataclass(slots=True, eq=False)
class _Caller:
    """A connection whose request is still on its way."""

    connection: socket.socket
    deadline: float
    data: bytearray = field(default_factory=bytearray)


class CniServer:
    """Serves `answer` on a unix socket of mode 0600 until it is closed."""

    def __init__(self, path: Path, answer: Callable[[WireRequest], WireAnswer]) -> None:
        self._path = path
        self._answer = answer
        self._waker: socket.socket | None = None
        self._callers: set[_Caller] = set()
        self._pool = ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="cni")
        self._quick = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cni-quick")
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
        listener.setblocking(False)
        wake, self._waker = socket.socketpair()
        self._thread = threading.Thread(
            target=self._receive, args=(listener, wake), name="cni-accept", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop accepting, let calls that came in whole finish, remove the socket."""
        if self._thread is not None and self._waker is not None:
            self._path.unlink(missing_ok=True)
            self._waker.close()
            self._thread.join()
            self._thread = None
        for pool in (self._pool, self._quick):
            pool.shutdown(wait=True)

    def _receive(self, listener: socket.socket, wake: socket.socket) -> None:
        """Until `wake` ends: collect requests, and hand each over when it is whole."""
        with selectors.DefaultSelector() as selector, listener, wake:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(wake, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select(1.0 if self._callers else None):
                    if key.fileobj is wake:
                        self._drop(selector, self._callers, "the daemon stops")
                        return
                    if isinstance(key.data, _Caller):
                        self._read(selector, key.data)
                    else:
                        self._accept(selector, listener)
                now = monotonic()
                late = {caller for caller in self._callers if caller.deadline < now}
                self._drop(selector, late, f"no whole request within {READ_TIMEOUT_S:g} s")

    def _accept(self, selector: selectors.BaseSelector, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError as error:
            # Gone meanwhile, or this process has no file descriptor left: then others give some
            # back, and the caller waits in the backlog.
            _log.warning("a caller cannot be accepted", error=str(error))
            sleep(_ACCEPT_PAUSE_S)
            return
        connection.setblocking(False)
        caller = _Caller(connection=connection, deadline=monotonic() + READ_TIMEOUT_S)
        try:
            selector.register(connection, selectors.EVENT_READ, caller)
        except OSError as error:  # epoll_ctl(2): the kernel is short of memory
            _log.warning("a caller cannot be heard", error=str(error))
            connection.close()
            return
        self._callers.add(caller)
        self._read(selector, caller)

    def _read(self, selector: selectors.BaseSelector, caller: _Caller) -> None:
        """Take what has come; the end of the stream before the request's is a caller gone."""
        try:
            piece = caller.connection.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError as error:
            self._drop(selector, {caller}, str(error))
            return
        caller.data += piece
        try:
            size = request_size(caller.data)
            if size is None or len(caller.data) < size:
                if not piece:
                    self._drop(selector, {caller}, "the request is cut off")
                return
            request = decode_request(bytes(caller.data))
        except WireError as error:
            self._drop(selector, {caller}, str(error))
            return
        self._callers.discard(caller)
        selector.unregister(caller.connection)
        # The runtime takes a node out of service whose STATUS waits behind slow plugins.
        quick = request.environ.get("CNI_COMMAND") in QUICK_VERBS
        try:
            (self._quick if quick else self._pool).submit(self._serve, caller.connection, request)
        except RuntimeError as error:
            # No further thread can be had; the call is queued for those that there are.
            _log.error("no new worker", error=str(error))

    def _drop(
        self, selector: selectors.BaseSelector, callers: AbstractSet[_Caller], why: str
    ) -> None:
        for caller in tuple(callers):
            if caller.data:  # one that said nothing only looked who listens
                _log.warning("not a request", error=why)
            self._callers.discard(caller)
            selector.unregister(caller.connection)
            caller.connection.close()

    def _serve(self, connection: socket.socket, request: WireRequest) -> None:
        with connection:
            answer = encode_answer(self._answer(request))
            try:
                connection.settimeout(SEND_TIMEOUT_S)
                connection.sendall(answer)
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
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            pass  # somebody listens and is behind (unix(7), EAGAIN)
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise NotReadyError(
        f"another danmpy node daemon listens on {path}",
        hint="stop it first, or give this one a socket and a state_dir of its own",
    )
