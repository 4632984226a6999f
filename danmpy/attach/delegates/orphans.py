"""Delegates that an earlier process of this daemon started and that outlived it.

Left alone, an ADD that was undone meanwhile would still finish, and leave an interface and an
address that no record knows of. In a container of its own the daemon takes them with it when it
dies; on a host they have to be looked for.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from danmpy.clock import monotonic, sleep

_log = structlog.get_logger(__name__)

OWNER_VARIABLE: Final = "DELEGATE_OF_DANMPY"
"""In the environment of every delegate, and of what it starts: the state folder of the daemon."""

_END_S: Final = 2.0
"""Seconds to wait for them to be gone; a process in an uninterruptible call may take longer."""

_PROC: Final = Path("/proc")


def end_orphans(owner: str) -> int:
    """Kill what carries `owner` in its environment; how many there were.

    To be called by who has the journal of that folder for itself, before anything is undone: then
    whoever started them is dead.
    """
    ended: set[int] = set()
    deadline = monotonic() + _END_S
    # Again until none is left: one may just be starting another.
    while (found := set(_marked(owner))) and monotonic() < deadline:
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        ended |= found
        sleep(0.01)
    if ended:
        _log.warning("plugins outlived their daemon and were ended", processes=len(ended))
    return len(ended)


def _marked(owner: str) -> Iterator[int]:
    mark = os.fsencode(f"{OWNER_VARIABLE}={owner}")
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        # Gone meanwhile, of another user, or a thread of the kernel.
        with suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)
