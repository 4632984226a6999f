"""A watch: the changes that the API server tells, line by line, until it or we end it."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import urllib3
from urllib3.exceptions import HTTPError, ReadTimeoutError

from danmpy.api.words import printable
from danmpy.kube.errors import UnreachableError, error_of, unreachable

Event = tuple[str, dict[str, Any]]
"""``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK``, and the object."""


class SilentError(UnreachableError):
    """Nothing was said for too long: a lost connection, or nothing to say; go on from there."""


class Watch:
    """One stream of changes; `close` may be called from another thread and ends it at once."""

    def __init__(
        self, response: urllib3.BaseHTTPResponse, *, subject: str, silence_s: float
    ) -> None:
        self._response = response
        self._subject = subject
        self._silence_s = silence_s
        self._closed = False
        connection = response.connection
        self._socket: socket.socket | None = getattr(connection, "sock", None)
        if self._socket is None:  # it closes after every answer, and cannot be told to stop
            response.close()
            raise unreachable("it keeps no connection open for a watch", subject)
        self._socket.settimeout(silence_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        self._response.close()

    def close(self) -> None:
        """End it: whoever reads comes to an end of the stream. May be called twice."""
        self._closed = True
        sock = self._socket
        if sock is not None:
            # Not the TLS layer's: it lets go of its state under the feet of the reading thread.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def __iter__(self) -> Iterator[Event]:
        """The changes in order, until the server ends the stream or `close` is called.

        Raises:
            ExpiredError: the server no longer keeps what would come next; list again.
            SilentError: nothing came for too long.
            UnreachableError: the connection is lost, or the server gives up.
        """
        for line in self._lines():
            try:
                event = json.loads(line)
                kind, body = event["type"], event["object"]
            except (ValueError, TypeError, KeyError) as error:
                raise unreachable("a change is no JSON object", self._subject) from error
            if kind == "ERROR":
                code = body.get("code") if isinstance(body, dict) else None
                status = code if isinstance(code, int) else 500
                raise error_of(status, body if isinstance(body, dict) else {}, self._subject)
            yield kind, body

    def _lines(self) -> Iterator[bytes]:
        rest = bytearray()
        try:
            for piece in self._response.stream(65536):
                rest += piece
                *lines, last = rest.split(b"\n")
                rest = bytearray(last)
                yield from filter(None, lines)
        except ReadTimeoutError as error:
            raise SilentError(
                f"nothing was said for {self._silence_s:g} s",
                hint="a new connection is made",
                subject=self._subject,
            ) from error
        except (HTTPError, OSError, ValueError) as error:
            if self._closed:
                return
            raise UnreachableError(
                f"the watch is lost: {printable(str(error))}",
                hint="it is made anew from where it was",
                subject=self._subject,
            ) from error
