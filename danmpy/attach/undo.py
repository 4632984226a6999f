"""Letting go of attachments, in an order that no crash, full disk or lost database can harm."""

from __future__ import annotations

import structlog

from danmpy.api.cni import CniRequest
from danmpy.attach.adopting import drop_adopted
from danmpy.attach.journal import AttachmentRecord, Phase
from danmpy.attach.ports import AttachPorts
from danmpy.errors import DanmpyError, HostError, StoreError
from danmpy.ipam.leases import EndReason

_log = structlog.get_logger(__name__)


class Undo:
    """Takes attachments apart. The caller holds the container's lock."""

    def __init__(self, ports: AttachPorts) -> None:
        self._ports = ports

    def detach(self, record: AttachmentRecord, reason: str, *, database_away: bool = False) -> bool:
        """Remove links, close leases, forget the record, in this order; False when only the
        release is left, which waits in the journal for the database.

        The leases go last but one: an address may be handed out again only when no link has it.
        `reason` is for the leases, unless an earlier try has written its own into the record. A
        database that is known to be away is not waited for once more: the repair will try.

        Raises:
            HostError, DelegateError: something is left; the record stays and so do the leases.
        """
        ports = self._ports
        if record.phase is not Phase.DETACHED:
            if record.phase is not Phase.DETACHING:
                record = record.leaving(reason)
            try:
                ports.journal.write(record)
            except HostError as error:
                # A full disk must not keep links alive: the older record names all of them too.
                _log.warning("journal not written", error=str(error), **names_of(record))
            ports.faults("del:journaled")
            ports.builder.remove(record)
            ports.faults("del:links")
            record = record.with_phase(Phase.DETACHED, detached_at=ports.clock())
        if database_away:
            self._keep(record)
            return False
        return self.release(record)

    def release(self, record: AttachmentRecord) -> bool:
        """Close the leases of `record`, whose links are gone; with the database away, note it and
        answer False.

        Raises:
            HostError: the database is away and the journal cannot be written either.
        """
        ports = self._ports
        try:
            ports.leases.release(
                record.container_id, reason=record.end_reason, at=record.detached_at
            )
        except StoreError as error:
            self._keep(record)
            _log.warning("release waits for the database", error=str(error), **names_of(record))
            return False
        ports.faults("del:released")
        drop_adopted(record)
        ports.journal.remove(record)
        ports.faults("del:forgotten")
        return True

    def _keep(self, record: AttachmentRecord) -> None:
        """Have the release on the disk; a repair that finds it there need not write it again."""
        if self._ports.journal.read(*record.key) != record:
            self._ports.journal.write(record, durable=True)

    def finish(self, record: AttachmentRecord, reason: str, *, database_away: bool) -> bool:
        """Bring to an end what was left half done; as `detach`, and of what stands only what comes
        or leaves is taken away.
        """
        if record.phase is not Phase.ATTACHED:
            return self.detach(record, reason, database_away=database_away)
        if database_away:
            return False
        try:
            self.settle(record)
        except StoreError as error:
            _log.warning("release waits for the database", error=str(error), **names_of(record))
            return False
        return True

    def settle(self, record: AttachmentRecord, wishes: str = "") -> AttachmentRecord:
        """Take away the interfaces that were coming to a running pod or leaving it, and close
        their leases; `wishes`: what the pod then has, if that is what it asks.

        Raises:
            HostError, DelegateError, StoreError: something is left; it stays in the journal.
        """
        ports = self._ports
        ports.builder.remove_pending(record)
        ports.faults("unplug:links")
        for link in record.pending:
            ports.leases.release_interface(
                record.container_id, link.name, reason=record.pending_reason
            )
        ports.faults("unplug:released")
        settled = record.settled(wishes)
        ports.journal.write(settled)
        ports.faults("unplug:recorded")
        return settled

    def undo(self, key: tuple[str, str], *, database_away: bool) -> None:
        """Undo a failed ADD; what cannot be undone now stays in the journal for the repair."""
        record = self._ports.journal.read(*key)
        if record is not None:
            self.quietly(record, EndReason.ROLLBACK, database_away=database_away)

    def quietly(
        self, record: AttachmentRecord, reason: str, *, database_away: bool = False
    ) -> None:
        """As `detach`, when an error of its own would hide a better one."""
        try:
            self.detach(record, reason, database_away=database_away)
        except DanmpyError as error:
            _log.warning("undo is not complete", error=str(error), **names_of(record))


def unrecorded(request: CniRequest, now: int) -> AttachmentRecord:
    """A stand-in for an attachment that the journal does not know: only leases may be left."""
    return AttachmentRecord(
        container_id=request.container_id,
        ifname=request.ifname,
        phase=Phase.DETACHED,
        netns="",
        namespace=request.pod_namespace,
        pod=request.pod_name,
        end_reason=EndReason.RELEASED,
        detached_at=now,
    )


def names_of(record: AttachmentRecord) -> dict[str, str]:
    """Whom a log line is about."""
    return {
        "pod": f"{record.namespace}/{record.pod}",
        "container": record.container_id,
        "interface": record.ifname,
    }
