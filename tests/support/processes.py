"""Daemons under test: start them in a namespace, watch their log, stop them, kill them."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from support.netns import Namespace

REPOSITORY = Path(__file__).resolve().parents[2]


def danmpy_argv(*words: str) -> list[str]:
    """The command line of ``danmpy words...`` by this interpreter."""
    return [str(Path(sys.executable).parent / "danmpy"), *words]


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without the variables that would steer danmpy or the CNI shim."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("DANMPY_", "CNI_", "PG"))
    }
    return kept | dict(extra or {})


@contextlib.contextmanager
def without_file_descriptors() -> Iterator[None]:
    """Let this process open one more file and then no other one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


class Daemon:
    """One daemon, in its own process group, its output in a log file."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        namespace: Namespace | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.argv = namespace.argv(*argv) if namespace else list(argv)
        self.log = log
        self._environment = clean_environment(environment)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running process (``pid``, ``poll()``)."""
        assert self._process is not None, f"not started: {self.argv}"
        return self._process

    @property
    def running(self) -> bool:
        """Was it started, and has it not ended?"""
        return self._process is not None and self._process.poll() is None

    @property
    def output(self) -> str:
        """All that it has written so far, over all starts."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def start(self, *, ready: Callable[[], object] | None = None, seconds: float = 15) -> Daemon:
        """Start it, and wait until `ready` holds. It dying meanwhile fails with its log."""
        assert not self.running, f"already running: {self.argv}"
        with self.log.open("ab") as sink:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=REPOSITORY,
                start_new_session=True,
            )
        if ready is not None:
            self.wait_for(ready, seconds=seconds, what="ready")
        return self

    def wait_for(
        self, condition: Callable[[], object], *, seconds: float = 15, what: str = "condition"
    ) -> None:
        """Wait until `condition` holds while the daemon lives; otherwise fail with its log."""
        deadline = time.monotonic() + seconds
        while not condition():
            if not self.running:
                code = self.process.returncode
                pytest.fail(f"{self.argv} ended with {code} before: {what}\n{self.output}")
            if time.monotonic() > deadline:
                pytest.fail(f"{self.argv}: after {seconds} s not: {what}\n{self.output}")
            time.sleep(0.02)

    def stop(self, *, seconds: float = 10) -> int:
        """SIGTERM, then wait. Needing longer than `seconds` is a failure of the daemon."""
        if self.running:
            self.process.terminate()
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"{self.argv} ignored SIGTERM for {seconds} s\n{self.output}")

    def kill(self) -> None:
        """SIGKILL to it and to everything that it started (kill -9 in the middle of work)."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=10)

    def wait(self, *, seconds: float = 15) -> int:
        """Wait for it to end by itself; the exit status (negative: the signal)."""
        return self.process.wait(timeout=seconds)


class Daemons:
    """Makes daemons and kills what is left of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Daemon] = []

    def make(
        self,
        *argv: str,
        name: str = "daemon",
        namespace: Namespace | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Daemon:
        """A daemon that is not started yet; its log is ``NAME.log`` in the test's folder."""
        log = self._folder / f"{name}.log"
        daemon = Daemon(argv, log=log, namespace=namespace, environment=environment)
        self._made.append(daemon)
        return daemon

    def close(self) -> None:
        """Kill all that still runs."""
        for daemon in self._made:
            daemon.kill()


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Daemons]:
    """Makes daemons for one test."""
    made = Daemons(tmp_path)
    try:
        yield made
    finally:
        made.close()
