"""The one thread that writes the mirrors.

Level-triggered: a wake only says "look again", and every turn compares all that should be written
with all that is known to be. What keeps it all over a restart is the journal of attachments.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from danmpy.clock import monotonic
from danmpy.errors import ClusterError, DanmpyError
from danmpy.mirrors.patience import Delays
from danmpy.mirrors.ports import Target, concerns_all

_log = structlog.get_logger(__name__)

LINGER_S: Final = 0.1
"""Seconds without a wake before the turn: answers go first, and pods of one moment share it."""

LINGER_MOST_S: Final = 1.0
"""Seconds after which a turn comes also while pods keep coming."""

MOST_S: Final = 5.0
"""Seconds at most between two tries: a server that is back is told everything soon after."""

_LONG_S: Final = 3600.0
"""Seconds that stand for "when something changes"."""

_JOIN_S: Final = 2.0


class Writer:
    """Runs targets in one thread until it is closed; a failure of one does not stop the others."""

    def __init__(
        self, targets: Sequence[Target], *, seconds: Callable[[], float] = monotonic
    ) -> None:
        """`seconds`: a clock that only goes forward."""
        self._targets = tuple(targets)
        self._seconds = seconds
        self._due = {target.name: seconds() for target in targets}
        self._delays: Delays[str] = Delays(MOST_S, {})
        self._said: dict[str, str] = {}
        self._woken = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mirrors", daemon=True)

    def start(self) -> None:
        """Begin; every target has a turn at once."""
        self._thread.start()

    def wake(self) -> None:
        """Something changed. From any thread, in microseconds."""
        self._woken.set()

    def close(self) -> None:
        """Stop after the turn that is going on; what is not written is written after a restart."""
        self._stop.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    def _work(self) -> None:
        wait = 0.0
        while not self._stop.is_set():
            if self._woken.wait(wait):
                self._linger()
                self._due = dict.fromkeys(self._due, self._seconds())
            wait = self.run_due()

    def _linger(self) -> None:
        until = self._seconds() + LINGER_MOST_S
        while not self._stop.is_set():
            self._woken.clear()
            if not self._woken.wait(LINGER_S) or self._seconds() >= until:
                break
        self._woken.clear()

    def run_due(self) -> float:
        """Let every target that is due have its turn; seconds until the next one is."""
        for target in self._targets:
            now = self._seconds()
            if not self._stop.is_set() and self._next(target) <= now:
                self._turn(target, now)
        now = self._seconds()
        return max(0.0, min(map(self._next, self._targets), default=now + _LONG_S) - now)

    def _next(self, target: Target) -> float:
        """When `target` may have its next turn."""
        delays = (self._delays.of.get(key) for key in (target.name, target.place))
        return max(self._due[target.name], *(delay.until for delay in delays if delay), 0.0)

    def _turn(self, target: Target, now: float) -> None:
        try:
            again = target.run(now)
        except DanmpyError as error:
            self._failed(target, error)
            return
        except Exception:  # noqa: BLE001 - a bug in one mirror must not end the others
            _log.exception("mirror broke", mirror=target.name)
            self._delays.note_failure(target.name, self._seconds())
            return
        self._due[target.name] = now + (_LONG_S if again is None else again)
        self._delays.note_success(target.name)
        self._delays.note_success(target.place)
        if self._said.pop(target.name, ""):
            _log.info("mirror is written again", mirror=target.name)

    def _failed(self, target: Target, error: DanmpyError) -> None:
        """Try it again later; an API server that is away is not asked by each target in turn."""
        away = isinstance(error, ClusterError) and concerns_all(error)
        self._delays.note_failure(target.place if away else target.name, self._seconds())
        words = str(error)
        if self._said.get(target.name) != words:
            _log.warning("mirror waits", mirror=target.name, error=words)
        self._said[target.name] = words
