"""CHECK: is an attachment still as ADD made it, in the kernel, in the database, for the runtime?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from danmpy.api.cni import CODE_CONFIG, CniInterface, CniRequest, CniResult, parse_result
from danmpy.attach.journal import AttachmentRecord, LinkRecord, Phase
from danmpy.attach.ports import AttachPorts
from danmpy.errors import HostError, WireError

CODE_UNKNOWN_CONTAINER: Final = 3
"""CNI spec 1.1.0, error codes."""


def require_intact(ports: AttachPorts, request: CniRequest) -> None:
    """Reads only.

    Raises:
        HostError: what is broken, all of it in one message.
        StoreError: the database cannot be asked.
        WireError: code 3, no such attachment; code 7, no prevResult.
    """
    record = ports.journal.read(request.container_id, request.ifname)
    if record is None or record.phase is not Phase.ATTACHED:
        raise WireError(
            "no attachment of this container is known on this node",
            hint="the runtime must call ADD first",
            subject=f"{request.container_id}/{request.ifname}",
            code=CODE_UNKNOWN_CONTAINER,
        )
    subject = f"Pod/{record.namespace}/{record.pod}"
    if request.prev_result is None:
        raise WireError(
            "CHECK needs prevResult",
            hint="the runtime must pass the result of ADD (CNI spec, CHECK)",
            subject=subject,
            code=CODE_CONFIG,
        )
    found = [*ports.builder.find_differences(after_chain(record, request.prev_result))]
    if request.netns != record.netns:
        found.append(f"it was attached in {record.netns}, and the runtime says {request.netns}")
    found += lease_differences(ports, record)
    found += _result_differences(record, request.prev_result)
    if found:
        hint = "delete the pod so that it is attached anew"
        raise HostError("; ".join(found), hint=hint, subject=subject)


def find_broken(ports: AttachPorts, record: AttachmentRecord) -> tuple[str, ...]:
    """What CHECK would find as well whatever the final result of the chain is; a sentence each.

    Raises:
        StoreError: the database cannot be asked.
    """
    found = ports.builder.find_differences(after_chain(record))
    return (*found, *lease_differences(ports, record))


def after_chain(record: AttachmentRecord, final: CniResult | None = None) -> AttachmentRecord:
    """`record` with the MACs and MTUs that its links have to have once the whole chain has run.

    A plugin behind us may change those of whatever our answer told it of, as tuning does, and CHECK
    has to bear that (CNI spec 1.1.0, CHECK). What they were in the end only the runtime knows:
    `final` says it, and what that does not name is not judged. MTUs have no name before 1.1.0.
    """
    told = {link.name for link in parse_result(record.told).interfaces if link.sandbox}
    named = {link.name: link for link in final.interfaces if link.sandbox} if final else {}
    links = tuple(_after_chain(link, named) if link.name in told else link for link in record.links)
    return replace(record, links=links)


def _after_chain(link: LinkRecord, named: Mapping[str, CniInterface]) -> LinkRecord:
    if link.link is None:
        return link
    last = named.get(link.name, CniInterface(name=link.name))
    mac = (last.mac or None) if link.link.mac else None
    mtu = (last.mtu or None) if link.link.mtu else None
    return replace(link, link=replace(link.link, mac=mac, mtu=mtu))


def lease_differences(ports: AttachPorts, record: AttachmentRecord) -> list[str]:
    """Addresses of `record` that the database no longer gives to its container, a sentence each.

    Raises:
        StoreError: the database cannot be asked.
    """
    if not any(link.config and link.config.addresses for link in record.links):
        return []
    held = {
        (lease.interface, str(lease.address)) for lease in ports.leases.held_by(record.container_id)
    }
    return [
        f"the database no longer has the lease of {address} for {link.name}"
        for link in record.links
        if link.config
        for address in link.config.addresses
        if (link.name, address) not in held
    ]


def _result_differences(record: AttachmentRecord, previous: CniResult) -> list[str]:
    """Addresses and interfaces of ours that the runtime's own record does not have.

    A later plugin of the chain may have added some, but none may take ours away without saying so
    (CNI spec 1.1.0, CHECK).
    """
    ours = parse_result(record.told)
    known = {str(ip.address) for ip in previous.ips}
    names = {link.name for link in previous.interfaces if link.sandbox}
    lost = sorted({str(ip.address) for ip in ours.ips} - known)
    gone = sorted({link.name for link in ours.interfaces if link.sandbox} - names)
    return [
        *(f"prevResult lacks address {address}" for address in lost),
        *(f"prevResult lacks interface {name}" for name in gone),
    ]
