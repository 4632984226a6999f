"""What the kernel shows of this node's attachments, beside what the journal says; reads only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from ipaddress import ip_interface

from danmpy.api.cni import parse_result
from danmpy.api.specs import IPAddress
from danmpy.attach.delegates.confs import DelegateConf
from danmpy.attach.journal import AttachmentRecord, LinkRecord, Phase
from danmpy.attach.sandboxes import enter_sandbox
from danmpy.ipam.findings import SeenInterface
from danmpy.kernel.podlinks import PodFacts


def read_facts(record: AttachmentRecord) -> PodFacts | None:
    """The namespace that `record` was made in, as it is now; None when it is gone.

    Another namespace at the same path is somebody else's and is not looked into.

    Raises:
        HostError: the kernel refused.
    """
    with enter_sandbox(record) as pod:
        return pod.read() if pod else None


def observe(records: Iterable[AttachmentRecord]) -> Iterator[SeenInterface]:
    """Every interface of `records`. Only complete attachments are looked at in the kernel: in the
    others it changes under our eyes.

    Raises:
        HostError: the kernel refused.
        BugError: a record was altered.
    """
    for record in records:
        facts = read_facts(record) if record.phase is Phase.ATTACHED else None
        for link in record.all_links:
            yield _seen(record, link, facts)


def _seen(record: AttachmentRecord, link: LinkRecord, facts: PodFacts | None) -> SeenInterface:
    addresses = _given(link)
    return SeenInterface(
        container_id=record.container_id,
        namespace=record.namespace,
        pod=record.pod,
        pod_uid=record.pod_uid,
        interface=link.name,
        addresses=addresses,
        netns_exists=facts is not None,
        seen=_on_link(link, addresses, facts),
        phase=str(record.phase),
    )


def _given(link: LinkRecord) -> frozenset[IPAddress]:
    """The addresses from leases; a delegate's own ones are not among them."""
    if link.delegate:
        conf = DelegateConf.from_json(link.delegate)
        return frozenset(address.ip for address in conf.addresses)
    texts = link.config.addresses if link.config else ()
    return frozenset(ip_interface(text).ip for text in texts)


def _on_link(
    link: LinkRecord, given: frozenset[IPAddress], facts: PodFacts | None
) -> frozenset[IPAddress] | None:
    if facts is None:
        return None
    if link.name not in facts.links:
        return given if _needs_no_link(link) else None
    shown = (ip_interface(text).ip for text in facts.addresses.get(link.name, ()))
    return frozenset(address for address in shown if not address.is_link_local)


def _needs_no_link(link: LinkRecord) -> bool:
    """Did a delegate make something that is no link in the pod (user space, VFIO)?"""
    if not link.delegate_result:
        return False
    result = parse_result(json.loads(link.delegate_result))
    return all(made.name != link.name or not made.sandbox for made in result.interfaces)
