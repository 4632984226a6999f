"""Pools and picking."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.specs import PoolSpec
from danmpy.errors import IntentError
from danmpy.ipam.pools import layout, pack, require_assignable, subtract, take_fresh, unpack

BASE = int(ip_address("10.0.0.0"))
RANGES = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=8)


def spec(first: int, last: int, reserved=(), excluded=()) -> PoolSpec:
    return PoolSpec(
        family=4,
        subnet=ip_network("10.0.0.0/23"),
        first=BASE + first,
        last=BASE + last,
        reserved=tuple((BASE + a, BASE + b) for a, b in reserved),
        excluded=tuple((BASE + a, BASE + b) for a, b in excluded),
    )


def members(ranges) -> set[int]:
    return {value for first, last in ranges for value in range(first, last + 1)}


@given(RANGES, RANGES)
def test_subtraction_leaves_exactly_the_rest_ascending_and_disjoint(ranges, holes) -> None:
    disjoint = subtract(((0, 300),), ranges)

    rest = subtract(disjoint, holes)

    assert members(rest) == members(disjoint) - members(holes)
    assert list(rest) == sorted(rest)
    assert all(first <= last for first, last in rest)
    assert sum(last - first + 1 for first, last in rest) == len(members(rest))


@given(RANGES, st.integers(0, 310))
def test_a_layout_knows_its_members_and_the_next_one(holes, value) -> None:
    space = layout(spec(0, 300, excluded=[hole for hole in holes if hole[0] <= hole[1]]))
    inside = members(space.ranges)

    assert space.capacity == len(inside)
    assert space.holds(BASE + value) == (BASE + value in inside)
    assert space.at_or_after(BASE + value) == min(
        (each for each in inside if each >= BASE + value), default=None
    )


@given(
    st.sets(st.integers(1, 300)),
    st.lists(st.integers(1, 40), min_size=1, max_size=12),
    st.integers(1, 250),
)
def test_the_cursor_hands_out_every_free_address_once_in_order(held, counts, last) -> None:
    space = layout(spec(1, last))
    busy_values = {BASE + value for value in held}
    cursor: int | None = BASE
    got: list[int] = []
    for count in counts:
        values, cursor = take_fresh(
            space, cursor, count, lambda low, high: {v for v in busy_values if low <= v <= high}
        )
        assert len(values) <= count
        got += values

    free = [BASE + value for value in range(1, last + 1) if value not in held]
    assert got == free[: sum(counts)]


def test_a_long_run_of_held_addresses_costs_few_questions() -> None:
    space = layout(
        PoolSpec(family=4, subnet=ip_network("10.0.0.0/8"), first=BASE, last=BASE + 2**24 - 1)
    )
    asked: list[int] = []

    def busy(low: int, high: int) -> range:
        asked.append(high)
        return range(low, min(high, BASE + 500_000) + 1)

    values, _ = take_fresh(space, BASE, 1, busy)

    assert values == (BASE + 500_001,)
    assert len(asked) < 20


@pytest.mark.parametrize(
    ("text", "word"), [("10.0.2.0", "outside"), ("10.0.0.1", "reserved"), ("10.0.0.5", "excluded")]
)
def test_a_static_address_is_refused_with_the_reason(text, word) -> None:
    guarded = spec(10, 20, reserved=[(0, 1)], excluded=[(5, 5)])

    with pytest.raises(IntentError, match=word):
        require_assignable(guarded, ip_address(text), "x")
    require_assignable(guarded, ip_address("10.0.0.200"), "x")


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**128 - 1))
def test_stored_addresses_order_as_numbers(one, two) -> None:
    assert (pack(6, one) < pack(6, two)) == (one < two)
    assert unpack(pack(6, one)) == one
