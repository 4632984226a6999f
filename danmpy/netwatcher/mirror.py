"""What the kernel refused in the daemon's last look, left in a file for commands that only preview.

A preview tries nothing, so it cannot know that a step fails. The file is a mirror: written from a
look, replaced by rename, never read by the daemon.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from danmpy.clock import to_rfc3339
from danmpy.netwatcher.values import LookReport

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a device is not there: reason word, the kernel's words, and when (RFC 3339)."""

    reason: str
    message: str
    at: str


class Mirror:
    """Keeps the file; writes only what changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: dict[str, tuple[str, str]] | None = None

    def write(self, report: LookReport) -> None:
        """Leave what `report` could not do; a file that cannot be written is only logged."""
        refused = {f.step.device: (str(f.reason), f.message) for f in report.failures}
        if refused == self._written:
            return
        document = {
            device: {"reason": reason, "message": message, "at": to_rfc3339(report.at)}
            for device, (reason, message) in refused.items()
        }
        temporary = self._path.with_suffix(".tmp")
        try:
            temporary.touch(mode=0o600)
            temporary.write_text(json.dumps(document))
            temporary.replace(self._path)
        except OSError as error:
            _log.warning("mirror not written", file=str(self._path), error=str(error))
            return
        self._written = refused


def read_refusals(path: Path) -> Mapping[str, Refusal]:
    """What the daemon of this node could not do, by device; nothing when no file tells."""
    try:
        document = json.loads(path.read_bytes())
        return {
            device: Refusal(reason=each["reason"], message=each["message"], at=each["at"])
            for device, each in document.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
