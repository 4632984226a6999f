"""The webhook as one part of the controller: its server, its certificate, its registration."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import structlog

from danmpy.controller.certificate_sources import CertificateSource
from danmpy.controller.certificates import ServedCertificate
from danmpy.controller.webhook import WebhookServer
from danmpy.errors import DanmpyError
from danmpy.kube.errors import ClashError

_log = structlog.get_logger(__name__)

LOOK_S: Final = 5.0
"""Seconds between two looks at certificate and registration: one small request each."""

_JOIN_S: Final = 10.0


class WebhookService:
    """Every replica serves; the one that leads keeps the registration.

    `keep` makes the registration trust a bundle (PEM) and says whether it had to; `leading` says
    whether this replica leads now.
    """

    def __init__(
        self,
        server: WebhookServer,
        certificates: CertificateSource,
        *,
        keep: Callable[[bytes], bool],
        leading: Callable[[], bool],
        look_s: float = LOOK_S,
    ) -> None:
        self._server = server
        self._certificates = certificates
        self._keep = keep
        self._leading = leading
        self._look_s = look_s
        self._served: ServedCertificate | None = None
        self._trouble: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhook-look", daemon=True)

    def start(self) -> None:
        """Take the port, and go on looking in a thread.

        Raises:
            HostError: the port cannot be had.
        """
        self._server.bind()
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_S)
        self._server.close()

    def ready(self) -> str:
        """Why no review can be answered now; empty when one can."""
        if self._server.serving:
            return ""
        return self._trouble.get("certificate") or "the webhook has no certificate yet"

    def look(self) -> None:
        """One look: certificate, registration. Never raises; what does not work is tried again."""
        served = self._served
        try:
            served = self._certificates.read()
        except DanmpyError as error:
            self._tell("certificate", str(error))
        else:
            self._tell("certificate", "")
        if served is None:
            return
        if served.ca_bundle and self._leading():
            # First trusted, then served.
            self._register(served.ca_bundle)
        if served != self._served:
            self._serve(served)

    def _register(self, ca_bundle: bytes) -> None:
        try:
            if self._keep(ca_bundle):
                _log.info("the webhook's registration has the certificate's authority")
        except ClashError:
            return  # the next look sees what somebody changed
        except DanmpyError as error:
            self._tell("registration", str(error))
        else:
            self._tell("registration", "")

    def _serve(self, served: ServedCertificate) -> None:
        try:
            self._server.use(served)
        except DanmpyError as error:
            self._tell("server", str(error))
            return
        self._tell("server", "")
        self._served = served
        _log.info("the webhook serves with a new certificate", port=self._server.port)

    def _tell(self, about: str, trouble: str) -> None:
        """Log what is wrong when it begins, and when it changes."""
        if trouble and self._trouble.get(about) != trouble:
            _log.warning("the webhook is not as it should be", about=about, error=trouble)
        self._trouble[about] = trouble

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(self._look_s)
