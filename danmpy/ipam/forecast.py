"""When a pool is full, if it goes on as it did: the median of all slopes between its samples.

The median (Theil and Sen) and not the least squares, because use jumps: one deployment that came
and went would bend a line of least squares, and leaves the median where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import median
from typing import Final

from danmpy.clock import MICROSECONDS
from danmpy.ipam.retaining import DAY

WINDOW: Final = 7 * DAY
"""Microseconds of the past that the future is told from: a week has all of its days in it."""

HORIZON: Final = 3650 * DAY
"""What lies further ahead is never."""

_POINTS: Final = 42
"""Samples that are compared with each other, four hours apart: 861 pairs for each pool."""

_SHORTEST: Final = 3600 * MICROSECONDS
"""A shorter past says nothing."""


def growth(samples: Sequence[tuple[int, int]]) -> float:
    """Addresses a microsecond by which use grows; `samples` are times (microseconds, in order) and
    numbers of addresses taken. Zero when they say too little.
    """
    if len(samples) < 3 or samples[-1][0] - samples[0][0] < _SHORTEST:
        return 0.0
    chosen = _thinned(samples)
    slopes = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for earlier, later in combinations(chosen, 2)
        if later[0] > earlier[0]
    ]
    return median(slopes) if slopes else 0.0


def exhausted_at(samples: Sequence[tuple[int, int]], free: int, now: int) -> int | None:
    """When the `free` addresses of a pool are used up (microseconds); None when its use does not
    grow, or not within `HORIZON`. See `growth` for `samples`.
    """
    slope = growth(samples)
    if slope <= 0:
        return None
    ahead = free / slope
    return now + int(ahead) if ahead <= HORIZON else None


def _thinned(samples: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
    """At most `_POINTS` of the samples, spread evenly, the first and the last among them."""
    last = len(samples) - 1
    if last < _POINTS:
        return samples
    return [samples[round(place * last / (_POINTS - 1))] for place in range(_POINTS)]
