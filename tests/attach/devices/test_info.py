"""Device information files on a real disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from danmpy.attach.devices.info import DEFAULT_FOLDER, DeviceInfoFiles

RESOURCE, DEVICE = "vendor/vf", "0000:3b:02.1"
SAID = {"type": "pci", "version": "1.1.0", "pci": {"pci-address": DEVICE}}


@pytest.fixture
def files(tmp_path: Path) -> DeviceInfoFiles:
    return DeviceInfoFiles(tmp_path)


def tell(folder: Path, text: str = json.dumps(SAID)) -> Path:
    """As a device plugin does."""
    file = folder / "dp" / "vendor-vf-0000:3b:02.1-device.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return file


def test_what_the_device_plugin_says_is_copied_for_the_cni_plugin_and_taken_away(
    files: DeviceInfoFiles, tmp_path: Path
) -> None:
    source = tell(tmp_path)
    path = files.path("c1", "net1")
    files.prepare(path, RESOURCE, DEVICE)
    assert Path(path).parent == tmp_path / "cni"
    assert json.loads(Path(path).read_text()) == SAID
    assert json.loads(files.read(path, RESOURCE, DEVICE)) == SAID
    files.remove(path)
    assert list((tmp_path / "cni").iterdir()) == []
    assert source.exists()
    files.remove(path)  # once more is no error


def test_what_the_cni_plugin_writes_counts(files: DeviceInfoFiles, tmp_path: Path) -> None:
    tell(tmp_path)
    path = files.path("c1", "net1")
    files.prepare(path, RESOURCE, DEVICE)
    Path(path).write_text('{"type": "vdpa", "version": "1.1.0"}')
    assert json.loads(files.read(path, RESOURCE, DEVICE))["type"] == "vdpa"


def test_a_plugin_may_write_about_an_interface_without_a_device(files: DeviceInfoFiles) -> None:
    path = files.path("c1", "net1")
    files.prepare(path, "", "")
    assert Path(path).parent.is_dir()
    assert files.read(path, "", "") == ""
    Path(path).write_text('{"type": "memif", "version": "1.1.0"}')
    assert json.loads(files.read(path, "", ""))["type"] == "memif"


def test_a_file_of_an_earlier_attachment_does_not_count(files: DeviceInfoFiles) -> None:
    path = files.path("c1", "net1")
    files.prepare(path, "", "")
    Path(path).write_text('{"type": "memif"}')
    files.prepare(path, "", "")
    assert files.read(path, "", "") == ""


@pytest.mark.parametrize("text", ["", "{", "[]", '"pci"', "\x00", '{"a": 1, "a": 2}'])
def test_a_file_that_is_no_object_says_nothing(
    files: DeviceInfoFiles, tmp_path: Path, text: str
) -> None:
    tell(tmp_path, text)
    assert files.read(files.path("c1", "net1"), RESOURCE, DEVICE) == ""


def test_a_file_that_would_not_fit_into_an_annotation_says_nothing(
    files: DeviceInfoFiles, tmp_path: Path
) -> None:
    tell(tmp_path, json.dumps({"a": "x" * 70_000}))
    assert files.read(files.path("c1", "net1"), RESOURCE, DEVICE) == ""


def test_two_interfaces_never_share_a_file_and_none_is_outside_the_folder(
    files: DeviceInfoFiles, tmp_path: Path
) -> None:
    names = [("c1", "net1"), ("c1", "net2"), ("c2", "net1"), ("../c", "net1"), ("c" * 300, "net1")]
    paths = {Path(files.path(*each)) for each in names}
    assert len(paths) == len(names)
    assert {path.parent for path in paths} == {tmp_path / "cni"}
    assert all(len(path.name) < 250 for path in paths)


def test_no_resource_reads_outside_the_folder(files: DeviceInfoFiles, tmp_path: Path) -> None:
    (tmp_path / "secret-device.json").write_text("{}")
    assert files.read(files.path("c1", "net1"), "..", "../secret") == ""


def test_a_folder_that_cannot_be_made_keeps_no_pod_from_starting(tmp_path: Path) -> None:
    (tmp_path / "devinfo").write_text("in the way")
    files = DeviceInfoFiles(tmp_path / "devinfo")
    path = files.path("c1", "net1")
    files.prepare(path, RESOURCE, DEVICE)
    assert files.read(path, RESOURCE, DEVICE) == ""
    files.remove(path)


def test_without_a_word_the_folder_is_the_one_that_everybody_uses() -> None:
    assert DeviceInfoFiles().path("c", "n").startswith(f"{DEFAULT_FOLDER}/cni/")
