"""What a pruning takes out of the database, written to files before it goes.

One file for each run of seals, ``LEDGER-FIRST-LAST.jsonl.gz``: the seals, their events and the
leases that began in them, a JSON object a line. With the events' numbers and digests in it, it can
still be held against the roots, which stay in the database.
"""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from danmpy.errors import HostError
from danmpy.ipam.values import Json


class PruneExport:
    """Writes into `folder`, which is made when it is missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(
        self,
        ledger: str,
        seals: Sequence[Row[Any]],
        events: Iterable[Row[Any]],
        leases: Iterable[Row[Any]],
    ) -> Path:
        """Write a run of seals with what belongs to them; it is on the disk when this returns. The
        same run written again replaces the file.

        Raises:
            HostError: it cannot be written.
        """
        name = f"{ledger}-{seals[0].no}-{seals[-1].no}.jsonl.gz"
        path = self._folder / name
        lines = [
            *_lines("seal", seals),
            *_lines("event", events),
            *_lines("lease", leases),
        ]
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write(path, _packed(lines))
        except OSError as error:
            raise HostError(
                f"what is to be pruned cannot be written: {error.strerror or error}",
                hint="nothing was pruned; make room or correct ipam.export_before_prune",
                subject=str(path),
            ) from error
        return path


def _lines(kind: str, rows: Iterable[Row[Any]]) -> Iterator[str]:
    for row in rows:
        item: Json = {"is": kind, **{key: _plain(value) for key, value in row._asdict().items()}}
        yield json.dumps(item, separators=(",", ":"))


def _plain(value: object) -> object:
    """Bytes (addresses, digests, roots) as hexadecimal text."""
    return bytes(value).hex() if isinstance(value, bytes | memoryview) else value


def _packed(lines: Sequence[str]) -> bytes:
    """Without a time in it, so that the same lines are the same file."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed:
        packed.writelines(f"{line}\n".encode() for line in lines)
    return buffer.getvalue()


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    # A rename survives a power cut only when its folder was synced too (fsync(2)).
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
