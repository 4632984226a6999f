"""The programs of delegate plugins: where they are, and which CNI versions they know."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from danmpy.api.cni import Verb
from danmpy.attach.delegates.answers import json_object
from danmpy.attach.delegates.confs import Plugin, ipam_type
from danmpy.attach.delegates.processes import ProcessOutcome, Runner
from danmpy.errors import NotReadyError

PROBE_TIMEOUT_S: Final = 5.0


class Binaries:
    """Finds plugins in `folders`, searched in order; may be used by several threads."""

    def __init__(self, folders: tuple[Path, ...], run: Runner, environ: Mapping[str, str]) -> None:
        self._folders = folders
        self._run = run
        self._environ = environ
        self._versions: dict[tuple[str, int, int, int], frozenset[str] | None] = {}

    @property
    def path(self) -> str:
        """CNI_PATH."""
        return ":".join(map(str, self._folders))

    @property
    def words(self) -> str:
        """The folders, for a message."""
        return ", ".join(map(str, self._folders)) or "cni.bin_dirs, which is empty"

    def find(self, kind: str) -> Path | None:
        """The program of the plugin type `kind`, or None."""
        paths = (folder / kind for folder in self._folders)
        return next((p for p in paths if p.is_file() and os.access(p, os.X_OK)), None)

    def require(self, kind: str) -> Path:
        """As `find`. Raises NotReadyError when there is none."""
        binary = self.find(kind)
        if binary is None:
            raise NotReadyError(
                f"the CNI plugin {kind} is not in {self.words}",
                hint="install the plugin, or correct cni.bin_dirs",
            )
        return binary

    def versions_of(self, plugins: tuple[Plugin, ...]) -> dict[str, frozenset[str] | None]:
        """The CNI versions that each type of plugin and IPAM plugin in `plugins` knows; None for
        one that does not say.

        Raises:
            NotReadyError: a plugin is missing.
        """
        kinds = [str(plugin["type"]) for plugin in plugins]
        supported = {kind: self._supported(self.require(kind)) for kind in kinds}
        for kind in filter(None, map(ipam_type, plugins)):
            # A missing IPAM plugin of the file's own is the delegate's to report.
            if binary := self.find(kind):
                supported[kind] = self._supported(binary)
        return supported

    def _supported(self, binary: Path) -> frozenset[str] | None:
        """Asked again only when the file changes, or when a busy node let the answer come too late:
        a guess must not last.
        """
        facts = binary.stat()
        key = (str(binary), facts.st_mtime_ns, facts.st_size, facts.st_ino)
        if key in self._versions:
            return self._versions[key]
        outcome = self._probe(binary)
        versions = _versions_in(outcome)
        if not outcome.timed_out:
            self._versions[key] = versions
        return versions

    def _probe(self, binary: Path) -> ProcessOutcome:
        environ = {
            **self._environ,
            "CNI_COMMAND": Verb.VERSION.value,
            "CNI_PATH": self.path,
        }
        return self._run(binary, environ, b'{"cniVersion":"1.0.0"}', PROBE_TIMEOUT_S)


def _versions_in(outcome: ProcessOutcome) -> frozenset[str] | None:
    document = json_object(outcome.stdout) if outcome.status == 0 else None
    versions = (document or {}).get("supportedVersions")
    if not isinstance(versions, list) or not versions:
        return None
    return frozenset(map(str, versions))
