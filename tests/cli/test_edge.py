"""The edge: what a person sees and which exit code a script gets when something is wrong."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from danmpy.cli.edge import DanmpyGroup
from danmpy.errors import BugError, ExhaustedError, HostError, IntentError, StoreError


def outcome(error: BaseException | None, result: int | None = None) -> tuple[int, str]:
    """Exit code and standard error of a command that raises `error` or returns `result`."""
    app = typer.Typer(cls=DanmpyGroup, rich_markup_mode=None, pretty_exceptions_enable=False)

    @app.callback()
    def root() -> None:
        pass

    @app.command()
    def work(number: int = 1) -> int | None:
        assert number
        if error is not None:
            raise error
        return result

    done = CliRunner().invoke(app, ["work"], prog_name="danmpy")
    assert done.stdout == ""
    return done.exit_code, done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (IntentError("wrong", hint="correct it", subject="Pod/a/b"), 2),
        (ExhaustedError("wrong", hint="correct it", subject="Pod/a/b"), 1),
        (HostError("wrong", hint="correct it", subject="Pod/a/b"), 3),
        (StoreError("wrong", hint="correct it", subject="Pod/a/b"), 3),
        (BugError("wrong", hint="correct it", subject="Pod/a/b"), 70),
    ],
)
def test_an_error_is_one_line_with_its_hint_and_its_class_s_exit_code(
    error: Exception, code: int
) -> None:
    assert outcome(error) == (code, "danmpy: Pod/a/b: wrong (correct it)\n")


def test_line_breaks_in_foreign_words_do_not_make_more_lines() -> None:
    assert outcome(HostError("a\n  b", hint="c\nd")) == (3, "danmpy: a b (c d)\n")


def test_terminal_codes_in_foreign_words_are_not_passed_on() -> None:
    code, line = outcome(IntentError("a\x1b[2Jb", hint="c\x07"))
    assert code == 2
    assert line == "danmpy: a\N{REPLACEMENT CHARACTER}[2Jb (c\N{REPLACEMENT CHARACTER})\n"


def test_a_bug_of_ours_is_one_line_that_says_where_and_never_a_traceback() -> None:
    code, line = outcome(KeyError("x"))
    assert code == 70
    assert line.count("\n") == 1
    assert "internal error: KeyError: 'x'" in line
    assert "test_edge.py:" in line
    assert "Traceback" not in line


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (1, 1), (3, 3)])
def test_what_a_command_returns_is_the_exit_code(result: int | None, code: int) -> None:
    assert outcome(None, result) == (code, "")


def test_a_command_may_leave_early() -> None:
    assert outcome(typer.Exit(2)) == (2, "")


def test_control_c_is_130_as_in_a_shell() -> None:
    assert outcome(KeyboardInterrupt())[0] == 130


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["audit", "whoo", "10.0.0.1"], "No such command 'whoo'"),
        (["audit", "who"], "Missing argument 'ADDRESS'"),
        (["networks", "--outpt", "json"], "No such option: --outpt"),
        (["networks", "-o", "xml"], "'xml' is not one of 'table', 'json', 'jsonl', 'csv'"),
        (["check"], "Missing option"),
    ],
)
def test_a_mistyped_command_is_one_line_and_exit_2(arguments: list[str], words: str) -> None:
    done = danmpy(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert "--help'" in done.stderr


def test_help_names_every_command_of_the_contract() -> None:
    done = danmpy("--help")
    assert done.returncode == 0
    for word in ("node", "controller", "plan", "check", "explain", "networks", "audit", "db"):
        assert f"  {word} " in done.stdout
    assert "  crds" in done.stdout
    assert "  install-cni" in done.stdout
    listed = danmpy("audit", "--help").stdout
    for word in ("who", "history", "usage", "diff", "events", "verify"):
        assert f"  {word} " in listed


def test_help_is_quick_because_it_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['danmpy', '--help']\n"
        "from danmpy.cli.main import run\n"
        "try: run()\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'sqlalchemy', 'pyroute2', 'yaml', 'alembic', 'rich.console'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr.strip() == "[]"


def test_the_version_is_printed() -> None:
    from danmpy import __version__

    assert danmpy("--version").stdout == f"danmpy {__version__}\n"


def test_a_controller_without_a_cluster_says_what_to_set() -> None:
    done = danmpy("controller")
    assert done.returncode == 2
    assert "set intent.source to kubernetes" in done.stderr


def test_a_reader_that_stops_early_is_no_error() -> None:
    """As in ``danmpy crds | head -1``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "danmpy.cli.main", "crds"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environ(),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(60) == 0
    with process.stderr:
        assert process.stderr.read() == b""


def environ() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DANMPY_")}
    return {**kept, "COLUMNS": "120"}


def danmpy(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "danmpy.cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environ(),
    )
