"""The W3C trace context of the CNI call that this thread serves, for the plugins that it calls.

It concerns nobody between the two ends, so it travels beside the calls and not through each of
them: every verb that reaches a plugin passes it on, and what the daemon does by itself has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final

_NONE: Final[Mapping[str, str]] = MappingProxyType({})

_current: ContextVar[Mapping[str, str]] = ContextVar("trace", default=_NONE)


@contextmanager
def tracing(trace: Mapping[str, str]) -> Iterator[None]:
    """The block serves a call with this context, by the names of environment variables."""
    token = _current.set(trace)
    try:
        yield
    finally:
        _current.reset(token)


def current_trace() -> Mapping[str, str]:
    """The context of the call that is being served; empty when there is none."""
    return _current.get()
