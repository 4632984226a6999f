"""Loopback of one namespace joined to loopback of this process: how a node reaches the API server.

A node of a test is a namespace of its own, and the API server listens on the loopback of the
machine. The relay listens on the node's loopback; cutting it is a partition of that one node.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import threading
import time
from collections.abc import Callable

from support.netns import Namespace

_CLONE_NEWNET = 0x40000000
_CHUNK = 1 << 16


def socket_inside(namespace: Namespace, make: Callable[[], socket.socket]) -> socket.socket:
    """The socket that `make` makes inside `namespace`; a thread of its own goes there and ends."""
    result: list[socket.socket | OSError] = []

    def work() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = os.open(namespace.path, os.O_RDONLY)
        try:
            if libc.setns(descriptor, _CLONE_NEWNET):
                result.append(OSError(ctypes.get_errno(), "setns"))
                return
            result.append(make())
        except OSError as error:
            result.append(error)
        finally:
            os.close(descriptor)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    (made,) = result
    if isinstance(made, OSError):
        raise made
    return made


class Relay:
    """Forwards 127.0.0.1:`port` inside `namespace` to 127.0.0.1:`port` outside."""

    def __init__(self, namespace: Namespace, port: int) -> None:
        self._port = port
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._cut = False
        self._listener = socket_inside(
            namespace, lambda: socket.create_server(("127.0.0.1", port), backlog=64)
        )
        threading.Thread(target=self._accept, name="relay", daemon=True).start()

    def cut(self) -> None:
        """Break every connection and refuse new ones until `mend`."""
        self._cut = True
        self._break_all()

    def mend(self) -> None:
        """Forward again."""
        self._cut = False

    def close(self) -> None:
        """Stop listening, break every connection."""
        self.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        deadline = time.monotonic() + 5
        while self._open and time.monotonic() < deadline:
            time.sleep(0.01)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._cut:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._port), timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._open |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                sink.sendall(data)
        self._end(source, sink)

    def _end(self, *ends: socket.socket) -> None:
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            with self._lock:
                known = end in self._open
                self._open.discard(end)
            if known:
                end.close()

    def _break_all(self) -> None:
        with self._lock:
            ends = tuple(self._open)
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
