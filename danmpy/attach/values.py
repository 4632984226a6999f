"""The values that flow through an attachment: what is wanted, what was made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Interface, IPv6Interface

from danmpy.api.specs import AddressAsk, IPAddress, NetworkSpec, RouteSpec

IPInterface = IPv4Interface | IPv6Interface


class Backend(StrEnum):
    """Who makes the interface."""

    IPVLAN = "ipvlan"
    MACVLAN = "macvlan"
    BRIDGE = "bridge"
    DELEGATE = "delegate"


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceSpec:
    """One interface that a pod is to get, complete and accepted; addresses still to be leased.

    `index` is the position in the annotation (0 is the first). `mac` is None where the backend has
    none to choose (ipvlan shares its parent's; a delegate may choose). `owns_addresses`: do
    the addresses come from our leases? No only for a delegate that keeps its own IPAM.
    `default_gateways` are the next hops of the default routes this interface gets (one a family).
    `ipv6` says whether IPv6 stays enabled on the interface (an address or ``none`` was asked).
    """

    index: int
    name: str
    network: NetworkSpec
    backend: Backend
    ip: AddressAsk
    ip6: AddressAsk
    mac: str | None
    owns_addresses: bool
    ipv6: bool
    mtu: int | None
    routes: tuple[RouteSpec, ...] = ()
    proutes: tuple[RouteSpec, ...] = ()
    default_gateways: tuple[IPAddress, ...] = ()
    delegate_conf: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodIdentity:
    """Who is attached: pod, sandbox, namespace path, and the interface name the runtime asked."""

    namespace: str
    pod: str
    uid: str
    container_id: str
    netns: str
    ifname: str
