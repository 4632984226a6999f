"""Locks of the CNI verbs: one operation a container at a time, GC alone.

CNI spec 1.1.0: operations of one container never run in parallel, those of different containers
may; no ADD or DEL may run while GC does. Runtimes are trusted to obey, and defended against.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ContainerLocks:
    """One lock a container id, made on demand and forgotten when nobody wants it."""

    def __init__(self) -> None:
        self._guard = threading.Condition()
        self._busy: set[str] = set()
        self._exclusive = False

    @contextmanager
    def container(self, container_id: str) -> Iterator[None]:
        """Hold the lock of one container; waits for GC to end."""
        with self._guard:
            self._guard.wait_for(lambda: not self._exclusive and container_id not in self._busy)
            self._busy.add(container_id)
        try:
            yield
        finally:
            with self._guard:
                self._busy.discard(container_id)
                self._guard.notify_all()

    @contextmanager
    def all(self) -> Iterator[None]:
        """Hold every container's lock: new operations wait, running ones are waited for."""
        with self._guard:
            self._guard.wait_for(lambda: not self._exclusive)
            self._exclusive = True
            self._guard.wait_for(lambda: not self._busy)
        try:
            yield
        finally:
            with self._guard:
                self._exclusive = False
                self._guard.notify_all()
