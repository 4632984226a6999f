"""Pools and picking: which addresses may be handed out, and which is next. Pure."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache

from danmpy.api.specs import Family, IPAddress, PoolSpec
from danmpy.errors import IntentError

Range = tuple[int, int]
"""First and last, both included."""

WINDOW_MIN = 64
WINDOW_MAX = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What dynamic requests get from a pool: disjoint ascending ranges, and a name for the shape.

    Two pools of one shape hand out the same addresses; when the shape of a network's pool changes
    its cursor has to start anew.
    """

    ranges: tuple[Range, ...]
    shape: str

    @property
    def capacity(self) -> int:
        """How many addresses there are in all."""
        return sum(last - first + 1 for first, last in self.ranges)

    def holds(self, value: int) -> bool:
        """Does `value` lie in the dynamic range, reserved and excluded addresses left out?"""
        place = bisect_right(self.ranges, value, key=lambda item: item[0])
        return place > 0 and value <= self.ranges[place - 1][1]

    def at_or_after(self, value: int) -> int | None:
        """The smallest address of the pool that is not below `value`."""
        for first, last in self.ranges:
            if value <= last:
                return max(first, value)
        return None

    def between(self, low: int, high: int) -> Iterator[Range]:
        """The parts of the ranges inside `low`..`high`."""
        for first, last in self.ranges:
            if last >= low and first <= high:
                yield max(first, low), min(last, high)


@lru_cache(maxsize=8192)
def layout(pool: PoolSpec) -> Layout:
    """The dynamic ranges of `pool`: `first`..`last` without gaps, reserved and excluded ones."""
    ranges = subtract(((pool.first, pool.last),), (*pool.gaps, *pool.reserved, *pool.excluded))
    text = f"{pool.subnet}|{ranges}"
    return Layout(ranges=ranges, shape=hashlib.sha256(text.encode()).hexdigest()[:32])


def subtract(ranges: Collection[Range], holes: Collection[Range]) -> tuple[Range, ...]:
    """`ranges` without `holes`, ascending and disjoint; the inputs may be in any order."""
    rest = sorted(item for item in ranges if item[0] <= item[1])
    for low, high in sorted(holes):
        if low > high:
            continue
        cut: list[Range] = []
        for first, last in rest:
            if high < first or last < low:
                cut.append((first, last))
                continue
            if first < low:
                cut.append((first, low - 1))
            if high < last:
                cut.append((high + 1, last))
        rest = cut
    return tuple(rest)


def take_fresh(
    space: Layout, cursor: int | None, count: int, busy: Callable[[int, int], Collection[int]]
) -> tuple[tuple[int, ...], int | None]:
    """Up to `count` addresses from `cursor` on that are not busy, and where the cursor stands then.

    `busy(low, high)` tells which addresses of that window cannot be taken. It is asked about
    growing windows, so that a long run of held addresses costs few questions. The cursor is None
    when nothing is left.
    """
    picked: list[int] = []
    width = max(WINDOW_MIN, 2 * count)
    position = None if cursor is None else space.at_or_after(cursor)
    while position is not None and len(picked) < count:
        high = position + width - 1
        taken = busy(position, high)
        for value in _free_in(space, position, high, taken):
            picked.append(value)
            if len(picked) == count:
                high = value
                break
        position = space.at_or_after(high + 1)
        width = min(width * 4, WINDOW_MAX)
    return tuple(picked), position


def _free_in(space: Layout, low: int, high: int, taken: Collection[int]) -> Iterator[int]:
    blocked = frozenset(taken)
    for first, last in space.between(low, high):
        for value in range(first, last + 1):
            if value not in blocked:
                yield value


def require_assignable(
    pool: PoolSpec, address: IPAddress, subject: str, what: str = "static address"
) -> None:
    """May `address` be asked for by name? Anywhere in the subnet, the dynamic range or not.

    `what` is how the address is called in the refusal.

    Raises:
        IntentError: outside the subnet, reserved, or excluded.
    """
    value = int(address)
    if address not in pool.subnet:
        raise IntentError(
            f"{what} {address} is outside {pool.subnet}",
            hint=f"ask for an address of {pool.subnet}",
            subject=subject,
        )
    if _within(value, pool.reserved):
        raise IntentError(
            f"{what} {address} is reserved (network, broadcast or gateway address)",
            hint="ask for another address",
            subject=subject,
        )
    if _within(value, pool.excluded):
        raise IntentError(
            f"{what} {address} is excluded by the network",
            hint="ask for another address or change Options.exclude",
            subject=subject,
        )


def _within(value: int, ranges: tuple[Range, ...]) -> bool:
    return any(first <= value <= last for first, last in ranges)


def pack(family: Family, value: int) -> bytes:
    """The address as it is stored: 4 or 16 bytes, big endian, so that bytes order as numbers."""
    return value.to_bytes(4 if family == 4 else 16, "big")


def unpack(data: bytes) -> int:
    """The number of a stored address."""
    return int.from_bytes(data, "big")
