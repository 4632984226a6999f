"""`danmpy adopt multus`: rows, exit codes, and the lock of the journal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from danmpy.attach.journal import Journal
from danmpy.bootstrap.readers import JOURNAL_FOLDER, read_attachments
from danmpy.cli.adopting import ROW_FIELDS
from support.console import World
from support.multus import Multus, Sandbox, Wanted, result_file
from support.netns import Namespaces

LAN = Wanted(config={"cniVersion": "0.4.0", "name": "lan", "type": "loopback"})


@pytest.fixture
def multus(paper: World) -> Multus:
    return Multus(cache=paper.folder / "multus")


@pytest.fixture
def sandbox(namespaces: Namespaces) -> Sandbox:
    """A pod whose interface has no link that could be looked at, as a userspace one."""
    return Sandbox(container_id="c-web", netns=str(namespaces.make("pod").path), uid="u1")


def attached(multus: Multus, sandbox: Sandbox) -> None:
    multus.save_list(sandbox, [LAN])
    multus.save_result(result_file(sandbox, LAN, "eth0", {"cniVersion": "0.4.0"}))


def journal_of(world: World) -> Path:
    return world.settings.state_dir / JOURNAL_FOLDER


def test_a_row_tells_of_each_pod(paper: World, multus: Multus, sandbox: Sandbox) -> None:
    attached(multus, sandbox)
    answer = paper.ask("adopt", "multus", "--cache-dir", str(multus.cache))
    (row,) = answer["items"]
    assert set(row) == set(ROW_FIELDS)
    assert (row["verdict"], row["namespace"], row["pod"], row["pod_uid"]) == (
        "adopted",
        "blue",
        "web",
        "u1",
    )
    assert (row["container_id"], row["interfaces"]) == ("c-web", ["eth0"])
    assert (answer["dry_run"], answer["cache"]) == (False, str(multus.cache))
    (record,) = read_attachments(paper.settings)
    assert record.key == ("c-web", "eth0")


def test_a_second_time_it_is_held(paper: World, multus: Multus, sandbox: Sandbox) -> None:
    attached(multus, sandbox)
    words = ("adopt", "multus", "--cache-dir", str(multus.cache))
    paper.ask(*words)
    (row,) = paper.ask(*words)["items"]
    assert row["verdict"] == "held"


def test_what_is_left_makes_the_exit_code_one(
    paper: World, multus: Multus, sandbox: Sandbox
) -> None:
    multus.save_list(replace(sandbox, container_id="c-half"), [LAN])
    (multus.cache / "results").mkdir()
    (multus.cache / "results" / "torn").write_text("{")
    answer = paper.danmpy("adopt", "multus", "--cache-dir", str(multus.cache))
    assert answer.code == 1
    assert "half" in answer.out
    assert f"{multus.cache}/results/torn: cannot be parsed" in answer.out


def test_an_empty_cache_is_told_in_words(paper: World, multus: Multus) -> None:
    multus.cache.mkdir()
    answer = paper.danmpy("adopt", "multus", "--cache-dir", str(multus.cache))
    assert (answer.code, answer.out) == (0, f"no pod is in {multus.cache}\n")


def test_a_folder_that_cannot_be_read_is_a_bad_request(paper: World) -> None:
    answer = paper.danmpy("adopt", "multus", "--cache-dir", str(paper.folder / "none"))
    assert answer.code == 2
    (line,) = answer.lines
    assert "No such file" in line


def test_a_running_daemon_has_the_journal_and_only_a_dry_run_goes_beside_it(
    paper: World, multus: Multus, sandbox: Sandbox
) -> None:
    attached(multus, sandbox)
    words = ("adopt", "multus", "--cache-dir", str(multus.cache))
    journal = Journal(journal_of(paper))
    journal.open()
    try:
        answer = paper.danmpy(*words)
        assert (answer.code, answer.out) == (3, "")
        (line,) = answer.lines
        assert f"set cni.multus_cache to {multus.cache}" in line
        assert "stop it first" in line
        (row,) = paper.ask(*words, "--dry-run")["items"]
        assert row["verdict"] == "would be adopted"
        assert journal.read_all() == ()
    finally:
        journal.close()
    assert read_attachments(paper.settings) == ()
    assert paper.danmpy(*words).code == 0


def test_the_folder_is_the_setting_s_when_none_is_named(
    paper: World, multus: Multus, sandbox: Sandbox
) -> None:
    attached(multus, sandbox)
    text = paper.config.read_text()
    paper.config.write_text(text.replace("cni: {", f"cni: {{multus_cache: {multus.cache}, "))
    answer = paper.ask("adopt", "multus", "--dry-run")
    assert answer["cache"] == str(multus.cache)
    assert len(answer["items"]) == 1


def test_the_journal_is_given_back(paper: World, multus: Multus, sandbox: Sandbox) -> None:
    attached(multus, sandbox)
    paper.danmpy("adopt", "multus", "--cache-dir", str(multus.cache))
    journal = Journal(journal_of(paper))
    journal.open()
    journal.close()
    (file,) = journal_of(paper).glob("*.json")
    assert json.loads(file.read_text())["adopted_files"] == [
        str(multus.cache / "results" / "lan-c-web-eth0"),
        str(multus.cache / "c-web"),
    ]
