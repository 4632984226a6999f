from __future__ import annotations

from ipaddress import ip_address, ip_network
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.addresses import (
    TextError,
    bounds,
    merged,
    parse_exact_subnet,
    parse_mac,
    parse_one,
    parse_ranges,
    parse_subnet,
    parse_unicast,
)


def test_host_bits_of_a_subnet_are_dropped() -> None:
    assert parse_subnet("10.0.0.7/24", 4) == ip_network("10.0.0.0/24")


@pytest.mark.parametrize(
    "text",
    ["", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/255.0.0.0", "x/8", "fe80::%1/64",
     "1/8/8",
     "10.0.0.0/-1", "10.0.0.0/٨"],
)  # fmt: skip
def test_a_text_that_is_no_subnet_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(TextError) as caught:
        parse_subnet(text, 4)
    assert "no IPv4 subnet" in caught.value.message
    assert caught.value.hint == "write it as 10.20.0.0/24"


def test_a_subnet_of_the_other_family_is_refused() -> None:
    with pytest.raises(TextError, match="IPv6 subnet where IPv4 belongs"):
        parse_subnet("2001:db8::/64", 4)


def test_an_exact_subnet_with_host_bits_is_refused_and_the_right_one_named() -> None:
    with pytest.raises(TextError) as caught:
        parse_exact_subnet("10.1.2.3/8", 4)
    assert caught.value.hint == "write 10.0.0.0/8"
    assert parse_exact_subnet("2001:db8::/32", 6) == ip_network("2001:db8::/32")


@pytest.mark.parametrize(("text", "family"), [("10.0.0.256", 4), ("::1", 4), ("10.0.0.1", 6)])
def test_an_address_must_be_of_its_family(text: str, family: int) -> None:
    with pytest.raises(TextError):
        parse_one(text, family)  # type: ignore[arg-type]


def test_an_address_with_a_zone_is_refused() -> None:
    with pytest.raises(TextError):
        parse_one("fe80::1%eth0", 6)


@pytest.mark.parametrize(
    "text", ["224.0.0.1", "127.0.0.1", "0.0.0.0", "255.255.255.255", "ff02::1", "::"]
)
def test_only_addresses_of_one_host_are_unicast(text: str) -> None:
    with pytest.raises(TextError, match="no address of one host"):
        parse_unicast(text)


def test_unicast_takes_both_families() -> None:
    assert parse_unicast("192.0.2.1") == ip_address("192.0.2.1")
    assert parse_unicast("2001:db8::1") == ip_address("2001:db8::1")


@pytest.mark.parametrize(
    ("text", "family", "first", "last"),
    [
        ("10.0.0.7", 4, "10.0.0.7", "10.0.0.7"),
        ("10.0.0.7-10.0.0.9", 4, "10.0.0.7", "10.0.0.9"),
        ("10.0.0.7 - 10.0.0.9", 4, "10.0.0.7", "10.0.0.9"),
        ("10.0.0.8/30", 4, "10.0.0.8", "10.0.0.11"),
        ("2001:db8::1-2001:db8::f", 6, "2001:db8::1", "2001:db8::f"),
    ],
)
def test_an_exclusion_is_an_address_a_range_or_a_subnet(
    text: str, family: int, first: str, last: str
) -> None:
    assert parse_ranges(text) == (family, (int(ip_address(first)), int(ip_address(last))))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("10.0.0.9-10.0.0.7", "write 10.0.0.7-10.0.0.9"),
        ("10.0.0.9/30", "write 10.0.0.8/30"),
        ("10.0.0.9-", "write it as 10.20.0.7"),
        ("10.0.0.1-2001:db8::1", "write it as 2001:db8:20::7"),
        ("nonsense", "write it as 10.20.0.7"),
    ],
)
def test_other_exclusions_are_refused_with_the_way_out(text: str, hint: str) -> None:
    with pytest.raises(TextError) as caught:
        parse_ranges(text)
    assert caught.value.hint == hint


def test_a_mac_is_normalised() -> None:
    assert parse_mac("02-AB-cd-00-00-01") == "02:ab:cd:00:00:01"


@pytest.mark.parametrize(
    "text",
    ["01:00:5e:00:00:01", "00:00:00:00:00:00", "02:00:00:00:00", "02:00-00:00:00:01", "x", ""],
)
def test_other_macs_are_refused(text: str) -> None:
    with pytest.raises(TextError):
        parse_mac(text)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 10))))
def test_merged_ranges_hold_the_same_addresses_sorted_and_apart(
    spans: list[tuple[int, int]],
) -> None:
    ranges = [(first, first + length) for first, length in spans]
    result = merged(ranges)
    want = {value for first, last in ranges for value in range(first, last + 1)}
    assert {value for first, last in result for value in range(first, last + 1)} == want
    assert all(one[1] + 1 < other[0] for one, other in pairwise(result))


def test_bounds_are_inclusive() -> None:
    assert bounds(ip_network("0.0.0.0/30")) == (0, 3)


@given(st.text(), st.sampled_from([parse_mac, parse_ranges, parse_unicast]))
def test_garbage_is_refused_with_a_way_out_and_nothing_else(text: str, parse: Any) -> None:
    error = None
    try:
        parse(text)
    except TextError as refused:
        error = refused
    assert error is None or (error.message and error.hint)
