"""Short ways to make the values that many tests need."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any, cast

from danmpy.api.specs import (
    AddressAsk,
    AddressMode,
    InterfaceAsk,
    NetworkKey,
    NetworkKind,
    NetworkSpec,
    PodSpec,
    PoolSpec,
    RouteSpec,
    SegmentKey,
    SegmentKind,
)

DYNAMIC = AddressAsk(mode=AddressMode.DYNAMIC)
NONE = AddressAsk(mode=AddressMode.NONE)


def static(text: str) -> AddressAsk:
    """A request for the literal address `text`."""
    return AddressAsk(mode=AddressMode.STATIC, address=ip_address(text))


def tenant_key(name: str, namespace: str = "blue") -> NetworkKey:
    return NetworkKey(kind=NetworkKind.TENANT, namespace=namespace, name=name)


def cluster_key(name: str) -> NetworkKey:
    return NetworkKey(kind=NetworkKind.CLUSTER, name=name)


def danm_key(name: str, namespace: str = "blue") -> NetworkKey:
    return NetworkKey(kind=NetworkKind.DANM, namespace=namespace, name=name)


def pool(cidr: str) -> PoolSpec:
    """The pool of `cidr` with its first and last address reserved."""
    net = ip_network(cidr)
    low, high = int(net.network_address), int(net.broadcast_address)
    family = cast("Any", net.version)
    return PoolSpec(
        family=family,
        subnet=net,
        first=low + 1,
        last=high - 1,
        reserved=((low, low), (high, high)),
    )


def network(
    key: NetworkKey, *, v4: str = "", v6: str = "", vni: int = 0, **more: Any
) -> NetworkSpec:
    """A macvlan network on ens4 with subnets given as text; `more` are fields of NetworkSpec."""
    spec = NetworkSpec(
        key=key,
        uid=f"uid-{key.name}",
        network_id=key.name[:10],
        backend="macvlan",
        host_device="ens4",
        segment=SegmentKey(parent="ens4", kind=SegmentKind.VXLAN, id=vni) if vni else None,
        v4=pool(v4) if v4 else None,
        v6=pool(v6) if v6 else None,
    )
    return replace(spec, **more)


def route(destination: str, gateway: str) -> RouteSpec:
    return RouteSpec(destination=ip_network(destination), gateway=ip_address(gateway))


def ask(key: NetworkKey, ip: AddressAsk = AddressAsk(), **more: Any) -> InterfaceAsk:  # noqa: B008
    return InterfaceAsk(network=key, ip=ip, **more)


def pod(namespace: str = "blue", name: str = "web-0") -> PodSpec:
    return PodSpec(namespace=namespace, name=name, uid="pod-uid")
