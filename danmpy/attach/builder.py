"""Making the interfaces of one pod, and taking them away again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import structlog

from danmpy.api.cni import CniInterface, CniResult
from danmpy.api.specs import AddressMode, NetworkKind
from danmpy.attach.delegates.calling import Delegates
from danmpy.attach.delegates.confs import DelegateConf
from danmpy.attach.delegates.guarding import link_names, require_admitted, require_not_ours
from danmpy.attach.devices.assigning import resource_of
from danmpy.attach.devices.info import DeviceInfoFiles
from danmpy.attach.journal import AttachmentRecord, LinkRecord
from danmpy.attach.plan import (
    MadeInterface,
    alias_of,
    differences,
    lost_routes,
    plan_config,
    plan_link,
    stand_ins,
)
from danmpy.attach.sandboxes import enter_sandbox, is_there
from danmpy.attach.takeover import plan_takeover
from danmpy.attach.values import Backend, InterfaceSpec, IPInterface, PodIdentity
from danmpy.errors import (
    BugError,
    ConflictError,
    DanmpyError,
    IntentError,
    NotReadyError,
    WireError,
)
from danmpy.faults import FaultPoint, no_faults
from danmpy.kernel.netns import read_netns_id, require_other_than_home
from danmpy.kernel.pcidevices import raise_link
from danmpy.kernel.podlinks import HostLinkFacts, PodLink, PodLinkConfig
from danmpy.kernel.podnet import PodNet, enter_pod, read_host_links, remove_host_links

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """What will be made: records for the journal, where, and what is known of the parents.

    `cookie` is the namespace's (0: this kernel has none). `confs` are the configurations of those
    delegates that choose the addresses themselves, by interface name.
    """

    links: tuple[LinkRecord, ...]
    parents: Mapping[str, HostLinkFacts]
    cookie: int = 0
    confs: Mapping[str, DelegateConf] = field(default_factory=dict)

    def known_mac(self, name: str) -> str | None:
        """The MAC that the interface will have, where that is certain before it is made."""
        link = next((record.link for record in self.links if record.name == name), None)
        if link is None:
            return None
        # An ipvlan link shares its parent's (kernel: Documentation/networking/ipvlan.rst).
        return self.parents[link.parent].mac if link.kind == Backend.IPVLAN else link.mac


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a finished build leaves: the records for the journal, the facts for the answer, and the
    families whose default routes were taken from who had them.
    """

    links: tuple[LinkRecord, ...]
    made: tuple[MadeInterface, ...]
    defaults_taken: tuple[int, ...] = ()


Note = Callable[[tuple[LinkRecord, ...]], None]
"""Told after each delegate's ADD what the records are now."""

_Job = tuple[LinkRecord, InterfaceSpec]


class PodBuilder:
    """Applies decided interfaces to a pod's namespace; every step can be undone from its record."""

    def __init__(
        self,
        delegates: Delegates,
        faults: FaultPoint = no_faults,
        device_info: DeviceInfoFiles | None = None,
    ) -> None:
        self._delegates = delegates
        self._faults = faults
        self._device_info = device_info or DeviceInfoFiles()

    def plan(self, specs: Sequence[InterfaceSpec], identity: PodIdentity) -> Blueprint:
        """What will be made, for the journal.

        Leftovers of this very sandbox under the wanted names are removed, nothing else is touched.

        Raises:
            ConflictError: the pod has an interface of a wanted name that is not ours; an MTU does
                not fit the parent.
            IntentError: a delegate's configuration is wrong, or cannot do what is asked.
            NotReadyError: a parent is not there, or a delegate's configuration or plugin.
            WireError: the namespace is gone, or is the node's own.
        """
        require_other_than_home(identity.netns)
        confs = self._judge_delegates(specs)
        links = [plan_link(spec, spec.device, identity) for spec in specs]
        names = {link.parent for link in links if link}
        ends = {link.host_name for link in links if link} - {""}
        hosts = read_host_links(names | ends)
        records = tuple(
            LinkRecord(
                name=spec.name,
                network=str(spec.network.key),
                backend=spec.network.backend,
                without=_declined(spec),
                link=_fitted(link, spec, hosts) if link else None,
                asked=spec.asked,
                infiniband_guid=spec.plugin.infiniband_guid,
                device_id=spec.device_id,
                wish=spec.wish,
                resource=resource_of(spec.network) if spec.device_id else "",
                claimed=spec.claimed,
            )
            for spec, link in zip(specs, links, strict=True)
        )
        with enter_pod(identity.netns) as pod:
            _make_room(pod, {spec.name for spec in specs}, alias_of(identity.container_id))
            cookie = pod.cookie
        # Their names come from this sandbox's id: left behind when the pod renamed its own end.
        remove_host_links(sorted(ends & hosts.keys()))
        parents = {name: hosts[name] for name in names}
        return Blueprint(links=records, parents=parents, cookie=cookie, confs=confs)

    def require_possible(self, specs: Sequence[InterfaceSpec]) -> None:
        """Could these be made, as far as that shows before anything is touched?

        Raises:
            IntentError, NotReadyError: as `plan`.
        """
        self._judge_delegates(specs)

    def _judge_delegates(self, specs: Sequence[InterfaceSpec]) -> dict[str, DelegateConf]:
        """The configurations that no lease changes. The others are tried with stand-ins, so that
        whatever is wrong with one shows before any address is leased.
        """
        confs: dict[str, DelegateConf] = {}
        named: list[tuple[InterfaceSpec, set[str]]] = []
        for spec in specs:
            if spec.backend is Backend.DELEGATE:
                conf = self._render(spec, stand_ins(spec) if spec.owns_addresses else None)
                require_admitted(spec, conf)
                if spec.network.key.kind is NetworkKind.NAD and spec.network.conf:
                    named.append((spec, link_names(conf.plugins) - {spec.device}))
                if not spec.owns_addresses:
                    confs[spec.name] = conf
        require_not_ours(named)
        return confs

    def _render(
        self, spec: InterfaceSpec, addresses: tuple[IPInterface, ...] | None
    ) -> DelegateConf:
        try:
            return self._delegates.render(
                spec.network,
                addresses=addresses,
                mac=spec.mac,
                ask=spec.plugin,
                device_id=spec.device_id,
                device=spec.device,
                runtime=spec.runtime,
                device_info_file=spec.device_info_file,
            )
        except (IntentError, NotReadyError) as error:
            message = f"interface {spec.name}: {error.message}"
            raise type(error)(message, hint=error.hint, subject=error.subject) from error

    def configure(
        self,
        plan: Blueprint,
        specs: Sequence[InterfaceSpec],
        addresses: Mapping[str, tuple[IPInterface, ...]],
        identity: PodIdentity,
    ) -> tuple[LinkRecord, ...]:
        """The records of `plan` with the settings that go with the leased addresses."""
        return tuple(
            self._configure(
                link, spec, plan_config(spec, mine, identity.container_id), plan.confs, mine
            )
            for link, spec in zip(plan.links, specs, strict=True)
            for mine in [addresses.get(spec.name, ())]
        )

    def _configure(
        self,
        link: LinkRecord,
        spec: InterfaceSpec,
        config: PodLinkConfig,
        confs: Mapping[str, DelegateConf],
        addresses: tuple[IPInterface, ...],
    ) -> LinkRecord:
        if spec.backend is not Backend.DELEGATE:
            return replace(link, config=config)
        conf = confs.get(spec.name) or self._render(spec, addresses)
        text = conf.to_json()
        file = spec.device_info_file
        told = file if spec.device_id or (file and file in text) else ""
        return replace(link, config=config, delegate=text, device_info_file=told)

    def build(
        self, plan: Blueprint, specs: Sequence[InterfaceSpec], identity: PodIdentity, note: Note
    ) -> Built:
        """Make every interface, in order. The first failure stops; the caller undoes.

        Raises:
            DanmpyError: whatever the kernel or a delegate refused, with the interface's name.
        """
        records = list(plan.links)
        made: list[MadeInterface] = []
        with enter_pod(identity.netns) as pod:
            jobs = zip(plan.links, specs, strict=True)
            for own, group in groupby(jobs, key=lambda job: job[0].link is not None):
                if own:
                    self._build_own(pod, list(group), plan.parents, (records, made))
                    continue
                for link, spec in group:
                    record, result = self._call_delegate(link, identity)
                    records[len(made)] = record
                    note(tuple(records))
                    config = _config_of(record)
                    if record.name in pod.read_links():
                        pod.adopt(record.name, config, settle_ipv6=spec.owns_addresses)
                    made.append(MadeInterface(spec=spec, config=config, delegate=result))
                    self._faults("add:link")
            leader = next((spec for spec in specs if spec.takes_default), None)
            if leader is None:
                return Built(links=tuple(records), made=tuple(made))
            said = next(item.delegate for item in made if item.spec is leader)
            takeover = plan_takeover(pod.read(), leader, said)
            pod.change_routes(takeover.gone, takeover.new)
        links = tuple(takeover.recorded(record) for record in records)
        told = tuple(takeover.told(item) for item in made)
        return Built(links=links, made=told, defaults_taken=takeover.families)

    def _build_own(
        self,
        pod: PodNet,
        jobs: Sequence[_Job],
        parents: Mapping[str, HostLinkFacts],
        done: tuple[list[LinkRecord], list[MadeInterface]],
    ) -> None:
        """Make neighbouring interfaces of ours together: fewer round trips to the kernel."""
        records, made = done
        for record, spec in jobs:
            if spec.device_id and record.link:
                raise_link(record.link.parent)
        links = [record.link for record, _ in jobs if record.link]
        facts = pod.add_links([(link, parents[link.parent].ifindex) for link in links])
        self._faults("add:link")
        configs = {record.name: _config_of(record) for record, _ in jobs}
        pod.configure_all(configs)
        pod.announce({name: config.addresses for name, config in configs.items()})
        for (record, spec), link, seen in zip(jobs, links, facts, strict=True):
            # CHECK goes by what the interface got, also where that was the kernel's choice.
            records[len(made)] = replace(record, link=replace(link, mtu=seen.mtu))
            made.append(
                MadeInterface(
                    spec=spec,
                    config=configs[record.name],
                    facts=seen,
                    host_name=link.host_name,
                )
            )

    def _call_delegate(
        self, link: LinkRecord, identity: PodIdentity
    ) -> tuple[LinkRecord, CniResult]:
        conf = DelegateConf.from_json(link.delegate)
        file = link.device_info_file
        if file:
            self._device_info.prepare(file, link.resource, link.device_id)
        answer = self._delegates.add(conf, identity, link.name)
        info = self._device_info.read(file, link.resource, link.device_id) if file else ""
        result = answer.result
        if not result.interfaces:
            # A delegate without a link in the pod (user space, VFIO) still has its entry.
            ours = CniInterface(name=link.name, sandbox=identity.netns)
            result = replace(result, interfaces=(ours,))
        return replace(link, delegate_result=answer.text, device_info=info), result

    def remove(self, record: AttachmentRecord) -> None:
        """Take away everything that `record` names; what is gone already is a success.

        The namespace is entered only when it is still the one that the record was made for.

        Raises:
            DelegateError, HostError: something is left; the same call may succeed later.
        """
        self._remove(record, record.links, alias_of(record.container_id))

    def remove_pending(self, record: AttachmentRecord) -> None:
        """As `remove`, for those interfaces only that come or leave just now."""
        self._remove(record, record.pending, "")

    def _remove(self, record: AttachmentRecord, links: Sequence[LinkRecord], alias: str) -> None:
        failures: list[DanmpyError] = []
        for link in reversed(links):
            if link.delegate:
                failures += self._remove_delegated(record, link)
        own = [link for link in links if link.link]
        rules = [rule for link in links if link.config for rule in link.config.rules]
        if own or rules:
            with enter_sandbox(record) as pod:
                if pod is not None:
                    pod.remove_rules(rules)
                    names = {link.name for link in own}
                    pod.remove_links(names, alias)
                    self._faults("del:link")
        remove_host_links(
            [link.link.host_name for link in own if link.link and link.link.host_name]
        )
        if failures:
            raise failures[0]

    def _remove_delegated(self, record: AttachmentRecord, link: LinkRecord) -> list[DanmpyError]:
        identity = identity_of(record)
        if not is_there(record):
            identity = replace(identity, netns="")
        try:
            conf = DelegateConf.from_json(link.delegate)
            self._delegates.delete(conf, identity, link.name, link.delegate_result)
        except DanmpyError as error:
            _log.warning("delegate DEL failed", interface=link.name, error=str(error))
            return [error]
        if link.device_info_file:
            self._device_info.remove(link.device_info_file)
        return []

    def remove_unrecorded(self, netns: str, container_id: str) -> None:
        """Take away links that carry the mark of `container_id`, when no record is left."""
        if not netns or read_netns_id(netns) is None:
            return
        try:
            with enter_pod(netns) as pod:
                pod.remove_links((), alias_of(container_id))
        except WireError as error:
            # Gone meanwhile, or never a namespace: nothing of ours can be in it.
            _log.info("nothing to remove", netns=netns, why=str(error))

    def find_differences(self, record: AttachmentRecord) -> tuple[str, ...]:
        """What of `record` is no longer as it was made; empty when all is well."""
        with enter_sandbox(record) as pod:
            if pod is None:
                return (f"network namespace {record.netns} is gone or is another one",)
            facts = pod.read()
        ends = frozenset(link.link.host_name for link in record.links if link.link) - {""}
        hosts = read_host_links(ends)
        found: list[str] = []
        for link in record.links:
            if link.link and link.config:
                found += differences(link.name, link.link, link.config, facts)
                if link.link.host_name and link.link.host_name not in hosts:
                    found.append(f"the node's end {link.link.host_name} of {link.name} is gone")
            elif link.delegate:
                found += self._delegate_differences(record, link)
                if link.config and link.name in facts.links:
                    found += lost_routes(link.name, link.config, facts)
        return tuple(found)

    def _delegate_differences(self, record: AttachmentRecord, link: LinkRecord) -> list[str]:
        try:
            conf = DelegateConf.from_json(link.delegate)
            self._delegates.check(conf, identity_of(record), link.name, link.delegate_result)
        except DanmpyError as error:
            return [f"interface {link.name}: {error.message}"]
        return []


def identity_of(record: AttachmentRecord) -> PodIdentity:
    """Who `record` is about."""
    return PodIdentity(
        namespace=record.namespace,
        pod=record.pod,
        uid=record.pod_uid,
        container_id=record.container_id,
        netns=record.netns,
        ifname=record.ifname,
    )


def _config_of(record: LinkRecord) -> PodLinkConfig:
    if record.config is None:
        raise BugError("nothing is planned", hint="`configure` comes first", subject=record.name)
    return record.config


def _declined(spec: InterfaceSpec) -> tuple[int, ...]:
    asks = ((4, spec.ip), (6, spec.ip6))
    return tuple(family for family, ask in asks if ask.mode is AddressMode.NONE)


def _fitted(link: PodLink, spec: InterfaceSpec, hosts: Mapping[str, HostLinkFacts]) -> PodLink:
    """`link` once its parent is known to be there and to carry its MTU."""
    parent = hosts.get(link.parent)
    if parent is None:
        raise NotReadyError(
            f"device {link.parent} of {spec.network.key} is not there",
            hint="see `danmpy networks` for its condition",
            subject=link.name,
        )
    if link.mtu and link.mtu > parent.mtu:
        raise ConflictError(
            f"MTU {link.mtu} of {spec.network.key} is more than the {parent.mtu} of {link.parent}",
            hint="lower the network's mtu or raise the parent's",
            subject=link.name,
        )
    if link.kind == "veth" and not link.mtu:
        # macvlan and ipvlan inherit their parent's; a veth pair starts at 1500.
        return replace(link, mtu=parent.mtu)
    return link


def _make_room(pod: PodNet, wanted: set[str], own_alias: str) -> None:
    """Remove leftovers of this very sandbox; refuse names that somebody else has."""
    leftovers = set()
    for name, link in pod.read_links().items():
        if name not in wanted:
            continue
        if not link.is_ours(own_alias):
            raise ConflictError(
                f"the pod already has an interface {name} that is not ours",
                hint="call DEL first, or give the interface another name",
                subject=name,
            )
        leftovers.add(name)
    if leftovers:
        pod.remove_links(leftovers)
