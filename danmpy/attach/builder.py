"""Making the interfaces of one pod, and taking them away again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import structlog

from danmpy.api.cni import CniInterface
from danmpy.attach.delegates import DelegateConf, Delegates
from danmpy.attach.journal import AttachmentRecord, LinkRecord
from danmpy.attach.plan import (
    MadeInterface,
    alias_of,
    differences,
    plan_config,
    plan_link,
)
from danmpy.attach.values import Backend, InterfaceSpec, IPInterface, PodIdentity
from danmpy.errors import ConflictError, DanmpyError, HostError, NotReadyError
from danmpy.faults import FaultPoint, no_faults
from danmpy.kernel.netns import NetnsId, read_netns_id
from danmpy.kernel.podlinks import PodLinkConfig, PodLinkFacts
from danmpy.kernel.podnet import PodNet, enter_pod, read_host_links, remove_host_link

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a finished build leaves: the records for the journal, the facts for the answer."""

    links: tuple[LinkRecord, ...]
    made: tuple[MadeInterface, ...]


class PodBuilder:
    """Applies decided interfaces to a pod's namespace; every step can be undone from its record."""

    def __init__(self, delegates: Delegates, faults: FaultPoint = no_faults) -> None:
        self._delegates = delegates
        self._faults = faults

    def plan(
        self, specs: Sequence[InterfaceSpec], devices: Mapping[str, str], identity: PodIdentity
    ) -> tuple[LinkRecord, ...]:
        """What will be made, for the journal, before anything is touched.

        Raises:
            ConflictError: the pod already has an interface of a wanted name that is not ours.
            WireError: the namespace is gone.
        """
        with enter_pod(identity.netns) as pod:
            _make_room(pod, {spec.name for spec in specs}, alias_of(identity.container_id))
        return tuple(
            LinkRecord(
                name=spec.name,
                network=str(spec.network.key),
                link=plan_link(spec, devices.get(spec.name, ""), identity),
            )
            for spec in specs
        )

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
        self, links: Sequence[LinkRecord], specs: Sequence[InterfaceSpec], identity: PodIdentity
    ) -> Built:
        """Make every interface, in order. The first failure stops; the caller undoes.

        Raises:
            DanmpyError: whatever the kernel or a delegate refused, with the interface's name.
        """
        parents = read_host_links(frozenset(link.link.parent for link in links if link.link))
        records: list[LinkRecord] = []
        made: list[MadeInterface] = []
        with enter_pod(identity.netns) as pod:
            for link, spec in zip(links, specs, strict=True):
                if link.link is None:
                    item, record = self._delegate(pod, link, spec, identity)
                else:
                    item, record = _build_own(pod, link, spec, parents), link
                made.append(item)
                records.append(record)
                self._faults("add:link")
        return Built(links=tuple(records), made=tuple(made))

    def _delegate(
        self, pod: PodNet, link: LinkRecord, spec: InterfaceSpec, identity: PodIdentity
    ) -> tuple[MadeInterface, LinkRecord]:
        conf = DelegateConf.from_json(link.delegate)
        answer = self._delegates.add(conf, identity, link.name)
        config = link.config or PodLinkConfig(alias="", ipv6=True)
        if (config.routes or config.rules) and link.name in pod.read_links():
            pod.add_policy(link.name, config)
        result = answer.result
        if not result.interfaces:
            # A delegate without a link in the pod (user space, VFIO) still has its entry.
            ours = CniInterface(name=link.name, sandbox=identity.netns)
            result = replace(result, interfaces=(ours,))
        item = MadeInterface(spec=spec, config=config, delegate=result)
        return item, replace(link, delegate_result=answer.text)

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
        wanted = NetnsId(device=record.netns_device, inode=record.netns_inode)
        own = [link for link in record.links if link.link]
        rules = [rule for link in record.links if link.config for rule in link.config.rules]
        if record.netns and (own or rules) and read_netns_id(record.netns) == wanted:
            with enter_pod(record.netns) as pod:
                pod.remove_rules(tuple(rules))
                for link in reversed(own):
                    pod.remove_link(link.name)
                    self._faults("del:link")
        for link in own:
            if link.link and link.link.host_name:
                remove_host_link(link.link.host_name)
        if failures:
            raise failures[0]

    def _remove_delegated(self, record: AttachmentRecord, link: LinkRecord) -> list[DanmpyError]:
        identity = identity_of(record)
        if read_netns_id(record.netns) is None:
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
        with enter_pod(netns) as pod:
            for link in pod.read_links().values():
                if link.alias == alias_of(container_id):
                    pod.remove_link(link.name)

    def find_differences(self, record: AttachmentRecord) -> tuple[str, ...]:
        """What of `record` is no longer as it was made; empty when all is well.

        Raises:
            DelegateError: a delegate's CHECK failed.
        """
        wanted = NetnsId(device=record.netns_device, inode=record.netns_inode)
        if read_netns_id(record.netns) != wanted:
            return (f"network namespace {record.netns} is gone or is another one",)
        found: list[str] = []
        with enter_pod(record.netns) as pod:
            facts = pod.read()
        hosts = read_host_links(
            frozenset(link.link.host_name for link in record.links if link.link) - {""}
        )
        for link in record.links:
            if link.link and link.config:
                found += differences(link.name, link.link, link.config, facts)
                if link.link.host_name and link.link.host_name not in hosts:
                    found.append(f"the node's end {link.link.host_name} of {link.name} is gone")
            elif link.delegate:
                conf = DelegateConf.from_json(link.delegate)
                identity = identity_of(record)
                self._delegates.check(conf, identity, link.name, link.delegate_result)
        return tuple(found)


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


HostLinks = Mapping[str, tuple[int, str, int]]
"""The node's links by name: index, MAC, MTU."""


def _build_own(
    pod: PodNet, record: LinkRecord, spec: InterfaceSpec, parents: HostLinks
) -> MadeInterface:
    link, config = record.link, record.config
    if link is None or config is None:  # pragma: no cover - `configure` fills both
        raise HostError("nothing is planned", hint="report this", subject=record.name)
    if link.parent not in parents:
        raise NotReadyError(
            f"device {link.parent} of {record.network} is not there",
            hint="see `danmpy networks` for its condition",
            subject=record.name,
        )
    index, _mac, parent_mtu = parents[link.parent]
    if link.mtu and link.mtu > parent_mtu:
        raise HostError(
            f"MTU {link.mtu} is more than the {parent_mtu} of {link.parent}",
            hint="lower the network's mtu or raise the parent's",
            subject=record.name,
        )
    facts: PodLinkFacts = pod.add_link(link, index)
    pod.configure(link.name, config)
    pod.announce(link.name, facts.mac, config.addresses)
    return MadeInterface(spec=spec, config=config, facts=facts, host_name=link.host_name)


def _make_room(pod: PodNet, wanted: set[str], own_alias: str) -> None:
    """Remove leftovers of this very sandbox; refuse names that somebody else has."""
    for name, link in pod.read_links().items():
        if name not in wanted:
            continue
        if link.alias != own_alias:
            raise ConflictError(
                f"the pod already has an interface {name} that is not ours",
                hint="call DEL first, or give the interface another name",
                subject=name,
            )
        with suppress(HostError):
            pod.remove_link(name)
