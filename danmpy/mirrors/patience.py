"""When to try again what did not work. Pure: seconds that only go forward come in."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)

FIRST_S: Final = 0.5
"""Seconds before the first new try; doubled with each further one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """How often something failed in a row, and when it may be tried again."""

    most_s: float
    failed: int = 0
    until: float = 0.0

    def after_failure(self, now: float) -> Delay:
        """The delay after one more failure at `now`."""
        wait = min(self.most_s, FIRST_S * 2 ** min(self.failed, 30))
        return replace(self, failed=self.failed + 1, until=now + wait)

    def after_success(self) -> Delay:
        """Nothing to wait for."""
        return replace(self, failed=0, until=0.0)


@dataclass(frozen=True, slots=True)
class Delays(Generic[_Key]):
    """A delay for each thing that failed, so that one that is refused does not stop the others."""

    most_s: float
    of: dict[_Key, Delay]

    def may(self, key: _Key, now: float) -> bool:
        """May `key` be tried?"""
        delay = self.of.get(key)
        return delay is None or delay.until <= now

    def note_failure(self, key: _Key, now: float) -> bool:
        """It failed; is that the first time in a row?"""
        delay = self.of.get(key) or Delay(most_s=self.most_s)
        self.of[key] = delay.after_failure(now)
        return delay.failed == 0

    def note_success(self, key: _Key) -> None:
        """It worked."""
        self.of.pop(key, None)

    def keep(self, keys: Collection[_Key]) -> None:
        """Forget all others: they are not wanted any more."""
        for key in self.of.keys() - set(keys):
            del self.of[key]

    def next_s(self, now: float) -> float | None:
        """Seconds until something that failed may be tried again; None when nothing did."""
        return min((max(0.0, d.until - now) for d in self.of.values()), default=None)
