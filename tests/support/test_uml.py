"""The way into the guest and back: every result comes home, nothing else does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import uml
from support.requirements import need

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

QUIET = ("-rA", "-p", "no:randomly", "-p", "no:cacheprovider")

INI = """\
[pytest]
addopts = --import-mode=importlib
pythonpath = {tests}
markers =
    uml: runs in the guest
    bench: measures
timeout = 60
"""

CONFTEST = 'pytest_plugins = ["support.requirements", "support.uml"]\n'

OUTCOMES = """\
import os, pathlib, pytest
from support.requirements import need

pytestmark = pytest.mark.uml

def test_passes():
    assert os.uname().nodename == "guest"

def test_fails():
    print("said in the guest")
    assert 1 + 1 == 3

def test_needs_something():
    need("link:flyingcarpet")

@pytest.mark.xfail(strict=True)
def test_is_known_to_fail():
    assert False

@pytest.mark.parametrize("word", ["a b", "[x]", "::"])
def test_takes_odd_names(word):
    assert word

@pytest.fixture
def breaks():
    yield
    raise ValueError("broken while cleaning up")

def test_cleans_up_badly(breaks):
    pass
"""


def run_pytest(folder: Path, *words: str, **files: str) -> subprocess.CompletedProcess[str]:
    """Run pytest with the plugins under test on a small project made of `files`."""
    need("uml")
    tests = Path(uml.SUPPORT).parent
    (folder / "pytest.ini").write_text(INI.format(tests=tests))
    (folder / "conftest.py").write_text(CONFTEST)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    environment = {key: value for key, value in os.environ.items() if key != "CI"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *QUIET, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        env=environment | {"TMPDIR": str(folder), "COLUMNS": "200"},
    )


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("dt-uml-*"))


def test_every_outcome_comes_back_under_the_name_of_its_test(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "--uml=always", test_outcomes=OUTCOMES)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 5 passed, 1 skipped, 1 xfailed, 1 error" in done.stdout
    for line in (
        "PASSED test_outcomes.py::test_passes",
        "FAILED test_outcomes.py::test_fails - assert (1 + 1) == 3",
        "XFAIL test_outcomes.py::test_is_known_to_fail",
        "PASSED test_outcomes.py::test_takes_odd_names[[x]]",
        "ERROR test_outcomes.py::test_cleans_up_badly - ValueError: broken while cleaning up",
        "needs links of kind flyingcarpet (this machine cannot have it)",
        "said in the guest",
    ):
        assert line in done.stdout, f"{line}\n{done.stdout}"
    assert len(left_over(tmp_path)) == 1, "a failure keeps the console"


def test_what_the_guest_writes_stays_in_the_guest(tmp_path: Path) -> None:
    text = f"""
        import pathlib, subprocess, pytest

        @pytest.mark.uml
        def test_writes(tmp_path):
            for folder in ({str(tmp_path)!r}, "/etc", "/root", "/tmp", "/dev/shm", tmp_path):
                (pathlib.Path(folder) / "dt-written-in-the-guest").write_text("x")
            pathlib.Path({str(tmp_path / "pytest.ini")!r}).unlink()
            subprocess.run(["ip", "netns", "add", "dt-made-in-the-guest"], check=True)

        def test_runs_on_the_host():
            import os
            assert os.uname().nodename != "guest"
        """
    text = "\n".join(line.removeprefix("        ") for line in text.splitlines())
    done = run_pytest(tmp_path, "--uml=always", test_writes=text)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    for folder in (tmp_path, *map(Path, ("/etc", "/root", "/tmp", "/dev/shm"))):
        assert not (folder / "dt-written-in-the-guest").exists()
    assert (tmp_path / "pytest.ini").exists()
    assert not Path("/run/netns/dt-made-in-the-guest").exists()
    assert left_over(tmp_path) == [], "a guest without failures leaves nothing"


def test_a_guest_that_takes_too_long_is_ended_and_shows_its_console(tmp_path: Path) -> None:
    text = (
        "import pytest, time\npytestmark = pytest.mark.uml\n"
        "def test_quick(): pass\n"
        "def test_slow(): time.sleep(100)\n"
        "def test_late(): pass\n"
    )
    done = run_pytest(tmp_path, "--uml=always", "--uml-seconds=12", test_slow=text)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "PASSED test_slow.py::test_quick" in done.stdout
    assert "2 failed, 1 passed" in done.stdout
    assert "no result from User-Mode Linux: its 12 seconds were over" in done.stdout
    assert "the end of its console:" in done.stdout
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(tmp_path) not in listed, "nothing of the guest runs on"


def test_a_guest_that_dies_fails_the_test_that_it_died_in_and_those_after_it(
    tmp_path: Path,
) -> None:
    text = (
        "import pathlib, pytest, time\npytestmark = pytest.mark.uml\n"
        "def test_quick(): pass\n"
        "def test_kills_the_kernel():\n"
        "    pathlib.Path('/proc/sysrq-trigger').write_text('c')\n"
        "    time.sleep(60)\n"
    )
    done = run_pytest(tmp_path, "--uml=always", test_crash=text)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "its kernel ended before pytest did" in done.stdout
    assert "sysrq" in done.stdout.lower()


def test_without_a_guest_the_tests_are_skipped_with_the_missing_link_kind(tmp_path: Path) -> None:
    if not uml.runs_in_guest("auto"):
        pytest.skip("this kernel has VLAN and ipvlan: nothing is skipped")
    done = run_pytest(tmp_path, "--uml=never", test_outcomes=OUTCOMES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 skipped" in done.stdout
    assert "needs links of kind vlan (this machine cannot have it)" in done.stdout


@pytest.mark.parametrize(
    ("choice", "kernel_has_the_kinds", "in_guest"),
    [
        ("auto", True, False),
        ("auto", False, True),
        ("always", True, True),
        ("always", False, True),
        ("never", True, False),
        ("never", False, False),
    ],
)
def test_the_guest_is_used_when_it_is_asked_for_or_needed(
    monkeypatch: pytest.MonkeyPatch, choice: str, kernel_has_the_kinds: bool, in_guest: bool
) -> None:
    monkeypatch.setattr(uml, "has_link_kind", lambda _kind: kernel_has_the_kinds)
    assert uml.runs_in_guest(choice) is in_guest


@pytest.mark.parametrize(
    ("missing", "reason"),
    [("linux.uml", "no linux.uml"), ("modprobe", "no modprobe"), ("", "")],
)
def test_what_is_missing_for_a_guest_is_named(
    monkeypatch: pytest.MonkeyPatch, missing: str, reason: str
) -> None:
    need("uml")
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == missing else which(name))
    assert uml.unavailable_because() == reason


def test_a_processor_with_amx_needs_a_compiler_and_no_other_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need("uml")
    monkeypatch.setattr(uml, "_compiler", lambda: None)
    monkeypatch.setattr(uml, "_has_amx", lambda: False)
    assert uml.unavailable_because() == ""
    monkeypatch.setattr(uml, "_has_amx", lambda: True)
    assert "compiler" in uml.unavailable_because()


def test_the_guest_gets_only_what_it_needs_of_the_environment() -> None:
    given = {"LANG": "C.UTF-8", "CI": "true", "SECRET": "x", "PATH": "/somewhere"}
    made = uml.guest_environment(given)
    assert (made["LANG"], made["CI"]) == ("C.UTF-8", "true")
    assert "SECRET" not in made
    assert "/somewhere" not in made["PATH"]
