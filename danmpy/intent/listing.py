"""Which manifests a folder holds, and how to see that one of them changed. Opens no file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from danmpy.intent.values import Problem

SUFFIXES: Final = (".yaml", ".yml", ".json")

_MAX_DEPTH: Final = 16
"""Sub-folders may be links to a folder above: this ends the walk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What a file system says of a file; two contents have two stamps.

    `changed_us` is the inode's change time (microseconds since the epoch, clock of this machine):
    unlike the modification time nobody can set it.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @property
    def changed_us(self) -> int:
        """When the file changed last."""
        return self.changed_ns // 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The manifests of a folder by their path inside it; a stamp is None when there is none.

    `unseen` are sub-folders that cannot be listed now; `links` says that something in the folder
    is a symbolic link, whose target can change without the folder noticing.
    """

    files: Mapping[str, Stamp | None] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    unseen: tuple[str, ...] = ()
    missing: bool = False
    links: bool = False

    def hides(self, name: str) -> bool:
        """Is `name` inside a part that cannot be listed now?"""
        return any(not folder or name.startswith(folder + "/") for folder in self.unseen)


def list_folder(path: Path) -> Listing:
    """What is in `path` and its sub-folders now, without hidden names. Never raises."""
    walk = _Walk(path)
    files = dict(walk.folder("", 0))
    return Listing(
        files=files,
        problems=tuple(walk.problems),
        unseen=tuple(walk.unseen),
        missing=walk.missing,
        links=walk.links,
    )


class _Walk:
    """One walk through a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.problems: list[Problem] = []
        self.unseen: list[str] = []
        self.missing = False
        self.links = False

    def folder(self, inside: str, depth: int) -> Iterator[tuple[str, Stamp | None]]:
        try:
            with os.scandir(self._root / inside) as entries:
                found = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            self._refused(inside, error)
            return
        for entry in found:
            name = f"{inside}/{entry.name}" if inside else entry.name
            self.links = self.links or entry.is_symlink()
            if entry.name.endswith(SUFFIXES):
                yield name, _stamp(entry)
            elif depth < _MAX_DEPTH and _is_folder(entry):
                yield from self.folder(name, depth + 1)

    def _refused(self, inside: str, error: OSError) -> None:
        if inside and isinstance(error, FileNotFoundError):
            return  # it has gone between two looks: nothing is wrong
        where = str(self._root / inside)
        if not inside and isinstance(error, FileNotFoundError):
            self.missing = True
            code, message, hint = "FolderMissing", "the folder is not there", "create or mount it"
        else:
            self.unseen.append(inside)
            code, message = "FolderUnreadable", f"it cannot be listed: {error.strerror}"
            hint = "correct its permissions"
        self.problems.append(
            Problem(where=where, subject=where, code=code, message=message, hint=hint)
        )


def _stamp(entry: os.DirEntry[str]) -> Stamp | None:
    try:
        stat = entry.stat()
    except OSError:
        return None
    return Stamp(
        device=stat.st_dev,
        inode=stat.st_ino,
        size=stat.st_size,
        modified_ns=stat.st_mtime_ns,
        changed_ns=stat.st_ctime_ns,
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
