"""Words and addresses out of what other tools wrote."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.importing.values import (
    Holding,
    Parsed,
    UnreadableError,
    address_of,
    mapping_of,
    problem,
    text_of,
)

PLACE = Holding(source="t", where="f:1", network="n", address=ip_address("10.0.0.1"))


@pytest.mark.parametrize(
    ("text", "address"),
    [("10.0.0.7", "10.0.0.7"), ("10.0.0.7/24", "10.0.0.7"), ("fd00::7/64", "fd00::7")],
)
def test_an_address_may_carry_its_prefix_length(text: str, address: str) -> None:
    assert address_of(text) == ip_address(address)


@pytest.mark.parametrize("text", ["", "none", "10.0.0", "fe80::1%eth0", "10.0.0.1.2", "::g", "/"])
def test_what_is_no_address_is_refused_with_the_text(text: str) -> None:
    with pytest.raises(UnreadableError, match="is no address"):
        address_of(text)


@given(st.text())
def test_any_text_is_an_address_or_refused_as_such(text: str) -> None:
    try:
        found = address_of(text)
    except UnreadableError:
        return
    assert found == ip_address(text.partition("/")[0])


@pytest.mark.parametrize("value", [1, True, ["a"], {"a": 1}, "a\nb", "\x1b[2J", "x" * 257])
def test_only_printable_text_of_a_sensible_length_is_taken_over(value: object) -> None:
    with pytest.raises(UnreadableError):
        text_of({"name": value}, "name")


def test_absent_texts_and_objects_are_empty() -> None:
    assert text_of({}, "name") == text_of({"name": None}, "name") == ""
    assert mapping_of(None, "spec") == {}
    with pytest.raises(UnreadableError, match="spec is no object"):
        mapping_of(["spec"], "spec")


def test_a_holding_has_an_owner_when_its_container_is_known() -> None:
    assert not PLACE.is_owned
    assert Holding(
        source="t", where="", network="", address=ip_address("::1"), container_id="c"
    ).is_owned


def test_parts_are_joined_and_each_note_is_said_once() -> None:
    wrong = problem("f:1", "x", "words\x07")
    part = Parsed(holdings=(PLACE,), problems=(wrong,), notes=("n",))
    both = Parsed.joined((part, part))
    assert (len(both.holdings), len(both.problems), both.notes) == (2, 2, ("n",))
    assert str(wrong) == (
        "f:1: x: words\\x07 (look at it in the tool that wrote it; the rest is read) "
        "[ImportUnreadable]"
    )
