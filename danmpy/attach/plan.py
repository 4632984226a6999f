"""From decided interfaces and their leases to links, settings and results. Pure.

The same values are applied by ADD, compared by CHECK, and undone by DEL.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface, ip_network

from danmpy.api.cni import MAIN_TABLE, CniDns, CniInterface, CniIp, CniResult, CniRoute
from danmpy.api.limits import IFNAME_MAX_BYTES
from danmpy.api.specs import IPAddress, RouteSpec
from danmpy.attach.deciding.routing import default_routes
from danmpy.attach.values import Backend, InterfaceSpec, IPInterface, PodIdentity
from danmpy.kernel.podlinks import (
    RT_TABLE_MAIN,
    PodFacts,
    PodLink,
    PodLinkConfig,
    PodLinkFacts,
    PodRoute,
    PodRule,
)

ALIAS_PREFIX = "danmpy pod="
"""Every link that is made for a pod carries this alias, so that DEL finds it without a record."""

HOST_LINK_PREFIX = "dmp"
_CONTAINER_ID_SHOWN = 64
"""Characters; runtimes use 64. An alias has 255 bytes at most (linux/if.h, IFALIASZ)."""


def alias_of(container_id: str) -> str:
    """The alias of all links of one sandbox; two sandboxes never share one."""
    if len(container_id) <= _CONTAINER_ID_SHOWN:
        return f"{ALIAS_PREFIX}{container_id}"
    digest = hashlib.sha256(container_id.encode()).hexdigest()
    return f"{ALIAS_PREFIX}{container_id[:_CONTAINER_ID_SHOWN]}~{digest[:16]}"


def host_link_name(container_id: str, name: str) -> str:
    """The node's end of a veth pair: the same for every retry, different for every interface."""
    digest = hashlib.sha256(f"{container_id}/{name}".encode()).hexdigest()
    return (HOST_LINK_PREFIX + digest)[:IFNAME_MAX_BYTES]


def plan_link(spec: InterfaceSpec, device: str, identity: PodIdentity) -> PodLink | None:
    """The link to make for `spec` on the node's `device`; None when a delegate makes it."""
    if spec.backend is Backend.DELEGATE:
        return None
    if spec.backend is Backend.BRIDGE:
        return PodLink(
            name=spec.name,
            kind="veth",
            parent=device,
            mac=spec.mac,
            mtu=spec.mtu,
            host_name=host_link_name(identity.container_id, spec.name),
            host_alias=alias_of(identity.container_id),
        )
    mac = spec.mac if spec.backend is Backend.MACVLAN else None
    return PodLink(name=spec.name, kind=spec.backend.value, parent=device, mac=mac, mtu=spec.mtu)


def plan_config(
    spec: InterfaceSpec, addresses: Sequence[IPInterface], container_id: str
) -> PodLinkConfig:
    """What to set on the link of `spec` once it has `addresses`.

    Routes of a family apply only when the interface has an address of that family (DANM 4.3). A
    policy rule looks at one address and not at the whole subnet, so that two interfaces in one
    subnet each keep their own table (DANM's rule per subnet made the second one fail).
    """
    families = {address.version for address in addresses}
    leading = () if spec.takes_default else spec.default_gateways
    routes = list(default_routes([gateway for gateway in leading if gateway.version in families]))
    routes += _routes(spec.routes, families, RT_TABLE_MAIN)
    proutes = _routes(spec.proutes, families, spec.network.rt_table)
    policy_families = {route.destination.version for route in spec.proutes}
    return PodLinkConfig(
        alias=alias_of(container_id),
        ipv6=spec.ipv6,
        addresses=tuple(str(address) for address in addresses),
        routes=(*routes, *proutes),
        rules=tuple(
            PodRule(source=str(address.ip), table=spec.network.rt_table)
            for address in addresses
            if address.version in policy_families
        ),
    )


def stand_ins(spec: InterfaceSpec) -> tuple[IPInterface, ...]:
    """Addresses such as `spec` may get, to try a delegate's configuration with before any is
    leased.
    """
    pools = {4: spec.network.v4, 6: spec.network.v6}
    asks = {4: spec.ip, 6: spec.ip6}
    return tuple(
        ip_interface((ask.address or pool.address(pool.first), pool.subnet.prefixlen))
        for family, ask in asks.items()
        if ask.is_leased and (pool := pools[family]) is not None
    )


def _routes(routes: Sequence[RouteSpec], families: AbstractSet[int], table: int) -> list[PodRoute]:
    return [
        PodRoute(destination=str(route.destination), gateway=str(route.gateway), table=table)
        for route in routes
        if route.destination.version in families
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeInterface:
    """One interface after it was made: its facts, and for a delegate what the delegate said."""

    spec: InterfaceSpec
    config: PodLinkConfig
    facts: PodLinkFacts | None = None
    host_name: str = ""
    delegate: CniResult | None = None


def plan_result(made: Sequence[MadeInterface], netns: str, ifname: str = "") -> CniResult:
    """The answer to ADD: `ifname`, the others in the pod's order, then the node's veth ends.

    Runtimes take the first address of the interface that they asked for as the pod's.
    """
    made = sorted(made, key=lambda item: item.spec.name != ifname)
    interfaces: list[CniInterface] = []
    ips: list[CniIp] = []
    routes: list[CniRoute] = []
    for item in made:
        if item.delegate is None:
            _report_own(item, netns, (interfaces, ips))
        else:
            _report_delegate(item.delegate, (interfaces, ips))
            routes += item.delegate.routes
        routes += _report_routes(item)
    hosts = [CniInterface(name=item.host_name) for item in made if item.host_name]
    return CniResult(interfaces=(*interfaces, *hosts), ips=tuple(ips), routes=tuple(routes))


def extend_result(previous: CniResult | None, own: CniResult) -> CniResult:
    """What plugins before us in a chain made, and what we made (CNI spec 1.1.0, section 2, ADD)."""
    if previous is None:
        return own
    before = len(previous.interfaces)
    ips = (
        replace(ip, interface=None if ip.interface is None else ip.interface + before)
        for ip in own.ips
    )
    return CniResult(
        interfaces=(*previous.interfaces, *own.interfaces),
        ips=(*previous.ips, *ips),
        routes=(*previous.routes, *own.routes),
        dns=own.dns if own.dns != CniDns() else previous.dns,
    )


def without_defaults(result: CniResult, families: Collection[int]) -> CniResult:
    """`result` without the default routes of the main table in these families."""
    kept = (
        route
        for route in result.routes
        if route.dst.prefixlen
        or route.dst.version not in families
        or route.table not in {None, MAIN_TABLE}
    )
    return replace(result, routes=tuple(kept))


def default_gateways(result: CniResult) -> tuple[IPAddress, ...]:
    """The next hops of the default routes of the main table, each once. A route that names none
    goes over the gateway of an address of its family (CNI spec 1.1.0, section 5).
    """
    gateways = {ip.address.version: ip.gateway for ip in reversed(result.ips) if ip.gateway}
    hops = (
        route.gw or gateways.get(route.dst.version)
        for route in result.routes
        if route.dst.prefixlen == 0 and route.table in {None, MAIN_TABLE}
    )
    return tuple(dict.fromkeys(hop for hop in hops if hop))


_Parts = tuple[list[CniInterface], list[CniIp]]


def _report_own(item: MadeInterface, netns: str, parts: _Parts) -> None:
    interfaces, ips = parts
    index = len(interfaces)
    facts, network = item.facts, item.spec.network
    interfaces.append(
        CniInterface(
            name=item.spec.name,
            mac=facts.mac if facts else "",
            sandbox=netns,
            mtu=facts.mtu if facts else 0,
        )
    )
    for text in item.config.addresses:
        address = ip_interface(text)
        gateway = network.gateway if address.version == 4 else network.gateway6
        ips.append(CniIp(address=address, gateway=gateway, interface=index))


def _report_routes(item: MadeInterface) -> list[CniRoute]:
    return [
        CniRoute(
            dst=ip_network(route.destination),
            gw=ip_address(route.gateway) if route.gateway else None,
            priority=route.metric,
            table=None if route.table == MAIN_TABLE else route.table,
        )
        for route in item.config.routes
    ]


def _report_delegate(result: CniResult, parts: _Parts) -> None:
    """Take over a delegate's result, its indices moved behind the interfaces before it."""
    interfaces, ips = parts
    inside = [(n, link) for n, link in enumerate(result.interfaces) if link.sandbox]
    moved = {old: len(interfaces) + new for new, (old, _) in enumerate(inside)}
    first = min(moved.values(), default=None)
    interfaces += [link for _, link in inside]
    for ip in result.ips:
        index = first if ip.interface is None or ip.interface < 0 else moved.get(ip.interface)
        ips.append(CniIp(address=ip.address, gateway=ip.gateway, interface=index))


def differences(
    name: str, link: PodLink, config: PodLinkConfig, facts: PodFacts
) -> tuple[str, ...]:
    """What is no longer as ADD made it, one sentence each; empty when all is well.

    More addresses or routes than ours are no difference: a later plugin of the chain, or the pod
    itself, may have added them (CNI spec 1.1.0, CHECK).
    """
    seen = facts.links.get(name)
    if seen is None:
        return (f"interface {name} is gone",)
    found: list[str] = []
    if seen.kind != link.kind:
        found.append(f"interface {name} is a {seen.kind or 'plain'} link, not {link.kind}")
    if not seen.up:
        found.append(f"interface {name} is down")
    if link.mac and seen.mac != link.mac:
        found.append(f"interface {name} has MAC {seen.mac}, not {link.mac}")
    if link.mtu and seen.mtu != link.mtu:
        found.append(f"interface {name} has MTU {seen.mtu}, not {link.mtu}")
    found += [
        f"interface {name} has lost address {address}"
        for address in config.addresses
        if address not in facts.addresses[name]
    ]
    found += lost_routes(name, config, facts)
    found += [
        f"the rule from {rule.source} into table {rule.table} is gone"
        for rule in config.rules
        if rule not in facts.rules
    ]
    return tuple(found)


def lost_routes(name: str, config: PodLinkConfig, facts: PodFacts) -> list[str]:
    """The routes of `config` that the interface, which is there, no longer has; a sentence each."""
    have = {(r.destination, r.gateway, r.table) for r in facts.routes[name]}
    return [
        f"interface {name} has lost the route to {route.destination} via {route.gateway}"
        for route in config.routes
        if (route.destination, route.gateway, route.table) not in have
    ]


def addresses_by_interface(
    pairs: Sequence[tuple[str, IPInterface]],
) -> Mapping[str, tuple[IPInterface, ...]]:
    """The leased addresses of each interface, IPv4 first."""
    grouped: dict[str, list[IPInterface]] = {}
    for name, address in pairs:
        grouped.setdefault(name, []).append(address)
    return {name: tuple(sorted(items, key=lambda a: a.version)) for name, items in grouped.items()}
