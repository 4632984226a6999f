"""What DANM holds: bitmaps in its network objects, and DanmEps. Pure.

A bitmap (``Options.alloc``) is Base64 over the whole ``cidr``: bit 0, the highest of the first
byte, is the network address (DANM, pkg/bitarray). ``alloc6`` counts from the first address of
``allocation_pool_v6.cidr``. Bits of the first and the last address and of gateways are set for
ever. A bit does not say who has the address; the DanmEp of an interface does.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from danmpy.api.addresses import TextError, bounds, parse_mac, parse_subnet
from danmpy.api.specs import (
    DANM_KINDS,
    AddressMode,
    Family,
    IPAddress,
    IPNetwork,
    NetworkKind,
)
from danmpy.importing.values import (
    Holding,
    Parsed,
    UnreadableError,
    address_of,
    mapping_of,
    problem,
    text_of,
)
from danmpy.intent.documents import Document
from danmpy.intent.values import Problem

SOURCE: Final = "DANM"
ENDPOINT: Final = "DanmEp"
UNOWNED_MAX: Final = 100_000
"""Addresses without a DanmEp in one bitmap; more than that is a damaged bitmap, or no DanmEps."""

_KINDS: Final = frozenset(DANM_KINDS)
_NO_ADDRESS: Final = frozenset({"", "none"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bitmap:
    """The bits of one family of one network. `fixed` are set for no pod; `pool` is dynamic."""

    where: str
    network: str
    family: Family
    subnet: IPNetwork
    data: bytes
    fixed: frozenset[int]
    pool: tuple[int, int] | None

    def set_addresses(self) -> Iterator[int]:
        """Every address whose bit is set, the fixed ones left out."""
        first, last = bounds(self.subnet)
        for place, octet in enumerate(self.data):
            if octet:
                for bit in range(8):
                    value = first + 8 * place + bit
                    if octet & (0x80 >> bit) and value <= last and value not in self.fixed:
                        yield value


def parse_danm(documents: Sequence[Document]) -> Parsed:
    """The addresses in use by DanmEps, and those whose bit is set without one."""
    problems: list[Problem] = []
    holdings: list[Holding] = []
    bitmaps: list[_Bitmap] = []
    others = 0
    for document in documents:
        body = document.body
        kind = body.get("kind") if isinstance(body, dict) else None
        subject = _subject(body)
        try:
            if kind == ENDPOINT:
                holdings += _endpoint(document.where, body)
            elif isinstance(kind, str) and kind in _KINDS:
                bitmaps += _bitmaps(document.where, kind, body)
            elif isinstance(kind, str):
                others += 1
            else:
                raise UnreadableError("it is no object of an API")
        except UnreadableError as error:
            problems.append(problem(document.where, subject, str(error)))
    owned = {(item.network, item.address) for item in holdings}
    pools = {(item.network, item.family): item for item in bitmaps}
    holdings = [_with_mode(item, pools) for item in holdings]
    for bitmap in bitmaps:
        found = _unowned(bitmap, owned)
        if found is None:
            words = f"more than {UNOWNED_MAX} bits are set without a DanmEp"
            problems.append(problem(bitmap.where, bitmap.network, words))
        else:
            holdings += found
    notes = [f"objects of other kinds are passed over: {others}"] if others else []
    if bitmaps and not owned:
        notes.append("there is no DanmEp with an address, so nobody is known to have one")
    return Parsed(holdings=tuple(holdings), problems=tuple(problems), notes=tuple(notes))


def _subject(body: object) -> str:
    if not isinstance(body, dict):
        return SOURCE
    metadata = body.get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    parts = (body.get("kind"), named.get("namespace"), named.get("name"))
    return "/".join(part for part in parts if isinstance(part, str) and part) or SOURCE


def _key(kind: str, namespace: str, name: str) -> str:
    """The text of the network's key, as here."""
    if kind == NetworkKind.CLUSTER:
        return f"{kind}/{name}"
    return f"{kind}/{namespace}/{name}"


def _endpoint(where: str, body: Mapping[str, Any]) -> list[Holding]:
    metadata = mapping_of(body.get("metadata"), "metadata")
    spec = mapping_of(body.get("spec"), "spec")
    interface = mapping_of(spec.get("Interface"), "Interface")
    namespace, name = text_of(metadata, "namespace"), text_of(metadata, "name")
    kind = text_of(spec, "apiType") or NetworkKind.DANM
    # NetworkID in the releases before NetworkName.
    network = text_of(spec, "NetworkName") or text_of(spec, "NetworkID")
    if kind not in _KINDS or not network:
        raise UnreadableError("it names no network")
    endpoint = text_of(spec, "EndpointID") or name
    container = text_of(spec, "CID") or (f"danm:{endpoint}" if endpoint else "")
    if not container:
        raise UnreadableError("it has neither CID nor EndpointID")
    found = []
    for field, family in (("Address", 4), ("AddressIPv6", 6)):
        text = text_of(interface, field)
        if text in _NO_ADDRESS:
            continue
        address = address_of(text)
        if address.version != family:
            raise UnreadableError(f"{field} is no IPv{family} address: {text}")
        found.append(
            Holding(
                source=SOURCE,
                where=where,
                network=_key(kind, namespace, network),
                address=address,
                namespace=namespace,
                pod=text_of(spec, "Pod"),
                pod_uid=text_of(spec, "PodUID"),
                container_id=container,
                interface=text_of(interface, "Name"),
                node=text_of(spec, "Host"),
                mac=_mac(text_of(interface, "MacAddress")),
            )
        )
    return found


def _mac(text: str) -> str | None:
    """The MAC address, where it is one: nothing hangs on it."""
    try:
        return parse_mac(text)
    except TextError:
        return None


def _bitmaps(where: str, kind: str, body: Mapping[str, Any]) -> list[_Bitmap]:
    metadata = mapping_of(body.get("metadata"), "metadata")
    options = mapping_of(mapping_of(body.get("spec"), "spec").get("Options"), "Options")
    name = text_of(metadata, "name")
    if not name:
        raise UnreadableError("it has no name")
    key = _key(kind, text_of(metadata, "namespace"), name)
    found = []
    pool4 = mapping_of(options.get("allocation_pool"), "allocation_pool")
    pool6 = mapping_of(options.get("allocation_pool_v6"), "allocation_pool_v6")
    parts: tuple[tuple[str, Family, Any, str, Mapping[str, Any]], ...] = (
        ("alloc", 4, options.get("cidr"), "routes", pool4),
        ("alloc6", 6, pool6.get("cidr"), "routes6", pool6),
    )
    for field, family, cidr, routes, pool in parts:
        text = options.get(field)
        if not text:
            continue
        subnet = _subnet(cidr, family, field)
        first, last = bounds(subnet)
        gateways = mapping_of(options.get(routes), routes).values()
        found.append(
            _Bitmap(
                where=where,
                network=key,
                family=family,
                subnet=subnet,
                data=_bits(text, subnet, field),
                fixed=frozenset({first, last, *_numbers(gateways)}),
                pool=_range(pool),
            )
        )
    return found


def _subnet(cidr: object, family: Family, field: str) -> IPNetwork:
    if not isinstance(cidr, str):
        raise UnreadableError(f"{field} is set, but its subnet is not")
    try:
        return parse_subnet(cidr, family)
    except TextError as error:
        raise UnreadableError(f"{field}: {error.message}") from None


def _bits(text: object, subnet: IPNetwork, field: str) -> bytes:
    if not isinstance(text, str):
        raise UnreadableError(f"{field} is no text")
    try:
        data = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise UnreadableError(f"{field} is no Base64") from None
    if 8 * len(data) < subnet.num_addresses:
        raise UnreadableError(
            f"{field} has {8 * len(data)} bits, fewer than {subnet} has addresses"
        )
    return data


def _numbers(texts: Any) -> Iterator[int]:
    for text in texts:
        try:
            yield int(address_of(text))
        except (UnreadableError, AttributeError):
            continue  # no gateway, and so no bit of its own


def _range(pool: Mapping[str, Any]) -> tuple[int, int] | None:
    ends = tuple(_numbers((pool.get("start"), pool.get("end"))))
    return (ends[0], ends[1]) if len(ends) == 2 else None


def _with_mode(holding: Holding, bitmaps: Mapping[tuple[str, Family], _Bitmap]) -> Holding:
    """Outside the dynamic pool an address can only have been asked for by name."""
    bitmap = bitmaps.get((holding.network, holding.address.version))
    if bitmap is None or bitmap.pool is None:
        return holding
    first, last = bitmap.pool
    inside = first <= int(holding.address) <= last
    return holding if inside else replace(holding, mode=AddressMode.STATIC)


def _unowned(bitmap: _Bitmap, owned: set[tuple[str, IPAddress]]) -> list[Holding] | None:
    """The addresses without a DanmEp; None when there are too many."""
    found: list[Holding] = []
    for value in bitmap.set_addresses():
        address = bitmap.subnet.network_address + (value - int(bitmap.subnet.network_address))
        if (bitmap.network, address) in owned:
            continue
        if len(found) == UNOWNED_MAX:
            return None
        found.append(
            Holding(source=SOURCE, where=bitmap.where, network=bitmap.network, address=address)
        )
    return found
