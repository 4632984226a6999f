"""Interfaces of running pods: made and taken away when the pod asks for others than it has.

The journal says what comes or leaves before anything is touched, so whatever ends the daemon leaves
the pod with what it had before or with what it asks for now. What leaves goes first: an interface
that is asked otherwise than it was made keeps its name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from danmpy.api.cni import CniResult, parse_result, render_result
from danmpy.api.dialects.danm import parse_claim
from danmpy.api.dialects.reading import read_pod
from danmpy.api.profile_rules import quotas_for
from danmpy.api.specs import InterfaceAsk, NetworkKey, NetworkSpec, PodAsks, PodSpec, QuotaSpec
from danmpy.attach.builder import Blueprint, identity_of
from danmpy.attach.deciding.decider import Decider
from danmpy.attach.deciding.resolve import DEFAULT_PREFIX, LEGACY_NAMING
from danmpy.attach.journal import JOURNAL_VERSION, AttachmentRecord, LinkRecord, Phase
from danmpy.attach.plan import addresses_by_interface, extend_result, plan_result
from danmpy.attach.plugging.plan import (
    Change,
    beside,
    candidates_for,
    compare,
    says_primary,
    without_links,
)
from danmpy.attach.plugging.wishes import HALFWAY, wishes_of
from danmpy.attach.ports import AttachPorts, AttachSettings
from danmpy.attach.sandboxes import enter_sandbox
from danmpy.attach.undo import Undo, names_of
from danmpy.attach.values import InterfaceSpec, PodIdentity
from danmpy.errors import DanmpyError, IntentError, NotReadyError
from danmpy.intent.values import Intent
from danmpy.ipam.leases import EndReason, Lease

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leasing:
    """How addresses are leased for interfaces, and MACs noted that were not known by then."""

    bind: Callable[[Blueprint, Sequence[InterfaceSpec], PodIdentity], tuple[Lease, ...]]
    note_macs: Callable[[CniResult, Sequence[Lease], str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wished:
    """A pod that runs, and what it wants by the wishes of now.

    `only_compare`: nothing is changed, and what it asks now counts as what it has.
    """

    record: AttachmentRecord
    pod: PodSpec
    intent: Intent
    only_compare: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One pod's change on its way."""

    record: AttachmentRecord
    change: Change
    specs: tuple[InterfaceSpec, ...]
    identity: PodIdentity
    wishes: str


class Plugging:
    """Changes the interfaces of running pods. The caller holds the container's lock."""

    def __init__(
        self, settings: AttachSettings, ports: AttachPorts, decider: Decider, leasing: Leasing
    ) -> None:
        self._settings = settings
        self._ports = ports
        self._decider = decider
        self._leasing = leasing
        self._undo = Undo(ports)

    def change(self, wished: Wished) -> Change:
        """What was changed; nothing when the pod has what it asks.

        Raises:
            IntentError: what the pod asks is wrong, or no running pod can have it; nothing changed.
            NotReadyError: something that it needs is not there yet; nothing changed.
            DanmpyError: what had come was taken away again; what had left stays away.
        """
        record = self._ports.journal.read(*wished.record.key)
        if record is None or record.phase is not Phase.ATTACHED:
            return Change()
        if record.pending:
            record = self._undo.settle(record)
        wishes = wishes_of(wished.pod)
        if wished.only_compare:
            self._ports.journal.write(replace(record, wishes=wishes))
            return self._compare(wished, record)[1]
        self._ports.view.require_ready()
        asks, change = self._compare(wished, record)
        if not change:
            self._ports.journal.write(replace(record, wishes=wishes))
            return change
        job = self._decide(wished, record, asks, change)
        _log.info("interfaces change", change=change.words, **names_of(record))
        record = self._unplug(job)
        if job.specs:
            self._plug(replace(job, record=record))
        return change

    # Deciding

    def _compare(self, wished: Wished, record: AttachmentRecord) -> tuple[PodAsks, Change]:
        pod = wished.pod
        asks = read_pod(pod, self._settings.rules, has_primary=record.has_primary)
        networks = wished.intent.networks

        def candidates(ask: InterfaceAsk) -> Iterable[str]:
            network = _first_known(ask.candidates, networks)
            prefix = network.container_prefix if network else ""
            bare = bool(prefix) and self._settings.naming_scheme == LEGACY_NAMING
            return candidates_for(asks, ask, prefix or DEFAULT_PREFIX, bare=bare)

        change = compare(
            asks,
            record,
            candidates,
            foreign=_names_in(record),
            says_primary=says_primary(pod, asks),
        )
        return asks, change

    def _decide(
        self, wished: Wished, record: AttachmentRecord, asks: PodAsks, change: Change
    ) -> _Job:
        """All that can be wrong shows here, before anything is touched."""
        pod = wished.pod
        quotas = quotas_for(wished.intent.tenant_configs, pod.namespace)
        _require_allowed(len(asks.interfaces), quotas, pod)
        identity = replace(identity_of(record), claim=parse_claim(pod), quota=quotas.addresses)
        coming = tuple(ask for ask in change.asks if ask.name in change.coming)
        specs: tuple[InterfaceSpec, ...] = ()
        if coming:
            # As behind another plugin: the pod has its first interface and its default route.
            part = replace(asks, interfaces=coming, has_primary=False)
            specs = self._decider.decide_interfaces(
                (pod, part, identity),
                wished.intent,
                replace(quotas, interfaces_per_pod=None),
                change.leaving,
            )
            staying = (link for link in record.links if link.name not in change.leaving)
            specs = beside(specs, staying, f"Pod/{pod.namespace}/{pod.name}")
            self._ports.builder.require_possible(specs)
        return _Job(
            record=record,
            change=change,
            specs=specs,
            identity=identity,
            wishes=wishes_of(pod),
        )

    # Doing

    def _unplug(self, job: _Job) -> AttachmentRecord:
        record, leaving = job.record, frozenset(job.change.leaving)
        if not leaving:
            return record
        gone = tuple(link for link in record.links if link.name in leaving)
        record = replace(
            record,
            links=tuple(link for link in record.links if link.name not in leaving),
            leases=tuple(item for item in record.leases if item.interface not in leaving),
            result=_without(record.result, gone),
            answer=_without(record.answer, gone) if record.answer else {},
            pending=gone,
            pending_reason=EndReason.UNPLUGGED,
            wishes=HALFWAY,
        )
        self._ports.journal.write(record)
        self._ports.faults("unplug:journaled")
        return self._undo.settle(record, "" if job.specs else job.wishes)

    def _plug(self, job: _Job) -> None:
        ports = self._ports
        plan = ports.builder.plan(job.specs, job.identity)
        record = replace(job.record, pending=plan.links, pending_reason=EndReason.ROLLBACK)
        ports.journal.write(record)
        ports.faults("plug:journaled")
        made: AttachmentRecord | None = None
        try:
            made = self._make(replace(job, record=record), plan)
        finally:
            if made is None:
                self._take_back(record)

    def _make(self, job: _Job, plan: Blueprint) -> AttachmentRecord:
        ports, record, specs, identity = self._ports, job.record, job.specs, job.identity
        leases = self._leasing.bind(plan, specs, identity)
        ports.faults("plug:leased")
        addresses = addresses_by_interface([(item.interface, item.address) for item in leases])

        def note(links: tuple[LinkRecord, ...]) -> None:
            ports.journal.write(replace(record, pending=links))

        links = ports.builder.configure(plan, specs, addresses, identity)
        note(links)
        built = ports.builder.build(replace(plan, links=links), specs, identity, note)
        ports.faults("plug:built")
        own = plan_result(built.made, identity.netns)
        self._leasing.note_macs(own, leases, identity.container_id)
        made = record.settled(
            job.wishes,
            links=(*record.links, *built.links),
            leases=(*record.leases, *leases),
            result=render_result(extend_result(parse_result(record.result), own), JOURNAL_VERSION),
            # The runtime was told of less, and goes by that in CHECK.
            answer=record.told,
        )
        ports.journal.write(made)
        ports.faults("plug:recorded")
        return made

    def _take_back(self, record: AttachmentRecord) -> None:
        now = self._ports.journal.read(*record.key)
        if now is None or not now.pending:
            return
        try:
            self._undo.settle(now)
        except DanmpyError as error:
            # It stays in the journal, and the repair goes on with it.
            _log.warning("what came is not gone yet", error=str(error), **names_of(record))


def _first_known(
    keys: Sequence[NetworkKey], networks: Mapping[NetworkKey, NetworkSpec]
) -> NetworkSpec | None:
    return next((networks[key] for key in keys if key in networks), None)


def _names_in(record: AttachmentRecord) -> Collection[str]:
    """The interfaces that others made in the pod's namespace.

    Raises:
        NotReadyError: the namespace is gone.
    """
    with enter_sandbox(record) as pod:
        if pod is None:
            raise NotReadyError(
                "its network namespace is gone",
                hint="the runtime makes a new sandbox, or ends the pod",
                subject=f"Pod/{record.namespace}/{record.pod}",
            )
        return pod.read_links().keys() - {link.name for link in record.links}


def _require_allowed(asked: int, quotas: QuotaSpec, pod: PodSpec) -> None:
    limit = quotas.interfaces_per_pod
    if limit is not None and asked > limit:
        raise IntentError(
            f"it asks for {asked} interfaces, and a pod of namespace {pod.namespace} may have "
            f"{limit} (quotas.interfaces_per_pod)",
            hint="ask for fewer, or raise the quota in the TenantConfigs of the namespace",
            subject=f"Pod/{pod.namespace}/{pod.name}",
        )


def _without(document: dict[str, Any], gone: Sequence[LinkRecord]) -> dict[str, Any]:
    return render_result(without_links(parse_result(document), gone), JOURNAL_VERSION)
