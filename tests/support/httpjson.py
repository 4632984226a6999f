"""JSON over HTTP or HTTPS, into a network namespace if need be, with the standard library alone."""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.netns import Namespace

CLONE_NEWNET = 0x40000000
"""sched.h, for setns(2)."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Status and decoded body; status 0: nobody answered."""

    status: int
    body: Any


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server. Every request has a connection of its own: none outlives a restart."""

    host: str
    port: int
    ca_file: Path | None = None
    netns: Namespace | None = None

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.ca_file else 'http'}://{host}:{self.port}"

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str = "",
        headers: Mapping[str, str] | None = None,
        seconds: float = 60,
    ) -> HttpAnswer:
        """One request; `body` is sent as JSON. Raises OSError when there is no connection."""
        sent = dict(headers or {}) | ({"Authorization": f"Bearer {token}"} if token else {})
        connection = http.client.HTTPConnection(self.host, self.port, timeout=seconds)
        try:
            connection.sock = self._connect(seconds)
            connection.request(
                method, path, body=None if body is None else json.dumps(body), headers=sent
            )
            answer = connection.getresponse()
            raw = answer.read()
        except http.client.HTTPException as problem:
            raise ConnectionError(f"{method} {self.url}{path}: {problem!r}") from problem
        finally:
            connection.close()
        return HttpAnswer(answer.status, _decoded(raw))

    def try_request(self, method: str, path: str, *, token: str = "") -> HttpAnswer:
        """As `request`, without a body and soon; nobody there is status 0."""
        try:
            return self.request(method, path, token=token, seconds=5)
        except OSError as problem:
            return HttpAnswer(0, str(problem))

    def _connect(self, seconds: float) -> socket.socket:
        made = self._dial_inside(seconds) if self.netns else self._dial(seconds)
        if self.ca_file is None:
            return made
        try:
            context = ssl.create_default_context(cafile=str(self.ca_file))
            return context.wrap_socket(made, server_hostname=self.host)
        except BaseException:
            made.close()
            raise

    def _dial(self, seconds: float) -> socket.socket:
        made = socket.create_connection((self.host, self.port), timeout=seconds)
        # Head and body go out one by one: without it the second waits 40 ms for a late ACK.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def _dial_inside(self, seconds: float) -> socket.socket:
        assert self.netns is not None
        return socket_inside(self.netns, lambda: self._dial(seconds))


def socket_inside(namespace: Namespace, make: Callable[[], socket.socket]) -> socket.socket:
    """The socket that `make` makes, for good in `namespace`, where its thread is meanwhile."""
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def work() -> None:
        try:
            _enter(namespace.path)
            made.append(make())
        except OSError as problem:
            failed.append(problem)

    thread = threading.Thread(target=work, name="socket-inside")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


def _enter(path: Path) -> None:
    """Put the calling thread, which must end soon, into a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns is there from Python 3.12 on
    opened = os.open(path, os.O_RDONLY)
    try:
        if libc.setns(opened, CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(opened)


def _decoded(raw: bytes) -> Any:
    text = raw.decode(errors="replace")
    try:
        return json.loads(text)
    except ValueError:
        return text
