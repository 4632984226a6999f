"""What whereabouts holds: IPPools. Pure.

``spec.allocations`` maps an offset to who has the address. The offset counts from the address that
``spec.range`` is written with (whereabouts, pkg/storage/kubernetes/ipam.go: net.ParseCIDR): the
network address, unless the range was written with host bits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_interface
from typing import Any, Final

from danmpy.api.specs import IPAddress, IPNetwork
from danmpy.importing.values import (
    Holding,
    Parsed,
    UnreadableError,
    mapping_of,
    problem,
    text_of,
)
from danmpy.intent.documents import Document
from danmpy.intent.values import Problem

SOURCE: Final = "whereabouts"
POOL: Final = "IPPool"
OVERLAPPING: Final = "OverlappingRangeIPReservation"

_OFFSET: Final = re.compile(r"\d{1,39}", re.ASCII)


def parse_whereabouts(documents: Sequence[Document]) -> Parsed:
    """The addresses in use of every IPPool; the network of each is the pool's name."""
    problems: list[Problem] = []
    holdings: list[Holding] = []
    copies = others = 0
    for document in documents:
        body = document.body
        kind = body.get("kind") if isinstance(body, dict) else None
        if kind == POOL:
            _pool(document.where, body, holdings, problems)
        elif kind == OVERLAPPING:
            copies += 1
        elif isinstance(kind, str):
            others += 1
        else:
            problems.append(problem(document.where, SOURCE, "it is no object of an API"))
    notes = []
    if copies:
        notes.append(f"{OVERLAPPING}s are passed over, the IPPools say the same: {copies}")
    if others:
        notes.append(f"objects of other kinds are passed over: {others}")
    return Parsed(holdings=tuple(holdings), problems=tuple(problems), notes=tuple(notes))


def _pool(
    where: str, body: Mapping[str, Any], holdings: list[Holding], problems: list[Problem]
) -> None:
    subject = POOL
    try:
        name = text_of(mapping_of(body.get("metadata"), "metadata"), "name")
        subject = f"{POOL}/{name}"
        spec = mapping_of(body.get("spec"), "spec")
        first, subnet = _range(text_of(spec, "range"))
        allocations = mapping_of(spec.get("allocations"), "allocations")
    except UnreadableError as error:
        problems.append(problem(where, subject, str(error)))
        return
    for offset, entry in allocations.items():
        try:
            address = _address(first, subnet, str(offset))
            holdings.append(_holding(where, name, address, mapping_of(entry, "the allocation")))
        except UnreadableError as error:
            problems.append(problem(where, subject, f"allocation {offset}: {error}"))


def _range(text: str) -> tuple[IPAddress, IPNetwork]:
    try:
        if "/" not in text or "%" in text:
            raise ValueError(text)
        written = ip_interface(text)
    except ValueError:
        raise UnreadableError(f"range {text!r} is no subnet") from None
    return written.ip, written.network


def _address(first: IPAddress, subnet: IPNetwork, offset: str) -> IPAddress:
    if not _OFFSET.fullmatch(offset):
        raise UnreadableError("the offset is no number")
    value = int(first) + int(offset)
    if value > int(subnet.broadcast_address):
        raise UnreadableError(f"the offset is beyond {subnet}")
    return first + int(offset)


def _holding(where: str, pool: str, address: IPAddress, entry: Mapping[str, Any]) -> Holding:
    # namespace/name; the name alone in the first releases.
    namespace, _, pod = text_of(entry, "podref").rpartition("/")
    container = text_of(entry, "id").strip()
    # Without the sandbox's id a later DEL cannot find it, but the pod is known.
    if not container and pod:
        container = f"whereabouts:{pool}:{address}"
    return Holding(
        source=SOURCE,
        where=where,
        network=pool,
        address=address,
        namespace=namespace,
        pod=pod,
        container_id=container,
        interface=text_of(entry, "ifname"),
    )
