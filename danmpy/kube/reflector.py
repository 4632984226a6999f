"""One kind of object, listed once and followed by a watch for as long as it is wanted.

Only durations are measured, by a clock that goes forward: setting the time of day changes nothing.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import structlog

from danmpy.clock import monotonic
from danmpy.errors import DanmpyError
from danmpy.kube.client import KubeClient, Object, Scope
from danmpy.kube.errors import ExpiredError, MissingError, unreachable
from danmpy.kube.stream import Event, SilentError, Watch

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds. Nothing here decides what is right, only how soon it shows and what it costs."""

    stream: tuple[float, float] = (240.0, 360.0)
    """How long the server lets one stream last: by chance, so that not all nodes come at once."""

    silence: float = 90.0
    """A stream without a word for so long is made anew: it may be half open. Servers send a
    bookmark each minute (apiserver cacher.go, `defaultBookmarkFrequency`), which keeps it; of a
    kind that has not changed since the server started, older ones send none (seen with 1.20)."""

    first_wait: float = 0.2
    longest_wait: float = 4.0
    """The wait after a failure doubles from the first to the longest: a server that is back is
    noticed within 5 s, and one that is away costs nearly nothing."""

    missing_after: float = 3.0
    """A starting server may not know our kinds yet (seen with 1.20): only after so long a 404
    means that the CRD is missing."""

    missing_wait: float = 5.0
    """How often is looked at most whether a CRD is there at last."""

    rare_wait: float = 30.0
    """The same for a kind that need not be there."""


class Sink(Protocol):
    """Who keeps the objects. Called by one thread at a time."""

    def replace(self, objects: Iterator[Object]) -> None:
        """These are all that there are. Fails as the iterator does, and then nothing changes."""

    def put(self, body: Object) -> None:
        """This one is there now."""

    def drop(self, body: Object) -> None:
        """This one is gone."""

    def fail(self, error: DanmpyError, *, missing: bool) -> None:
        """The objects cannot be followed now; `missing`: the server does not know the kind."""


class Reflector:
    """Keeps a sink as the API server is, in a thread of its own.

    The sink keeps what it has while the server is away: after an outage it is caught up by a watch
    from where it stopped, else by a list, in which what is missing is gone.
    """

    def __init__(
        self,
        client: KubeClient,
        scope: Scope,
        sink: Sink,
        *,
        pace: Pace,
        optional: bool = False,
    ) -> None:
        """`optional`: that the server does not know the kind is not worth a word."""
        self._client = client
        self._scope = scope
        self._sink = sink
        self._pace = pace
        self._optional = optional
        self._version = ""
        self._patience = _Patience(pace, rare=optional)
        self._stop = threading.Event()
        self._nudge = threading.Event()
        self._lock = threading.Lock()
        self._stream: Watch | None = None
        self._thread = threading.Thread(
            target=self._run, name=f"watch-{scope.resource.plural}", daemon=True
        )

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; `join` waits for that."""
        self._stop.set()
        self._nudge.set()
        with self._lock:
            if self._stream is not None:
                self._stream.close()

    def join(self, seconds: float) -> None:
        """Wait until it has ended; one that waits for a server's first word may take longer."""
        self._thread.join(seconds)

    def wake(self) -> None:
        """The server answers, as somebody else has seen: end the wait after a failure."""
        self._nudge.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            wait = self._follow_safely()
            self._nudge.clear()
            if wait and not self._stop.is_set():
                self._nudge.wait(wait)

    def _follow_safely(self) -> float:
        """As `_follow_once`; a bug with one object must not blind the node."""
        try:
            return self._follow_once()
        except Exception:  # noqa: BLE001 - the thread lives on and lists again
            _log.exception("watch broke", kind=self._scope.resource.kind)
            self._version = ""
            return self._pace.longest_wait

    def _follow_once(self) -> float:
        """One stream, after a list when one is needed; the seconds to wait before the next."""
        try:
            if not self._version:
                self._sink.replace(self._listed())
            self._follow()
        except SilentError:
            return 0.0
        except DanmpyError as error:
            return 0.0 if self._stop.is_set() else self._failed(error)
        return 0.0

    def _failed(self, error: DanmpyError) -> float:
        missing = isinstance(error, MissingError)
        if missing or isinstance(error, ExpiredError):
            self._version = ""
        failure = self._patience.fail(missing=missing)
        quiet = isinstance(error, ExpiredError) or (missing and self._optional)
        if failure.is_news and not quiet:
            _log.warning("watch fails", kind=self._scope.resource.kind, error=str(error))
        self._sink.fail(error, missing=failure.is_missing)
        return failure.wait

    def _listed(self) -> Iterator[Object]:
        version = ""
        for page in self._client.pages(self._scope):
            yield from page.items
            version = page.resource_version
        self._version = version

    def _follow(self) -> None:
        """Pass on changes until the stream ends."""
        began = monotonic()
        seconds = random.uniform(*self._pace.stream)  # noqa: S311 - spreads load, guards nothing
        stream = self._client.watch(
            self._scope, self._version, timeout_s=seconds, silence_s=self._pace.silence
        )
        with stream:
            with self._lock:
                self._stream = stream
            if self._patience.end():
                _log.info("watch is back", kind=self._scope.resource.kind)
            for kind, body in self._until_stopped(stream):
                self._take(kind, body)
        if monotonic() - began < self._pace.first_wait and not self._stop.is_set():
            # Without a wait such a server would be asked as fast as it answers.
            raise unreachable("it ends the watch at once", self._scope.path)

    def _until_stopped(self, stream: Watch) -> Iterator[Event]:
        try:
            if not self._stop.is_set():
                yield from stream
        finally:
            with self._lock:
                self._stream = None

    def _take(self, kind: str, body: Object) -> None:
        if kind == "DELETED":
            self._sink.drop(body)
        elif kind != "BOOKMARK":
            self._sink.put(body)
        self._version = body["metadata"]["resourceVersion"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """`is_news`: unlike the failure before it. `is_missing`: the server does not know the kind."""

    wait: float
    is_news: bool
    is_missing: bool


class _Patience:
    """How long to wait after failures that follow each other, and which of them to tell."""

    def __init__(self, pace: Pace, *, rare: bool) -> None:
        self._pace = pace
        self._missing_wait = pace.rare_wait if rare else pace.missing_wait
        self._failures = 0
        self._told = False
        self._missing_since: float | None = None
        self._calm_since: float | None = None

    def fail(self, *, missing: bool) -> _Failure:
        now = monotonic()
        if self._calm_since is not None and now - self._calm_since > self._pace.longest_wait:
            self._failures = 0
        self._calm_since = None
        if not missing:
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = now
        since = self._missing_since
        gone = since is not None and now - since >= self._pace.missing_after
        # A kind that is missing for a moment, while the server starts, is not worth a word.
        news = not self._told and (gone or not missing)
        self._told = self._told or news
        wait = min(self._pace.first_wait * 2.0**self._failures, self._pace.longest_wait)
        self._failures = min(self._failures + 1, 16)
        if gone:
            wait = self._missing_wait
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - as above
        return _Failure(wait=wait * jitter, is_news=news, is_missing=gone)

    def end(self) -> bool:
        """It works: was a failure told before? A stream that breaks soon counts as one more."""
        told = self._told
        self._told = False
        self._missing_since = None
        self._calm_since = monotonic()
        return told
