"""One child process with a deadline: its whole group dies with it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from danmpy.clock import sleep
from danmpy.errors import NotReadyError

BUSY_RETRIES: Final = 5
BUSY_PAUSE_S: Final = 0.2
"""A plugin that is being replaced is "text file busy" for a moment; libcni retries as often."""

DRAIN_S: Final = 1.0
"""Seconds to wait for output after a kill; a grandchild in another session may hold the pipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessOutcome:
    """How a process ended; when it `timed_out` it was killed with its group."""

    status: int
    stdout: bytes = b""
    stderr: bytes = b""
    timed_out: bool = False


Runner = Callable[[Path, Mapping[str, str], bytes, float], ProcessOutcome]
"""(binary, whole environment, stdin, seconds) -> outcome."""


def run_process(
    binary: Path, environ: Mapping[str, str], stdin: bytes, timeout_s: float
) -> ProcessOutcome:
    """Run `binary` without arguments and wait for it.

    Raises:
        NotReadyError: it cannot be started.
    """
    process = _start(binary, environ)
    try:
        stdout, stderr = process.communicate(stdin, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        stdout, stderr = _kill(process)
        return ProcessOutcome(
            status=process.returncode, stdout=stdout, stderr=stderr, timed_out=True
        )
    return ProcessOutcome(status=process.returncode, stdout=stdout, stderr=stderr)


def _start(binary: Path, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    for attempt in range(BUSY_RETRIES + 1):
        try:
            return subprocess.Popen(
                [str(binary)],
                env=dict(environ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            if error.errno == errno.ETXTBSY and attempt < BUSY_RETRIES:
                sleep(BUSY_PAUSE_S)
                continue
            raise NotReadyError(
                f"cannot be started: {error.strerror}",
                hint="is it an executable for this machine?",
                subject=str(binary),
            ) from error
    raise AssertionError  # pragma: no cover - the last attempt returns or raises


def _kill(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Kill the group and reap the leader; what was printed until then is kept."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        return process.communicate(timeout=DRAIN_S)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        return error.stdout or b"", error.stderr or b""
