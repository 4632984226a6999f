"""From one call of the shim to its answer: parse, dispatch, render. No sockets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol, assert_never

import structlog

from danmpy.api.cni import (
    CniRequest,
    CniResult,
    Verb,
    parse_request,
    render_error,
    render_result,
    render_versions,
    requested_version,
)
from danmpy.attach.delegates.tracing import tracing
from danmpy.attach.wire import WireAnswer, WireRequest
from danmpy.clock import monotonic
from danmpy.errors import BugError, DanmpyError, cni_code_of

_log = structlog.get_logger(__name__)


class Verbs(Protocol):
    """The verbs behind the wire (`attach.engine.Attacher`)."""

    def add(self, request: CniRequest) -> CniResult:
        """Attach; what the runtime is told, plugins before us in the chain included."""

    def delete(self, request: CniRequest) -> None:
        """Detach."""

    def check(self, request: CniRequest) -> None:
        """Compare."""

    def collect(self, request: CniRequest) -> None:
        """Clean up what is not valid."""

    def status(self) -> None:
        """Could an ADD be served?"""


class Observer(Protocol):
    """Who counts calls (`attach.metrics.CniMetrics`)."""

    def observe(self, verb: str, code: int, seconds: float) -> None:
        """One call ended with this CNI error code (0: success) after so many seconds."""


Refused = Callable[[CniRequest, DanmpyError], None]
"""Told of each ADD that failed, in the thread that serves it: it must take microseconds and raise
nothing."""


class CniHandler:
    """Answers one request after the other; safe for many threads."""

    def __init__(
        self, verbs: Verbs, observer: Observer, refused: Refused = lambda _call, _error: None
    ) -> None:
        self._verbs = verbs
        self._observer = observer
        self._refused = refused

    def answer(self, call: WireRequest) -> WireAnswer:
        """The exit status and the one JSON object (or nothing) that the shim prints."""
        began = monotonic()
        verb = call.environ.get("CNI_COMMAND", "")
        log = _log.bind(verb=verb, container=call.environ.get("CNI_CONTAINERID", ""))
        error: DanmpyError | None = None
        body: Mapping[str, Any] | None = None
        request: CniRequest | None = None
        try:
            request = parse_request(call.environ, call.stdin)
            with tracing(request.trace):
                body = self._dispatch(request)
        except DanmpyError as expected:
            error = expected
        except Exception as unexpected:  # the process edge: a bug must not look like a dead daemon
            log.exception("unexpected error")
            error = BugError(
                f"internal error: {type(unexpected).__name__}: {unexpected}",
                hint="please report this with the daemon's log",
            )
        seconds = monotonic() - began
        code = cni_code_of(error) if error else 0
        self._observer.observe(verb, code, seconds)
        if error is None:
            log.info("served", milliseconds=round(seconds * 1000, 1))
            return WireAnswer(status=0, stdout=b"" if body is None else _json(body))
        if request is not None and request.verb is Verb.ADD:
            self._refused(request, error)
        log.warning("refused", code=code, error=str(error), milliseconds=round(seconds * 1000, 1))
        body = render_error(requested_version(call.stdin), error)
        return WireAnswer(status=1, stdout=_json(body))

    def _dispatch(self, request: CniRequest) -> Mapping[str, Any] | None:
        match request.verb:
            case Verb.ADD:
                return render_result(self._verbs.add(request), request.version)
            case Verb.DEL:
                self._verbs.delete(request)
            case Verb.CHECK:
                self._verbs.check(request)
            case Verb.GC:
                self._verbs.collect(request)
            case Verb.STATUS:
                self._verbs.status()
            case Verb.VERSION:
                return render_versions(request.version)
            case _:
                assert_never(request.verb)
        return None


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"
