"""What every daemon does: log, end on a signal, bring the database up to date."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry

from danmpy.db import migrate
from danmpy.db.errors import SchemaTooNewError
from danmpy.errors import StoreError
from danmpy.health import HealthServer, Readiness
from danmpy.settings import Settings

_log = structlog.get_logger(__name__)


class Schema:
    """Brings the database to this release's schema once it can be reached."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._done = False

    def prepare(self) -> None:
        """Upgrade when that is still to do; a database that is away is tried again later.

        Raises:
            StoreError: the schema is newer than this release; waiting would not help.
        """
        if self._done:
            return
        try:
            migrate.upgrade_apart(self._settings.database_url)
        except SchemaTooNewError:
            raise
        except StoreError as error:
            _log.warning("the database cannot be used yet", error=str(error))
            return
        self._done = True


BEGIN_S = 10.0
"""Seconds that a source has to begin to watch: it only starts threads for that."""


class Watched(Protocol):
    """Where wishes come from."""

    def watch(self, on_change: Callable[[], None], stop: threading.Event) -> None:
        """Call `on_change` at once, and after every change until `stop`; blocks."""


def follow(
    source: Watched, on_change: Callable[[], None], stop: threading.Event, stack: ExitStack
) -> None:
    """Watch `source` in a thread until `stack` ends; it has begun when this returns.

    Before that, a reader would list everything by itself, beside those that begin to follow it.
    """
    begun = threading.Event()

    def changed() -> None:
        begun.set()
        on_change()

    thread = threading.Thread(target=source.watch, args=(changed, stop), name="intent", daemon=True)
    thread.start()
    stack.callback(thread.join, 2.0)
    stack.callback(stop.set)
    begun.wait(BEGIN_S)


def serve_health(
    settings: Settings, registry: CollectorRegistry, ready: Readiness, stack: ExitStack
) -> None:
    """Serve metrics and probes until `stack` ends, unless they are switched off."""
    if settings.metrics.endpoint is not None:
        health = HealthServer(settings.metrics.endpoint, registry, ready)
        health.start()
        stack.callback(health.close)


@contextmanager
def signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on SIGTERM and SIGINT while the block runs."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: stop()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def calm_collector() -> None:
    """Let the garbage collector look at old objects rarely: every thread stands still meanwhile.

    With 1,000 networks one look at all objects took 40 to 300 ms, in which no review and no ADD was
    answered, and found next to nothing: our values have no cycles. Young objects are looked at in
    portions of a few milliseconds (docs.python.org: gc.set_threshold).
    """
    gc.set_threshold(5_000, 5, 500)


def configure_logging() -> None:
    """Log lines as ``key=value`` with a UTC time, on standard error."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
