from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from danmpy.api.dialects.reading import read_pod
from danmpy.api.nodes import VTEPS
from danmpy.api.specs import SegmentKey, SegmentKind
from danmpy.clock import wall_clock
from danmpy.intent import folder as module
from danmpy.intent.documents import MAX_BYTES
from danmpy.intent.folder import FolderSource
from danmpy.intent.listing import list_folder
from support.manifests import config_manifest, core_manifest, network_manifest
from support.specs import cluster_key


class Folder:
    """A folder of manifests and the source that reads it; its clock runs ahead, so that every file
    counts as settled unless a test says otherwise."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ahead_us = 10_000_000
        self.source = FolderSource(path, clock=lambda: wall_clock() + self.ahead_us)

    def write(self, name: str, *bodies: Any) -> None:
        self.write_text(name, yaml.safe_dump_all(bodies))

    def write_text(self, name: str, text: str | bytes) -> None:
        """Replace a file by rename, as writers do."""
        path = self.path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        new = path.parent / f".{path.name}.new"
        new.write_bytes(text if isinstance(text, bytes) else text.encode())
        new.rename(path)

    def names(self) -> set[str]:
        return {key.name for key in self.source.read().networks}

    def codes(self) -> list[str]:
        return [problem.code for problem in self.source.read().problems]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "intent").mkdir()
    return Folder(tmp_path / "intent")


def net(name: str, **options: Any) -> dict[str, Any]:
    return network_manifest(name=name, **options)


def test_an_empty_folder_wants_nothing_and_says_so(folder: Folder) -> None:
    intent = folder.source.read()
    assert (intent.networks, intent.problems, intent.complete) == ({}, (), True)


def test_what_the_files_say_is_read(folder: Folder) -> None:
    folder.write("a.yaml", net("a"), net("b"))
    folder.write("sub/c.yml", net("c"))
    folder.write_text("d.json", '{"kind": "List", "items": []}')
    assert folder.names() == {"a", "b", "c"}


def test_the_same_words_are_the_same_object(folder: Folder) -> None:
    folder.write("a.yaml", net("a"))
    first = folder.source.read()
    assert folder.source.read() is first
    folder.write("a.yaml", net("a"))
    assert folder.source.read() is first
    os.utime(folder.path / "a.yaml")
    assert folder.source.read() is first


def test_only_files_that_changed_are_opened(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        folder.write(f"{number}.yaml", net(f"n{number}"))
    folder.source.read()
    opened: list[str] = []
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: opened.append(path.name) or real(path))
    folder.source.read()
    assert opened == []
    folder.write("3.yaml", net("n3", mtu=1400))
    assert folder.source.read().networks[cluster_key("n3")].mtu == 1400
    assert opened == ["3.yaml"]


@pytest.mark.parametrize(("age_us", "seen"), [(50_000, True), (5_000_000, False)])
def test_a_young_file_is_opened_again_because_two_changes_can_carry_one_stamp(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, age_us: int, seen: bool
) -> None:
    folder.write("a.yaml", net("a", mtu=1000))
    listing = list_folder(folder.path)
    stamp = listing.files["a.yaml"]
    assert stamp is not None
    monkeypatch.setattr(module, "list_folder", lambda _: listing)
    source = FolderSource(folder.path, clock=lambda: stamp.changed_us + age_us)
    assert source.read().networks[cluster_key("a")].mtu == 1000
    folder.write("a.yaml", net("a", mtu=2000))
    assert (source.read().networks[cluster_key("a")].mtu == 2000) is seen


def test_a_file_that_goes_takes_its_objects_along(folder: Folder) -> None:
    folder.write("a.yaml", net("a"))
    folder.write("b.yaml", net("b"))
    assert folder.names() == {"a", "b"}
    (folder.path / "a.yaml").unlink()
    assert folder.names() == {"b"}
    assert folder.source.read().complete


def test_a_broken_file_is_told_and_affects_no_other(folder: Folder) -> None:
    folder.write("a.yaml", net("a"))
    folder.write_text("b.yaml", "x: 1\ny: [1\n")
    intent = folder.source.read()
    assert set(intent.networks) == {cluster_key("a")}
    (problem,) = intent.problems
    assert (problem.code, problem.where) == ("YamlInvalid", f"{folder.path}/b.yaml:3")


def test_a_file_that_was_always_broken_may_hide_wishes(folder: Folder) -> None:
    folder.write_text("b.yaml", "[")
    assert not folder.source.read().complete
    folder.write("b.yaml", net("b"))
    assert folder.source.read().complete


@pytest.mark.parametrize("broken", ["[", b"\xff", b"#" * (MAX_BYTES + 1), "a: 1\na: 2\n"])
def test_a_file_that_breaks_keeps_what_it_said(folder: Folder, broken: str | bytes) -> None:
    folder.write("a.yaml", net("a"))
    before = folder.source.read()
    folder.write_text("a.yaml", broken)
    intent = folder.source.read()
    assert intent.networks == before.networks
    assert intent.complete
    assert len(intent.problems) == 1
    assert folder.source.read() is intent
    folder.write("a.yaml", net("a"))
    assert folder.source.read().problems == ()


def test_a_file_that_is_emptied_keeps_what_it_said_until_it_is_deleted(folder: Folder) -> None:
    folder.write("a.yaml", net("a"))
    folder.source.read()
    (folder.path / "a.yaml").write_bytes(b"")  # as "generate > a.yaml" begins
    assert folder.names() == {"a"}
    assert folder.codes() == ["FileEmpty"]
    (folder.path / "a.yaml").unlink()
    assert (folder.names(), folder.codes()) == (set(), [])


def test_a_file_that_was_always_empty_may_hide_wishes(folder: Folder) -> None:
    folder.write_text("a.yaml", "")  # as a crash of the machine leaves it
    assert not folder.source.read().complete


def test_a_file_that_breaks_twice_still_keeps_what_it_said(folder: Folder) -> None:
    folder.write("a.yaml", net("a"))
    folder.source.read()
    for broken in ("[", "{"):
        folder.write_text("a.yaml", broken)
        assert folder.names() == {"a"}


def test_a_document_that_breaks_a_rule_is_refused_alone(folder: Folder) -> None:
    folder.write("a.yaml", net("a"), net("b", cidr="x"), net("c"))
    assert folder.names() == {"a", "c"}
    assert set(folder.source.read().rejected) == {cluster_key("b")}


def test_a_network_that_is_refused_keeps_claiming_the_segment_it_had(folder: Folder) -> None:
    folder.write("a.yaml", net("a", host_device="ens4", vlan=7))
    folder.source.read()
    segment = SegmentKey(parent="ens4", kind=SegmentKind.VLAN, id=7)
    for slip in ("7x", "8x"):
        folder.write("a.yaml", net("a", host_device="ens4", vlan=slip))
        assert folder.source.read().claims == {segment}
    folder.write("a.yaml", net("a", host_device="ens4", vlan=8))
    assert folder.source.read().claims == frozenset()
    (folder.path / "a.yaml").unlink()
    assert folder.source.read().claims == frozenset()


def test_a_node_that_is_refused_keeps_the_tunnel_ends_it_had(folder: Folder) -> None:
    def node(text: str) -> dict[str, Any]:
        return core_manifest("Node", "n", annotations={VTEPS: text})

    folder.write("n.yaml", node('{"ens4": "192.0.2.1"}'))
    (before,) = folder.source.read().nodes
    for slip in ("{", "["):
        folder.write("n.yaml", node(slip))
        assert folder.source.read().nodes == (before,)
        assert folder.codes() == ["VtepsInvalid"]
    (folder.path / "n.yaml").unlink()
    assert folder.source.read().nodes == ()


def test_a_tenant_config_that_is_refused_stays_as_it_was(folder: Folder) -> None:
    folder.write("t.yaml", config_manifest({"name": "ens4"}))
    before = folder.source.read().tenant_configs
    folder.write("t.yaml", config_manifest({"name": "ens4", "vniType": "gre"}))
    intent = folder.source.read()
    assert len(before) == 1
    assert intent.tenant_configs == before
    assert intent.problems
    (folder.path / "t.yaml").unlink()
    assert folder.source.read().tenant_configs == ()


def test_the_first_of_two_by_file_name_counts(folder: Folder) -> None:
    folder.write("b.yaml", net("x", mtu=2000))
    folder.write("a.yaml", net("x", mtu=1000))
    intent = folder.source.read()
    assert intent.networks[cluster_key("x")].mtu == 1000
    (problem,) = intent.problems
    assert problem.where == f"{folder.path}/b.yaml:1"
    assert f"{folder.path}/a.yaml:1" in problem.message


def test_a_missing_folder_proves_nothing(tmp_path: Path) -> None:
    source = FolderSource(tmp_path / "late")
    intent = source.read()
    assert [problem.code for problem in intent.problems] == ["FolderMissing"]
    assert not intent.complete
    assert source.read() is intent
    (tmp_path / "late").mkdir()
    assert source.read().complete


def test_a_folder_that_goes_proves_nothing(folder: Folder) -> None:
    folder.write("a.yaml", net("a"))
    folder.source.read()
    shutil.rmtree(folder.path)
    assert not folder.source.read().complete


def test_a_folder_that_cannot_be_listed_any_more_keeps_what_it_said(folder: Folder) -> None:
    folder.write("a.yaml", net("a"))
    folder.source.read()
    folder.path.rename(folder.path.with_name("aside"))
    folder.path.write_text("in the way")
    intent = folder.source.read()
    assert set(intent.networks) == {cluster_key("a")}
    assert not intent.complete


def test_a_link_to_nowhere_is_told_and_may_hide_wishes(folder: Folder) -> None:
    (folder.path / "a.yaml").symlink_to("nowhere")
    intent = folder.source.read()
    assert [problem.code for problem in intent.problems] == ["FileUnreadable"]
    assert not intent.complete


def test_a_file_that_goes_while_the_folder_is_read_is_no_problem(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write("a.yaml", net("a"))
    folder.write("b.yaml", net("b"))
    earlier = list_folder(folder.path)
    (folder.path / "b.yaml").unlink()
    monkeypatch.setattr(module, "list_folder", lambda _: earlier)
    assert folder.names() == {"a"}
    assert folder.codes() == []


def test_a_folder_in_the_place_of_a_file_is_told(folder: Folder) -> None:
    (folder.path / "a.yaml").mkdir()
    assert folder.codes() == ["FileUnreadable"]


def mount(path: Path, version: str, *bodies: Any) -> None:
    """What kubelet does for a ConfigMap: a new hidden folder, and ``..data`` moved to it."""
    (path / version).mkdir()
    (path / version / "nets.yaml").write_text(yaml.safe_dump_all(bodies))
    (path / "..data_tmp").symlink_to(version)
    (path / "..data_tmp").rename(path / "..data")
    if not (path / "nets.yaml").is_symlink():
        (path / "nets.yaml").symlink_to("..data/nets.yaml")


def test_a_mounted_config_map_is_read_once_and_follows_updates(folder: Folder) -> None:
    mount(folder.path, "..2026_1", net("a"))
    assert folder.names() == {"a"}
    assert folder.codes() == []
    mount(folder.path, "..2026_2", net("b"))
    shutil.rmtree(folder.path / "..2026_1")
    assert folder.names() == {"b"}


def test_what_moves_from_file_to_file_while_the_folder_is_read_is_never_missing(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write("a.yaml", net("a"), net("x"))
    folder.write("b.yaml", net("b"))
    folder.source.read()
    os.utime(folder.path / "a.yaml")
    os.utime(folder.path / "b.yaml")
    real, reads = Path.read_bytes, []

    def read_then_move(self: Path) -> bytes:
        data = real(self)
        reads.append(self.name)
        if len(reads) == 1:  # x moves to the file that was just read, out of the other
            here, there = ("a", "b") if self.name == "a.yaml" else ("b", "a")
            folder.write(f"{here}.yaml", net(here), net("x"))
            folder.write(f"{there}.yaml", net(there))
        return data

    monkeypatch.setattr(Path, "read_bytes", read_then_move)
    assert folder.names() == {"a", "b", "x"}


def test_a_file_that_is_renamed_while_the_folder_is_read_is_never_missing(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write("a.yaml", net("a"))
    folder.source.read()
    real = list_folder

    def list_then_rename(path: Path) -> Any:
        listing = real(path)
        if (path / "a.yaml").exists():
            (path / "a.yaml").rename(path / "c.yaml")
        return listing

    os.utime(folder.path / "a.yaml")
    monkeypatch.setattr(module, "list_folder", list_then_rename)
    assert folder.names() == {"a"}


def test_many_threads_may_read_while_files_change(folder: Folder) -> None:
    folder.write("a.yaml", net("a"))
    stop, wrong = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            intent = folder.source.read()
            if set(intent.networks) != {cluster_key("a")} or intent.problems:
                wrong.append(intent)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(100):
            folder.write("a.yaml", net("a", mtu=1000 + number))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert folder.source.read().networks[cluster_key("a")].mtu == 1099


def test_one_pod_more_costs_little_among_500_networks(folder: Folder) -> None:
    for number in range(500):
        folder.write_text(f"n{number}.yaml", yaml.safe_dump(net(f"n{number}", cidr="10.0.0.0/24")))
    assert len(folder.names()) == 500
    costs = []
    for number in range(7):
        folder.write(f"p{number}.yaml", core_manifest("Pod", f"p{number}", "blue"))
        before = time.process_time()
        intent = folder.source.read()
        costs.append(time.process_time() - before)
        assert len(intent.pods) == number + 1
    assert sorted(costs)[3] < 0.02  # a few milliseconds on an idle machine


def test_the_watch_is_the_folders(folder: Folder) -> None:
    changed, stop = threading.Event(), threading.Event()
    thread = threading.Thread(target=folder.source.watch, args=(changed.set, stop))
    thread.start()
    try:
        folder.write("a.yaml", net("a"))
        assert changed.wait(5)
    finally:
        stop.set()
        thread.join(5)
    assert not thread.is_alive()


def test_what_is_asked_for_one_pod_is_the_folder_of_now(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("pods.yaml", core_manifest("Pod", "web-0", "blue"))
    intent = folder.source.read_for("blue", "web-0", "u")
    assert ("blue", "web-0") in intent.pods
    assert folder.source.read_for("blue", "nobody", "u") is intent is folder.source.read()
    pod = intent.pods["blue", "web-0"]
    assert folder.source.hear(intent, pod, read_pod(pod).interfaces) is intent
