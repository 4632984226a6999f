"""The programs of plugins: found, and asked for their versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from danmpy.attach.delegates.binaries import Binaries
from danmpy.attach.delegates.processes import ProcessOutcome, run_process
from danmpy.errors import NotReadyError
from support.recording import Bench


def binaries(*folders: Path) -> Binaries:
    return Binaries(folders, run_process, {"PATH": "/bin"})


def test_the_first_folder_that_has_an_executable_of_that_name_counts(tmp_path: Path) -> None:
    one, two = (Bench(tmp_path / name) for name in ("one", "two"))
    for bench in (one, two):
        bench.folder.mkdir()
        bench.plugin("first")
    two.plugin("second")
    (one.folder / "second").write_text("not executable")
    (one.folder / "third").mkdir()
    found = binaries(one.folder, two.folder)
    assert found.find("first") == one.folder / "first"
    assert found.find("second") == two.folder / "second"
    assert found.find("third") is None
    assert found.path == f"{one.folder}:{two.folder}"
    with pytest.raises(NotReadyError, match=f"third is not in {one.folder}, {two.folder}"):
        found.require("third")
    with pytest.raises(NotReadyError, match="bin_dirs, which is empty"):
        binaries().require("first")


def test_versions_are_those_of_plugins_and_of_the_ipam_plugins_that_are_there(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path)
    bench.plugin("first", "0.4.0")
    bench.plugin("ipam", "1.0.0")
    for name, said in (("mute", ""), ("odd", '{"supportedVersions": 7}'), ("rude", "hello")):
        bench.plugin(name)
        bench.says(name, "VERSION", stdout=said)
    bench.plugin("broken")
    bench.says("broken", "VERSION", {"supportedVersions": ["1.0.0"]}, status=1)
    plugins = tuple(
        {"type": kind, "ipam": {"type": ipam}}
        for kind, ipam in (("first", "ipam"), ("mute", "nowhere"), ("odd", ""), ("rude", ""))
    )
    assert binaries(tmp_path).versions_of((*plugins, {"type": "broken"})) == {
        "first": {"0.4.0"},
        "ipam": {"1.0.0"},
        "mute": None,
        "odd": None,
        "rude": None,
        "broken": None,
    }


def test_a_plugin_is_asked_again_only_when_its_file_changes(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.plugin("first", "1.0.0")
    found = binaries(tmp_path)
    for _ in range(3):
        found.versions_of(({"type": "first"},))
    assert len(bench.all_calls) == 1
    os.utime(tmp_path / "first", (1, 1))
    found.versions_of(({"type": "first"},))
    assert len(bench.all_calls) == 2


def test_an_answer_that_came_too_late_is_asked_for_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.plugin("first", "1.0.0")
    outcomes = [
        ProcessOutcome(status=-9, timed_out=True),
        ProcessOutcome(status=0, stdout=b'{"supportedVersions":["1.0.0"]}'),
    ]
    found = Binaries((tmp_path,), lambda *_call: outcomes.pop(0), {})
    assert found.versions_of(({"type": "first"},)) == {"first": None}
    for _ in range(2):
        assert found.versions_of(({"type": "first"},)) == {"first": {"1.0.0"}}
