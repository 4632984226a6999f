"""Runs tests marked ``uml`` inside User-Mode Linux: a kernel with VLAN and ipvlan, as a process.

One guest per test run. It boots this machine's own files read-only (a memory file system takes its
writes), runs the same pytest on all selected ``uml`` tests, and its reports come back one by one,
so that every test passes, fails or skips here under its own name. Where this kernel has VLAN and
ipvlan, the tests run straight on it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pytest

from support.requirements import REQUIREMENTS, Requirement, has_link_kind, need, skip_for

SUPPORT = Path(__file__).resolve().parent
MODULES = Path("/usr/lib/uml/modules")
KINDS = ("vlan", "ipvlan")
"""The kinds of link that make a test need another kernel."""

GUEST_MEMORY_MB = 1024
GUEST_SECONDS = 420.0
"""How long a guest may run. It boots in 2 seconds, and Python is about 7 times slower in it."""

CONSOLE_LINES = 60
"""How much of the guest's console a failure shows; the whole of it stays in the folder it names."""


def _has_amx() -> bool:
    words = Path("/proc/cpuinfo").read_text(errors="replace").split()
    return "amx_tile" in words


def _compiler() -> str | None:
    return shutil.which("cc") or shutil.which("tcc")


def unavailable_because() -> str:
    """Why User-Mode Linux cannot run here; empty when it can."""
    if os.geteuid() != 0:
        return "not root"
    for program in ("linux.uml", "modprobe"):
        if shutil.which(program) is None:
            return f"no {program}"
    if not MODULES.is_dir():
        return f"no {MODULES}"
    if _has_amx() and _compiler() is None:
        return "no C compiler for the helper that processors with AMX need"
    return ""


def compile_ptrace_helper(folder: Path) -> Path:
    """Build the library for processors with AMX (see uml_ptrace.c) in `folder`."""
    library = folder / "uml_ptrace.so"
    compiler = _compiler()
    assert compiler is not None, "no C compiler"
    argv = [compiler, "-shared", "-fPIC", "-o", str(library), str(SUPPORT / "uml_ptrace.c")]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, f"{argv}:\n{done.stdout}{done.stderr}"
    return library


def _memory_folder(other: Path) -> str:
    """Where the file that is the guest's memory lies: fast if there is room, else in `other`."""
    try:
        room = shutil.disk_usage("/dev/shm").free
    except OSError:
        room = 0
    # Containers often have 64 MB there, and a guest that finds no room dies by SIGBUS.
    return "/dev/shm" if room > GUEST_MEMORY_MB << 20 else str(other)


def guest_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the guest's pytest: only what a test run cannot do without."""
    kept = {key: environ[key] for key in ("CI", "LANG", "LC_ALL", "TZ") if key in environ}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return kept | {"HOME": "/root", "PATH": path, "TMPDIR": "/run", "TERM": "dumb"}


class Guest:
    """One User-Mode Linux that runs pytest once, with `arguments`, in the folder `root`."""

    def __init__(
        self, arguments: Sequence[str], *, root: Path, seconds: float = GUEST_SECONDS
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dt-uml-"))
        self.console = self.folder / "console"
        self._seconds = seconds
        self._root = root
        self._arguments = [
            f"--uml-reports={self.folder / 'reports'}",
            "--basetemp=/run/pytest",
            *arguments,
        ]
        self._deadline = 0.0
        self._read = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.end = ""

    def start(self) -> Guest:
        """Boot it. It goes on by itself; `poll` tells how far it is."""
        (self.folder / "reports").touch()
        (self.folder / "arguments").write_text("".join(f"{each}\n" for each in self._arguments))
        exports = guest_environment(os.environ).items()
        lines = (f"export {key}={shlex.quote(value)}\n" for key, value in exports)
        (self.folder / "environment.sh").write_text("".join(lines))
        init = self.folder / "init"
        words = (str(SUPPORT / "uml_init.sh"), str(self.folder), str(self._root), sys.executable)
        init.write_text(f"#!/bin/sh\nexec /bin/sh {shlex.join(words)}\n")
        init.chmod(0o755)
        environment = dict(os.environ) | {"TMPDIR": _memory_folder(self.folder)}
        if _has_amx():
            environment["LD_PRELOAD"] = str(compile_ptrace_helper(self.folder))
        argv = [
            "linux.uml", f"mem={GUEST_MEMORY_MB}M", "root=/dev/root", "rootfstype=hostfs",
            "rootflags=/", "ro", f"init={init}", "con=null", "con0=fd:0,fd:1", "quiet",
            f"uml_dir={self.folder}", "umid=guest",
        ]  # fmt: skip
        with self.console.open("wb") as sink:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        self._deadline = time.monotonic() + self._seconds
        return self

    def poll(self) -> list[dict[str, Any]]:
        """The reports since the last call. Sets `end`, to the reason, once no more can come."""
        if not self.end:
            self.end = self._reason_to_end()
        with (self.folder / "reports").open("rb") as source:
            source.seek(self._read)
            fresh = source.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._read += len(whole)
        return [json.loads(line) for line in whole.splitlines()]

    def _reason_to_end(self) -> str:
        assert self._process is not None, "not started"
        if self._process.poll() is not None:
            status = self.folder / "status"
            code = status.read_text().strip() if status.exists() else ""
            return f"its pytest ended with {code}" if code else "its kernel ended before pytest did"
        if time.monotonic() > self._deadline:
            self.close()
            return f"its {self._seconds:g} seconds were over"
        return ""

    def console_tail(self) -> str:
        """The last lines of the guest's console."""
        text = self.console.read_text(errors="replace") if self.console.exists() else ""
        return "\n".join(text.splitlines()[-CONSOLE_LINES:])

    def close(self) -> None:
        """End it and everything that runs in it."""
        if self._process is None or self._process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=10)

    def forget(self) -> None:
        """End it and remove its folder."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Host:
    """The plugin of the outer run: hands ``uml`` tests to a guest and shows what comes back."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._mine: dict[str, pytest.Item] = {}
        self._guest: Guest | None = None
        self._reports: dict[str, list[pytest.TestReport]] = {}
        self._failed = False

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        marked = [item for item in items if item.get_closest_marker("uml")]
        if not marked or self._config.option.collectonly:
            return
        if not runs_in_guest(self._config.getoption("--uml")):
            return
        # Together, so that no fixture of another test is between being set up and being taken down;
        # and first: what is last in a queue is what the other processes of a run take over, and
        # each of them would boot a guest for all.
        items[:] = marked + [item for item in items if item not in set(marked)]
        self._mine = {item.nodeid: item for item in marked}
        for item in marked:
            # Its time limit holds in the guest; here the first one waits for the boot.
            item.add_marker(pytest.mark.timeout(0), append=False)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        if item.nodeid not in self._mine or unavailable_because():
            return None  # runs here: its setup skips it, with the reason
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._wait_for(item):
            self._failed |= report.failed
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _wait_for(self, item: pytest.Item) -> Sequence[pytest.TestReport]:
        if self._guest is None:
            names = list(self._mine)
            self._guest = Guest(
                [*self._passed_on(), *names],
                root=self._config.rootpath,
                seconds=self._config.getoption("--uml-seconds"),
            ).start()
        while not self._complete(item.nodeid):
            over = self._guest.end
            for data in self._guest.poll():
                report = self._config.hook.pytest_report_from_serializable(
                    config=self._config, data=with_tuples(data)
                )
                self._reports.setdefault(report.nodeid, []).append(report)
            if over and not self._complete(item.nodeid):
                return [*self._reports.get(item.nodeid, []), self._lost(item, self._guest)]
            time.sleep(0.05)
        return self._reports[item.nodeid]

    def _complete(self, nodeid: str) -> bool:
        return any(report.when == "teardown" for report in self._reports.get(nodeid, ()))

    def _passed_on(self) -> list[str]:
        option = self._config.option
        words = ["--uml=never", f"--rootdir={self._config.rootpath}"]
        if self._config.inipath is not None:
            words += ["-c", str(self._config.inipath)]
        if self._config.getoption("--no-unexplained-skips"):
            words.append("--no-unexplained-skips")
        if option.markexpr:
            words += ["-m", option.markexpr]
        return words

    def _lost(self, item: pytest.Item, guest: Guest) -> pytest.TestReport:
        text = (
            f"no result from User-Mode Linux: {guest.end}\n"
            f"everything that it wrote: {guest.folder}\n"
            f"the end of its console:\n{guest.console_tail()}"
        )
        return pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords={},
            outcome="failed",
            longrepr=text,
            when="call",
        )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._guest is not None and self._failed:
            terminalreporter.write_line(f"User-Mode Linux left its console in {self._guest.folder}")

    def pytest_sessionfinish(self) -> None:
        """Another process may have taken over the rest: what the guest still does, nobody reads.

        Before leftovers are looked for.
        """
        if self._guest is not None:
            self._guest.close()

    def pytest_unconfigure(self) -> None:
        if self._guest is None:
            return
        if self._failed:
            self._guest.close()
        else:
            self._guest.forget()


class Messenger:
    """The plugin of the inner run: writes every report to a file as it comes."""

    def __init__(self, config: pytest.Config, path: Path) -> None:
        self._config = config
        self._sink: IO[str] = path.open("a")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._sink.write(json.dumps(data, default=str) + "\n")
        self._sink.flush()
        os.fsync(self._sink.fileno())  # the guest's kernel would keep it for half a minute

    def pytest_unconfigure(self) -> None:
        self._sink.close()


def with_tuples(data: dict[str, Any]) -> dict[str, Any]:
    """A report's `data` after JSON, with the lists made tuples again that pytest insists on."""
    changed = dict(data)
    for key in ("location", "longrepr"):
        if isinstance(data.get(key), list):
            changed[key] = tuple(data[key])
    for key in ("sections", "user_properties"):
        changed[key] = [tuple(each) for each in data.get(key, ())]
    return changed


def runs_in_guest(choice: str) -> bool:
    """Does ``--uml=choice`` send the ``uml`` tests into a guest, on this machine?"""
    if choice == "auto":
        return not all(map(has_link_kind, KINDS))
    return choice == "always"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("User-Mode Linux")
    group.addoption(
        "--uml",
        choices=("auto", "always", "never"),
        default="auto",
        help="where tests marked uml run: in User-Mode Linux if this kernel has no VLAN or ipvlan "
        "(auto), always there, or never",
    )
    group.addoption(
        "--uml-seconds",
        type=float,
        default=GUEST_SECONDS,
        metavar="SECONDS",
        help="how long the guest may run, from its start to its last test",
    )
    group.addoption("--uml-reports", type=Path, default=None, help="in the guest: where to report")


def in_guest(config: pytest.Config) -> bool:
    """Is this the run inside of User-Mode Linux?"""
    return config.getoption("--uml-reports") is not None


def pytest_configure(config: pytest.Config) -> None:
    reports = config.getoption("--uml-reports")
    plugin = Host(config) if reports is None else Messenger(config, reports)
    config.pluginmanager.register(plugin, "uml-guest")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if not item.get_closest_marker("uml"):
        return
    if runs_in_guest(item.config.getoption("--uml")):
        reason = unavailable_because()
        if reason:
            remedy = REQUIREMENTS["uml"].remedy
            skip_for(
                Requirement(name=f"User-Mode Linux: {reason}", met=lambda: False, remedy=remedy)
            )
    else:
        need(*(f"link:{kind}" for kind in KINDS))
