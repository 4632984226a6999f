"""Making the interfaces of one pod, and taking them away again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import structlog

from danmpy.api.cni import CniInterface, CniResult
from danmpy.api.specs import AddressMode
from danmpy.attach.delegate_confs import DelegateConf
from danmpy.attach.delegates import Delegates
from danmpy.attach.journal import AttachmentRecord, LinkRecord
from danmpy.attach.plan import (
    MadeInterface,
    alias_of,
    differences,
    plan_config,
    plan_link,
)
from danmpy.attach.sandboxes import enter_sandbox, is_there
from danmpy.attach.values import Backend, InterfaceSpec, IPInterface, PodIdentity
from danmpy.errors import BugError, ConflictError, DanmpyError, NotReadyError, WireError
from danmpy.faults import FaultPoint, no_faults
from danmpy.kernel.netns import read_netns_id, require_other_than_home
from danmpy.kernel.podlinks import HostLinkFacts, PodLink, PodLinkConfig
from danmpy.kernel.podnet import PodNet, enter_pod, read_host_links, remove_host_links

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """What will be made: records for the journal, where, and what is known of the parents.

    `cookie` is the namespace's (0: this kernel has none).
    """

    links: tuple[LinkRecord, ...]
    parents: Mapping[str, HostLinkFacts]
    cookie: int = 0

    def known_mac(self, name: str) -> str | None:
        """The MAC that the interface will have, where that is certain before it is made."""
        link = next((record.link for record in self.links if record.name == name), None)
        if link is None:
            return None
        # An ipvlan link shares its parent's (kernel: Documentation/networking/ipvlan.rst).
        return self.parents[link.parent].mac if link.kind == Backend.IPVLAN else link.mac


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a finished build leaves: the records for the journal, the facts for the answer."""

    links: tuple[LinkRecord, ...]
    made: tuple[MadeInterface, ...]


Note = Callable[[tuple[LinkRecord, ...]], None]
"""Told after each delegate's ADD what the records are now."""

_Job = tuple[LinkRecord, InterfaceSpec]


class PodBuilder:
    """Applies decided interfaces to a pod's namespace; every step can be undone from its record."""

    def __init__(self, delegates: Delegates, faults: FaultPoint = no_faults) -> None:
        self._delegates = delegates
        self._faults = faults

    def plan(
        self, specs: Sequence[InterfaceSpec], devices: Mapping[str, str], identity: PodIdentity
    ) -> Blueprint:
        """What will be made, for the journal; `devices` are the parents by interface name.

        Leftovers of this very sandbox under the wanted names are removed, nothing else is touched.

        Raises:
            ConflictError: the pod has an interface of a wanted name that is not ours; an MTU does
                not fit the parent.
            NotReadyError: a parent is not there.
            WireError: the namespace is gone, or is the node's own.
        """
        require_other_than_home(identity.netns)
        links = [plan_link(spec, devices.get(spec.name, ""), identity) for spec in specs]
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
            )
            for spec, link in zip(specs, links, strict=True)
        )
        with enter_pod(identity.netns) as pod:
            _make_room(pod, {spec.name for spec in specs}, alias_of(identity.container_id))
            cookie = pod.cookie
        # Their names come from this sandbox's id: left behind when the pod renamed its own end.
        remove_host_links(sorted(ends & hosts.keys()))
        parents = {name: hosts[name] for name in names}
        return Blueprint(links=records, parents=parents, cookie=cookie)

    def configure(
        self,
        links: Sequence[LinkRecord],
        specs: Sequence[InterfaceSpec],
        addresses: Mapping[str, tuple[IPInterface, ...]],
        identity: PodIdentity,
    ) -> tuple[LinkRecord, ...]:
        """The same records with the settings that go with the leased addresses."""
        return tuple(
            self._configure(link, spec, addresses.get(spec.name, ()), identity)
            for link, spec in zip(links, specs, strict=True)
        )

    def _configure(
        self,
        link: LinkRecord,
        spec: InterfaceSpec,
        addresses: tuple[IPInterface, ...],
        identity: PodIdentity,
    ) -> LinkRecord:
        config = plan_config(spec, addresses, identity.container_id)
        if spec.backend is not Backend.DELEGATE:
            return replace(link, config=config)
        owned = addresses if spec.owns_addresses else None
        conf = self._delegates.render(spec.network, addresses=owned, mac=spec.mac)
        return replace(link, config=config, delegate=conf.to_json())

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
        return Built(links=tuple(records), made=tuple(made))

    def _build_own(
        self,
        pod: PodNet,
        jobs: Sequence[_Job],
        parents: Mapping[str, HostLinkFacts],
        done: tuple[list[LinkRecord], list[MadeInterface]],
    ) -> None:
        """Make neighbouring interfaces of ours together: fewer round trips to the kernel."""
        records, made = done
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
        answer = self._delegates.add(conf, identity, link.name)
        result = answer.result
        if not result.interfaces:
            # A delegate without a link in the pod (user space, VFIO) still has its entry.
            ours = CniInterface(name=link.name, sandbox=identity.netns)
            result = replace(result, interfaces=(ours,))
        return replace(link, delegate_result=answer.text), result

    def remove(self, record: AttachmentRecord) -> None:
        """Take away everything that `record` names; what is gone already is a success.

        The namespace is entered only when it is still the one that the record was made for.

        Raises:
            DelegateError, HostError: something is left; the same call may succeed later.
        """
        failures: list[DanmpyError] = []
        for link in reversed(record.links):
            if link.delegate:
                failures += self._remove_delegated(record, link)
        own = [link for link in record.links if link.link]
        rules = [rule for link in record.links if link.config for rule in link.config.rules]
        if own or rules:
            with enter_sandbox(record) as pod:
                if pod is not None:
                    pod.remove_rules(rules)
                    names = {link.name for link in own}
                    pod.remove_links(names, alias_of(record.container_id))
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
