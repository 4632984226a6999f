"""The rules about the addresses of a network: subnets, pools, routes, gateways, exclusions.

The numbers are those of DANM 4.3's webhook rules (1 to 20). Where it differs on purpose, the rule
says so. Each rule is a pure function from one family of a draft to what it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Final

from danmpy.api.addresses import (
    TextError,
    bounds,
    parse_one,
    parse_ranges,
    parse_subnet,
)
from danmpy.api.drafts import OPTIONS, FamilyDraft, NetworkDraft, default_bounds, spans_of
from danmpy.api.findings import Finding
from danmpy.api.limits import IPV4_PREFIX_MIN
from danmpy.api.specs import IPAddress, IPNetwork

FamilyRule = Callable[[FamilyDraft], Iterator[Finding]]


def subnet_readable(draft: FamilyDraft) -> Iterator[Finding]:
    """Rules 2, 5, 9, 14: cidr is an IPv4 subnet and net6 an IPv6 subnet."""
    if draft.subnet_text and draft.subnet is None:
        try:
            parse_subnet(draft.subnet_text, draft.family)
        except TextError as error:
            yield _text_finding(draft.names.subnet, "SubnetInvalid", error)


def subnet_not_too_large(draft: FamilyDraft) -> Iterator[Finding]:
    """Rule 10, with /8 instead of /9: no bitmap has to fit into an etcd object here."""
    if draft.family == 4 and draft.subnet and draft.subnet.prefixlen < IPV4_PREFIX_MIN:
        yield _finding(
            draft.names.subnet,
            "SubnetTooLarge",
            f"{draft.subnet} is larger than a /{IPV4_PREFIX_MIN}",
            f"use a prefix length of {IPV4_PREFIX_MIN} or more",
        )


def nothing_without_subnet(draft: FamilyDraft) -> Iterator[Finding]:
    """Rules 1, 4, 8, 13: routes, pool and gateway need the subnet of their family."""
    names = draft.names
    if draft.subnet_text:
        return
    given = {
        names.routes: bool(draft.routes),
        f"{names.pool}.cidr": bool(draft.pool_cidr),
        f"{names.pool}.start": bool(draft.start),
        f"{names.pool}.end": bool(draft.end),
        names.gateway: bool(draft.gateway),
    }
    for field, is_given in given.items():
        if is_given:
            yield _finding(
                field,
                "SubnetMissing",
                f"{field} is set and {names.subnet} is not",
                f"set {names.subnet}, or delete {field}",
            )


def alloc_unset(draft: FamilyDraft) -> Iterator[Finding]:
    """Rule 7: the bitmap is not for people. DANM itself writes empty text, which is fine."""
    if draft.alloc:
        yield _finding(
            draft.names.alloc,
            "AllocSet",
            f"{draft.names.alloc} is set",
            "delete the field: allocations are kept in the database",
        )


def pool_cidr_inside(draft: FamilyDraft) -> Iterator[Finding]:
    """Rules 15, 16, 19. Rule 17 (capacity, /128) falls away: no bitmap, every size works."""
    if not draft.pool_cidr:
        return
    field = f"{draft.names.pool}.cidr"
    try:
        parse_subnet(draft.pool_cidr, draft.family)
    except TextError as error:
        yield _text_finding(field, "PoolInvalid", error)
    if draft.base and draft.subnet and not _contains(draft.subnet, draft.base):
        yield _finding(
            field,
            "PoolOutside",
            f"{draft.base} is not inside {draft.subnet}",
            f"use a part of {draft.subnet}",
        )


def pool_bounds_inside(draft: FamilyDraft) -> Iterator[Finding]:
    """Rules 11, 18: start and end are addresses of the subnet, or of the pool's own cidr."""
    for name, text in (("start", draft.start), ("end", draft.end)):
        if not text:
            continue
        field = f"{draft.names.pool}.{name}"
        try:
            address = parse_one(text, draft.family)
        except TextError as error:
            yield _text_finding(field, "PoolInvalid", error)
            continue
        if draft.base is not None and address not in draft.base:
            yield _finding(
                field,
                "PoolOutside",
                f"{address} is not in {draft.base}",
                f"use an address of {draft.base}",
            )


def pool_in_order(draft: FamilyDraft) -> Iterator[Finding]:
    """Rules 12, 20, except that a pool of one address is fine here."""
    if draft.base is None:
        return
    first, last = default_bounds(draft.base)
    try:
        first = int(parse_one(draft.start, draft.family)) if draft.start else first
        last = int(parse_one(draft.end, draft.family)) if draft.end else last
    except TextError:
        return  # `pool_bounds_inside` says it
    low, high = bounds(draft.base)
    if low <= last < first <= high:  # else outside, which is told already
        start, end = _address(draft, first), _address(draft, last)
        yield _finding(
            f"{draft.names.pool}.end",
            "PoolReversed",
            f"the pool ends at {end}, before its start {start}",
            "swap start and end, or set both",
        )


def routes_readable(draft: FamilyDraft) -> Iterator[Finding]:
    """Rules 3, 6: gateways are in the subnet. Ours: destinations can be read, too.

    DANM drops a destination that it cannot read when it attaches a pod, without a word. Host bits
    it reads over (Go's net.ParseCIDR), and its users' manifests have them.
    """
    seen: set[IPNetwork] = set()
    for destination_text, gateway in draft.routes.items():
        field = f"{draft.names.routes}.{destination_text}"
        try:
            destination = parse_subnet(destination_text, draft.family)
        except TextError as error:
            yield _text_finding(field, "RouteInvalid", error)
        else:
            if destination in seen:
                yield _finding(
                    field, "RouteInvalid", f"{destination} is routed twice", "keep one of them"
                )
            seen.add(destination)
        yield from _gateway_inside(draft, field, gateway)


def gateway_usable(draft: FamilyDraft) -> Iterator[Finding]:
    """Ours: the gateway is an address of the subnet, and in IPv4 one that a host can have."""
    if not draft.gateway:
        return
    findings = list(_gateway_inside(draft, draft.names.gateway, draft.gateway))
    yield from findings
    if findings or draft.family == 6 or draft.subnet is None or draft.subnet.num_addresses <= 2:
        return
    if int(ip_address(draft.gateway)) in bounds(draft.subnet):
        yield _finding(
            draft.names.gateway,
            "GatewayInvalid",
            f"{draft.gateway} is the network or broadcast address of {draft.subnet}",
            "use another address of the subnet",
        )


FAMILY_RULES: Final[tuple[FamilyRule, ...]] = (
    subnet_readable,
    subnet_not_too_large,
    nothing_without_subnet,
    alloc_unset,
    pool_cidr_inside,
    pool_bounds_inside,
    pool_in_order,
    routes_readable,
    gateway_usable,
)


def exclude_inside(draft: NetworkDraft) -> Iterator[Finding]:
    """Ours: every exclusion can be read and lies inside cidr or net6."""
    yield from _spans_inside(draft, "exclude", draft.options.exclude, "Exclude")


def ranges_usable(draft: NetworkDraft) -> Iterator[Finding]:
    """Ours: every range can be read and lies inside cidr or net6, and no pool says otherwise."""
    texts = draft.options.ranges
    yield from _spans_inside(draft, "ranges", texts, "Ranges")
    for own in draft.families:
        names = own.names
        if (own.pool_cidr or own.start or own.end) and spans_of(texts, own.family):
            yield _finding(
                "ranges",
                "RangesBesidePool",
                f"ranges has IPv{own.family} addresses and {names.pool} is set as well",
                f"delete {names.pool}, and write what it says into ranges",
            )


def _spans_inside(draft: NetworkDraft, name: str, texts: list[str], code: str) -> Iterator[Finding]:
    for index, text in enumerate(texts):
        field = f"{name}[{index}]"
        try:
            family, span = parse_ranges(text)
        except TextError as error:
            yield _text_finding(field, f"{code}Invalid", error)
            continue
        own = draft.v4 if family == 4 else draft.v6
        if own.subnet is None:
            if not own.subnet_text:
                yield _finding(
                    field,
                    f"{code}Outside",
                    f"{text} is IPv{family} and the network has no {own.names.subnet}",
                    f"delete the entry, or set {own.names.subnet}",
                )
            continue
        first, last = bounds(own.subnet)
        if span[0] < first or span[1] > last:
            yield _finding(
                field,
                f"{code}Outside",
                f"{text} is not inside {own.subnet}",
                f"write addresses of {own.subnet}",
            )


def _gateway_inside(draft: FamilyDraft, field: str, text: str) -> Iterator[Finding]:
    try:
        gateway = parse_one(text, draft.family)
    except TextError as error:
        yield _text_finding(field, "GatewayInvalid", error)
        return
    if draft.subnet is not None and gateway not in draft.subnet:
        yield _finding(
            field,
            "GatewayOutside",
            f"gateway {gateway} is not in {draft.subnet}",
            f"use an address of {draft.subnet}",
        )


def _contains(outer: IPNetwork, inner: IPNetwork) -> bool:
    first, last = bounds(inner)
    low, high = bounds(outer)
    return low <= first and last <= high


def _address(draft: FamilyDraft, value: int) -> IPAddress:
    return ip_address(value.to_bytes(4 if draft.family == 4 else 16, "big"))


def _finding(field: str, code: str, message: str, hint: str) -> Finding:
    return Finding(path=f"{OPTIONS}.{field}", code=code, message=message, hint=hint)


def _text_finding(field: str, code: str, error: TextError) -> Finding:
    return _finding(field, code, f"{field}: {error.message}", error.hint)
