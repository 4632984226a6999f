"""The CNI verbs on this node: ADD, DEL, CHECK, GC and STATUS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import structlog

from danmpy.api.cni import Attachment, CniRequest, CniResult, parse_result, render_result
from danmpy.attach.adopting import drop_adopted
from danmpy.attach.builder import Blueprint, Built
from danmpy.attach.checks import find_broken, require_intact
from danmpy.attach.deciding.decider import Decider, Decision, without_lease
from danmpy.attach.delegates.collecting import DelegateGc
from danmpy.attach.delegates.default_network import require_default_network
from danmpy.attach.journal import JOURNAL_VERSION, AttachmentRecord, LinkRecord, Phase
from danmpy.attach.locks import ContainerLocks
from danmpy.attach.plan import (
    addresses_by_interface,
    extend_result,
    plan_result,
    without_defaults,
)
from danmpy.attach.plugging.doing import Leasing, Plugging, Wished
from danmpy.attach.plugging.plan import Change
from danmpy.attach.ports import AttachPorts, AttachSettings
from danmpy.attach.retries import Retries
from danmpy.attach.undo import Undo, names_of, unrecorded
from danmpy.attach.values import InterfaceSpec, PodIdentity
from danmpy.clock import monotonic
from danmpy.errors import (
    ConflictError,
    DanmpyError,
    DelegateError,
    IntentError,
    NotReadyError,
    StoreError,
    UnavailableError,
)
from danmpy.ipam.leases import EndReason, Lease, LeaseRequest
from danmpy.kernel.netns import netns_id_of

_log = structlog.get_logger(__name__)


class Attacher:
    """One object serves all verbs; safe for many threads."""

    def __init__(self, settings: AttachSettings, ports: AttachPorts) -> None:
        self._settings = settings
        self._ports = ports
        self._undo = Undo(ports)
        self._decider = Decider(settings, ports)
        self._locks = ContainerLocks()
        self._plugging = Plugging(
            settings, ports, self._decider, Leasing(bind=self._bind, note_macs=self._record_macs)
        )
        self.delegate_gc = DelegateGc(ports, self._locks)
        self._retries = Retries()

    # ADD

    def add(self, request: CniRequest) -> CniResult:
        """Attach every interface that the pod declares, or none.

        The answer is for the runtime: with what the plugins before us in the chain have made.
        Called again for an attachment that stands, it answers as the first time. One that somebody
        broke is made again with the same addresses; one that was left half done is undone first.

        Raises:
            DanmpyError: nothing is left of the attempt, or what is left is in the journal and the
                next ADD, DEL or start of the daemon removes it.
        """
        with self._locks.container(request.container_id):
            self._require_one_name(request)
            known = self._ports.journal.read(request.container_id, request.ifname)
            if known is not None:
                if known.phase is Phase.ATTACHED and known.pending:
                    known = self._undo.settle(known)
                if known.phase is not Phase.ATTACHED:
                    self._start_anew(known)
                elif self._stands(known, request.netns):
                    return answer_of(known, request)
                else:
                    self._ports.view.require_ready()
                    return self._attach_again(known, request)
            self._ports.view.require_ready()
            return self._attach(request)

    def _attach_again(self, known: AttachmentRecord, request: CniRequest) -> CniResult:
        """Make a broken attachment anew. Its leases stay: `bind` gives a container what it already
        has, so the pod keeps its addresses, and the audit sees no end that there was not.
        """
        journal = self._ports.journal
        record = known.with_phase(Phase.ADDING)
        journal.write(record)
        self._ports.builder.remove(record)
        drop_adopted(record)
        try:
            answer = self._attach(request)
        finally:
            if journal.read(*known.key) == record:  # refused before anything new was begun
                self._undo.undo(known.key, database_away=False)
        self._end_former(known)
        return answer

    def _end_former(self, known: AttachmentRecord) -> None:
        """End the leases of interfaces that the pod had and, made anew, no longer has."""
        record = self._ports.journal.read(*known.key)
        names = {link.name for link in record.links} if record else set()
        for name in sorted({lease.interface for lease in known.leases} - names):
            try:
                self._ports.leases.release_interface(
                    known.container_id, name, reason=EndReason.UNPLUGGED
                )
            except StoreError as error:
                # The pod stands, and its DEL ends whatever the container has.
                _log.warning("a lease outlives its interface", error=str(error), **names_of(known))

    def _start_anew(self, known: AttachmentRecord) -> None:
        if not self._undo.detach(known, EndReason.ROLLBACK):
            raise NotReadyError(
                "the release of its earlier attachment waits for the database",
                hint="check the database URL and that the database is running",
                subject=f"Pod/{known.namespace}/{known.pod}",
            )

    def _require_one_name(self, request: CniRequest) -> None:
        """One call attaches all interfaces of a pod; a second one under another CNI_IFNAME would
        take the first one's interfaces for its own leftovers.
        """
        for other in self._ports.journal.read_container(request.container_id):
            if other.ifname != request.ifname:
                raise ConflictError(
                    f"this sandbox is already attached, with CNI_IFNAME {other.ifname}",
                    hint="danmpy makes all interfaces of a pod in one ADD; call DEL first",
                    subject=f"{request.container_id}/{request.ifname}",
                )

    def _stands(self, record: AttachmentRecord, netns: str) -> bool:
        return record.netns == netns and not find_broken(self._ports, record)

    def _attach(self, request: CniRequest) -> CniResult:
        decision = self._decider.decide(request)
        plan = self._ports.builder.plan(decision.specs, decision.identity)
        with self._older_retired(decision.identity):
            record = self._begin(request, decision, plan)
            made: AttachmentRecord | None = None
            away = False
            try:
                made = self._make(record, plan, decision)
            except StoreError:
                away = True
                raise
            finally:
                if made is None:
                    self._undo.undo(record.key, database_away=away)
        return answer_of(made, request)

    @contextmanager
    def _older_retired(self, identity: PodIdentity) -> Iterator[None]:
        """Without the links of the pod's older sandboxes, whose addresses pass on to this one.

        Runtimes end a sandbox before they make the next, but after a crash its links may still be
        there, and an address must not be on two links. The older sandbox's own DEL still succeeds.
        """
        with ExitStack() as held:
            retired = [
                self._retire(older)
                for older in self._older_than(identity)
                if held.enter_context(self._locks.try_container(older.container_id))
            ]
            yield
            for record in filter(None, retired):
                self._undo.quietly(record, EndReason.REBOUND)

    def _older_than(self, identity: PodIdentity) -> list[AttachmentRecord]:
        if not identity.uid:
            return []
        return [
            record
            for record in self._ports.journal.read_all()
            if (record.pod_uid, record.namespace, record.pod)
            == (identity.uid, identity.namespace, identity.pod)
            and record.container_id != identity.container_id
            and record.phase is Phase.ATTACHED
        ]

    def _retire(self, older: AttachmentRecord) -> AttachmentRecord | None:
        """Remove the links of `older`, and leave its leases to be taken over."""
        record = self._ports.journal.read(*older.key)
        if record is None or record.phase is not Phase.ATTACHED:
            return None
        _log.info("older sandbox gives way", **names_of(record))
        record = record.leaving(EndReason.REBOUND)
        try:
            self._ports.journal.write(record)
            self._ports.builder.remove(record)
        except DanmpyError as error:
            _log.warning("older sandbox is not gone yet", error=str(error), **names_of(record))
        return record

    def _begin(self, request: CniRequest, decision: Decision, plan: Blueprint) -> AttachmentRecord:
        identity = decision.identity
        namespace = netns_id_of(identity.netns)
        previous = None if decision.has_primary else request.prev_result
        record = AttachmentRecord(
            container_id=identity.container_id,
            ifname=identity.ifname,
            phase=Phase.ADDING,
            netns=identity.netns,
            netns_device=namespace.device,
            netns_inode=namespace.inode,
            netns_cookie=plan.cookie,
            namespace=identity.namespace,
            pod=identity.pod,
            pod_uid=identity.uid,
            network_name=request.network_name,
            began_at=self._ports.clock(),
            links=plan.links,
            dialect=str(decision.dialect),
            wishes=decision.wishes,
            previous=render_result(previous, JOURNAL_VERSION) if previous else {},
        )
        self._ports.journal.write(record)
        self._ports.faults("add:journaled")
        return record

    def _make(
        self, record: AttachmentRecord, plan: Blueprint, decision: Decision
    ) -> AttachmentRecord:
        ports, specs, identity = self._ports, decision.specs, decision.identity
        leases = self._bind(plan, specs, identity)
        ports.faults("add:leased")
        addresses = addresses_by_interface([(item.interface, item.address) for item in leases])
        links = ports.builder.configure(plan, specs, addresses, identity)

        def note(links: tuple[LinkRecord, ...]) -> None:
            ports.journal.write(record.with_phase(Phase.ADDING, links=links))

        # Undoing needs the rules that outlive their link, and the very configuration that a
        # delegate's ADD was called with.
        if any(link.delegate or (link.config and link.config.rules) for link in links):
            note(links)
        built = ports.builder.build(replace(plan, links=links), specs, identity, note)
        ports.faults("add:built")
        result = plan_result(built.made, identity.netns, identity.ifname)
        self._record_macs(result, leases, identity.container_id)
        made = record.with_phase(
            Phase.ATTACHED,
            links=built.links,
            leases=leases,
            result=render_result(result, JOURNAL_VERSION),
            answer=_answer(built, decision),
            defaults_taken=built.defaults_taken,
        )
        ports.journal.write(made)
        ports.faults("add:recorded")
        return made

    def _bind(
        self, plan: Blueprint, specs: Sequence[InterfaceSpec], identity: PodIdentity
    ) -> tuple[Lease, ...]:
        requests = [
            LeaseRequest(
                interface=spec.name,
                network=spec.network,
                ip=spec.ip,
                ip6=spec.ip6,
                mac=spec.mac or plan.known_mac(spec.name),
                claim=spec.claim,
            )
            for spec in specs
            if spec.is_leased
        ]
        self._ports.leases.require_open(without_lease(specs))
        if not requests:
            return ()
        return self._ports.leases.bind(identity.owner(self._settings.node_name), requests)

    def _record_macs(self, result: CniResult, leases: Sequence[Lease], container_id: str) -> None:
        """Tell the database the MACs that only the kernel or a delegate knew."""
        leased = {lease.interface: (lease.mac or "").lower() for lease in leases}
        for link in result.interfaces:
            if link.sandbox and link.mac and leased.get(link.name, link.mac) != link.mac:
                self._ports.leases.record_mac(container_id, link.name, link.mac)

    # DEL

    def delete(self, request: CniRequest) -> None:
        """Detach everything of one attachment; nothing there is a success.

        With the database away the links are removed and the release is kept in the journal, from
        which `repair` replays it with its true time.

        Raises:
            HostError, DelegateError: something is left that a later DEL can remove.
        """
        with self._locks.container(request.container_id):
            journal = self._ports.journal
            record = journal.read(request.container_id, request.ifname)
            if record is not None:
                self._undo.detach(record, EndReason.RELEASED)
            elif not journal.read_container(request.container_id):
                # Known under another CNI_IFNAME, it would lose what that one was given.
                self._ports.builder.remove_unrecorded(request.netns, request.container_id)
                self._undo.release(unrecorded(request, self._ports.clock()))

    def expire(self, record: AttachmentRecord) -> None:
        """Detach what no runtime will ask to be detached; not if it has changed meanwhile.

        Raises:
            DanmpyError: as `delete`.
        """
        with self._locks.container(record.container_id):
            now = self._ports.journal.read(*record.key)
            if now is None or now.phase is not Phase.ATTACHED or now.began_at != record.began_at:
                return
            self._undo.detach(now, EndReason.COLLECTED)

    # Running pods

    def change(self, wished: Wished) -> Change | None:
        """Give a running pod the interfaces that it asks for now (`plugging`); None while something
        else is under way for its container.

        Raises:
            DanmpyError: nothing was changed, or only a part; the same call goes on with the rest.
        """
        with self._locks.try_container(wished.record.container_id) as free:
            return self._plugging.change(wished) if free else None

    def examine(self, record: AttachmentRecord) -> tuple[str, ...] | None:
        """What of `record` is no longer as it was made; None when that cannot be said just now.

        Raises:
            DanmpyError: the kernel or the database cannot be asked.
        """
        with self._locks.try_container(record.container_id) as free:
            now = self._ports.journal.read(*record.key) if free else None
            if now is None or now.phase is not Phase.ATTACHED or now.pending:
                return None
            return find_broken(self._ports, now)

    # CHECK, GC, STATUS

    def check(self, request: CniRequest) -> None:
        """Is the attachment still as ADD made it? Reads only.

        Raises:
            HostError: what is broken, all of it in one message.
            StoreError: the database cannot be asked.
            WireError: code 3, no such attachment; code 7, no prevResult.
        """
        with self._locks.container(request.container_id):
            require_intact(self._ports, request)

    def collect(self, request: CniRequest) -> None:
        """GC: detach every attachment of this CNI network that the runtime does not call valid.

        An absent list says nothing and cleans nothing; an empty one says that nothing is valid.
        Delegates are asked to do the same for their own configurations.

        Raises:
            DanmpyError: the first failure, after all others were tried.
        """
        if request.valid_attachments is None:
            _log.info("GC without a list of valid attachments: nothing to do")
            return
        failures: list[DanmpyError] = []
        away = False
        for record in self._ports.journal.read_all():
            key = Attachment(container_id=record.container_id, ifname=record.ifname)
            if record.network_name != request.network_name or key in request.valid_attachments:
                continue
            try:
                away = not self._collect(record, database_away=away) or away
            except DanmpyError as error:
                failures.append(error)
        failures += self.delegate_gc.collect_now()
        if failures:
            raise failures[0]

    def _collect(self, record: AttachmentRecord, *, database_away: bool) -> bool:
        """Detach `record` unless something is under way for its container: a runtime that calls GC
        beside ADD and DEL must not be waited for by all the others. As `Undo.detach`."""
        with self._locks.try_container(record.container_id) as free:
            now = self._ports.journal.read(*record.key) if free else None
            if now is None or now.began_at != record.began_at:
                return True
            _log.info("GC detaches", **names_of(now))
            return self._undo.detach(now, EndReason.COLLECTED, database_away=database_away)

    def status(self) -> None:
        """Could an ADD be served now?

        Of the delegates only the default network's are asked: runtimes ask every five seconds and
        take the whole node out of service for a no, which no other network must bring about.

        Raises:
            UnavailableError: code 50, and why not.
        """
        try:
            self._ports.view.require_ready()
            self._ports.leases.ping()
            require_default_network(self._settings.rules, self._ports.delegates)
        except (NotReadyError, StoreError, IntentError, DelegateError) as error:
            raise UnavailableError(
                f"pods cannot be attached: {error.message}", hint=error.hint, subject=error.subject
            ) from error

    # Repair

    def repair(self) -> int:
        """Finish what an earlier process left half done; the number of records still waiting.

        Run when the daemon starts, and again from time to time: for releases that wait for the
        database, which is waited for once and not once a record, and ever more rarely for what
        keeps failing. An ADD that is under way holds its container's lock and is not disturbed.
        What still has links comes first, then the releases in the order in which the links went.
        """
        waiting = 0
        away = False
        records = sorted(
            self._ports.journal.read_all(), key=lambda each: (each.detached_at, each.began_at)
        )
        self._retries.keep({record.key for record in records})
        for stale in records:
            if stale.phase is Phase.ATTACHED and not stale.pending:
                continue
            with self._locks.try_container(stale.container_id) as free:
                record = self._ports.journal.read(*stale.key) if free else None
                if record is None or (record.phase is Phase.ATTACHED and not record.pending):
                    continue
                if not self._retries.is_due(record.key, monotonic()):
                    waiting += 1
                    continue
                try:
                    # The reason is for a half done ADD: whatever was let go of has one already.
                    done = self._undo.finish(record, EndReason.ROLLBACK, database_away=away)
                except DanmpyError as error:
                    _log.warning("repair is not complete", error=str(error), **names_of(record))
                    self._retries.failed(record.key, monotonic())
                    waiting += 1
                    continue
                self._retries.forget(record.key)
                if done:
                    _log.info("repaired", was=str(record.phase), **names_of(record))
                else:
                    away = True
                    waiting += 1
        return waiting


def answer_of(record: AttachmentRecord, request: CniRequest) -> CniResult:
    """What an ADD of `record` is answered: what plugins before us in the chain made, as it is now,
    and what of ours the runtime is told.
    """
    previous = request.prev_result
    if previous is not None:
        previous = without_defaults(previous, record.defaults_taken)
    return extend_result(previous, parse_result(record.told))


def _answer(built: Built, decision: Decision) -> dict[str, Any]:
    """What the runtime is told when that is not all; empty when it is."""
    if not decision.primary_only:
        return {}
    identity = decision.identity
    primary = [item for item in built.made if item.spec.name == identity.ifname]
    return render_result(plan_result(primary, identity.netns, identity.ifname), JOURNAL_VERSION)
