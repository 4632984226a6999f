"""The leader's loop: look when something changed, and from time to time in any case."""

from __future__ import annotations

import threading
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from danmpy.clock import monotonic
from danmpy.controller.reconcile import Leadership, Reconciler
from danmpy.errors import DanmpyError

_log = structlog.get_logger(__name__)

PERIOD_S: Final = 2.0
"""Seconds between looks that nothing asked for: addresses and reports come by no event."""

SOON_S: Final = 1.0
"""Seconds until the next look when something is left to do, or the last one failed."""

REST_S: Final = 0.1
"""Seconds of rest after a look: changes that come together are one look."""


class Loop:
    """Runs the looks in a thread of its own while this replica leads."""

    def __init__(
        self, reconciler: Reconciler, leader: Leadership, registry: CollectorRegistry
    ) -> None:
        self._reconciler = reconciler
        self._leader = leader
        self._woken = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconcile", daemon=True)
        self.error = ""
        leads = Gauge("danmpy_controller_leads", "Does this replica lead?", registry=registry)
        leads.set_function(lambda: float(leader.leading()))
        self._seconds = Gauge(
            "danmpy_controller_look_seconds", "How long the last look took", registry=registry
        )
        self._looks = Counter(
            "danmpy_controller_looks", "Looks by their end", ["result"], registry=registry
        )

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Stop after the look that is going on."""
        self._stop.set()
        self._woken.set()
        if self._thread.ident is not None:
            self._thread.join()

    def wake(self) -> None:
        """Look again soon; many wakes are one look."""
        self._woken.set()

    def _run(self) -> None:
        patience = 0.0
        while not self._stop.is_set():
            self._woken.wait(patience)
            self._woken.clear()
            if self._stop.is_set():
                return
            patience = self._look() if self._leader.leading() else PERIOD_S
            self._stop.wait(REST_S)

    def _look(self) -> float:
        """One look; the seconds until the next one that nothing asks for."""
        began = monotonic()
        try:
            left = self._reconciler.look()
        except DanmpyError as error:
            if str(error) != self.error:
                _log.warning("look failed", error=str(error))
            return self._ended("failed", str(error), began, SOON_S)
        except Exception as error:  # noqa: BLE001 - the loop lives on and tries again
            _log.exception("look broke", error=str(error))
            return self._ended("broke", str(error), began, SOON_S)
        return self._ended("done", "", began, SOON_S if left else PERIOD_S)

    def _ended(self, result: str, error: str, began: float, patience: float) -> float:
        self.error = error
        self._looks.labels(result=result).inc()
        self._seconds.set(monotonic() - began)
        return patience
