"""Which routes each interface of a pod gets: decided over all its interfaces together. Pure.

The kernel takes a destination once in each routing table, so two interfaces that want the same one
are a conflict, found here and not halfway through an attachment. The rules are DANM's (section
7.5) except for default routes, which DANM does not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Final

from danmpy.api.cni import MAIN_TABLE
from danmpy.api.specs import (
    Family,
    InterfaceAsk,
    IPAddress,
    IPNetwork,
    RouteSpec,
)
from danmpy.attach.values import Backend, InterfaceSpec
from danmpy.errors import ConflictError, IntentError
from danmpy.kernel.podlinks import PodRoute

_FAMILIES: Final[tuple[Family, Family]] = (4, 6)
_DEFAULT_DESTINATION: Final[Mapping[Family, IPNetwork]] = {
    4: ip_network("0.0.0.0/0"),
    6: ip_network("::/0"),
}
_GATEWAY_FIELD: Final[Mapping[Family, str]] = {4: "gateway", 6: "gateway6"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingRules:
    """What routes are decided by besides the interfaces.

    `has_primary` is False when a plugin before us in the chain has made the pod's first interface,
    which then has the default routes already. `strict`: several gateways of one family become
    routes with rising metrics (NPWG 1.3, section 4.1.1.2); else they are refused, as Multus does.
    """

    subject: str
    has_primary: bool = True
    strict: bool = True


def with_routing(
    specs: tuple[InterfaceSpec, ...], asks: tuple[InterfaceAsk, ...], rules: RoutingRules
) -> tuple[InterfaceSpec, ...]:
    """`specs` with their routes, policy routes and default gateways; `asks` in the same order.

    Default routes go to the interface whose entry says ``default_route: true`` or names gateways,
    else to the first.

    Raises:
        IntentError: policy routes without a table, a gateway out of reach, a default route without
            a gateway.
        ConflictError: two interfaces want the default route or the same destination.
    """
    subject = rules.subject
    chosen = _default_index(asks, subject)
    gateways = () if chosen is None else _wanted_gateways(specs[chosen], asks[chosen], rules)
    # Who names gateways takes the default route from whoever has it (NPWG); in DANM's words two
    # that want it are a conflict.
    taken = gateways if chosen is not None and asks[chosen].plugin.gateways is not None else ()
    table = _RouteTable(subject=subject)
    routed = []
    for at, (spec, ask) in enumerate(zip(specs, asks, strict=True)):
        usable = _usable_routes(spec)
        if at != chosen:
            usable = tuple(route for route in usable if not _leads_as(route, taken))
        routes = table.main_routes(spec, usable)
        proutes = _policy_routes(spec, ask, subject)
        table.claim_policy(spec, proutes)
        routed.append(replace(spec, routes=routes, proutes=proutes))
    if chosen is None:
        return tuple(_with_implicit_default(routed, asks, table) if rules.has_primary else routed)
    lead = routed[chosen]
    new = table.new_defaults(lead, gateways)
    if rules.has_primary and all(spec.backend is not Backend.DELEGATE for spec in specs):
        routed[chosen] = replace(lead, default_gateways=new)
        return tuple(routed)
    # What others make may come with a default route of its own.
    rest = tuple(route for route in lead.routes if not _leads_as(route, gateways))
    routed[chosen] = replace(lead, routes=rest, default_gateways=gateways, takes_default=True)
    return tuple(routed)


def default_routes(gateways: Sequence[IPAddress]) -> tuple[PodRoute, ...]:
    """Default routes over `gateways`, the first of each family with the lowest metric."""
    return tuple(
        PodRoute(
            destination=str(_DEFAULT_DESTINATION[gateway.version]),
            gateway=str(gateway),
            metric=_metric(gateway.version, at),
        )
        for family in _FAMILIES
        for at, gateway in enumerate(g for g in gateways if g.version == family)
    )


def _metric(family: Family, at: int) -> int:
    """IPv4 routes without a metric have 0, IPv6 ones 1024 (linux/ipv6_route.h)."""
    return at if family == 4 or not at else 1024 + at


def _leads_as(route: RouteSpec, gateways: Sequence[IPAddress]) -> bool:
    """Is it a default route of a family that `gateways` are of?"""
    return route.destination in {_DEFAULT_DESTINATION[gateway.version] for gateway in gateways}


def _default_index(asks: tuple[InterfaceAsk, ...], subject: str) -> int | None:
    chosen = [
        index
        for index, ask in enumerate(asks)
        if ask.default_route or ask.plugin.gateways is not None
    ]
    if len(chosen) > 1:
        word = "default_route" if asks[chosen[1]].default_route else "default-route"
        raise ConflictError(
            f"interfaces {chosen[0]} and {chosen[1]} both ask {word}",
            hint=f"set {word} on one interface only",
            subject=subject,
        )
    return chosen[0] if chosen else None


def _has_family(spec: InterfaceSpec, family: Family) -> bool:
    """Will the interface have an address of `family`? A delegate with its own IPAM: it may."""
    ask = spec.ip if family == 4 else spec.ip6
    return not spec.owns_addresses or ask.is_leased


def _usable_routes(spec: InterfaceSpec) -> tuple[RouteSpec, ...]:
    network = spec.network
    routes = {4: network.routes, 6: network.routes6}
    return tuple(r for f in _FAMILIES if _has_family(spec, f) for r in routes[f])


def _policy_routes(spec: InterfaceSpec, ask: InterfaceAsk, subject: str) -> tuple[RouteSpec, ...]:
    asked = {4: ask.proutes, 6: ask.proutes6}
    if not any(asked.values()):
        return ()
    where = f"interface {spec.index} on {spec.network.key}"
    if not spec.network.rt_table:
        raise IntentError(
            f"{where}: it has policy routes and the network has no routing table for them",
            hint="set Options.rt_tables on the network, or leave proutes and proutes6 out",
            subject=subject,
        )
    kept: list[RouteSpec] = []
    for family in _FAMILIES:
        pool = spec.network.pool(family)
        for route in asked[family] if _has_family(spec, family) else ():
            if pool is not None and route.gateway not in pool.subnet:
                raise IntentError(
                    f"{where}: the gateway {route.gateway} of the policy route to "
                    f"{route.destination} is not in {pool.subnet}",
                    hint="use a gateway that the interface can reach directly",
                    subject=subject,
                )
            kept.append(route)
    return tuple(kept)


def _wanted_gateways(
    spec: InterfaceSpec, ask: InterfaceAsk, rules: RoutingRules
) -> tuple[IPAddress, ...]:
    """The gateways of the interface that gets the default routes; none: it keeps the plugin's."""
    named = ask.plugin.gateways
    if named is None or (not named and spec.owns_addresses):
        return _asked_gateways(spec, rules.subject)
    for gateway in named:
        pool = spec.network.pool(gateway.version) if spec.owns_addresses else None
        problem = ""
        if not _has_family(spec, gateway.version):
            problem = f"it has no IPv{gateway.version} address to reach it from"
        elif pool is not None and gateway not in pool.subnet:
            problem = f"it is not in {pool.subnet}"
        elif not rules.strict and sum(g.version == gateway.version for g in named) > 1:
            problem = "only one gateway of a family can be used with npwg.strict off"
        if problem:
            raise IntentError(
                f"interface {spec.index} on {spec.network.key}: the gateway {gateway} of its "
                f"default-route cannot be used: {problem}",
                hint="name a gateway that the interface can reach directly",
                subject=rules.subject,
            )
    return tuple(dict.fromkeys(named))


def _asked_gateways(spec: InterfaceSpec, subject: str) -> tuple[IPAddress, ...]:
    gateways = _gateways(spec)
    if gateways:
        return gateways
    families = [f for f in _FAMILIES if _has_family(spec, f)]
    fields = " or ".join(_GATEWAY_FIELD[f] for f in families)
    hint = f"set Options.{fields} on the network" if fields else "ask an address with ip or ip6"
    raise IntentError(
        f"interface {spec.index} on {spec.network.key}: default_route is asked and there is no "
        "gateway for a family in which the interface has an address",
        hint=hint,
        subject=subject,
    )


def _gateways(spec: InterfaceSpec) -> tuple[IPAddress, ...]:
    network = spec.network
    gateways: dict[Family, IPAddress | None] = {4: network.gateway, 6: network.gateway6}
    found = (gateways[f] for f in _FAMILIES if _has_family(spec, f))
    return tuple(gateway for gateway in found if gateway is not None)


def _with_implicit_default(
    specs: list[InterfaceSpec], asks: tuple[InterfaceAsk, ...], table: _RouteTable
) -> list[InterfaceSpec]:
    """Nobody asked: the first interface gets the default routes of its network's gateways, except
    where a declared route already is the default one, the entry says ``default_route: false``, or
    a delegate keeps its own IPAM (its addresses need not be in the network's subnet).
    """
    if not specs or asks[0].default_route is False or not specs[0].owns_addresses:
        return specs
    gateways = tuple(g for g in _gateways(specs[0]) if not table.has_default(g))
    return [replace(specs[0], default_gateways=gateways), *specs[1:]]


class _RouteTable:
    """Which interface has which destination, by routing table: the kernel takes each once."""

    def __init__(self, *, subject: str) -> None:
        self._subject = subject
        self._taken: dict[tuple[int, IPNetwork], tuple[InterfaceSpec, IPAddress]] = {}

    def main_routes(
        self, spec: InterfaceSpec, routes: tuple[RouteSpec, ...]
    ) -> tuple[RouteSpec, ...]:
        """The network's routes that this interface installs. A second interface on the same
        network leaves them to the first: the pod has the route once, which is all it can have."""
        kept = []
        for route in routes:
            held = self._taken.get((MAIN_TABLE, route.destination))
            if held and held[0].network.key == spec.network.key:
                continue
            self._claim(MAIN_TABLE, spec, route)
            kept.append(route)
        return tuple(kept)

    def claim_policy(self, spec: InterfaceSpec, routes: tuple[RouteSpec, ...]) -> None:
        for route in routes:
            self._claim(spec.network.rt_table, spec, route)

    def new_defaults(
        self, spec: InterfaceSpec, gateways: tuple[IPAddress, ...]
    ) -> tuple[IPAddress, ...]:
        """The gateways whose default route is not already among the interface's own routes."""
        new = tuple(g for g in gateways if not self.has_default(g))
        first = {gateway.version: gateway for gateway in reversed(gateways)}
        for gateway in first.values():
            destination = _DEFAULT_DESTINATION[gateway.version]
            self._claim(MAIN_TABLE, spec, RouteSpec(destination=destination, gateway=gateway))
        return new

    def has_default(self, gateway: IPAddress) -> bool:
        return (MAIN_TABLE, _DEFAULT_DESTINATION[gateway.version]) in self._taken

    def _claim(self, table: int, spec: InterfaceSpec, route: RouteSpec) -> None:
        held = self._taken.setdefault((table, route.destination), (spec, route.gateway))
        other, gateway = held
        if other.index == spec.index and gateway == route.gateway:
            return
        raise ConflictError(
            f"interfaces {other.index} on {other.network.key} and {spec.index} on "
            f"{spec.network.key} both route {route.destination} in table {table}",
            hint="keep one of the routes, or use networks with different rt_tables",
            subject=self._subject,
        )
