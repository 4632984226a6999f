"""Waiting for a folder of manifests to change: by inotify where it works, else every second."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from watchfiles import watch

from danmpy.intent.listing import Listing, list_folder

Notify = Callable[[], None]

_STEP_MS: Final = 25
_DEBOUNCE_MS: Final = 50
"""Changes that follow each other within a step are told as one, for this long at most. The step is
also how often the waiting thread wakes up; shorter ones cost more than they gain."""

_GLANCE_MS: Final = 200
"""How often is looked whether the folder is still the one that is watched."""

_POLL_S: Final = 1.0

_log = structlog.get_logger(__name__)


def watch_folder(path: Path, notify: Notify, stop: threading.Event) -> None:
    """Call `notify` at once, and soon after every change in `path` until `stop` is set; blocks.

    The folder may be missing, come, go, be replaced, or be a link that moves, as in a mounted
    ConfigMap. Without inotify, and for targets of links, which inotify does not see, the folder is
    listed once a second.
    """
    seen = list_folder(path)
    told = ""
    notify()  # what changed since the caller read the folder is in `seen` already
    while not stop.is_set():
        if _identity(path) is None:
            seen = _tell_if_new(seen, path, notify)
            stop.wait(_GLANCE_MS / 1000)
            continue
        try:
            seen = _watch_while_same(path, seen, notify, stop)
            told = ""
        except (OSError, RuntimeError) as error:  # the library's own error is a RuntimeError
            if str(error) != told:
                told = str(error)
                _log.warning("folder is polled, inotify failed", path=str(path), error=told)
            stop.wait(_POLL_S)
            seen = _tell_if_new(seen, path, notify)


def _watch_while_same(path: Path, seen: Listing, notify: Notify, stop: threading.Event) -> Listing:
    """Watch until `stop` or until `path` is another folder; returns the last listing."""
    watched = _identity(path)
    per_poll = round(_POLL_S * 1000 / _GLANCE_MS)
    changes = watch(
        path,
        watch_filter=None,
        debounce=_DEBOUNCE_MS,
        step=_STEP_MS,
        rust_timeout=_GLANCE_MS,
        yield_on_timeout=True,
        stop_event=stop,
        raise_interrupt=False,
    )
    for glances, changed in enumerate(changes):
        if changed:
            notify()
            seen = list_folder(path)
        elif glances == 0 or (seen.links and glances % per_poll == 0):
            # The first glance finds what changed between the listing and the start of the watch.
            seen = _tell_if_new(seen, path, notify)
        if _identity(path) != watched:
            break
    return seen


def _tell_if_new(seen: Listing, path: Path, notify: Notify) -> Listing:
    now = list_folder(path)
    if now != seen:
        notify()
    return now


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of the folder behind `path`, or None when there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino
