"""The values of this room: what becomes of another tool's configuration, key by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """What becomes of one key."""

    MAPPED = "mapped"
    NOT_NEEDED = "not needed"
    NOT_SUPPORTED = "not supported"
    BY_HAND = "by hand"
    UNKNOWN = "unknown"

    @property
    def is_finding(self) -> bool:
        """Has a person to decide something?"""
        return self in {Verdict.BY_HAND, Verdict.UNKNOWN}


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What becomes of `key`: the setting that it becomes (empty: none), and why in words."""

    key: str
    verdict: Verdict
    setting: str = ""
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundConf:
    """A CNI configuration file that the caller has read: its path, and the object in it."""

    path: str
    document: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its CNI name; empty when it has none that is a text."""
        name = self.document.get("name")
        return name if isinstance(name, str) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegateFile:
    """A configuration list that the node's folder has to have, as ``<name>.conflist``."""

    name: str
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A configuration of danmpy (groups of settings), what became of each key of the other one, the
    files that belong to it, and what else there is to do.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    files: tuple[DelegateFile, ...] = ()
    steps: tuple[str, ...] = ()

    @property
    def has_findings(self) -> bool:
        """Has a person to decide something?"""
        return any(note.verdict.is_finding for note in self.notes)
