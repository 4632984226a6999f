"""The daemon's HTTP endpoint: /metrics for Prometheus, /healthz and /readyz for probes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

_log = structlog.get_logger(__name__)

REQUEST_TIMEOUT_S = 10.0
"""Seconds for a client to say what it wants: each one that is connected has a thread."""

Readiness = Callable[[], str]
"""An empty text when the process is ready, else why not."""


class _Server(ThreadingHTTPServer):
    """Of the address family of its address: the base class knows IPv4 alone."""

    def __init__(self, listen: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in listen[0] else socket.AF_INET
        super().__init__(listen, handler)


class HealthServer:
    """Serves until closed; a port that cannot be had is a warning, because pods matter more."""

    def __init__(self, listen: tuple[str, int], registry: CollectorRegistry, ready: Readiness):
        self._listen = listen
        self._registry = registry
        self._ready = ready
        self._server: ThreadingHTTPServer | None = None

    @property
    def port(self) -> int:
        """The port that is served; 0 when none is."""
        return self._server.server_port if self._server else 0

    def start(self) -> None:
        """Begin to serve, or log why not."""
        try:
            self._server = _Server(self._listen, self._handler())
        except OSError as error:
            _log.warning("no metrics", listen=self._listen, error=str(error))
            return
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry, ready = self._registry, self._ready

        class Handler(BaseHTTPRequestHandler):
            """One request."""

            timeout = REQUEST_TIMEOUT_S

            def do_GET(self) -> None:
                """Answer the three known paths."""
                if self.path == "/metrics":
                    self._send(200, generate_latest(registry), CONTENT_TYPE_LATEST)
                elif self.path == "/healthz":
                    self._send(200, b"ok\n")
                elif self.path == "/readyz":
                    reason = ready()
                    self._send(503 if reason else 200, (reason or "ok").encode() + b"\n")
                else:
                    self._send(404, b"try /metrics, /healthz or /readyz\n")

            def _send(self, status: int, body: bytes, kind: str = "text/plain") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - base class
                """Probes every few seconds are no news."""

        return Handler
