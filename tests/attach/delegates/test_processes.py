"""Child processes with a deadline."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from danmpy.attach.delegates.processes import BUSY_RETRIES, ProcessOutcome, run_process
from danmpy.errors import NotReadyError
from support.netns import wait_until

SHELL = {"PATH": "/usr/bin:/bin"}


def script(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_status_and_both_outputs_come_back_and_the_environment_is_exactly_the_given_one(
    tmp_path: Path,
) -> None:
    program = script(tmp_path, 'cat; echo "$ONLY" >&2; /usr/bin/env | sort; exit 3')
    outcome = run_process(program, {"ONLY": "this"}, b"in\n", 5)
    assert outcome.status == 3
    assert outcome.stderr == b"this\n"
    assert outcome.stdout.startswith(b"in\nONLY=this\nPWD=")
    assert b"HOME" not in outcome.stdout


def test_megabytes_both_ways_do_not_block(tmp_path: Path) -> None:
    outcome = run_process(
        script(tmp_path, "cat; cat /dev/zero | head -c 300000 >&2"), SHELL, b"x" * 3_000_000, 20
    )
    assert (outcome.status, len(outcome.stdout), len(outcome.stderr)) == (0, 3_000_000, 300_000)


def test_a_program_that_does_not_read_its_input_is_no_error(tmp_path: Path) -> None:
    outcome = run_process(script(tmp_path, "echo done"), SHELL, b"x" * 1_000_000, 5)
    assert outcome == ProcessOutcome(status=0, stdout=b"done\n")


def test_the_deadline_kills_the_whole_family_and_keeps_what_was_said(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    text = f"sleep 60 & echo $! > {pid_file}; echo before; wait"
    began = time.monotonic()
    outcome = run_process(script(tmp_path, text), SHELL, b"", 0.3)
    assert time.monotonic() - began < 5
    assert outcome.timed_out
    assert outcome.stdout == b"before\n"
    grandchild = int(pid_file.read_text())
    wait_until(lambda: not _runs(grandchild), seconds=5, what="the grandchild to be gone")


def test_a_grandchild_in_a_session_of_its_own_cannot_hold_the_caller(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    text = f"setsid sh -c 'echo $$ > {pid_file}; exec sleep 60' & sleep 60"
    began = time.monotonic()
    try:
        assert run_process(script(tmp_path, text), SHELL, b"", 0.5).timed_out
        assert time.monotonic() - began < 10
    finally:
        os.kill(int(pid_file.read_text()), 9)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_program_that_is_being_written_is_tried_again(tmp_path: Path) -> None:
    program = tmp_path / "busy"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o755)
    writing = program.open("ab")  # "text file busy" until it is closed
    threading.Timer(0.3, writing.close).start()
    assert run_process(program, {}, b"", 5).status == 0


def test_a_program_that_stays_busy_or_is_none_is_named(tmp_path: Path) -> None:
    program = tmp_path / "busy"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o755)
    with program.open("ab"), pytest.raises(NotReadyError, match="Text file busy"):
        run_process(program, {}, b"", 5)
    assert BUSY_RETRIES > 0
    for bad, words in (("nothere", "No such file"), ("text", "Exec format error")):
        path = tmp_path / bad
        if bad == "text":
            path.write_text("no program")
            path.chmod(0o755)
        with pytest.raises(NotReadyError, match=words) as caught:
            run_process(path, {}, b"", 5)
        assert caught.value.subject == str(path)
