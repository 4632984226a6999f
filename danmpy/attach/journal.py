"""The journal of attachments: what this node has begun, made and not yet undone.

One JSON file per sandbox and CNI interface name in the state folder, replaced by rename. A record
is written before anything is touched and taken away after everything is gone, so a daemon that was
killed at any moment finds on its next start what it left half done. The journal is no source of
truth about addresses (the database is); it remembers what only this node can know: which links were
made, with which settings, and how each delegate plugin was called.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import structlog
from pydantic import TypeAdapter, ValidationError

from danmpy.attach.delegates.confs import DelegateConf
from danmpy.attach.values import ClaimedDevice
from danmpy.errors import HostError, NotReadyError
from danmpy.ipam.values import Lease
from danmpy.kernel.netns import NetnsId
from danmpy.kernel.podlinks import PodLink, PodLinkConfig

_log = structlog.get_logger(__name__)


_CONTAINER_ID_SHOWN = 100
"""Characters; a file name has 255 bytes at most (NAME_MAX), and the interface's name is in it."""


_UNFINISHED = ".tmp"
"""Ending of a file that is being written; a daemon that is killed just then leaves it behind."""

_DAMAGED = ".damaged"
"""Ending of a record that could not be read."""


JOURNAL_VERSION: Final = "1.1.0"
"""The CNI version in which results are kept: the newest holds every field."""


class Phase(StrEnum):
    """How far an attachment is.

    `DETACHED` means that the links are gone and only the database has not heard of it yet.
    """

    ADDING = "adding"
    ATTACHED = "attached"
    DETACHING = "detaching"
    DETACHED = "detached"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRecord:
    """One interface of an attachment as it was made, for CHECK and DEL.

    `link` and `config` are None for a delegate's interface; `delegate` is then the configuration
    that it was called with and `delegate_result` what it answered, both JSON text. `backend` is the
    network's, and `without` are the families for which the pod wanted no address (``ip: none``):
    what is told about the interface elsewhere (`mirrors`) says so too, as it does of `asked`
    (`InterfaceSpec.asked`) and `infiniband_guid`. `device_id` is the device of a device plugin that
    the interface has, one of `resource`; `device_info` is what is known of it, as JSON text (NPWG
    device information), `device_info_file` where the delegate could write that, and `claimed` the
    device's names when it came by a ResourceClaim.
    `wish` is what the pod asked (`wishes.wish_of`), to tell later whether it asks otherwise.
    """

    name: str
    network: str
    backend: str = ""
    without: tuple[int, ...] = ()
    link: PodLink | None = None
    config: PodLinkConfig | None = None
    delegate: str = ""
    delegate_result: str = ""
    asked: str = ""
    infiniband_guid: str = ""
    device_id: str = ""
    resource: str = ""
    device_info: str = ""
    device_info_file: str = ""
    claimed: ClaimedDevice | None = None
    wish: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentRecord:
    """One sandbox's attachment. Times are microseconds; `detached_at` is when the links went.

    `netns_device`, `netns_inode` and, where the kernel has it, `netns_cookie` tell the namespace
    apart from a later one at the same path.
    `network_name` is the name in the CNI configuration, which GC goes by. `leases` are what the
    database was told: should it ever forget them, this node can tell it again.
    `dialect` is the one in which the pod asked (`api.specs.Dialect`). `result` is all that was
    made; `answer` is the part of it that the runtime was told, empty when that was all of it.
    `previous` is what a plugin before us in the chain had made when the interface that the runtime
    calls by CNI_IFNAME is that one's. `defaults_taken` are the families whose default routes were
    taken from the interfaces that had them (`InterfaceSpec.takes_default`).
    `wishes` tells the annotations that it was made by, or changed by later (`wishes`); empty:
    not known. `pending` are interfaces that come to the running pod or leave it just now: they are
    in no `result`, and when the daemon starts anew they are taken away and their leases end for
    `pending_reason`. `adopted_files` are those of another tool that made the attachment
    (`adopting`): they go when it goes.
    """

    container_id: str
    ifname: str
    phase: Phase
    netns: str
    netns_device: int = 0
    netns_inode: int = 0
    netns_cookie: int = 0
    namespace: str = ""
    pod: str = ""
    pod_uid: str = ""
    network_name: str = ""
    began_at: int = 0
    detached_at: int = 0
    end_reason: str = ""
    links: tuple[LinkRecord, ...] = ()
    leases: tuple[Lease, ...] = ()
    result: dict[str, Any] = field(default_factory=dict)
    dialect: str = ""
    answer: dict[str, Any] = field(default_factory=dict)
    previous: dict[str, Any] = field(default_factory=dict)
    defaults_taken: tuple[int, ...] = ()
    wishes: str = ""
    pending: tuple[LinkRecord, ...] = ()
    pending_reason: str = ""
    adopted_files: tuple[str, ...] = ()

    @property
    def all_links(self) -> tuple[LinkRecord, ...]:
        """The interfaces that stand, and those that come or leave just now."""
        return (*self.links, *self.pending)

    @property
    def told(self) -> dict[str, Any]:
        """What of `result` the runtime knows."""
        return self.answer or self.result

    @property
    def has_primary(self) -> bool:
        """Is the interface that the runtime calls by CNI_IFNAME one of ours?"""
        return not self.previous

    @property
    def key(self) -> tuple[str, str]:
        """What the runtime calls this attachment by."""
        return (self.container_id, self.ifname)

    @property
    def made_in(self) -> NetnsId:
        """The namespace, as far as that shows from outside."""
        return NetnsId(device=self.netns_device, inode=self.netns_inode)

    def with_phase(self, phase: Phase, **changes: Any) -> AttachmentRecord:
        """The same attachment in another phase."""
        return replace(self, phase=phase, **changes)

    def leaving(self, reason: str) -> AttachmentRecord:
        """The same attachment when all of it goes, what was coming or leaving as well."""
        links = self.all_links
        return self.with_phase(Phase.DETACHING, end_reason=reason, links=links, pending=())

    def settled(self, wishes: str = "", **changes: Any) -> AttachmentRecord:
        """The same attachment with nothing that comes or leaves."""
        wishes = wishes or self.wishes
        return replace(self, pending=(), pending_reason="", wishes=wishes, **changes)


_RECORDS = TypeAdapter(AttachmentRecord)


class Journal:
    """The records of one state folder; safe to use from several threads of one process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._guard = threading.Lock()
        self._records: dict[tuple[str, str], AttachmentRecord] = {}
        self._lock_fd = -1
        self._complete = False
        self._strangers = False
        self._on_change: Callable[[], None] = _nothing

    def listen(self, on_change: Callable[[], None]) -> None:
        """Call `on_change` whenever an attachment is made or let go of; in the thread that serves
        the pod, so it must take microseconds and raise nothing.
        """
        self._on_change = on_change

    @property
    def state_dir(self) -> Path:
        """The state folder that this process has for itself."""
        return self._folder.parent

    @property
    def complete(self) -> bool:
        """Are these all attachments? Not when a record is damaged, until a person has taken the
        file away: what it is about cannot be known.
        """
        return self._complete

    @property
    def strangers(self) -> bool:
        """May pods run here that another tool attached with plugins of ours, and that are in no
        record?
        """
        return self._strangers

    def note_strangers(self) -> None:
        """There are such pods, until the daemon starts anew."""
        self._strangers = True

    def open(self) -> None:
        """Take the state folder for this process and load what it holds.

        A record that cannot be read is put aside under ``*.damaged`` and logged, not deleted.

        Raises:
            NotReadyError: another daemon has the folder.
            HostError: the folder cannot be made or written.
        """
        try:
            for folder in (self._folder.parent, self._folder):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._lock_fd = os.open(self._folder / "lock", flags, 0o600)
        except OSError as error:
            raise HostError(
                f"state folder {self._folder} cannot be used: {error.strerror}",
                hint="set state_dir to a folder that this process may write",
            ) from error
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock_fd)
            self._lock_fd = -1
            raise NotReadyError(
                f"another danmpy node daemon uses the state folder {self._folder.parent}",
                hint="stop it first, or give this one a state_dir and a socket of its own",
            ) from error
        for scrap in self._folder.glob(f"*{_UNFINISHED}"):
            with suppress(OSError):
                scrap.unlink()
        found = len(list(self._folder.glob("*.json")))
        self._records = {
            record.key: record for record in read_records(self._folder, set_aside=True)
        }
        damaged = any(self._folder.glob(f"*{_DAMAGED}"))
        self._complete = len(self._records) == found and not damaged

    def close(self) -> None:
        """Give the folder back."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def read(self, container_id: str, ifname: str) -> AttachmentRecord | None:
        """The record of one attachment, if there is one."""
        with self._guard:
            return self._records.get((container_id, ifname))

    def read_all(self) -> tuple[AttachmentRecord, ...]:
        """Every record."""
        with self._guard:
            return tuple(self._records.values())

    def read_container(self, container_id: str) -> tuple[AttachmentRecord, ...]:
        """The records of one container, under whatever interface name."""
        return tuple(r for r in self.read_all() if r.container_id == container_id)

    def write(self, record: AttachmentRecord, *, durable: bool = False) -> None:
        """Store `record`; `durable` waits for the disk.

        Only a release that the database has not heard of needs that: everything else in a record is
        about namespaces, which a crash of the machine takes away as well.

        Raises:
            HostError: the file cannot be written (disk full, read-only).
        """
        path = self._path(record)
        temporary = f"{path}{_UNFINISHED}"
        try:
            _write_file(temporary, _RECORDS.dump_json(record), durable=durable)
            os.rename(temporary, path)  # noqa: PTH104 - once or twice in every pod's start
            if durable:
                _sync_folder(self._folder)
        except OSError as error:
            with suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108
            raise HostError(
                f"the journal {path} cannot be written: {error.strerror}",
                hint="make room on the disk that holds state_dir",
            ) from error
        with self._guard:
            self._records[record.key] = record
        if record.phase is not Phase.ADDING:
            self._on_change()

    def remove(self, record: AttachmentRecord) -> None:
        """Forget an attachment; absent is success.

        Raises:
            HostError: the file cannot be removed; the record stays.
        """
        path = self._path(record)
        try:
            os.unlink(path)  # noqa: PTH108 - as in `write`
        except FileNotFoundError:
            pass
        except OSError as error:
            raise HostError(
                f"the journal {path} cannot be removed: {error.strerror}",
                hint="look at the disk that holds state_dir: is it read-only?",
            ) from error
        with self._guard:
            self._records.pop(record.key, None)
        self._on_change()

    def _path(self, record: AttachmentRecord) -> str:
        return f"{self._folder}/{file_name(record.container_id, record.ifname)}"


def _nothing() -> None:
    """Nobody listens."""


def file_name(container_id: str, ifname: str) -> str:
    """The name of an attachment's file: the two names, or for long ones a digest."""
    if len(container_id) > _CONTAINER_ID_SHOWN:
        digest = hashlib.sha256(container_id.encode()).hexdigest()
        container_id = f"{container_id[:_CONTAINER_ID_SHOWN]}~{digest[:32]}"
    return f"{container_id}@{ifname}.json"


def _write_file(path: str, data: bytes, *, durable: bool) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        while data:  # a disk that is getting full takes a part
            data = data[os.write(fd, data) :]
        if durable:
            os.fdatasync(fd)
    finally:
        os.close(fd)


def write_whole(path: Path, data: bytes) -> None:
    """Replace the file `path` so that it is on the disk, old or new, whatever happens.

    Raises:
        OSError: it cannot be written; the old one stays.
    """
    temporary = f"{path}{_UNFINISHED}"
    try:
        _write_file(temporary, data, durable=True)
        os.rename(temporary, path)  # noqa: PTH104 - as in `Journal.write`
    except OSError:
        with suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """A rename survives a power cut only when its folder was synced too (fsync(2))."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_records(folder: Path, *, set_aside: bool = False) -> Iterable[AttachmentRecord]:
    """Every record in `folder`, without taking the lock: also for readers beside a running daemon.

    A file that vanishes meanwhile is passed over; a damaged one is logged, and renamed to
    ``*.damaged`` when `set_aside`.
    """
    for path in sorted(folder.glob("*.json")):
        try:
            yield _RECORDS.validate_json(path.read_bytes())
        except FileNotFoundError:
            continue
        except OSError as error:
            _log.error("journal record unreadable", file=str(path), problem=error.strerror)
        except ValidationError as error:
            _log.error("journal record damaged", file=str(path), problems=error.error_count())
            if set_aside:
                path.rename(path.with_suffix(_DAMAGED))


def devices_in_use(records: Iterable[AttachmentRecord]) -> frozenset[str]:
    """The links of the host that interfaces of pods are on, made by us or by a delegate."""
    return frozenset(
        device
        for record in records
        if record.phase is not Phase.DETACHED
        for link in record.all_links
        for device in _parents_of(link)
    )


def _parents_of(link: LinkRecord) -> Iterable[str]:
    if link.link is not None:
        yield link.link.parent
    if link.delegate:
        for plugin in DelegateConf.from_json(link.delegate).plugins:
            yield from (
                name for key in ("master", "bridge") if isinstance(name := plugin.get(key), str)
            )
