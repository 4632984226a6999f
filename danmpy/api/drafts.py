"""A network manifest of the right shape, half read: what rules look at and values are built of.

Both families have the same fields under different names, so each family becomes one `FamilyDraft`
and every rule about addresses is written once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import pairwise
from typing import Final

from danmpy.api.addresses import Range, TextError, bounds, merged, parse_ranges, parse_subnet
from danmpy.api.limits import DEFAULT_NETWORK_TYPE, DYNAMIC_TYPES
from danmpy.api.networks import NetworkBody, NetworkOptions
from danmpy.api.specs import (
    Family,
    IPAddress,
    IPNetwork,
    NetworkKey,
    NetworkKind,
    NetworkSpec,
    PoolSpec,
    RouteSpec,
    SegmentKey,
    SegmentKind,
)

BUILT_IN_TYPES: Final = DYNAMIC_TYPES | {"bridge"}
"""NetworkTypes that are matched in any case; others name a plugin file and stay as written."""

OPTIONS: Final = "spec.Options"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldNames:
    """How the fields of one family are called in Options."""

    subnet: str
    pool: str
    routes: str
    gateway: str
    alloc: str


FIELDS: Final[Mapping[Family, FieldNames]] = {
    4: FieldNames(
        subnet="cidr", pool="allocation_pool", routes="routes", gateway="gateway", alloc="alloc"
    ),
    6: FieldNames(
        subnet="net6",
        pool="allocation_pool_v6",
        routes="routes6",
        gateway="gateway6",
        alloc="alloc6",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyDraft:
    """One family of a network as written; `subnet` and `base` are None when they cannot be read.

    `base` is what start and end default from: the pool's own cidr, else the subnet.
    """

    family: Family
    subnet_text: str
    pool_cidr: str
    start: str
    end: str
    routes: Mapping[str, str]
    gateway: str
    alloc: str
    subnet: IPNetwork | None
    base: IPNetwork | None

    @property
    def names(self) -> FieldNames:
        """The names of the fields, for the words of a finding."""
        return FIELDS[self.family]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkDraft:
    """A network on its way to a NetworkSpec; `backend` is NetworkType normalised."""

    kind: NetworkKind
    body: NetworkBody
    backend: str
    v4: FamilyDraft
    v6: FamilyDraft

    @property
    def options(self) -> NetworkOptions:
        """spec.Options."""
        return self.body.options

    @property
    def families(self) -> tuple[FamilyDraft, FamilyDraft]:
        """IPv4, then IPv6."""
        return self.v4, self.v6


def draft_network(kind: NetworkKind, body: NetworkBody) -> NetworkDraft:
    """`body` half read; never fails."""
    options = body.options
    v4 = _draft_family(4, options, options.allocation_pool.start, options.allocation_pool.end)
    pool6 = options.allocation_pool_v6
    v6 = _draft_family(6, options, pool6.start, pool6.end, pool6.cidr)
    return NetworkDraft(kind=kind, body=body, backend=normal_type(body.network_type), v4=v4, v6=v6)


def default_bounds(base: IPNetwork) -> Range:
    """The pool when nobody says otherwise: all but the first and the last address of `base`.

    Point-to-point subnets and single addresses reserve nothing (RFC 3021, RFC 6164).
    """
    first, last = bounds(base)
    return (first, last) if _is_small(base) else (first + 1, last - 1)


def build_network(key: NetworkKey, uid: str, draft: NetworkDraft) -> NetworkSpec:
    """The trusted value of a `draft` in which the rules found nothing."""
    options = draft.options
    gateway4, gateway6 = (_gateway(family) for family in draft.families)
    return NetworkSpec(
        key=key,
        uid=uid,
        network_id=draft.body.network_id,
        backend=draft.backend,
        host_device=options.host_device,
        device_pool=options.device_pool,
        segment=_segment(draft),
        container_prefix=options.container_prefix,
        rt_table=options.rt_tables,
        v4=_pool(draft.v4, options),
        v6=_pool(draft.v6, options),
        routes=_routes(draft.v4),
        routes6=_routes(draft.v6),
        gateway=gateway4,  # type: ignore[arg-type]  # a FamilyDraft of IPv4 has such a gateway
        gateway6=gateway6,  # type: ignore[arg-type]
        mtu=options.mtu,
        vxlan_remotes=tuple(ip_address(text) for text in options.vxlan_remotes),
        allowed_tenants=frozenset(draft.body.allowed_tenants) or None,
    )


def normal_type(network_type: str) -> str:
    """NetworkType as it is compared: the built-in words in lower case, others as written."""
    word = network_type or DEFAULT_NETWORK_TYPE
    return word.lower() if word.lower() in BUILT_IN_TYPES else word


def _draft_family(
    family: Family, options: NetworkOptions, start: str, end: str, pool_cidr: str = ""
) -> FamilyDraft:
    subnet_text = options.cidr if family == 4 else options.net6
    subnet = _subnet_or_none(subnet_text, family)
    return FamilyDraft(
        family=family,
        subnet_text=subnet_text,
        pool_cidr=pool_cidr,
        start=start,
        end=end,
        routes=options.routes if family == 4 else options.routes6,
        gateway=options.gateway if family == 4 else options.gateway6,
        alloc=options.alloc if family == 4 else options.alloc6,
        subnet=subnet,
        base=_subnet_or_none(pool_cidr, family) if pool_cidr else subnet,
    )


def _subnet_or_none(text: str, family: Family) -> IPNetwork | None:
    try:
        return parse_subnet(text, family)
    except TextError:
        return None


def _is_small(subnet: IPNetwork) -> bool:
    return subnet.prefixlen >= subnet.max_prefixlen - 1


def _segment(draft: NetworkDraft) -> SegmentKey | None:
    """The wire of the network; on a device pool one of the pool, as for profiles of pools."""
    options = draft.options
    parent = options.host_device or options.device_pool
    if not parent or not (options.vlan or options.vxlan):
        return None
    return SegmentKey(
        parent=parent,
        kind=SegmentKind.VLAN if options.vlan else SegmentKind.VXLAN,
        id=options.vlan or options.vxlan,
    )


def _gateway(draft: FamilyDraft) -> IPAddress | None:
    return ip_address(draft.gateway) if draft.gateway else None


def _routes(draft: FamilyDraft) -> tuple[RouteSpec, ...]:
    return tuple(
        RouteSpec(destination=parse_subnet(destination, draft.family), gateway=ip_address(gateway))
        for destination, gateway in draft.routes.items()
    )


def spans_of(texts: Iterable[str], family: Family) -> tuple[Range, ...]:
    """The spans of `family` in `exclude` or `ranges`, merged; what cannot be read is left out."""
    spans: list[Range] = []
    for text in texts:
        with suppress(TextError):
            found, span = parse_ranges(text)
            if found == family:
                spans.append(span)
    return merged(spans)


def _pool(draft: FamilyDraft, options: NetworkOptions) -> PoolSpec | None:
    if draft.subnet is None or draft.base is None:
        return None
    first, last = default_bounds(draft.base)
    first = int(ip_address(draft.start)) if draft.start else first
    last = int(ip_address(draft.end)) if draft.end else last
    spans = spans_of(options.ranges, draft.family) or ((first, last),)
    return PoolSpec(
        family=draft.family,
        subnet=draft.subnet,
        first=spans[0][0],
        last=spans[-1][1],
        gaps=tuple((one[1] + 1, two[0] - 1) for one, two in pairwise(spans)),
        reserved=merged(_reserved(draft, draft.subnet)),
        excluded=spans_of(options.exclude, draft.family),
    )


def _reserved(draft: FamilyDraft, subnet: IPNetwork) -> list[Range]:
    """Network and broadcast address (IPv6: the subnet-router anycast address, RFC 4291 2.6.1, and,
    as DANM does, the last one), and every gateway."""
    first, last = bounds(subnet)
    ends = [] if _is_small(subnet) else [first, last]
    gateways = [int(ip_address(text)) for text in (*draft.routes.values(), draft.gateway) if text]
    return [(value, value) for value in (*ends, *gateways)]
