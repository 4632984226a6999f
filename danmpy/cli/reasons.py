"""Why an interface is as it is, in sentences, and its fields as scripts see them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from danmpy.api.specs import AddressMode, Dialect, Family, InterfaceAsk, NetworkKind, NetworkSpec
from danmpy.attach.deciding.routing import default_routes
from danmpy.attach.journal import LinkRecord
from danmpy.attach.values import Backend, InterfaceSpec
from danmpy.ipam.pools import layout
from danmpy.kernel.podlinks import RT_TABLE_MAIN

FAMILIES: Final[tuple[Family, Family]] = (4, 6)
_REFERENCE: Final[Mapping[NetworkKind, str]] = {
    NetworkKind.DANM: "network",
    NetworkKind.TENANT: "tenantNetwork",
    NetworkKind.CLUSTER: "clusterNetwork",
}
_BY_PLACE: Final[Mapping[Dialect, str]] = {Dialect.NPWG: "net", Dialect.GENIE: "eth"}
_DIALECT: Final[Mapping[Dialect, str]] = {
    Dialect.NPWG: "the Network Plumbing Working Group",
    Dialect.GENIE: "CNI-Genie",
    Dialect.KNITTER: "Knitter",
    Dialect.SILENT: "the cluster",
}


def reasons(
    spec: InterfaceSpec,
    ask: InterfaceAsk | None,
    scheme: str,
    dialect: Dialect = Dialect.DANM,
) -> Iterator[str]:
    """One sentence a decision; `ask` is None for a network that the cluster gives."""
    yield _why_asked(spec, ask, dialect)
    yield _why_named(spec, ask, scheme, dialect)
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
        {"destination": route.destination, "gateway": route.gateway, "table": RT_TABLE_MAIN}
        for route in default_routes(spec.default_gateways)
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


def _why_asked(spec: InterfaceSpec, ask: InterfaceAsk | None, dialect: Dialect) -> str:
    if ask is None and spec.index:
        return "npwg.more_networks gives this network to every pod"
    if ask is None and dialect in {Dialect.NPWG, Dialect.KNITTER}:
        return "the default network comes first, and the pod names no other for its place"
    if ask is None:
        return "the pod declares no interfaces, so it gets the default network"
    if dialect is not Dialect.DANM:
        key = ask.network
        name = f"{key.namespace}/{key.name}" if key.namespace else key.name
        return f"the pod names {name} in the words of {_DIALECT[dialect]}, {_meant(spec, ask)}"
    words = [f"{_REFERENCE[ask.network.kind]} {ask.network.name}"]
    for name, each in (("ip", ask.ip), ("ip6", ask.ip6)):
        if each.mode is not AddressMode.ABSENT:
            words.append(f"{name} {each.address or each.mode}")
    return f"entry {spec.index} of the annotation asks {', '.join(words)}"


def _meant(spec: InterfaceSpec, ask: InterfaceAsk) -> str:
    if not ask.network.is_object:
        return "which is a CNI configuration of this node"
    return f"which is {spec.network.key}"


def _why_named(spec: InterfaceSpec, ask: InterfaceAsk | None, scheme: str, dialect: Dialect) -> str:
    prefix = spec.network.container_prefix
    if ask is not None and ask.name:
        by_place = _BY_PLACE.get(dialect, "") + str(spec.index) == spec.name
        return f"named by position {spec.index}" if by_place else f"the entry names it {spec.name}"
    if spec.index == 0:
        return "the first interface is always eth0"
    if scheme and prefix:
        return f"the naming scheme {scheme} takes container_prefix {prefix} as it is"
    if prefix:
        return f"named by container_prefix {prefix} and position {spec.index}"
    return f"named by position {spec.index}"


def _why_device(spec: InterfaceSpec) -> str:
    network = spec.network
    if pool := network.device_pool:
        return f"on the next device of {pool} that the pod was given{_on_vlan(network)}"
    if spec.backend is Backend.DELEGATE:
        file = f"{spec.delegate_conf} of this node"
        return f"made by the CNI configuration {f'in {network.key}' if network.conf else file}"
    if network.segment is not None:
        segment = network.segment
        wire = f"{segment.kind} {segment.id} on {segment.parent}"
        if network.key.kind is NetworkKind.TENANT:
            return f"{wire} is assigned to the network from the TenantConfig"
        return f"{wire} is set in the network"
    if spec.backend is Backend.BRIDGE:
        return "a bridge of this network's own, on this node only"
    return f"directly on {network.host_device}, without VLAN or VXLAN"


def _on_vlan(network: NetworkSpec) -> str:
    return f", with {network.segment.kind} {network.segment.id}" if network.segment else ""


def _why_mac(spec: InterfaceSpec, ask: InterfaceAsk | None) -> list[str]:
    if spec.backend is Backend.IPVLAN:
        return ["ipvlan shares the MAC of its parent"]
    if ask is not None and ask.mac:
        return [f"the entry asks MAC {ask.mac}"]
    return []


def _why_default(spec: InterfaceSpec, ask: InterfaceAsk | None) -> list[str]:
    if not spec.default_gateways:
        return []
    if ask is not None and (ask.default_route or ask.plugin.gateways is not None):
        return ["the entry asks the default route"]
    return ["nobody asks the default route, so the first interface has it"]
