"""IPAMClaims (NPWG 1.3): names that keep addresses, and which attachment may use one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from danmpy.api.findings import Finding
from danmpy.api.specs import IpamClaimSpec, NetworkSpec
from danmpy.api.words import is_link_name

KIND: Final = "IPAMClaim"
API_VERSION: Final = "k8s.cni.cncf.io/v1alpha1"
"""Group and version of the standard's definition; one of its examples has another group."""


def judge_ipam_claim(
    namespace: str, name: str, manifest: Mapping[str, Any]
) -> tuple[IpamClaimSpec | None, tuple[Finding, ...]]:
    """The claim in `manifest`; None, and what is wrong, when it is none."""
    spec = manifest.get("spec")
    spec = spec if isinstance(spec, Mapping) else {}
    findings = []
    version = manifest.get("apiVersion")
    if version != API_VERSION:
        words = f"apiVersion is {version!r}" if version else "apiVersion is missing"
        findings.append(
            Finding(
                path="apiVersion",
                code="ApiVersionUnknown",
                message=words,
                hint=f"write {API_VERSION}",
            )
        )
    network, interface = spec.get("network"), spec.get("interface")
    if not isinstance(network, str) or not network:
        findings.append(
            Finding(
                path="spec.network",
                code="NetworkMissing",
                message="spec.network names no network",
                hint="write the name of the network that the addresses are of",
            )
        )
    if not isinstance(interface, str) or not is_link_name(interface):
        findings.append(
            Finding(
                path="spec.interface",
                code="InterfaceInvalid",
                message=f"spec.interface is no name of an interface: {interface!r}",
                hint="write the name that the interface has in the pod, such as net1",
            )
        )
    if findings:
        return None, tuple(findings)
    claim = IpamClaimSpec(
        namespace=namespace, name=name, network=str(network), interface=str(interface)
    )
    return claim, ()


def contradiction(
    claim: IpamClaimSpec, network: NetworkSpec, interface: str, asked: str = ""
) -> str:
    """Why `claim` is not one for `interface` on `network`; empty when it is.

    `asked` is what the pod calls the network (``namespace/name``) where that is not its own name.
    """
    key = network.key
    names = {network.network_id, _name_in(network.conf), str(key), key.name}
    names |= {asked, asked.rpartition("/")[2]}
    if key.namespace:
        names.add(f"{key.namespace}/{key.name}")
    if claim.network not in names:
        return f"its spec.network is {claim.network}, and the interface is on {key}"
    if claim.interface != interface:
        return f"its spec.interface is {claim.interface}, and this is {interface}"
    return ""


def _name_in(conf: str) -> str:
    """The name in a CNI configuration: what users of the standard write into spec.network."""
    try:
        value = json.loads(conf) if conf else {}
    except ValueError:
        return ""
    name = value.get("name") if isinstance(value, dict) else None
    return name if isinstance(name, str) else ""
