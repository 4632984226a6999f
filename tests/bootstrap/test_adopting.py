"""What the node daemon adopts at its start, and the file that its pods wait for."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from danmpy.attach.journal import Journal
from danmpy.bootstrap.adopting import adopt_running, awaited_file, open_multus_adopter
from danmpy.bootstrap.readers import JOURNAL_FOLDER
from danmpy.errors import NotReadyError
from danmpy.settings import Settings
from support.multus import Multus, Sandbox, Wanted, result_file
from support.netns import Namespaces

LAN = Wanted(config={"cniVersion": "0.4.0", "name": "lan", "type": "loopback"})


def settings_of(folder: Path, **cni: str) -> Settings:
    return Settings.model_validate({"state_dir": str(folder / "state"), "cni": cni})


@pytest.fixture
def cache(tmp_path: Path, namespaces: Namespaces) -> Path:
    """A cache with one pod."""
    sandbox = Sandbox(container_id="c-web", netns=str(namespaces.make("pod").path))
    multus = Multus(cache=tmp_path / "multus")
    multus.save_list(sandbox, [LAN])
    multus.save_result(result_file(sandbox, LAN, "eth0", {"cniVersion": "0.4.0"}))
    return multus.cache


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    made = Journal(tmp_path / "state" / JOURNAL_FOLDER)
    made.open()
    return made


def test_the_cache_of_the_settings_is_adopted_and_without_one_nothing_is(
    tmp_path: Path, cache: Path, journal: Journal
) -> None:
    try:
        with capture_logs() as lines:
            adopt_running(settings_of(tmp_path), journal)
        assert (lines, journal.read_all()) == ([], ())
        adopt_running(settings_of(tmp_path, multus_cache=str(cache)), journal)
        (record,) = journal.read_all()
        assert record.container_id == "c-web"
        assert not journal.strangers
    finally:
        journal.close()


def test_a_cache_that_is_not_there_is_no_reason_not_to_start(
    tmp_path: Path, journal: Journal
) -> None:
    try:
        with capture_logs() as lines:
            adopt_running(settings_of(tmp_path, multus_cache=str(tmp_path / "none")), journal)
        assert [line["log_level"] for line in lines] == ["error"]
        assert not journal.strangers
    finally:
        journal.close()


def test_pods_that_could_not_be_adopted_are_noted(
    tmp_path: Path, cache: Path, journal: Journal
) -> None:
    next((cache / "results").iterdir()).write_text("{")
    try:
        adopt_running(settings_of(tmp_path, multus_cache=str(cache)), journal)
        assert (journal.read_all(), journal.strangers) == ((), True)
    finally:
        journal.close()


def test_pods_whose_namespace_is_gone_miss_nothing(
    tmp_path: Path, cache: Path, journal: Journal, namespaces: Namespaces
) -> None:
    namespaces.close()
    try:
        adopt_running(settings_of(tmp_path, multus_cache=str(cache)), journal)
        assert (journal.read_all(), journal.strangers) == ((), False)
    finally:
        journal.close()


def test_a_command_has_the_journal_for_itself_unless_it_only_looks(
    tmp_path: Path, cache: Path, journal: Journal
) -> None:
    settings = settings_of(tmp_path)
    try:
        with open_multus_adopter(settings, cache, dry_run=True) as adopter:
            assert len(adopter.adopt()) == 1
        with (
            pytest.raises(NotReadyError, match="another danmpy node daemon"),
            open_multus_adopter(settings, cache, dry_run=False),
        ):
            pytest.fail("the journal is not free")
        assert journal.read_all() == ()
    finally:
        journal.close()
    with open_multus_adopter(settings, cache, dry_run=False) as adopter:
        adopter.adopt()
    journal.open()  # given back
    try:
        assert len(journal.read_all()) == 1
    finally:
        journal.close()


def test_pods_wait_for_the_readiness_file_while_it_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "ready"
    settings = settings_of(tmp_path, readiness_file=str(file))
    assert str(file) in awaited_file(settings)
    file.write_text("")
    assert awaited_file(settings) == ""
    assert awaited_file(settings_of(tmp_path)) == ""
    assert awaited_file(settings_of(tmp_path, readiness_file="")) == ""
