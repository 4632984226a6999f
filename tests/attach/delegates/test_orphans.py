from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from danmpy.attach.delegates.orphans import OWNER_VARIABLE, end_orphans
from support.netns import wait_until


def environment(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_text()


@pytest.fixture
def plugins(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """A plugin, and one that it started: the environment is handed down."""
    environ = {**os.environ, OWNER_VARIABLE: str(tmp_path)}
    started = [
        subprocess.Popen(["/bin/sleep", "60"], env=environ, start_new_session=True)
        for _ in range(2)
    ]
    try:
        for each in started:  # Popen comes back before the kernel shows the environment
            wait_until(lambda pid=each.pid: OWNER_VARIABLE in environment(pid), what="environment")
        yield started
    finally:
        for each in started:
            each.kill()
            each.wait()


def test_plugins_that_outlived_their_daemon_are_ended(
    plugins: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    assert end_orphans(str(tmp_path)) == 2
    assert [each.wait(timeout=5) for each in plugins] == [-9, -9]
    assert end_orphans(str(tmp_path)) == 0


def test_the_plugins_of_another_daemon_are_left_alone(
    plugins: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    assert end_orphans(f"{tmp_path}/other") == 0
    assert end_orphans(str(tmp_path)[:-1]) == 0
    assert [each.poll() for each in plugins] == [None, None]
