"""Writes to the API server by the leader: several at once, and seldom for one object.

What cannot be written now is no loss: the next look finds it still to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from danmpy.api.specs import NetworkKey
from danmpy.clock import monotonic
from danmpy.errors import ClusterError
from danmpy.kube.errors import ClashError, MissingError
from danmpy.kube.resources import RESOURCE_OF, Resource

_log = structlog.get_logger(__name__)

PERIOD_S: Final = 10.0
"""Seconds between two writes of one network's status: every node hears of each of them."""

_WRITERS: Final = 6
"""Requests at once: the API server has two cores for everybody in a small cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A merge patch of a network; `urgent`: somebody waits for it."""

    key: NetworkKey
    body: dict[str, Any]
    subresource: str = ""
    urgent: bool = False


class Patcher(Protocol):
    """The API server (`kube.client.KubeClient`)."""

    def patch(
        self,
        resource: Resource,
        name: str,
        patch: dict[str, Any],
        namespace: str = "",
        subresource: str = "",
    ) -> dict[str, Any]:
        """Merge `patch` into the object."""


class Writer:
    """Used by one thread; `may_write` is asked before every request. Close it at the end."""

    def __init__(
        self,
        api: Patcher,
        may_write: Callable[[], bool],
        *,
        period_s: float = PERIOD_S,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._api = api
        self._may_write = may_write
        self._period_s = period_s
        self._written_at: dict[NetworkKey, float] = {}
        self._pool = ThreadPoolExecutor(_WRITERS, thread_name_prefix="writer")
        registry = registry or CollectorRegistry()
        self._writes = Counter(
            "danmpy_controller_writes",
            "Writes of networks by their end",
            ["result"],
            registry=registry,
        )
        self._waiting = Gauge(
            "danmpy_controller_waiting", "Statuses that wait for their turn", registry=registry
        )

    def close(self) -> None:
        """Let the requests that run end."""
        self._pool.shutdown(cancel_futures=True)

    def write_all(self, patches: Sequence[Patch]) -> frozenset[NetworkKey]:
        """Write all of them; those that were."""
        done = self._pool.map(self._write, patches)
        return frozenset(patch.key for patch, ok in zip(patches, done, strict=True) if ok)

    def write_rarely(self, patches: Iterable[Patch]) -> bool:
        """Write those whose turn it is or that are urgent; True when others have to wait."""
        now = monotonic()
        self._written_at = {
            key: at for key, at in self._written_at.items() if now - at < self._period_s
        }
        due: list[Patch] = []
        waiting = 0
        for patch in patches:
            if patch.urgent or patch.key not in self._written_at:
                due.append(patch)
            else:
                waiting += 1
        self._waiting.set(waiting)
        done = self.write_all(due)
        # After an urgent write the next one may follow at once: it says how that went.
        clocked = {patch.key for patch in due if not patch.urgent}
        self._written_at |= dict.fromkeys(done & clocked, monotonic())
        return bool(waiting) or len(done) < len(due)

    def _write(self, patch: Patch) -> bool:
        if not self._may_write():
            return False
        key = patch.key
        try:
            self._api.patch(
                RESOURCE_OF[str(key.kind)], key.name, patch.body, key.namespace, patch.subresource
            )
        except (ClashError, MissingError):
            return self._ended("overtaken")  # it changed or went; the next look sees that
        except ClusterError as error:
            _log.warning("not written", network=str(key), error=str(error))
            return self._ended("failed")
        return self._ended("done")

    def _ended(self, result: str) -> bool:
        self._writes.labels(result=result).inc()
        return result == "done"
