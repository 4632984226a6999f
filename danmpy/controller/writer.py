"""Writes to the API server by the leader: several at once, and seldom for one object.

What cannot be written now is no loss: the next look finds it still to do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from danmpy.api.specs import NetworkKey, NetworkKind
from danmpy.clock import monotonic
from danmpy.errors import ClusterError
from danmpy.kube.errors import ClashError, MissingError, UnreachableError
from danmpy.kube.resources import RESOURCE_OF, Resource

_log = structlog.get_logger(__name__)

PERIOD_S: Final = 10.0
"""Seconds between two writes of one network's status: every node hears of each of them."""

REFUSED_FIRST_S: Final = 1.0
REFUSED_MOST_S: Final = 60.0
"""Seconds until what was refused is tried again, doubled each time up to the second."""

_AWAY_MOST_S: Final = 4.0
"""The same while the API server is away: it is back for all of them at once."""

_OVER_S: Final = 600.0
"""Seconds after which a failure that was not repeated is forgotten: its network may be gone."""

_WRITERS: Final = 6
"""Requests at once: the API server has two cores for everybody in a small cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A merge patch of a network.

    `urgent`: somebody waits for it. `early`: it may come before its turn, and then the turn after
    that one is the next.
    """

    key: NetworkKey
    body: dict[str, Any]
    subresource: str = ""
    urgent: bool = False
    early: bool = False

    @property
    def state(self) -> str:
        """Of which object, and in which state of it if that matters, this is a patch."""
        metadata = self.body.get("metadata", {})
        return str(metadata.get("resourceVersion") or metadata.get("uid", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """What did not work, how often in a row, and when it may be tried again on the same object."""

    state: str
    words: str
    times: int
    until: float


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

    def get(
        self, resource: Resource, name: str, namespace: str = "", *, timeout_s: float = ...
    ) -> dict[str, Any]:
        """The object; `MissingError` when there is none."""


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
        self._turn_at: dict[NetworkKey, float] = {}
        """When the status of a network may be written again."""
        self._failures: dict[tuple[NetworkKey, str], _Failure] = {}
        self._is_away = False
        self._lock = threading.Lock()
        self._without: set[NetworkKind] = set()
        """Kinds that are served without a status."""
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
        """Write all of them but those that failed a moment ago; those that were written."""
        now = monotonic()
        self._failures = {
            place: failure
            for place, failure in self._failures.items()
            if now - failure.until < _OVER_S
        }
        tried = [patch for patch in patches if self._may(patch, now)]
        done = self._pool.map(self._write, tried)
        return frozenset(patch.key for patch, ok in zip(tried, done, strict=True) if ok)

    def write_rarely(self, patches: Iterable[Patch]) -> bool:
        """Write those whose turn it is, or that need not wait for it; True when others have to."""
        now = monotonic()
        self._turn_at = {key: at for key, at in self._turn_at.items() if at > now}
        due: list[Patch] = []
        waiting = 0
        for patch in patches:
            wait = self._turn_at.get(patch.key, now) - now
            if patch.urgent or wait <= (self._period_s if patch.early else 0.0):
                due.append(patch)
            else:
                waiting += 1
        self._waiting.set(waiting)
        done = self.write_all(due)
        now = monotonic()
        for patch in due:
            # After an urgent write the next one may follow at once: it says how that went.
            if patch.key in done and not patch.urgent:
                self._turn_at[patch.key] = max(now, self._turn_at.get(patch.key, now)) + (
                    self._period_s
                )
        return bool(waiting) or len(done) < len(due)

    def _may(self, patch: Patch, now: float) -> bool:
        failure = self._failures.get((patch.key, patch.subresource))
        return failure is None or failure.until <= now or failure.state != patch.state

    def _write(self, patch: Patch) -> bool:
        if not self._may_write():
            return False
        key = patch.key
        try:
            self._api.patch(
                RESOURCE_OF[str(key.kind)], key.name, patch.body, key.namespace, patch.subresource
            )
        except ClashError:
            return self._ended("overtaken")  # it changed; the next look sees that
        except MissingError as error:
            if not patch.subresource or not self._is_there(key):
                return self._ended("overtaken")
            self._note_failure(patch, _without_subresource(key, patch.subresource, error))
            return self._ended("failed")
        except ClusterError as error:
            self._note_failure(patch, error)
            return self._ended("failed")
        self._failures.pop((key, patch.subresource), None)
        if patch.subresource:
            self._without.discard(key.kind)
        self._is_away = False
        return self._ended("done")

    def _is_there(self, key: NetworkKey) -> bool:
        try:
            self._api.get(RESOURCE_OF[str(key.kind)], key.name, key.namespace)
        except ClusterError:
            return False  # gone, or nobody can tell: the next look asks again
        return True

    def _note_failure(self, patch: Patch, error: ClusterError) -> None:
        """Say so once, and try again later and later: a webhook of somebody else, or a quota, may
        refuse one network for good."""
        place = (patch.key, patch.subresource)
        before = self._failures.get(place)
        words = str(error)
        is_away = isinstance(error, UnreachableError)
        known = self._is_away if is_away else before is not None and before.words == words
        self._is_away = is_away
        if isinstance(error, MissingError):  # the kind's fault: told once for all of its objects
            with self._lock:
                known = patch.key.kind in self._without
                self._without.add(patch.key.kind)
        if not known:
            _log.warning("not written", network=str(patch.key), error=words)
        times = before.times if before is not None else 0
        most = _AWAY_MOST_S if is_away else REFUSED_MOST_S
        wait = min(most, REFUSED_FIRST_S * 2 ** min(times, 10))
        self._failures[place] = _Failure(
            state=patch.state, words=words, times=times + 1, until=monotonic() + wait
        )

    def _ended(self, result: str) -> bool:
        self._writes.labels(result=result).inc()
        return result == "done"


def _without_subresource(key: NetworkKey, subresource: str, error: MissingError) -> MissingError:
    """The object is there, and the server does not know `subresource` of it."""
    return MissingError(
        f"the API server serves {key.kind} without {subresource}, so what came of a network is "
        "not told",
        hint="apply danmpy's CRDs over those of DANM: "
        "`danmpy crds | kubectl apply --server-side --force-conflicts -f -`",
        subject=error.subject,
    )
