"""Do leases and segments say what their events say? Looks at columns of rows and nothing else."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from danmpy.ipam.ledger import EventKind, canonical

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
OPENING = (
    EventKind.ALLOCATE,
    EventKind.REBIND,
    EventKind.RESERVE,
    EventKind.IMPORT,
    EventKind.ADOPT,
)
"""The events that begin a lease."""

_CLOSING = (EventKind.RELEASE, EventKind.REBIND)


def disagreements(
    lease: Columns, told: Sequence[Columns], closed: Sequence[Columns]
) -> Iterator[str]:
    """What differs between `lease` and its events, in words.

    `told` are the events about the lease and `closed` those that ended it, both in order.
    """
    opening = [item for item in told if item["kind"] in OPENING]
    if len(opening) != 1:
        count = "no event" if not opening else f"{len(opening)} events"
        yield f"{count} of the ledger began this lease"
    if opening:
        yield from _begun(lease, opening[0])
        macs = [item["mac"] for item in told if item["kind"] == EventKind.CONFIRM]
        yield from _differs("mac", lease["mac"], macs[-1] if macs else opening[0]["mac"])
    unclaimed = [item for item in closed if item["kind"] == EventKind.UNCLAIM]
    yield from _ended(lease, [item for item in closed if item["kind"] in _CLOSING], unclaimed)


def _begun(lease: Columns, event: Columns) -> Iterator[str]:
    address = _address(lease["address"])
    yield from _differs("address", address, event["address"])
    yield from _differs("address_text", lease["address_text"], address)
    for name in _SAME:
        yield from _differs(name, lease[name], event[name])
    yield from _differs("held_from", lease["held_from"], event["effective_at"])
    detail = detail_of(event["detail"])
    for name in ("mode", "prefix"):
        yield from _differs(name, lease[name], detail.get(name))
    for name in ("note", "claim", "shared_by"):
        yield from _differs(name, lease[name] or None, detail.get(name))


def _ended(
    lease: Columns, closing: Sequence[Columns], unclaimed: Sequence[Columns]
) -> Iterator[str]:
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
    last_word = unclaimed[-1] if unclaimed else event
    rest = None if passed_on else detail_of(last_word["detail"]).get("cool_until")
    yield from _differs("cool_until", lease["cool_until"], rest)


def _segment_detail(row: Columns) -> Columns:
    """What an event says of the row of `segment_assignment` that it tells of."""
    return {
        "uid": row["network_uid"],
        "device": row["profile"],
        "kind": row["kind"] or None,
        "id": row["number"],
    }


def segment_disagreements(
    rows: Sequence[Columns], events: Sequence[Columns]
) -> Iterator[tuple[str, str]]:
    """Where the rows of `segment_assignment` and the events about segments differ.

    Gives networks, and what differs in words.
    """
    for kind, time, verb in (
        (EventKind.SEGMENT_ASSIGN, "assigned_at", "assigned"),
        (EventKind.SEGMENT_RELEASE, "released_at", "released"),
    ):
        stored = Counter(
            (row["network"], canonical(_segment_detail(row)), row[time])
            for row in rows
            if row[time] is not None
        )
        told = Counter(
            (item["network"], item["detail"], item["effective_at"])
            for item in events
            if item["kind"] == kind
        )
        for network, detail, moment in stored - told:
            yield network, f"{detail} was {verb} at {moment}, but no event of the ledger says so"
        for network, detail, moment in told - stored:
            yield network, f"the ledger says that {detail} was {verb} at {moment}; no row says so"


def _address(stored: Any) -> str:
    """The text of a stored address; whatever was put there by hand is shown as it stands."""
    try:
        return str(ip_address(bytes(stored)))
    except (TypeError, ValueError):
        return repr(stored)


def detail_of(text: Any) -> Columns:
    """The detail of an event; nothing when somebody wrote over it by hand."""
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _differs(name: str, stored: object, said: object) -> Iterator[str]:
    if stored != said:
        yield f"{name} is {stored!r}, the ledger says {said!r}"
