"""Does a lease say what its events say? Looks at the columns of rows and at nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from danmpy.ipam.ledger import EventKind

Columns = Mapping[Any, Any]

_SAME = (
    "network",
    "domain",
    "family",
    "interface",
    "namespace",
    "pod",
    "pod_uid",
    "container_id",
    "node",
)
_OPENING = (EventKind.ALLOCATE, EventKind.REBIND)
_CLOSING = (EventKind.RELEASE, EventKind.REBIND)


def disagreements(
    lease: Columns, told: Sequence[Columns], closed: Sequence[Columns]
) -> Iterator[str]:
    """What differs between `lease` and its events, in words.

    `told` are the events about the lease and `closed` those that ended it, both in order.
    """
    opening = [item for item in told if item["kind"] in _OPENING]
    if len(opening) != 1:
        count = "no event" if not opening else f"{len(opening)} events"
        yield f"{count} of the ledger began this lease"
    if opening:
        yield from _begun(lease, opening[0])
        macs = [item["mac"] for item in told if item["kind"] == EventKind.CONFIRM]
        yield from _differs("mac", lease["mac"], macs[-1] if macs else opening[0]["mac"])
    yield from _ended(lease, [item for item in closed if item["kind"] in _CLOSING])


def _begun(lease: Columns, event: Columns) -> Iterator[str]:
    address = _address(lease["address"])
    yield from _differs("address", address, event["address"])
    yield from _differs("address_text", lease["address_text"], address)
    for name in _SAME:
        yield from _differs(name, lease[name], event[name])
    yield from _differs("held_from", lease["held_from"], event["effective_at"])
    detail = _detail(event["detail"])
    for name in ("mode", "prefix"):
        yield from _differs(name, lease[name], detail.get(name))


def _ended(lease: Columns, closing: Sequence[Columns]) -> Iterator[str]:
    if lease["held_to"] is None:
        if closing:
            yield "it is held, but the ledger says that it ended"
        return
    if len(closing) != 1:
        count = "no event" if not closing else f"{len(closing)} events"
        yield f"it ended, but {count} of the ledger ended it"
        return
    event = closing[0]
    yield from _differs("held_to", lease["held_to"], event["effective_at"])
    passed_on = event["kind"] == EventKind.REBIND
    reason = "rebound" if passed_on else event["reason"]
    yield from _differs("end_reason", lease["end_reason"], reason)


def _address(stored: Any) -> str:
    """The text of a stored address; whatever was put there by hand is shown as it stands."""
    try:
        return str(ip_address(bytes(stored)))
    except (TypeError, ValueError):
        return repr(stored)


def _detail(text: Any) -> Columns:
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _differs(name: str, stored: object, said: object) -> Iterator[str]:
    if stored != said:
        yield f"{name} is {stored!r}, the ledger says {said!r}"
