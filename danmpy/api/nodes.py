"""What a Node object says about VXLAN tunnels: where they end on this node, parent by parent."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from danmpy.api.addresses import TextError, parse_unicast
from danmpy.api.jsontext import a_json, parse_json
from danmpy.api.specs import IPAddress
from danmpy.api.words import is_link_name

VTEPS: Final = "danm.k8s.io/vteps"
"""Annotation: JSON object, parent device -> VTEP address or list of addresses."""

OBSERVED_VTEPS: Final = "danm.k8s.io/observed-vteps"
"""Annotation of the same shape that each node's daemon keeps: what it found, parent by parent."""

EVERY_PARENT: Final = "*"

_EXAMPLE: Final = 'write a JSON object such as {"ens4": "192.0.2.11"}'


def parse_vteps(text: str) -> dict[str, tuple[IPAddress, ...]]:
    """The value of the annotation.

    Raises:
        TextError: it is no such object, a key is no link name, an address none of one host.
    """
    try:
        value = parse_json(text)
    except TextError as error:
        raise TextError(error.message, error.hint or _EXAMPLE) from None
    if not isinstance(value, dict):
        raise TextError(f"it is {a_json(value)} and not an object", _EXAMPLE)
    result: dict[str, tuple[IPAddress, ...]] = {}
    for parent, written in value.items():
        if parent != EVERY_PARENT and not is_link_name(parent):
            raise TextError(f"{parent!r} cannot be the name of an interface", _EXAMPLE)
        addresses = written if isinstance(written, list) else [written]
        if not all(isinstance(address, str) for address in addresses):
            raise TextError(f"{parent} has something that is no address", _EXAMPLE)
        result[parent] = tuple(map(parse_unicast, addresses))
    return result


def observed_vteps(text: object, written: Collection[str]) -> dict[str, tuple[IPAddress, ...]]:
    """What the node's daemon found, for parents about which nothing is `written` by hand.

    A text that cannot be read counts as none: no person wrote it, and none has to correct it.
    """
    if EVERY_PARENT in written or not isinstance(text, str):
        return {}
    try:
        found = parse_vteps(text)
    except TextError:
        return {}
    return {parent: each for parent, each in found.items() if parent not in written}


def internal_addresses(status: object) -> tuple[IPAddress, ...]:
    """The InternalIP entries of a node's status; what cannot be read is passed over."""
    return tuple(_internal(status))


def _internal(status: object) -> Iterator[IPAddress]:
    entries: Any = status.get("addresses") if isinstance(status, Mapping) else None
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, Mapping) and entry.get("type") == "InternalIP":
            try:
                yield parse_unicast(str(entry.get("address")))
            except TextError:
                continue
