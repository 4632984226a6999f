"""Fault points: death at the named one, and only there."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from danmpy import faults

PACKAGE = Path(faults.__file__).parent
POINTS = (*faults.ADD_POINTS, *faults.DEL_POINTS)


def run(wanted: str) -> subprocess.CompletedProcess[str]:
    """Pass every point in a process that is to die at `wanted`."""
    code = (
        "import atexit; from danmpy import faults; atexit.register(print, 'cleaned up')\n"
        f"point = faults.die_at({wanted!r})\n"
        "for name in (*faults.ADD_POINTS, *faults.DEL_POINTS): print(name, flush=True); point(name)"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("wanted", POINTS)
def test_the_process_dies_at_the_named_point_without_cleaning_up(wanted: str) -> None:
    done = run(wanted)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.splitlines() == list(POINTS[: POINTS.index(wanted) + 1])


def test_a_point_that_is_never_reached_changes_nothing() -> None:
    done = run("add:nowhere")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [*POINTS, "cleaned up"]


def test_in_production_a_point_does_nothing() -> None:
    for point in POINTS:
        faults.no_faults(point)


@pytest.mark.parametrize("point", POINTS)
def test_every_point_is_passed_somewhere_in_the_code(point: str) -> None:
    sources = [path.read_text() for path in PACKAGE.rglob("*.py") if path.name != "faults.py"]
    assert any(f'"{point}"' in source for source in sources)
