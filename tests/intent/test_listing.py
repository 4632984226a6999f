from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from danmpy.intent.listing import list_folder


def test_manifests_are_found_in_sub_folders_and_hidden_names_are_not(tmp_path: Path) -> None:
    for name in (
        "a.yaml",
        "b.yml",
        "c.json",
        "d.txt",
        ".e.yaml",
        "sub/f.yaml",
        ".git/g.yaml",
        "sub/..h/i.yaml",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("")
    listing = list_folder(tmp_path)
    assert sorted(listing.files) == ["a.yaml", "b.yml", "c.json", "sub/f.yaml"]
    assert listing.problems == ()
    assert not listing.links


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    listing = list_folder(tmp_path / "none")
    assert listing.missing
    assert [problem.code for problem in listing.problems] == ["FolderMissing"]


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    listing = list_folder(tmp_path / "file")
    assert [problem.code for problem in listing.problems] == ["FolderUnreadable"]
    assert listing.hides("anything.yaml")


def test_a_change_shows_in_the_stamp(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a")
    before = list_folder(tmp_path)
    assert list_folder(tmp_path) == before
    other = tmp_path / "new"
    other.write_text("b")
    other.rename(path)
    assert list_folder(tmp_path) != before


def test_links_are_followed_and_told(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "a.yaml").write_text("")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    (tmp_path / "gone.yaml").symlink_to("nowhere")
    listing = list_folder(tmp_path)
    assert listing.links
    assert listing.files["a.yaml"] is not None
    assert listing.files["gone.yaml"] is None


def test_a_link_to_a_folder_above_does_not_walk_for_ever(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("")
    (tmp_path / "loop").symlink_to(".")
    assert len(list_folder(tmp_path).files) < 100


def test_a_sub_folder_that_cannot_be_listed_is_told_and_hides_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.yaml").write_text("")
    real = os.scandir

    def refusing(path: Path) -> object:
        if Path(path).name == "sub":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refusing)
    listing = list_folder(tmp_path)
    assert list(listing.files) == ["a.yaml"]
    (problem,) = listing.problems
    assert (problem.code, problem.where) == ("FolderUnreadable", f"{tmp_path}/sub")
    assert listing.hides("sub/x.yaml")
    assert not listing.hides("subway.yaml")
