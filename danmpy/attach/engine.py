"""The CNI verbs on this node: ADD, DEL, CHECK, GC and STATUS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import structlog

from danmpy.api.annotations import parse_interfaces
from danmpy.api.cni import (
    CODE_CONFIG,
    Attachment,
    CniRequest,
    CniResult,
    parse_result,
    render_result,
)
from danmpy.api.specs import AddressMode, InterfaceAsk, NetworkKey, NetworkSpec, PodSpec
from danmpy.attach.builder import PodBuilder
from danmpy.attach.delegates import Delegates
from danmpy.attach.journal import AttachmentRecord, Journal, LinkRecord, Phase
from danmpy.attach.locks import ContainerLocks
from danmpy.attach.plan import addresses_by_interface, plan_result
from danmpy.attach.resolve import ResolveContext, resolve
from danmpy.attach.values import Backend, InterfaceSpec, PodIdentity
from danmpy.clock import Clock
from danmpy.errors import (
    DanmpyError,
    HostError,
    IntentError,
    NotReadyError,
    StoreError,
    UnavailableError,
    WireError,
)
from danmpy.faults import FaultPoint, no_faults
from danmpy.ipam.leases import EndReason, Lease, LeaseOwner, LeaseRequest
from danmpy.kernel.netns import netns_id_of

_log = structlog.get_logger(__name__)

JOURNAL_VERSION = "1.1.0"
"""The CNI version in which results are kept: the newest holds every field."""

CODE_UNKNOWN_CONTAINER = 3
"""CNI spec 1.1.0, error codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkView:
    """The networks as this node has them: resolved ones, and why others cannot be used."""

    networks: Mapping[NetworkKey, NetworkSpec] = field(default_factory=dict)
    refused: Mapping[NetworkKey, str] = field(default_factory=dict)


class NodeView(Protocol):
    """What the engine asks of intent and netwatcher."""

    def find_pod(self, namespace: str, name: str) -> PodSpec | None:
        """The pod; read live once when it is not known yet."""

    def read_networks(self, wanted: Sequence[NetworkKey]) -> NetworkView:
        """All networks, those in `wanted` as the newest manifests say; more is not promised."""

    def ready_device(self, network: NetworkKey) -> str:
        """The device that interfaces on `network` are made on.

        Raises:
            NotReadyError: there is none now; the message says why.
        """


class Leases(Protocol):
    """What the engine asks of the address database."""

    def bind(self, owner: LeaseOwner, requests: Sequence[LeaseRequest]) -> tuple[Lease, ...]:
        """Lease everything, or nothing."""

    def release(
        self, container_id: str, *, reason: str = ..., at: int | None = None
    ) -> tuple[Lease, ...]:
        """Close what the container holds."""

    def held_by(self, container_id: str) -> tuple[Lease, ...]:
        """What the container holds."""

    def record_mac(self, container_id: str, interface: str, mac: str) -> None:
        """Note a MAC that was not known when the address was leased."""

    def ping(self) -> None:
        """Raise StoreError when the database cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachSettings:
    """What the engine needs of the settings."""

    node_name: str
    naming_scheme: str = ""
    conf_dir: Path = Path("/etc/cni/net.d")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachPorts:
    """The world that the engine works on."""

    view: NodeView
    leases: Leases
    delegates: Delegates
    builder: PodBuilder
    journal: Journal
    clock: Clock
    faults: FaultPoint = no_faults


class Attacher:
    """One object serves all verbs; safe for many threads."""

    def __init__(self, settings: AttachSettings, ports: AttachPorts) -> None:
        self._settings = settings
        self._ports = ports
        self._locks = ContainerLocks()

    # ADD

    def add(self, request: CniRequest) -> CniResult:
        """Attach every interface that the pod declares, or none.

        Called again for an attachment that stands, it answers as the first time; one that was left
        half done is undone first.

        Raises:
            DanmpyError: nothing is left of the attempt, or what is left is in the journal and the
                next ADD, DEL or start of the daemon removes it.
        """
        with self._locks.container(request.container_id):
            known = self._ports.journal.read(request.container_id, request.ifname)
            if known is not None:
                if known.phase is Phase.ATTACHED and self._stands(known, request.netns):
                    return parse_result(known.result)
                # Its leases stay: `bind` answers with the same ones for the same container.
                self._ports.builder.remove(known)
            return self._attach(request)

    def _stands(self, record: AttachmentRecord, netns: str) -> bool:
        return record.netns == netns and not self._ports.builder.find_differences(record)

    def _attach(self, request: CniRequest) -> CniResult:
        pod = self._find_pod(request)
        identity = PodIdentity(
            namespace=pod.namespace,
            pod=pod.name,
            uid=request.pod_uid or pod.uid,
            container_id=request.container_id,
            netns=request.netns,
            ifname=request.ifname,
        )
        specs = self.decide(pod, identity)
        devices = {
            spec.name: self._ports.view.ready_device(spec.network.key)
            for spec in specs
            if spec.backend is not Backend.DELEGATE
        }
        links = self._ports.builder.plan(specs, devices, identity)
        record = self._begin(request, identity, links)
        result: CniResult | None = None
        try:
            result = self._make(record, specs, identity)
        finally:
            if result is None:
                self._undo_quietly(record.key)
        return result

    def _find_pod(self, request: CniRequest) -> PodSpec:
        namespace, name = request.pod_namespace, request.pod_name
        pod = self._ports.view.find_pod(namespace, name)
        subject = f"Pod/{namespace}/{name}"
        if pod is None:
            raise NotReadyError(
                "this pod is not known here",
                hint="it is not in the intent (folder or API server) yet, or no longer",
                subject=subject,
            )
        if pod.uid and request.pod_uid and pod.uid != request.pod_uid:
            raise IntentError(
                f"the runtime attaches UID {request.pod_uid}, but the pod now has {pod.uid}",
                hint="a pod of this name was replaced; the runtime must make a new sandbox",
                subject=subject,
            )
        return pod

    def decide(self, pod: PodSpec, identity: PodIdentity) -> tuple[InterfaceSpec, ...]:
        """The interfaces that `pod` gets; touches nothing.

        Raises:
            IntentError: the declaration is wrong, with the entry and the rule.
        """
        asks: tuple[InterfaceAsk, ...] = parse_interfaces(pod)
        view = self._ports.view.read_networks(tuple(ask.network for ask in asks))
        context = ResolveContext(
            container_id=identity.container_id,
            naming_scheme=self._settings.naming_scheme,
            conf_names=self._ports.delegates.conf_names(),
            conf_dir=str(self._settings.conf_dir),
            rejected=view.refused,
        )
        return resolve(pod, asks, view.networks, context)

    def _begin(
        self, request: CniRequest, identity: PodIdentity, links: tuple[LinkRecord, ...]
    ) -> AttachmentRecord:
        namespace = netns_id_of(identity.netns)
        record = AttachmentRecord(
            container_id=identity.container_id,
            ifname=identity.ifname,
            phase=Phase.ADDING,
            netns=identity.netns,
            netns_device=namespace.device,
            netns_inode=namespace.inode,
            namespace=identity.namespace,
            pod=identity.pod,
            pod_uid=identity.uid,
            network_name=request.network_name,
            began_at=self._ports.clock(),
            links=links,
        )
        self._ports.journal.write(record)
        self._ports.faults("add:journaled")
        return record

    def _make(
        self, record: AttachmentRecord, specs: tuple[InterfaceSpec, ...], identity: PodIdentity
    ) -> CniResult:
        builder = self._ports.builder
        leases = self._bind(specs, identity)
        self._ports.faults("add:leased")
        addresses = addresses_by_interface([(item.interface, item.address) for item in leases])
        links = builder.configure(record.links, specs, addresses, identity)
        if any(link.delegate for link in links):
            # A delegate's DEL needs the very configuration that its ADD was called with.
            self._ports.journal.write(record.with_phase(Phase.ADDING, links=links))
        built = builder.build(links, specs, identity)
        self._ports.faults("add:built")
        result = plan_result(built.made, identity.netns)
        self._record_macs(result, specs, leases, identity.container_id)
        rendered = render_result(result, JOURNAL_VERSION)
        self._ports.journal.write(
            record.with_phase(Phase.ATTACHED, links=built.links, result=rendered)
        )
        self._ports.faults("add:recorded")
        return result

    def _bind(self, specs: Sequence[InterfaceSpec], identity: PodIdentity) -> tuple[Lease, ...]:
        requests = [
            LeaseRequest(
                interface=spec.name, network=spec.network, ip=spec.ip, ip6=spec.ip6, mac=spec.mac
            )
            for spec in specs
            if spec.owns_addresses and _wants_lease(spec)
        ]
        if not requests:
            return ()
        owner = LeaseOwner(
            namespace=identity.namespace,
            pod=identity.pod,
            pod_uid=identity.uid,
            container_id=identity.container_id,
            node=self._settings.node_name,
        )
        return self._ports.leases.bind(owner, requests)

    def _record_macs(
        self,
        result: CniResult,
        specs: Sequence[InterfaceSpec],
        leases: Sequence[Lease],
        container_id: str,
    ) -> None:
        """Tell the database the MACs that only the kernel or a delegate knew."""
        leased = {lease.interface for lease in leases}
        unknown = {spec.name for spec in specs if spec.mac is None and spec.name in leased}
        for link in result.interfaces:
            if link.sandbox and link.mac and link.name in unknown:
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
            record = self._ports.journal.read(request.container_id, request.ifname)
            if record is None:
                self._ports.builder.remove_unrecorded(request.netns, request.container_id)
                record = _unrecorded(request)
            self._detach(record, EndReason.RELEASED)

    def _detach(self, record: AttachmentRecord, reason: str) -> None:
        """Remove links, close leases, forget the record, in this order.

        The leases go last but one: an address may be handed out again only when no link has it.
        """
        ports = self._ports
        if record.phase is not Phase.DETACHED:
            record = record.with_phase(Phase.DETACHING, end_reason=reason)
            ports.journal.write(record)
            ports.faults("del:journaled")
            ports.builder.remove(record)
            ports.faults("del:links")
            record = record.with_phase(Phase.DETACHED, detached_at=ports.clock())
        try:
            ports.leases.release(
                record.container_id, reason=record.end_reason, at=record.detached_at
            )
        except StoreError as error:
            ports.journal.write(record, durable=True)
            _log.warning("release waits for the database", error=str(error), **_names(record))
            return
        ports.faults("del:released")
        ports.journal.remove(record)
        ports.faults("del:forgotten")

    def _undo_quietly(self, key: tuple[str, str]) -> None:
        """Undo a failed ADD; what cannot be undone now stays in the journal for `repair`."""
        record = self._ports.journal.read(*key)
        if record is None:
            return
        try:
            self._detach(record, EndReason.ROLLBACK)
        except DanmpyError as error:
            _log.warning("undo is not complete", error=str(error), **_names(record))

    # CHECK, GC, STATUS

    def check(self, request: CniRequest) -> None:
        """Is the attachment still as ADD made it? Reads only.

        Raises:
            NotReadyError, HostError: what is broken, all of it in one message.
            WireError: code 3, no such attachment; code 7, no prevResult.
        """
        record = self._ports.journal.read(request.container_id, request.ifname)
        if record is None or record.phase is not Phase.ATTACHED:
            raise WireError(
                "no attachment of this container is known on this node",
                hint="the runtime must call ADD first",
                subject=f"{request.container_id}/{request.ifname}",
                code=CODE_UNKNOWN_CONTAINER,
            )
        if request.prev_result is None:
            raise WireError(
                "CHECK needs prevResult",
                hint="the runtime must pass the result of ADD (CNI spec, CHECK)",
                subject=f"Pod/{record.namespace}/{record.pod}",
                code=CODE_CONFIG,
            )
        found = (
            *self._ports.builder.find_differences(record),
            *self._lease_differences(record),
            *_result_differences(record, request.prev_result),
        )
        if found:
            raise HostError(
                "; ".join(found),
                hint="delete the pod so that it is attached anew",
                subject=f"Pod/{record.namespace}/{record.pod}",
            )

    def _lease_differences(self, record: AttachmentRecord) -> list[str]:
        held = {
            (lease.interface, str(lease.address))
            for lease in self._ports.leases.held_by(record.container_id)
        }
        return [
            f"the database no longer has the lease of {address} for {link.name}"
            for link in record.links
            if link.config
            for address in link.config.addresses
            if (link.name, address) not in held
        ]

    def collect(self, request: CniRequest) -> None:
        """GC: detach every attachment of this CNI network that the runtime does not call valid.

        An absent list says nothing and cleans nothing; an empty one says that nothing is valid.

        Raises:
            DanmpyError: the first failure, after all others were tried.
        """
        if request.valid_attachments is None:
            _log.info("GC without a list of valid attachments: nothing to do")
            return
        failures: list[DanmpyError] = []
        with self._locks.all():
            for record in self._ports.journal.read_all():
                key = Attachment(container_id=record.container_id, ifname=record.ifname)
                if record.network_name != request.network_name or key in request.valid_attachments:
                    continue
                _log.info("GC detaches", **_names(record))
                try:
                    self._detach(record, EndReason.COLLECTED)
                except DanmpyError as error:
                    failures.append(error)
        if failures:
            raise failures[0]

    def status(self) -> None:
        """Could an ADD be served now?

        Raises:
            UnavailableError: code 50, and why not.
        """
        try:
            self._ports.leases.ping()
        except StoreError as error:
            raise UnavailableError(
                f"pods cannot be attached: {error.message}", hint=error.hint, subject=error.subject
            ) from error

    # Repair

    def repair(self) -> int:
        """Finish what an earlier process left half done; the number of records still waiting.

        Run before the socket is served, and again from time to time for releases that wait for the
        database. An ADD that is under way holds its container's lock and is not disturbed.
        """
        waiting = 0
        for stale in self._ports.journal.read_all():
            if stale.phase is Phase.ATTACHED:
                continue
            with self._locks.container(stale.container_id):
                record = self._ports.journal.read(*stale.key)
                if record is None or record.phase is Phase.ATTACHED:
                    continue
                waiting += not self._repair(record)
        return waiting

    def _repair(self, record: AttachmentRecord) -> bool:
        reason = EndReason.ROLLBACK if record.phase is Phase.ADDING else EndReason.RELEASED
        try:
            self._detach(record, record.end_reason or reason)
        except DanmpyError as error:
            _log.warning("repair is not complete", error=str(error), **_names(record))
            return False
        done = self._ports.journal.read(*record.key) is None
        if done:
            _log.info("repaired", was=str(record.phase), **_names(record))
        return done


def _wants_lease(spec: InterfaceSpec) -> bool:
    wanted = (AddressMode.DYNAMIC, AddressMode.STATIC)
    return spec.ip.mode in wanted or spec.ip6.mode in wanted


def _unrecorded(request: CniRequest) -> AttachmentRecord:
    """A stand-in for an attachment that the journal does not know: only leases may be left."""
    return AttachmentRecord(
        container_id=request.container_id,
        ifname=request.ifname,
        phase=Phase.DETACHING,
        netns="",
        namespace=request.pod_namespace,
        pod=request.pod_name,
    )


def _result_differences(record: AttachmentRecord, previous: CniResult) -> list[str]:
    """Addresses of ours that the runtime's own record does not have."""
    known = {str(ip.address) for ip in previous.ips}
    ours = {str(ip.address) for ip in parse_result(record.result).ips}
    return [f"prevResult lacks address {address}" for address in sorted(ours - known)]


def _names(record: AttachmentRecord) -> dict[str, str]:
    return {
        "pod": f"{record.namespace}/{record.pod}",
        "container": record.container_id,
        "interface": record.ifname,
    }
