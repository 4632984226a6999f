"""What every daemon does: log, end on a signal, bring the database up to date."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from danmpy.db import migrate
from danmpy.db.errors import SchemaTooNewError
from danmpy.errors import StoreError
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
