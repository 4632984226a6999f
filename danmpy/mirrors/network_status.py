"""The annotation in which a pod's networks are told to everybody. Pure.

Rules: Network Plumbing Working Group, "Kubernetes Network Custom Resource Definition De-facto
Standard" 1.3, section 4.1.2 (network status annotation), and where it says nothing what its client
library writes: bare addresses, `mtu` and `gateway`, and never a null.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from danmpy.api.cni import CniDns
from danmpy.mirrors.values import AttachmentFacts, InterfaceFacts

NETWORK_STATUS: Final = "k8s.v1.cni.cncf.io/network-status"


def render_status(attachment: AttachmentFacts) -> str:
    """The value of the annotation: one entry for each interface, the runtime's first.

    Exactly one of them is the default: the interface that the runtime asked for, whose addresses it
    reports as the pod's.
    """
    return json.dumps([_entry(interface) for interface in attachment.interfaces], indent=4)


def _entry(interface: InterfaceFacts) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": _name(interface), "interface": interface.name}
    if interface.addresses:
        entry["ips"] = [address.partition("/")[0] for address in interface.addresses]
    if interface.mac:
        entry["mac"] = interface.mac
    if interface.mtu:
        entry["mtu"] = interface.mtu
    entry["default"] = interface.is_pods
    entry["dns"] = _dns(interface.dns)
    if interface.gateways:
        # Under the standard's name and under the one that its client library writes.
        entry["gateway"] = list(interface.gateways)
        entry["default-route"] = list(interface.gateways)
    if interface.infiniband_guid:
        entry["infiniband-guid"] = interface.infiniband_guid
    if interface.device_info:
        entry["device-info"] = interface.device_info
    return entry


def _name(interface: InterfaceFacts) -> str:
    """What the pod calls it by; as for a NetworkAttachmentDefinition, ``namespace/name``, and
    without a namespace the name, which for a configuration of the node is its CNI name.
    """
    if interface.asked:
        return interface.asked
    network = interface.network
    return f"{network.namespace}/{network.name}" if network.namespace else network.name


def _dns(dns: CniDns) -> dict[str, Any]:
    texts: Sequence[tuple[str, Any]] = (
        ("nameservers", list(dns.nameservers)),
        ("domain", dns.domain),
        ("search", list(dns.search)),
        ("options", list(dns.options)),
    )
    return {key: value for key, value in texts if value}
