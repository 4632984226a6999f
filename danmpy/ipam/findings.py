"""Where the database, the wishes of people and the kernel of this node disagree. Pure.

Each side is a snapshot. A pod that is being added or deleted just now can look like a difference,
so whoever asks looks twice and reports what stayed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from danmpy.api.specs import IPAddress, PodSpec
from danmpy.ipam.values import Json, Lease


class FindingKind(StrEnum):
    """What is wrong, in one word."""

    LEASE_WITHOUT_POD = "LeaseWithoutPod"
    LEASE_WITHOUT_INTERFACE = "LeaseWithoutInterface"
    IMPORTED_NOT_ATTACHED = "ImportedNotAttached"
    INTERFACE_WITHOUT_LEASE = "InterfaceWithoutLease"
    ADDRESS_MISSING = "AddressMissing"
    ADDRESS_UNKNOWN = "AddressUnknown"
    NAMESPACE_GONE = "NamespaceGone"
    LINK_GONE = "LinkGone"
    UID_DIFFERS = "UidDiffers"
    NODE_DIFFERS = "NodeDiffers"
    ATTACHMENT_UNFINISHED = "AttachmentUnfinished"


ATTACHED = "attached"
"""The phase of an attachment that is complete; every other one is on its way up or down."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """One difference: what kind, about which object, in words, and the way out."""

    kind: str
    subject: str
    message: str
    hint: str

    def to_json(self) -> Json:
        """The finding as a JSON object."""
        return {
            "kind": str(self.kind),
            "subject": self.subject,
            "message": self.message,
            "hint": self.hint,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenInterface:
    """One interface of an attachment of this node: what was written down, what the kernel shows.

    `addresses` are the addresses that the interface was given from leases (those that a delegate
    chose by itself are not among them). `seen` are the addresses of global scope on the link;
    it is None when the link is not there, and means nothing when `netns_exists` is False. `phase`
    is the word of the node's journal.
    """

    container_id: str
    namespace: str
    pod: str
    pod_uid: str
    interface: str
    addresses: frozenset[IPAddress] = frozenset()
    netns_exists: bool = True
    seen: frozenset[IPAddress] | None = None
    phase: str = ATTACHED


def find(
    leases: Iterable[Lease],
    seen: Iterable[SeenInterface],
    pods: Mapping[tuple[str, str], PodSpec] | None,
    node: str,
) -> tuple[Finding, ...]:
    """All differences, sorted. Only the leases of `node` are compared with what was seen.

    `pods` is None when they could not be read: then nothing is said about them, for missing
    data proves nothing. Reservations are no pod's, and agree with everything.
    """
    leases = tuple(lease for lease in leases if not lease.is_reservation)
    found: list[Finding] = []
    if pods is not None:
        for lease in leases:
            # Some tools tell the container and not the pod: then nothing is known of it.
            if lease.pod:
                found += _against_pod(lease, pods.get((lease.namespace, lease.pod)))
    mine: dict[tuple[str, str], list[Lease]] = defaultdict(list)
    for lease in leases:
        if lease.node == node:
            mine[lease.container_id, lease.interface].append(lease)
    known = set()
    for item in seen:
        known.add((item.container_id, item.interface))
        found += _against_kernel(item, mine.get((item.container_id, item.interface), []))
    for place, held in mine.items():
        if place not in known:
            found += [_without_interface(lease) for lease in held]
    return tuple(sorted(set(found)))


def _pod(namespace: str, name: str) -> str:
    return f"Pod/{namespace}/{name}"


def _on_node(lease: Lease) -> str:
    return f" on node {lease.node}" if lease.node else ""


def _what(lease: Lease) -> str:
    return f"{lease.address.ip} of {lease.network}, interface {lease.interface}"


def _against_pod(lease: Lease, pod: PodSpec | None) -> Iterator[Finding]:
    subject = _pod(lease.namespace, lease.pod)
    if pod is None:
        yield Finding(
            kind=FindingKind.LEASE_WITHOUT_POD,
            subject=subject,
            message=f"holds {_what(lease)}{_on_node(lease)}, but there is no such pod",
            hint="danmpy release ends it, if the pod is gone for certain"
            if lease.is_imported
            else "the runtime's DEL or GC on that node ends the lease; is the node alive?",
        )
        return
    if pod.uid and lease.pod_uid and pod.uid != lease.pod_uid:
        yield Finding(
            kind=FindingKind.UID_DIFFERS,
            subject=subject,
            message=f"{_what(lease)} belongs to an earlier pod of this name (UID {lease.pod_uid}, "
            f"now {pod.uid})",
            hint="the runtime's DEL or GC of the earlier pod ends the lease",
        )
    elif pod.node and lease.node and pod.node != lease.node:
        yield Finding(
            kind=FindingKind.NODE_DIFFERS,
            subject=subject,
            message=f"{_what(lease)} is leased on node {lease.node}, but the pod is on {pod.node}",
            hint=f"look for a left-over attachment on node {lease.node}",
        )


def _against_kernel(item: SeenInterface, leases: list[Lease]) -> Iterator[Finding]:
    subject = _pod(item.namespace, item.pod)
    place = f"interface {item.interface} of container {item.container_id[:12]}"
    if item.phase != ATTACHED:
        yield Finding(
            kind=FindingKind.ATTACHMENT_UNFINISHED,
            subject=subject,
            message=f"{place} stopped while {item.phase}",
            hint="the node daemon finishes or undoes it: it has to run and to reach the database",
        )
        return
    held = frozenset(lease.address.ip for lease in leases)
    for address in sorted(item.addresses - held, key=_order):
        yield Finding(
            kind=FindingKind.INTERFACE_WITHOUT_LEASE,
            subject=subject,
            message=f"{place} was given {address}, but holds no lease of it",
            hint="another pod may get the same address: delete the pod so that it is made anew",
        )
    yield from _on_the_link(item, held, subject, place)


def _on_the_link(
    item: SeenInterface, held: frozenset[IPAddress], subject: str, place: str
) -> Iterator[Finding]:
    if not item.netns_exists:
        yield Finding(
            kind=FindingKind.NAMESPACE_GONE,
            subject=subject,
            message=f"the network namespace of container {item.container_id[:12]} is gone"
            + (f"; it still holds {', '.join(_texts(held))}" if held else ""),
            hint="the runtime's DEL or GC ends the attachment",
        )
        return
    if item.seen is None:
        yield Finding(
            kind=FindingKind.LINK_GONE,
            subject=subject,
            message=f"{place} is not in its network namespace",
            hint="somebody removed the link; delete the pod so that it is made anew",
        )
        return
    for address in sorted(held - item.seen, key=_order):
        yield Finding(
            kind=FindingKind.ADDRESS_MISSING,
            subject=subject,
            message=f"{place} holds {address}, but the link does not have it",
            hint="somebody removed the address; delete the pod so that it is made anew",
        )
    # An interface without leases has the addresses of somebody else's IPAM.
    if held:
        for address in sorted(item.seen - held - item.addresses, key=_order):
            yield Finding(
                kind=FindingKind.ADDRESS_UNKNOWN,
                subject=subject,
                message=f"{place} has {address}, which nobody leased to it",
                hint="somebody added the address; remove it, or let the pod ask for it",
            )


def _without_interface(lease: Lease) -> Finding:
    if lease.is_imported:
        return Finding(
            kind=FindingKind.IMPORTED_NOT_ATTACHED,
            subject=_pod(lease.namespace, lease.pod) if lease.pod else lease.holder,
            message=f"holds {_what(lease)} for container {lease.container_id[:12]}, {lease.note}; "
            "danmpy did not attach it",
            hint="nothing is wrong: once the pod is made anew, danmpy attaches it",
        )
    return Finding(
        kind=FindingKind.LEASE_WITHOUT_INTERFACE,
        subject=_pod(lease.namespace, lease.pod),
        message=f"holds {_what(lease)} for container {lease.container_id[:12]}, but this node has "
        "no such attachment",
        hint="the runtime's DEL or GC on this node ends the lease",
    )


def _order(address: IPAddress) -> tuple[int, int]:
    return address.version, int(address)


def _texts(addresses: frozenset[IPAddress]) -> list[str]:
    return [str(address) for address in sorted(addresses, key=_order)]
