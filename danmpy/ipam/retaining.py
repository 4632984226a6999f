"""What may be forgotten: the decision over whole seals of the ledger, and their leases.

A seal is the unit, because its root covers all of its events: it goes whole or it stays whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from danmpy.clock import MICROSECONDS
from danmpy.ipam.agreement import OPENING
from danmpy.ipam.ledger import EventKind

DAY: Final = 86_400 * MICROSECONDS

KEPT: Final = frozenset(
    {
        EventKind.PRUNE,
        EventKind.HOLD,
        EventKind.RETENTION,
        EventKind.EPOCH,
        EventKind.SEGMENT_ASSIGN,
        EventKind.SEGMENT_RELEASE,
    }
)
"""Never forgotten: what happened to the history itself, and the few events about segments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """History that is kept whatever its age. One of the three says which.

    `network` is a full name, `address` the canonical text of an address.
    """

    id: int = 0
    namespace: str = ""
    network: str = ""
    address: str = ""
    note: str = ""
    actor: str = ""
    held_at: int = 0

    def __str__(self) -> str:
        for name in ("namespace", "network", "address"):
            value = getattr(self, name)
            if value:
                return f"{name} {value}"
        return "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """An event, or a lease that ended, as far as its age matters. `at` is microseconds."""

    namespace: str
    network: str
    address: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedEvent:
    """One event of a seal."""

    kind: str
    about: Happened
    lease_id: int | None = None
    closed_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How long what is kept. Days; 0 is for ever. `default` is for namespaces without own days."""

    default: int
    days: Mapping[str, int] = field(default_factory=dict)
    holds: tuple[Hold, ...] = ()

    @property
    def shortest(self) -> int:
        """The shortest period in days; 0 when everything is kept for ever."""
        return min((days for days in (self.default, *self.days.values()) if days), default=0)

    def is_due(self, item: Happened, now: int) -> bool:
        """May `item` be forgotten at `now`?"""
        days = self.days.get(item.namespace, self.default)
        if days == 0 or item.at >= now - days * DAY:
            return False
        return not any(
            (hold.namespace and hold.namespace == item.namespace)
            or (hold.network and hold.network == item.network)
            or (hold.address and hold.address == item.address)
            for hold in self.holds
        )


def due_seals(
    seals: Sequence[tuple[int, Sequence[SealedEvent]]],
    leases: Mapping[int, Happened | None],
    rules: Rules,
    now: int,
) -> tuple[int, ...]:
    """The numbers of those of `seals` (in order, each with its events) that may be forgotten whole.

    `leases` are those that the events tell of and that are there: with their end, None for an open
    one. A seal stays while one of its events is kept, while a lease that it began is open or kept,
    and while a lease that it ended or tells of was begun in a seal that stays: every lease that is
    there has its whole story.
    """
    gone: set[int] = set()
    due = []
    for number, events in seals:
        begun = {event.lease_id for event in events if event.kind in OPENING}
        if all(_is_due(event, rules, now) for event in events) and all(
            _may_go(lease_id, begun, leases, rules, now)
            for lease_id in _told_of(events)
            if lease_id in leases and lease_id not in gone
        ):
            due.append(number)
            gone |= {lease_id for lease_id in begun if lease_id is not None}
    return tuple(due)


def _is_due(event: SealedEvent, rules: Rules, now: int) -> bool:
    return event.kind not in KEPT and rules.is_due(event.about, now)


def _told_of(events: Iterable[SealedEvent]) -> AbstractSet[int]:
    ids = (number for event in events for number in (event.lease_id, event.closed_id))
    return {number for number in ids if number is not None}


def _may_go(
    lease_id: int,
    begun: AbstractSet[int | None],
    leases: Mapping[int, Happened | None],
    rules: Rules,
    now: int,
) -> bool:
    lease = leases[lease_id]
    return lease_id in begun and lease is not None and rules.is_due(lease, now)
