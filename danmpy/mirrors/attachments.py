"""From the records of the journal to what the mirrors tell of them, and to their pods."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from danmpy.api.addresses import TextError
from danmpy.api.cni import MAIN_TABLE, CniDns, CniInterface, CniResult, parse_result
from danmpy.api.jsontext import parse_json
from danmpy.api.specs import NetworkKey, NetworkKind, PodSpec
from danmpy.attach.journal import AttachmentRecord, LinkRecord, Phase
from danmpy.attach.plan import default_gateways, without_defaults
from danmpy.errors import WireError
from danmpy.intent.values import Intent
from danmpy.mirrors.values import AttachmentFacts, InterfaceFacts

_NOTHING: Final = CniResult()


class Records(Protocol):
    """Where the records are (`attach.journal.Journal`)."""

    @property
    def complete(self) -> bool:
        """Are these all?"""

    def read_all(self) -> tuple[AttachmentRecord, ...]:
        """Every record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """One attachment that stands; `pod` is None while its object is not known, or no longer."""

    record: AttachmentRecord
    facts: AttachmentFacts
    pod: PodSpec | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachments:
    """All attachments of this node at one moment.

    `half` are those of which it is not known yet whether they will stand. `complete`: there are no
    others.
    """

    attached: tuple[Attached, ...]
    half: tuple[AttachmentRecord, ...]
    complete: bool


class AttachmentReader:
    """Reads them, and works each record out only once."""

    def __init__(self, records: Records, intent: Callable[[], Intent]) -> None:
        self._records = records
        self._intent = intent
        self._known: dict[tuple[str, str], tuple[AttachmentRecord, AttachmentFacts]] = {}

    def read(self) -> Attachments:
        """The attachments of now."""
        complete = self._records.complete
        records = self._records.read_all()
        pods = self._intent().pods
        standing = [record for record in records if record.phase is Phase.ATTACHED]
        self._known = {record.key: self._worked_out(record) for record in standing}
        attached = []
        for record in standing:
            pod = pods.get((record.namespace, record.pod))
            known = pod is not None and pod.uid != "" and pod.is_uid(record.pod_uid)
            facts = self._known[record.key][1]
            attached.append(Attached(record=record, facts=facts, pod=pod if known else None))
        return Attachments(
            attached=tuple(attached),
            half=tuple(record for record in records if record.phase is Phase.ADDING),
            complete=complete,
        )

    def _worked_out(self, record: AttachmentRecord) -> tuple[AttachmentRecord, AttachmentFacts]:
        known = self._known.get(record.key)
        if known is not None and known[0] is record:
            return known
        return record, facts_of(record)


def facts_of(record: AttachmentRecord) -> AttachmentFacts:
    """What `record` says about its interfaces: the runtime's first, the others in their order."""
    links = sorted(record.links, key=lambda link: link.name != record.ifname)
    result = _parsed(record.result)
    return AttachmentFacts(
        namespace=record.namespace,
        pod=record.pod,
        pod_uid=record.pod_uid,
        container_id=record.container_id,
        netns=record.netns,
        began_at=record.began_at,
        interfaces=(*_foreign(record), *_interfaces(links, result, record.ifname)),
    )


def _foreign(record: AttachmentRecord) -> Iterator[InterfaceFacts]:
    """The interface that the runtime asked for, when a plugin before us in the chain made it."""
    if record.has_primary:
        return
    result = without_defaults(_parsed(record.previous), record.defaults_taken)
    for at, made in enumerate(result.interfaces):
        if made.sandbox and made.name == record.ifname:
            yield InterfaceFacts(
                name=made.name,
                network=NetworkKey(kind=NetworkKind.NAD, name=record.network_name),
                addresses=tuple(str(ip.address) for ip in result.ips if ip.interface in {at, None}),
                mac=made.mac,
                mtu=made.mtu,
                gateways=tuple(map(str, default_gateways(result))),
                dns=result.dns,
                is_pods=True,
                is_foreign=True,
            )
            return


def _interfaces(
    links: Sequence[LinkRecord], result: CniResult, ifname: str
) -> Iterator[InterfaceFacts]:
    for link, made in zip(links, _made_for(links, result), strict=True):
        first, *others = made or [(None, CniInterface(name=link.name))]
        yield _facts(link, first, result, is_pods=link.name == ifname)
        for other in others:
            yield _facts(link, other, result, is_extra=True)


_Made = tuple[int | None, CniInterface]


def _made_for(links: Sequence[LinkRecord], result: CniResult) -> list[list[_Made]]:
    """The links in the pod that each of `links` came to: one, or for a delegate none or several.

    The result lists them link by link; a delegate need not call its link as it was told to.
    """
    inside = [(at, each) for at, each in enumerate(result.interfaces) if each.sandbox]
    names = {each.name for _, each in inside}
    place = {link.name: number for number, link in enumerate(links)}
    found: list[list[_Made]] = [[] for _ in links]
    here = -1
    for at, each in inside:
        if each.name in place:
            here = place[each.name]
        elif here + 1 < len(links) and links[here + 1].name not in names:
            here += 1
        if here >= 0:
            found[here].append((at, each))
    return found


def _facts(
    link: LinkRecord,
    made: _Made,
    result: CniResult,
    *,
    is_pods: bool = False,
    is_extra: bool = False,
) -> InterfaceFacts:
    at, interface = made
    said = _answer_of(link)
    leased = link.config.addresses if link.config and not is_extra else ()
    told = tuple(str(ip.address) for ip in result.ips if at is not None and ip.interface == at)
    return InterfaceFacts(
        name=interface.name,
        network=parse_key(link.network),
        backend=link.backend,
        addresses=leased or told,
        without=link.without,
        mac=interface.mac or (link.link.mac or "" if link.link else ""),
        mtu=interface.mtu or (link.link.mtu or 0 if link.link else 0),
        gateways=() if is_extra else tuple(_gateways(link, said)),
        policy_routes=() if is_extra else tuple(_policy_routes(link)),
        dns=CniDns() if is_extra else said.dns,
        is_pods=is_pods,
        is_extra=is_extra,
        asked=link.asked,
        infiniband_guid="" if is_extra else link.infiniband_guid,
        device_id="" if is_extra else link.device_id,
        claimed=None if is_extra else link.claimed,
        device_info={} if is_extra else _device_info(link),
    )


def _device_info(link: LinkRecord) -> dict[str, Any]:
    """What a device plugin or a delegate wrote of the device; what is no object says nothing."""
    if not link.device_info:
        return {}
    try:
        said = parse_json(link.device_info)
    except TextError:
        return {}
    return said if isinstance(said, dict) else {}


def _gateways(link: LinkRecord, said: CniResult) -> Iterator[str]:
    """The next hops of the default routes of the main table, each once."""
    own = [
        route.gateway
        for route in (link.config.routes if link.config else ())
        if route.table == MAIN_TABLE and route.destination.endswith("/0") and route.gateway
    ]
    yield from dict.fromkeys((*own, *map(str, default_gateways(said))))


def _policy_routes(link: LinkRecord) -> Iterator[tuple[str, str]]:
    for route in link.config.routes if link.config else ():
        if route.table != MAIN_TABLE and route.gateway:
            yield route.destination, route.gateway


def _answer_of(link: LinkRecord) -> CniResult:
    """What a delegate answered; nothing for an interface of ours."""
    if not link.delegate_result:
        return _NOTHING
    try:
        return _parsed(parse_json(link.delegate_result))
    except TextError:
        return _NOTHING


def _parsed(document: object) -> CniResult:
    """A result that was understood when it was recorded; what no longer can be says nothing."""
    try:
        return parse_result(document)
    except WireError:
        return _NOTHING


def parse_key(text: str) -> NetworkKey:
    """The key that prints as `text` (``Kind/namespace/name`` or ``Kind/name``)."""
    kind, *namespace, name = text.split("/")
    return NetworkKey(kind=NetworkKind(kind), namespace="".join(namespace), name=name)
