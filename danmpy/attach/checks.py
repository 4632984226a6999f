"""CHECK: is an attachment still as ADD made it, in the kernel, in the database, for the runtime?"""

from __future__ import annotations

from typing import Final

from danmpy.api.cni import CODE_CONFIG, CniRequest, CniResult, parse_result
from danmpy.attach.journal import AttachmentRecord, Phase
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
    found = [*ports.builder.find_differences(record)]
    if request.netns != record.netns:
        found.append(f"it was attached in {record.netns}, and the runtime says {request.netns}")
    found += lease_differences(ports, record)
    found += _result_differences(record, request.prev_result)
    if found:
        hint = "delete the pod so that it is attached anew"
        raise HostError("; ".join(found), hint=hint, subject=subject)


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
