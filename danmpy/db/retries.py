"""How often transactions had to be begun anew, counted for who shows it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping


class Retries:
    """The counts of one engine; safe for many threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._counts: Counter[str] = Counter()

    def note(self, reason: str) -> None:
        """One more."""
        with self._guard:
            self._counts[reason] += 1

    def by_reason(self) -> Mapping[str, int]:
        """All so far."""
        with self._guard:
            return dict(self._counts)
