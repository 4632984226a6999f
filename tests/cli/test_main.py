"""The command as a whole: its configuration, and the mistakes people make with it."""

from __future__ import annotations

import subprocess

import pytest

from support.console import SHARED, World, run_command
from support.processes import clean_environment, danmpy_argv

EVERY_READER = [
    ("plan",),
    ("networks",),
    ("explain", "blue/web"),
    ("audit", "usage"),
    ("audit", "diff"),
    ("audit", "history"),
    ("audit", "who", "10.0.0.1"),
    ("audit", "verify"),
]


@pytest.mark.parametrize("words", EVERY_READER)
def test_a_configuration_file_that_is_not_there_is_one_line(
    paper: World, words: tuple[str, ...]
) -> None:
    answer = run_command([*words, "--config", "/nonexistent/config.yaml"])
    assert (answer.code, answer.out, len(answer.lines)) == (2, "", 1)
    assert "/nonexistent/config.yaml" in answer.err


@pytest.mark.parametrize("words", EVERY_READER)
def test_an_unknown_key_names_the_nearest_known_one(paper: World, words: tuple[str, ...]) -> None:
    paper.config.write_text(paper.config.read_text() + "databse_url: sqlite:////tmp/a.db\n")
    answer = paper.danmpy(*words)
    assert (answer.code, answer.out, len(answer.lines)) == (2, "", 1)
    assert "did you mean database_url?" in answer.err


def test_the_configuration_may_be_named_before_or_after_the_command(world: World) -> None:
    world.write("networks.yaml", SHARED)
    before = world.danmpy("networks", "-o", "json")
    found = []
    world.inside(
        lambda: found.append(run_command(["networks", "-o", "json", "-c", str(world.config)]))
    )
    assert before.code == found[0].code == 0
    assert before.data["items"] == found[0].data["items"]


def test_the_configuration_may_come_from_the_environment(
    paper: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper.upgrade()
    monkeypatch.setenv("DANMPY_CONFIG", str(paper.config))
    answer = paper.danmpy("audit", "history", config=False)
    assert (answer.code, answer.out) == (0, "no lease matches\n")


def test_an_unreachable_server_never_shows_its_password(paper: World) -> None:
    url = "postgresql+psycopg://danmpy:s3cret@127.0.0.1:1/danmpy"
    paper.config.write_text(paper.config.read_text() + f"database_url: {url}\n")
    for words in (("audit", "history"), ("audit", "diff"), ("networks",)):
        answer = paper.danmpy(*words)
        assert answer.code == 3
        assert "s3cret" not in answer.out + answer.err


def test_a_damaged_journal_record_is_a_line_on_standard_error_only(world: World) -> None:
    folder = world.folder / "state" / "attachments"
    folder.mkdir()
    (folder / "box@eth0.json").write_text("{half")
    answer = world.danmpy("audit", "diff", "-o", "json")
    assert answer.data["items"] == []
    (line,) = answer.lines
    assert "box@eth0.json" in line
    assert (folder / "box@eth0.json").exists(), "a reader puts nothing aside"


@pytest.mark.system
def test_the_installed_command_does_what_the_tests_call(world: World) -> None:
    assert world.namespace is not None
    world.write("networks.yaml", SHARED)
    done = subprocess.run(
        world.namespace.argv(*danmpy_argv("networks", "--config", str(world.config))),
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment(),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == world.danmpy("networks").out
