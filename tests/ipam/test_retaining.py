"""What may be forgotten: whole seals, and only such whose every event and lease may go."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.ipam.ledger import EventKind
from danmpy.ipam.retaining import DAY, KEPT, Happened, Hold, Rules, SealedEvent, due_seals

NOW = 1000 * DAY
OLD = NOW - 500 * DAY
RULES = Rules(default=400)


def happened(at: int = OLD, namespace: str = "blue") -> Happened:
    return Happened(namespace=namespace, network="TenantNetwork/blue/a", address="10.0.0.1", at=at)


def begins(lease_id: int, at: int = OLD, namespace: str = "blue") -> SealedEvent:
    return SealedEvent(kind=EventKind.ALLOCATE, about=happened(at, namespace), lease_id=lease_id)


def ends(lease_id: int, at: int = OLD) -> SealedEvent:
    return SealedEvent(kind=EventKind.RELEASE, about=happened(at), closed_id=lease_id)


def test_a_lease_that_ended_goes_with_the_seals_that_tell_of_it() -> None:
    seals = [(1, [begins(1)]), (2, [ends(1)])]
    assert due_seals(seals, {1: happened()}, RULES, NOW) == (1, 2)


def test_a_seal_that_began_an_open_lease_stays_and_so_does_the_end_of_its_neighbour() -> None:
    seals = [(1, [begins(1), begins(2)]), (2, [ends(2)]), (3, [begins(3), ends(3)])]
    leases = {1: None, 2: happened(), 3: happened()}
    assert due_seals(seals, leases, RULES, NOW) == (3,)


def test_a_lease_that_ended_too_late_keeps_its_beginning() -> None:
    seals = [(1, [begins(1)])]
    assert due_seals(seals, {1: happened(NOW - 399 * DAY)}, RULES, NOW) == ()


def test_an_end_whose_beginning_went_before_may_go() -> None:
    assert due_seals([(2, [ends(1)])], {}, RULES, NOW) == (2,)


@pytest.mark.parametrize(
    "hold",
    [Hold(namespace="blue"), Hold(network="TenantNetwork/blue/a"), Hold(address="10.0.0.1")],
    ids=str,
)
def test_a_hold_keeps_what_it_names(hold: Hold) -> None:
    seals, leases = [(1, [begins(1), ends(1)])], {1: happened()}
    assert due_seals(seals, leases, replace(RULES, holds=(hold,)), NOW) == ()
    other = Hold(namespace="blu", network="TenantNetwork/blue/ab", address="10.0.0.11")
    assert due_seals(seals, leases, replace(RULES, holds=(other,)), NOW) == (1,)


def test_each_namespace_has_its_own_period_and_zero_is_for_ever() -> None:
    rules = Rules(default=0, days={"blue": 400, "red": 600})
    assert rules.shortest == 400
    assert rules.is_due(happened(), NOW)
    assert not rules.is_due(happened(namespace="red"), NOW)
    assert not rules.is_due(happened(namespace="green", at=0), NOW)
    assert Rules(default=0).shortest == 0


@pytest.mark.parametrize("kind", sorted(KEPT))
def test_what_tells_of_the_history_itself_is_never_forgotten(kind: str) -> None:
    told = SealedEvent(kind=kind, about=happened(0, namespace=""))
    assert due_seals([(1, [told])], {}, RULES, NOW) == ()


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[tuple[int, list[SealedEvent]]], dict[int, Happened]]:
    """Leases that begin and end in order, cut into seals anywhere; older events come first."""
    events: list[SealedEvent] = []
    leases: dict[int, Happened | None] = {}
    at = 0
    for _ in range(draw(st.integers(1, 30))):
        at += draw(st.integers(0, 60)) * DAY
        running = [number for number, end in leases.items() if end is None]
        namespace = draw(st.sampled_from(["blue", "red"]))
        if running and draw(st.booleans()):
            number = draw(st.sampled_from(running))
            leases[number] = happened(at, namespace)
            events.append(ends(number, at))
        else:
            number = len(leases) + 1
            leases[number] = None
            events.append(begins(number, at, namespace))
    seals = []
    while events:
        size = draw(st.integers(1, 5))
        seals.append((len(seals) + 1, events[:size]))
        events = events[size:]
    return seals, leases  # type: ignore[return-value]


@given(histories(), st.integers(0, 2000), st.booleans())
def test_every_lease_that_stays_keeps_its_whole_story(
    history: tuple[list[tuple[int, list[SealedEvent]]], dict[int, Happened | None]],
    days: int,
    held: bool,
) -> None:
    seals, leases = history
    rules = replace(RULES, holds=(Hold(namespace="red"),) if held else ())
    now = days * DAY
    due = due_seals(seals, leases, rules, now)
    gone = [event for number, events in seals if number in due for event in events]
    left = [event for number, events in seals if number not in due for event in events]
    lost = {event.lease_id for event in gone if event.lease_id}
    assert all(rules.is_due(event.about, now) for event in gone)
    for number, end in leases.items():
        if number in lost:
            assert end is not None
            assert rules.is_due(end, now)
        else:
            assert not any(number in (event.lease_id, event.closed_id) for event in gone)
            assert any(number == event.lease_id for event in left)
