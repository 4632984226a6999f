"""Pods that another tool attached: adopted when the node daemon starts, or by command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from danmpy.attach.adopting import MultusAdopter, adopt_at_start
from danmpy.attach.devices.info import DeviceInfoFiles
from danmpy.attach.journal import AttachmentRecord, Journal
from danmpy.bootstrap.readers import JOURNAL_FOLDER, read_attachments
from danmpy.settings import Settings

_log = structlog.get_logger(__name__)


def adopt_running(settings: Settings, journal: Journal) -> None:
    """Adopt the pods of Multus, when there is a cache of it in the settings. Plugins forget nothing
    (GC) while some may run that were not adopted.
    """
    folder = settings.cni.multus_cache
    if folder is None or adopt_at_start(_adopter(settings, folder, journal)):
        return
    if folder.exists():
        journal.note_strangers()
        _log.warning(
            "GC of delegates is left out until the next start: not all pods were adopted",
            cache=str(folder),
        )


@contextmanager
def open_multus_adopter(
    settings: Settings, folder: Path, *, dry_run: bool
) -> Iterator[MultusAdopter]:
    """What adopts from the cache `folder`, for a command. With `dry_run` it writes nothing, and may
    run beside the daemon.

    Raises:
        NotReadyError: a node daemon has the journal.
        HostError: the state folder cannot be used.
    """
    if dry_run:
        known = {record.container_id for record in read_attachments(settings)}
        yield MultusAdopter(folder, known, _nothing, _device_info(settings))
        return
    journal = Journal(settings.state_dir / JOURNAL_FOLDER)
    journal.open()
    try:
        yield _adopter(settings, folder, journal)
    finally:
        journal.close()


def awaited_file(settings: Settings) -> str:
    """What ADD waits for: the file that says that the default network is ready; empty: nothing."""
    file = settings.cni.readiness_file
    return (
        f"the file {file} is not there (cni.readiness_file)" if file and not file.exists() else ""
    )


def _adopter(settings: Settings, folder: Path, journal: Journal) -> MultusAdopter:
    known = {record.container_id for record in journal.read_all()}
    return MultusAdopter(folder, known, journal.write, _device_info(settings))


def _device_info(settings: Settings) -> DeviceInfoFiles:
    return DeviceInfoFiles(settings.devices.info_dir)


def _nothing(_record: AttachmentRecord) -> None:
    """A dry run."""
