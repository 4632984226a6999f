"""Locks of the CNI verbs: one operation a container at a time, GC alone.

CNI spec 1.1.0: operations of one container never run in parallel, those of different containers
may; no ADD or DEL may run while GC does. Runtimes are trusted to obey, and defended against.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from danmpy.errors import NotReadyError

WAIT_S: Final = 50.0
"""Seconds to wait for an operation that is under way: less than the shim waits for its answer, so
that repeated calls for a stuck container end and do not use up the server's threads."""


EXCLUSIVE_S: Final = 2.0
"""Seconds to wait for running operations to end: nobody else can begin one meanwhile."""


class ContainerLocks:
    """One lock a container id, made on demand and forgotten when nobody wants it.

    Raises (but for `try_container`):
        NotReadyError: what is under way takes longer than the wait.
    """

    def __init__(self, wait_s: float = WAIT_S) -> None:
        self._wait_s = wait_s
        self._guard = threading.Condition()
        self._busy: set[str] = set()
        self._exclusive = False

    @contextmanager
    def container(self, container_id: str) -> Iterator[None]:
        """Hold the lock of one container; waits for GC to end."""
        with self._guard:
            free = self._guard.wait_for(lambda: self._is_free(container_id), self._wait_s)
            if not free:
                raise _still_busy(f"another operation of container {container_id[:64]}")
            self._busy.add(container_id)
        try:
            yield
        finally:
            self._give_back(container_id)

    @contextmanager
    def try_container(self, container_id: str) -> Iterator[bool]:
        """Hold the lock of one container if it is free now; was it? Waits for nobody, so it may be
        used while another container's lock is held."""
        with self._guard:
            taken = self._is_free(container_id)
            if taken:
                self._busy.add(container_id)
        try:
            yield taken
        finally:
            if taken:
                self._give_back(container_id)

    def _is_free(self, container_id: str) -> bool:
        return not self._exclusive and container_id not in self._busy

    def _give_back(self, container_id: str) -> None:
        with self._guard:
            self._busy.discard(container_id)
            self._guard.notify_all()

    @contextmanager
    def all(self) -> Iterator[None]:
        """Hold every container's lock: new operations wait, running ones are waited for."""
        with self._guard:
            if not self._guard.wait_for(lambda: not self._exclusive, self._wait_s):
                raise _still_busy("another GC")
            self._exclusive = True
            if not self._guard.wait_for(lambda: not self._busy, min(EXCLUSIVE_S, self._wait_s)):
                self._exclusive = False
                self._guard.notify_all()
                raise _still_busy("an operation of a container")
        try:
            yield
        finally:
            with self._guard:
                self._exclusive = False
                self._guard.notify_all()


def _still_busy(what: str) -> NotReadyError:
    return NotReadyError(
        f"{what} is still under way",
        hint="it ends by itself or fails; the call may be repeated",
    )
