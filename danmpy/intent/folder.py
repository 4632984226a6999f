"""Intent out of a folder of manifests: read when asked, watched for changes.

A read is cheap when nothing changed (the folder is listed, no file is opened), and otherwise costs
what the changed files cost. A file that is broken keeps what it said before it broke.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from danmpy.api.specs import InterfaceAsk, PodSpec
from danmpy.clock import Clock, wall_clock
from danmpy.intent.documents import MAX_BYTES, read_documents, too_large
from danmpy.intent.listing import Listing, Stamp, list_folder
from danmpy.intent.parse import Judged, judge_document, merge
from danmpy.intent.remembering import Memory
from danmpy.intent.values import Intent, Problem
from danmpy.intent.watching import Notify, watch_folder

_SETTLED_US: Final = 100_000
"""A file that changed less than this before it was read is read again next time: file systems
stamp changes with the time of the last timer tick, so two changes can carry one stamp."""


_TRIES: Final = 5
"""How often a folder that keeps changing is read before what was read counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """What is known of one file: the last good verdicts, and what is wrong with it now."""

    stamp: Stamp | None
    settled: bool
    digest: bytes = b""
    judged: tuple[Judged, ...] | None = None
    problem: Problem | None = None

    def same_words(self, other: _File | None) -> bool:
        return other is not None and self.judged is other.judged and self.problem == other.problem


class FolderSource:
    """The manifests in a folder and its sub-folders; names that begin with a dot are passed over.

    Every method may be called from every thread.
    """

    def __init__(self, path: Path, *, clock: Clock = wall_clock) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._files: Mapping[str, _File] = {}
        self._listing: Listing | None = None
        self._intent: Intent | None = None
        self._memory = Memory()

    def read(self) -> Intent:
        """What the folder says now; the very same object while it says the same. Never raises."""
        with self._lock:
            listing, files = self._read_whole()
            unchanged = (
                self._intent is not None
                and self._listing is not None
                and files.keys() == self._files.keys()
                and listing.problems == self._listing.problems
                and listing.missing == self._listing.missing
                and all(file.same_words(self._files[name]) for name, file in files.items())
            )
            self._files, self._listing = files, listing
            if self._intent is None or not unchanged:
                self._intent = self._memory.completed(_merge(files, listing))
            return self._intent

    def read_for(self, namespace: str, name: str, uid: str) -> Intent:
        """As `read`: a folder is always read whole, and has no pod that it does not show."""
        return self.read()

    def hear(self, intent: Intent, pod: PodSpec, asks: Sequence[InterfaceAsk]) -> Intent:
        """`intent`: a folder has no network that it does not show."""
        del pod, asks
        return intent

    def watch(self, on_change: Notify, stop: threading.Event) -> None:
        """Call `on_change` at once, and soon after every change until `stop` is set; blocks.

        A call only says "look again": it may come without a change.
        """
        watch_folder(self._path, on_change, stop)

    def _read_whole(self) -> tuple[Listing, Mapping[str, _File]]:
        """A listing and its files, read again when the folder changed meanwhile.

        A file that is renamed, and a mounted ConfigMap that is replaced, are never half of each:
        what only moved from one file to another must not be missing.
        """
        before = self._files
        for _ in range(_TRIES):
            listing = list_folder(self._path)
            files = self._read_files(listing, before)
            same = files.keys() == before.keys() and all(files[n] is before[n] for n in files)
            if same or list_folder(self._path) == listing:
                break
            before = files
        return listing, files

    def _read_files(self, listing: Listing, before: Mapping[str, _File]) -> dict[str, _File]:
        files = {}
        for name, stamp in listing.files.items():
            known = before.get(name)
            if known is not None and known.settled and known.stamp == stamp:
                files[name] = known
                continue
            file = self._read_file(name, stamp, known)
            if file is not None:
                files[name] = file
        # What is in a part of the folder that cannot be listed now is still what people want.
        for name, known in before.items():
            if name not in files and listing.hides(name):
                files[name] = known
        return files

    def _read_file(self, name: str, stamp: Stamp | None, known: _File | None) -> _File | None:
        """The file `name`; None when it has gone since the listing."""
        path = self._path / name
        settled = stamp is not None and self._clock() - stamp.changed_us > _SETTLED_US
        last_good = known.judged if known else None
        if stamp is not None and stamp.size > MAX_BYTES:
            problem = too_large(str(path))
            return _File(stamp=stamp, settled=settled, judged=last_good, problem=problem)
        try:
            data = path.read_bytes()
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not path.is_symlink():
                return None
            problem = Problem(
                where=str(path),
                subject=str(path),
                code="FileUnreadable",
                message=f"it cannot be read: {error.strerror}",
                hint="correct its permissions, or what it links to",
            )
            return _File(stamp=stamp, settled=False, judged=last_good, problem=problem)
        digest = hashlib.blake2b(data, digest_size=16).digest()
        if known is not None and digest == known.digest:
            return replace(known, stamp=stamp, settled=settled)
        documents = read_documents(data, str(path))
        if isinstance(documents, Problem):
            return _File(
                stamp=stamp, settled=settled, digest=digest, judged=last_good, problem=documents
            )
        judged = tuple(map(judge_document, documents))
        return _File(stamp=stamp, settled=settled, digest=digest, judged=judged)


def _merge(files: Mapping[str, _File], listing: Listing) -> Intent:
    ordered = [files[name] for name in sorted(files, key=lambda name: name.split("/"))]
    intent = merge(_all_judged(ordered), by_quota=True)
    broken = tuple(file.problem for file in ordered if file.problem is not None)
    told = all(file.judged is not None for file in ordered)
    # A part that cannot be listed may hold more than what was seen of it before; the missing
    # folder may be a mount that is late.
    complete = intent.complete and told and not listing.problems
    return replace(intent, problems=listing.problems + broken + intent.problems, complete=complete)


def _all_judged(files: Iterable[_File]) -> Iterable[Judged]:
    for file in files:
        yield from file.judged or ()
