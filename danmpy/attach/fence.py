"""This node's side of the fence (`ipam.epoch`): what it has seen, and what its pods have.

How far the ledger was seen stands in a file in the state folder. It is written by the upkeep and
not by an ADD, so it may be late by a few seconds: what an ADD was answered just before the database
lost it shows in the journal, whose leases the database then does not know.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

import structlog
from pydantic import TypeAdapter, ValidationError

from danmpy.api.specs import NetworkSpec
from danmpy.attach.journal import AttachmentRecord, Journal, Phase, write_whole
from danmpy.clock import monotonic
from danmpy.errors import HostError, NotReadyError, StoreError
from danmpy.ipam.binding import pools_closed
from danmpy.ipam.epoch import Epoch, EpochStore, Handle, Mark, Sight, Trouble, judge
from danmpy.ipam.leases import Lease, LeaseOwner, LeaseRequest
from danmpy.ipam.values import EndReason

_log = structlog.get_logger(__name__)

MARK_FILE: Final = "seen.json"
"""In the state folder."""

COMPARE_S: Final = 30.0
"""Seconds between two comparisons of all leases in the journal with the database."""

WAIT_S: Final = 1.0
"""Seconds that an ADD waits for a comparison that is under way."""

_TRIES: Final = 3
"""Looks of one bind: each may come upon another new connection."""

_MARKS = TypeAdapter(Mark)


class UnsureError(NotReadyError):
    """Nothing was done, because the database behind this connection was not looked at."""


class Store(Protocol):
    """The leases behind the fence (`ipam.leases.LeaseStore`)."""

    def bind(self, owner: LeaseOwner, requests: Sequence[LeaseRequest]) -> tuple[Lease, ...]:
        """Lease everything, or nothing."""

    def release(
        self, container_id: str, *, reason: str = ..., at: int | None = None
    ) -> tuple[Lease, ...]:
        """Close what the container holds."""

    def release_interface(
        self, container_id: str, interface: str, *, reason: str = ...
    ) -> tuple[Lease, ...]:
        """Close what one interface of the container holds."""

    def held_by(self, container_id: str) -> tuple[Lease, ...]:
        """What the container holds."""

    def record_mac(self, container_id: str, interface: str, mac: str) -> None:
        """Note a MAC that was not known when the address was leased."""

    def require_open(self, networks: Iterable[NetworkSpec]) -> None:
        """Raise IntentError when one of these networks is being deleted."""

    def ping(self) -> None:
        """Raise StoreError when the database cannot be used."""


class Fence:
    """Compares, tells, and says whether addresses are handed out. Safe for many threads."""

    def __init__(
        self, epochs: EpochStore, journal: Journal, node: str, release: Callable[[str], object]
    ) -> None:
        """`release` closes what a container holds."""
        self._epochs = epochs
        self._release = release
        self._journal = journal
        self._node = node
        self._file = journal.state_dir / MARK_FILE
        self._guard = threading.Lock()
        self._compared_at: float | None = None
        self._refused: frozenset[tuple[str, str, int]] = frozenset()
        self._epoch = Epoch()
        self._mark: Mark | None = None
        self._loaded = False

    def require_open(self) -> None:
        """Are addresses handed out, by the last look?

        Raises:
            NotReadyError: not now; the message says why.
        """
        if self._epoch.closed:
            raise pools_closed(self._epoch.why)

    def guard(self, connection: Handle) -> None:
        """Called in the transaction of every bind: is this a database that can be trusted?

        Raises:
            UnsureError: it is not, or not yet; `look` does what has to be done.
        """
        if self._epochs.is_known(connection):
            return
        self._load()
        trouble = self._epochs.examine(connection, self._mark, self._leases_noted())
        if trouble is not None:
            raise UnsureError(trouble.why, hint="it is looked at", subject="database")

    def look(self, *, compare: bool = False) -> None:
        """Compare the database with what this node has seen, and do what follows; with `compare`
        all leases of the journal as well, which is done from time to time in any case.

        Raises:
            StoreError: the database cannot be used.
            HostError: the state folder cannot be written.
        """
        # Others that wait here would each wait for a server that does not answer.
        if not self._guard.acquire(timeout=WAIT_S):
            raise StoreError(
                f"{self._epochs.name}: it is being compared with what this node has seen",
                hint="it is tried again; does the database answer?",
                subject="database",
            )
        try:
            self._look(compare=compare)
        finally:
            self._guard.release()

    def _look(self, *, compare: bool) -> None:
        self._load()
        sight = self._epochs.look(self._mark)
        self._epoch = sight.epoch
        missed = self._mark is not None and sight.epoch.number > self._mark.epoch
        trouble = judge(self._mark, sight)
        if trouble is not None:
            self._begin(trouble)
        else:
            self._epochs.settle_home(sight)
        if self._epoch.closed or missed or compare or sight.is_first or self._is_due():
            self._compare(missed=missed)
        if self._epoch.closed:
            self._epochs.told(self._node, self._epoch.number)
            self._epoch = self._epochs.settle(node=self._node)
            if not self._epoch.closed:
                _log.info("addresses are handed out again", epoch=self._epoch.number)
        changed = self._epoch != sight.epoch
        self._save(self._epochs.look(None) if changed else sight)

    def _begin(self, trouble: Trouble) -> None:
        _log.error("the database may have forgotten commits", why=trouble.why)
        self._epoch = self._epochs.begin(trouble, self._mark, self._node)

    def _is_due(self) -> bool:
        return self._compared_at is None or monotonic() - self._compared_at > COMPARE_S

    # What pods have

    def _compare(self, *, missed: bool) -> None:
        """Tell the database of leases that it does not know, not even their end.

        Others may have lost some as well, unless that is over and this node was away (`missed`).
        """
        leases = self._leases_of_journal()
        unknown = self._epochs.unknown(leases) if leases else ()
        unknown = tuple(lease for lease in unknown if self._still_has(lease))
        # Those in other hands stay unknown, and were told of once.
        news = {_place(lease) for lease in unknown} - self._refused
        if news and not missed and not self._epoch.closed:
            why = f"it does not know {len(news)} leases of pods on {self._node}"
            self._begin(Trouble(why=why, strict=True))
        refused = self._epochs.assert_leases(unknown, self._epoch.number) if unknown else ()
        for lease in unknown:
            self._let_go(lease)
        self._report(unknown, refused)
        self._compared_at = monotonic()

    def _leases_of_journal(self) -> tuple[Lease, ...]:
        records = [record for record in self._journal.read_all() if _has_leases(record)]
        return tuple(lease for record in records for lease in record.leases)

    def _leases_noted(self) -> tuple[Lease, ...]:
        """Without those that are known to be in other hands: they close nothing again."""
        return tuple(
            lease for lease in self._leases_of_journal() if _place(lease) not in self._refused
        )

    def _still_has(self, lease: Lease) -> bool:
        """Is the attachment still there? A DEL may have come meanwhile."""
        return any(
            _has_leases(record) for record in self._journal.read_container(lease.container_id)
        )

    def _let_go(self, lease: Lease) -> None:
        """A DEL that came while the lease was stored again found nothing to release."""
        if not self._journal.read_container(lease.container_id):
            self._release(lease.container_id)

    def _report(self, unknown: Sequence[Lease], refused: Sequence[Lease]) -> None:
        for lease in unknown:
            if lease not in refused:
                _log.warning("lease stored again", pod=lease.holder, address=str(lease.address.ip))
        now = frozenset(map(_place, refused))
        for lease in refused:
            if _place(lease) not in self._refused:
                _log.error(
                    "this pod's address is in other hands now: see `danmpy audit diff`",
                    pod=lease.holder,
                    address=str(lease.address.ip),
                    network=lease.network,
                )
        self._refused = now

    # What was seen

    def _load(self) -> None:
        if self._loaded:
            return
        try:
            self._mark = _MARKS.validate_json(self._file.read_bytes())
        except FileNotFoundError:
            self._mark = None
        except (OSError, ValidationError) as error:
            # The journal's leases are compared all the same.
            _log.error(
                "what this node has seen is unreadable", file=str(self._file), why=str(error)
            )
            self._mark = None
        self._loaded = True

    def _save(self, sight: Sight) -> None:
        mark = sight.mark(self._epoch.number)
        if mark == self._mark:
            return
        self._mark = mark
        try:
            write_whole(self._file, _MARKS.dump_json(mark))
        except OSError as error:
            raise HostError(
                f"{self._file} cannot be written: {error.strerror}",
                hint="make room on the disk that holds state_dir; is it read-only?",
            ) from error


def _place(lease: Lease) -> tuple[str, str, int]:
    return lease.container_id, lease.interface, lease.family


def _has_leases(record: AttachmentRecord) -> bool:
    return bool(record.leases) and record.phase is not Phase.ADDING


class FencedLeases:
    """The leases, and none while the fence is closed (`attach.ports.Leases`)."""

    def __init__(self, leases: Store, fence: Fence) -> None:
        self._leases = leases
        self._fence = fence

    def bind(self, owner: LeaseOwner, requests: Sequence[LeaseRequest]) -> tuple[Lease, ...]:
        """As `LeaseStore.bind`.

        Raises:
            NotReadyError: the database may have forgotten who holds what.
        """
        self._fence.require_open()
        for _ in range(_TRIES):
            try:
                return self._leases.bind(owner, requests)
            except UnsureError as error:
                unsure = error
            self._fence.look(compare=True)
            self._fence.require_open()
        raise unsure

    def release(
        self, container_id: str, *, reason: str = EndReason.RELEASED, at: int | None = None
    ) -> tuple[Lease, ...]:
        """As `LeaseStore.release`."""
        return self._leases.release(container_id, reason=reason, at=at)

    def release_interface(
        self, container_id: str, interface: str, *, reason: str = EndReason.UNPLUGGED
    ) -> tuple[Lease, ...]:
        """As `LeaseStore.release_interface`."""
        return self._leases.release_interface(container_id, interface, reason=reason)

    def held_by(self, container_id: str) -> tuple[Lease, ...]:
        """As `LeaseStore.held_by`."""
        return self._leases.held_by(container_id)

    def record_mac(self, container_id: str, interface: str, mac: str) -> None:
        """As `LeaseStore.record_mac`."""
        self._leases.record_mac(container_id, interface, mac)

    def require_open(self, networks: Iterable[NetworkSpec]) -> None:
        """As `LeaseStore.require_open`."""
        self._leases.require_open(networks)

    def ping(self) -> None:
        """As `LeaseStore.ping`; not while the fence is closed.

        Raises:
            NotReadyError: the database may have forgotten who holds what.
        """
        self._leases.ping()
        self._fence.require_open()
