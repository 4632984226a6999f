"""The HTTPS server of the admission webhook.

Its certificate can be exchanged while it serves: open connections go on, new ones get the new one.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from danmpy.clock import monotonic, sleep
from danmpy.controller.certificates import ServedCertificate
from danmpy.controller.registration import PATH
from danmpy.errors import HostError, WireError

_log = structlog.get_logger(__name__)

Given = dict[str, Any]
Work = Callable[[], Given]
Answer = Callable[[bytes], Given | Work]
"""The answer to a body; or a function that gives it, when that may take seconds."""

_SLOW_AT_ONCE: Final = 8
"""Threads for answers that may take seconds: as many as the database has connections for. The
others of the pool, 40 in all, are left to reviews that wait for nothing."""

_TURN_S: Final = 2.0
"""Seconds that such an answer waits for its turn: the API server gives up after 5, and with the
database away the answer itself takes 3."""

BODY_MAX: Final = 3 * 1024 * 1024
"""Bytes. The API server takes no larger request (apiserver, `MaxRequestBodyBytes`), and etcd no
object above half of it, so that a review with the old and the new one fits."""

_BODY_S: Final = 10.0
"""Seconds for a body to arrive; the API server does not wait longer than 5 for the answer."""

_KEEP_ALIVE_S: Final = 120
"""Longer than API servers keep an idle connection (client-go, 90 s). Were we the first to close
one, a review sent in that moment would fail, and with it somebody's request."""

_CLOSE_S: Final = 3
"""Seconds for reviews under way to end."""

_START_S: Final = 10.0

SWITCH_INTERVAL_S: Final = 0.0005
"""For `sys.setswitchinterval` of the process that serves. A review passes from thread to thread a
few times, and each time a thread that computes, such as the look over all networks, keeps the
interpreter for this long: with Python's 5 ms the p99 of reviews was 35 to 45 ms, with this 10."""


class WebhookServer:
    """Listens once it has a certificate. `answer` may raise WireError for what is no review.

    While the database is away, each review that asks it takes seconds; those of pods, of which a
    cluster has many more, must not wait for them.
    """

    def __init__(self, endpoint: tuple[str, int], answer: Answer) -> None:
        self._endpoint = endpoint
        self._answer = answer
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._slow = asyncio.Semaphore(_SLOW_AT_ONCE)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2

    @property
    def port(self) -> int:
        """The port; 0 before `bind`."""
        return int(self._socket.getsockname()[1]) if self._socket else 0

    @property
    def serving(self) -> bool:
        """Are reviews answered?"""
        running = self._thread is not None and self._thread.is_alive()
        return running and self._server is not None and self._server.started

    def bind(self) -> None:
        """Take the port. Nobody can connect before the first `use`.

        Raises:
            HostError: it cannot be had.
        """
        host, port = self._endpoint
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # With the protocol named: asyncio sets TCP_NODELAY only then, and an answer, which is
        # written in two parts, would wait 40 ms for the acknowledgement of the first.
        made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if host == "::":
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            made.bind((host, port))
        except OSError as error:
            made.close()
            raise HostError(
                f"cannot listen on {host} port {port}: {error.strerror or error}",
                hint="set webhook.listen to an address and port that are free",
                subject="webhook.listen",
            ) from error
        self._socket = made

    def use(self, served: ServedCertificate) -> None:
        """Serve with this certificate from now on; the first time, begin to.

        Raises:
            HostError: TLS does not take it, or the server does not start.
        """
        loop = self._loop
        if loop is None:
            self._load(served)
            self._start()
            return
        done: Future[None] = Future()

        def load() -> None:
            try:
                self._load(served)
            except HostError as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        # In the loop, because between certificate and key no handshake must happen.
        loop.call_soon_threadsafe(load)
        done.result(timeout=_START_S)

    def close(self) -> None:
        """Answer what is under way, and stop."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(_CLOSE_S + 2.0)
        if self._socket is not None:
            self._socket.close()

    def _load(self, served: ServedCertificate) -> None:
        """OpenSSL reads certificates from files only."""
        try:
            with tempfile.TemporaryDirectory(prefix="danmpy-") as name:  # of mode 0700
                certificate, key = Path(name) / "tls.crt", Path(name) / "tls.key"
                certificate.write_bytes(served.certificate)
                key.write_bytes(served.key)
                self._context.load_cert_chain(certificate, key)
        except (OSError, ValueError) as error:
            raise HostError(
                f"TLS cannot use the webhook's certificate: {error}",
                hint="look at the certificate and key, and at the space in the temporary folder",
                subject="webhook",
            ) from error

    def _start(self) -> None:
        config = uvicorn.Config(
            self._application(),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_CLOSE_S,
        )
        config.load()
        config.ssl = self._context
        self._server = server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, args=(server,), name="webhook")
        self._thread.daemon = True
        self._thread.start()
        deadline = monotonic() + _START_S
        while not server.started:
            if not self._thread.is_alive() or monotonic() > deadline:
                raise HostError(
                    "the webhook's server does not start",
                    hint="see the log before this line",
                    subject="webhook.listen",
                )
            sleep(0.01)

    def _run(self, server: uvicorn.Server) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await server.serve(sockets=[self._socket] if self._socket else None)
            for connection in list(server.server_state.connections):
                connection.transport.abort()  # its client does not let go
            await asyncio.sleep(0)

        try:
            asyncio.run(serve())
        except OSError as error:  # another process was first to listen on the port that we bound
            _log.warning("the webhook cannot listen", error=str(error))
        finally:
            self._loop = None

    def _application(self) -> Starlette:
        return Starlette(
            routes=[
                Route(PATH, self._review, methods=["POST"]),
                Route("/healthz", _healthy, methods=["GET"]),
            ]
        )

    async def _review(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(_BODY_S):
                body = await _read_body(request)
        except TimeoutError:
            return PlainTextResponse(f"no whole body within {_BODY_S:g} s\n", 408)
        except ClientDisconnect:
            return PlainTextResponse("the connection is gone\n", 400)
        if body is None:
            return PlainTextResponse(f"a review has at most {BODY_MAX} bytes\n", 413)
        answer = await run_in_threadpool(self._respond, lambda: self._answer(body))
        if isinstance(answer, Response):
            return answer
        return await self._in_turn(answer)

    async def _in_turn(self, work: Work) -> Response:
        try:
            async with asyncio.timeout(_TURN_S):
                await self._slow.acquire()
        except TimeoutError:
            return PlainTextResponse("too many reviews wait for the database\n", 503)
        try:
            answer = await run_in_threadpool(self._respond, work)
        finally:
            self._slow.release()
        return answer if isinstance(answer, Response) else await self._in_turn(answer)

    def _respond(self, work: Callable[[], Given | Work]) -> Response | Work:
        """What `work` gives, as a response unless there is more to do for one."""
        try:
            answer = work()
        except WireError as error:
            return PlainTextResponse(f"{error}\n", 400)
        except Exception:  # noqa: BLE001 - the edge: one review must not end the server
            _log.exception("a review could not be judged")
            return PlainTextResponse("this is a defect of danmpy: see the controller's log\n", 500)
        if callable(answer):
            return answer
        return Response(json.dumps(answer), media_type="application/json")


async def _read_body(request: Request) -> bytes | None:
    """The body; None when it is too large. Read to its end all the same: who is still sending
    would not see an answer."""
    body = bytearray()
    length = 0
    async for piece in request.stream():
        length += len(piece)
        if length <= BODY_MAX:
            body += piece
    return bytes(body) if length <= BODY_MAX else None


async def _healthy(_request: Request) -> Response:
    return PlainTextResponse("ok\n")
