"""Why an interface is as it is, in sentences, and its fields as scripts see them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from danmpy.api.specs import AddressMode, Family, InterfaceAsk, NetworkKind
from danmpy.attach.journal import LinkRecord
from danmpy.attach.plan import default_of
from danmpy.attach.values import Backend, InterfaceSpec
from danmpy.ipam.pools import layout
from danmpy.kernel.podlinks import RT_TABLE_MAIN

FAMILIES: Final[tuple[Family, Family]] = (4, 6)
_REFERENCE: Final[Mapping[NetworkKind, str]] = {
    NetworkKind.DANM: "network",
    NetworkKind.TENANT: "tenantNetwork",
    NetworkKind.CLUSTER: "clusterNetwork",
}


def reasons(spec: InterfaceSpec, ask: InterfaceAsk | None, scheme: str) -> Iterator[str]:
    """One sentence a decision; `ask` is None for the default network."""
    yield _why_asked(spec, ask)
    yield _why_named(spec, ask, scheme)
    yield _why_device(spec)
    for family in FAMILIES:
        if reason := why_address(spec, family):
            yield reason
    yield from _why_mac(spec, ask)
    yield from _why_default(spec, ask)


def why_address(spec: InterfaceSpec, family: Family) -> str:
    """Where the address of one family comes from; empty when there is none."""
    ask = spec.ip if family == 4 else spec.ip6
    pool = spec.network.pool(family)
    if not spec.owns_addresses and ask.mode is AddressMode.ABSENT:
        return f"IPv{family}: the delegate's own address management decides"
    if pool is None or not ask.is_leased:
        return ""
    if ask.mode is AddressMode.STATIC:
        return f"IPv{family}: {ask.address} of {pool.subnet}, as asked"
    ranges = layout(pool).ranges
    if not ranges:
        return f"IPv{family}: the pool of {pool.subnet} has no address to give"
    first, last = pool.address(ranges[0][0]), pool.address(ranges[-1][1])
    return f"IPv{family}: leased from the pool {first} to {last} of {pool.subnet}"


def future_routes(spec: InterfaceSpec) -> list[dict[str, Any]]:
    """The routes that an interface will have, default routes first."""
    defaults = [
        {"destination": default_of(gateway), "gateway": str(gateway), "table": RT_TABLE_MAIN}
        for gateway in spec.default_gateways
    ]
    main = [
        {"destination": str(r.destination), "gateway": str(r.gateway), "table": RT_TABLE_MAIN}
        for r in spec.routes
    ]
    table = spec.network.rt_table
    policy = [
        {"destination": str(r.destination), "gateway": str(r.gateway), "table": table}
        for r in spec.proutes
    ]
    return [*defaults, *main, *policy]


def bare_item(link: LinkRecord) -> dict[str, Any]:
    """An interface whose declaration is gone or has changed."""
    return {
        "interface": link.name,
        "network": link.network,
        "backend": link.link.kind if link.link else None,
        "device": None,
        "parent": None,
        "kind": None,
        "id": None,
        "mac": None,
        "mtu": link.link.mtu if link.link else None,
        "ip": None,
        "ip6": None,
        "addresses": [],
        "routes": [],
        "rules": [],
        "reasons": [],
    }


def _why_asked(spec: InterfaceSpec, ask: InterfaceAsk | None) -> str:
    if ask is None:
        return "the pod declares no interfaces, so it gets the default network"
    words = [f"{_REFERENCE[ask.network.kind]} {ask.network.name}"]
    for name, each in (("ip", ask.ip), ("ip6", ask.ip6)):
        if each.mode is not AddressMode.ABSENT:
            words.append(f"{name} {each.address or each.mode}")
    return f"entry {spec.index} of the annotation asks {', '.join(words)}"


def _why_named(spec: InterfaceSpec, ask: InterfaceAsk | None, scheme: str) -> str:
    prefix = spec.network.container_prefix
    if ask is not None and ask.name:
        return f"the entry names it {spec.name}"
    if spec.index == 0:
        return "the first interface is always eth0"
    if scheme and prefix:
        return f"the naming scheme {scheme} takes container_prefix {prefix} as it is"
    if prefix:
        return f"named by container_prefix {prefix} and position {spec.index}"
    return f"named by position {spec.index}"


def _why_device(spec: InterfaceSpec) -> str:
    network = spec.network
    if spec.backend is Backend.DELEGATE:
        return f"made by the CNI configuration {spec.delegate_conf} of this node"
    if network.segment is not None:
        segment = network.segment
        wire = f"{segment.kind} {segment.id} on {segment.parent}"
        if network.key.kind is NetworkKind.TENANT:
            return f"{wire} is assigned to the network from the TenantConfig"
        return f"{wire} is set in the network"
    if spec.backend is Backend.BRIDGE:
        return "a bridge of this network's own, on this node only"
    return f"directly on {network.host_device}, without VLAN or VXLAN"


def _why_mac(spec: InterfaceSpec, ask: InterfaceAsk | None) -> list[str]:
    if spec.backend is Backend.IPVLAN:
        return ["ipvlan shares the MAC of its parent"]
    if ask is not None and ask.mac:
        return [f"the entry asks MAC {ask.mac}"]
    return []


def _why_default(spec: InterfaceSpec, ask: InterfaceAsk | None) -> list[str]:
    if not spec.default_gateways:
        return []
    if ask is not None and ask.default_route:
        return ["the entry asks the default route"]
    return ["nobody asks the default route, so the first interface has it"]
