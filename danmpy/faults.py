"""Fault points: named places where a test makes the process die as if by kill -9.

In production every point is a function call that does nothing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Final

FaultPoint = Callable[[str], None]
"""Called with the name of the step that was just finished."""

ADD_POINTS: Final = ("add:journaled", "add:leased", "add:link", "add:built", "add:recorded")
DEL_POINTS: Final = ("del:journaled", "del:link", "del:links", "del:released", "del:forgotten")
PLUG_POINTS: Final = ("plug:journaled", "plug:leased", "add:link", "plug:built", "plug:recorded")
UNPLUG_POINTS: Final = (
    "unplug:journaled",
    "del:link",
    "unplug:links",
    "unplug:released",
    "unplug:recorded",
)


def no_faults(point: str) -> None:
    """Nothing happens here."""


def die_at(wanted: str) -> FaultPoint:
    """Die without any clean-up the first time that `wanted` is reached."""

    def check(point: str) -> None:
        if point == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    return check
