"""When to try again what keeps failing: soon at first, then ever more rarely. Pure."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Final

FIRST_S: Final = 2.0
MOST_S: Final = 60.0


class Retries:
    """Things that failed, and when each is due again. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._due: dict[Hashable, tuple[float, float]] = {}

    def is_due(self, thing: Hashable, now: float) -> bool:
        """May it be tried at `now`? What never failed may at once."""
        due, _ = self._due.get(thing, (now, 0.0))
        return now >= due

    def failed(self, thing: Hashable, now: float) -> None:
        """It failed at `now`, once more."""
        _, pause = self._due.get(thing, (now, 0.0))
        pause = min(MOST_S, pause * 2 or FIRST_S)
        self._due[thing] = (now + pause, pause)

    def keep(self, things: Collection[Hashable]) -> None:
        """There are no others any more."""
        self._due = {thing: due for thing, due in self._due.items() if thing in things}

    def forget(self, thing: Hashable) -> None:
        """It did not fail this time."""
        self._due.pop(thing, None)
