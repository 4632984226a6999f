"""Time as a parameter: the only module that reads the machine's clocks."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], int]
"""Wall time in microseconds since 1970-01-01T00:00:00Z."""

MICROSECONDS = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


def wall_clock() -> int:
    """Microseconds since the epoch by this machine's clock."""
    return time.time_ns() // 1000


def monotonic() -> float:
    """Seconds that only go forward, for durations and deadlines."""
    return time.monotonic()


def sleep(seconds: float) -> None:
    """Let this thread rest."""
    time.sleep(seconds)


def to_rfc3339(micros: int) -> str:
    """RFC 3339 in UTC with microseconds: ``2026-05-04T10:15:00.000000Z``."""
    moment = _EPOCH + timedelta(microseconds=micros)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def from_rfc3339(text: str) -> int:
    """Microseconds of an RFC 3339 time; a time without an offset is UTC.

    Raises:
        ValueError: `text` is no such time, or its year in UTC is not one of 1 to 9999.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    micros = (moment - _EPOCH) // timedelta(microseconds=1)
    if not _FIRST <= micros <= _LAST:
        raise ValueError(text)
    return micros
