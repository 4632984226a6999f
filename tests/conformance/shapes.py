"""The shape of a result in each version: what must be there, and what that version knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, Final

from conformance.verdicts import Kind, version_key

_DNS: Final = {"nameservers", "domain", "search", "options"}
_ROUTE: Final = {"dst", "gw"}
_ROUTE_1_1: Final = _ROUTE | {"mtu", "advmss", "priority", "table", "scope"}


def problems(result: Mapping[str, Any], version: str, kind: Kind) -> list[str]:
    """What is wrong with `result` as a result of `version`."""
    key = version_key(version)
    found = []
    if result.get("cniVersion") != version:
        found.append(f"cniVersion is {result.get('cniVersion')!r} instead of {version!r}")
    try:
        if key < (0, 3, 0):
            found += _old(result)
        else:
            found += _modern(result, key, kind)
        found += _unknown("dns", result.get("dns", {}), _DNS)
    except (AttributeError, TypeError, ValueError, KeyError) as error:
        found.append(f"{type(error).__name__}: {error}")
    return found


def addresses(result: Mapping[str, Any]) -> list[str]:
    """The addresses of a result of any version, with prefix length."""
    old = [result[family]["ip"] for family in ("ip4", "ip6") if family in result]
    return old + [ip["address"] for ip in result.get("ips", [])]


def _old(result: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown("the result", result, {"cniVersion", "ip4", "ip6", "dns"})
    if not {"ip4", "ip6"} & set(result):
        yield "neither ip4 nor ip6"
    for name, family in (("ip4", 4), ("ip6", 6)):
        if name in result:
            yield from _unknown(name, result[name], {"ip", "gateway", "routes"})
            if ip_interface(result[name]["ip"]).version != family:
                yield f"{name} has {result[name]['ip']}"
            yield from _routes(result[name].get("routes", []), _ROUTE)


def _modern(result: Mapping[str, Any], key: tuple[int, ...], kind: Kind) -> Iterator[str]:
    yield from _unknown("the result", result, {"cniVersion", "interfaces", "ips", "routes", "dns"})
    interfaces = result.get("interfaces", [])
    if kind is Kind.IPAM and "interfaces" in result:
        yield "an IPAM plugin knows no interfaces"
    if kind is Kind.INTERFACE and not interfaces:
        yield "no interfaces"
    for interface in interfaces:
        yield from _interface(interface, key)
    for ip in result.get("ips", []):
        yield from _ip(ip, key, len(interfaces), kind)
    yield from _routes(result.get("routes", []), _ROUTE_1_1 if key >= (1, 1, 0) else _ROUTE)


def _interface(interface: Mapping[str, Any], key: tuple[int, ...]) -> Iterator[str]:
    known = {"name", "mac", "sandbox"}
    if key >= (1, 1, 0):
        known |= {"mtu", "socketPath", "pciID"}
    yield from _unknown("an interface", interface, known)
    if not interface.get("name"):
        yield "an interface without name"
    if not isinstance(interface.get("mtu", 0), int):
        yield f"mtu {interface['mtu']!r}"


def _ip(ip: Mapping[str, Any], key: tuple[int, ...], interfaces: int, kind: Kind) -> Iterator[str]:
    known = {"address", "gateway", "interface"} | ({"version"} if key < (1, 0, 0) else set())
    yield from _unknown("an ip", ip, known)
    address = ip_interface(ip["address"])
    if "/" not in ip["address"]:
        yield f"{ip['address']} without prefix length"
    if key < (1, 0, 0) and ip.get("version") != str(address.version):
        yield f"version {ip.get('version')!r} at {address}"
    if ip.get("gateway") and ip_address(ip["gateway"]).version != address.version:
        yield f"gateway {ip['gateway']} at {address}"
    index = ip.get("interface")
    if kind is Kind.IPAM and index is not None:
        yield f"an IPAM plugin knows no interface {index}"
    if kind is Kind.INTERFACE and index is None:
        yield f"{address} without interface"
    if index is not None and not 0 <= index < interfaces:
        yield f"interface {index} of {interfaces} at {address}"


def _routes(routes: list[Mapping[str, Any]], known: set[str]) -> Iterator[str]:
    for route in routes:
        yield from _unknown("a route", route, known)
        ip_network(route["dst"])
        if route.get("gw"):
            ip_address(route["gw"])


def _unknown(what: str, found: Mapping[str, Any], known: set[str]) -> Iterator[str]:
    if more := sorted(set(found) - known):
        yield f"{what} has {', '.join(more)}, which this version does not know"
