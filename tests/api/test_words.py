from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.words import (
    counted,
    is_file_name,
    is_link_name,
    is_link_prefix,
    is_namespace,
    is_object_name,
    nearest,
    printable,
)


@pytest.mark.parametrize("name", ["a", "web-0", "a.b.c", "0", "a" * 253])
def test_object_names_are_rfc_1123_subdomains(name: str) -> None:
    assert is_object_name(name)


@pytest.mark.parametrize(
    "name", ["", "A", "-a", "a-", "a..b", ".a", "a_b", "a/b", "a" * 254, "a\n"]
)
def test_other_texts_are_no_object_names(name: str) -> None:
    assert not is_object_name(name)


@pytest.mark.parametrize(("name", "legal"), [("blue", True), ("a.b", False), ("a" * 64, False)])
def test_namespaces_are_rfc_1123_labels(name: str, legal: bool) -> None:
    assert is_namespace(name) is legal


@pytest.mark.parametrize("name", ["eth0", "bond0.100", "a" * 15, "x@y", "..."])
def test_the_kernel_takes_these_link_names(name: str) -> None:
    assert is_link_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a b", "a:b", "a\tb", "a" * 16, "ä", "a\n", "\ud800", "a\x7f"]
)
def test_these_link_names_are_refused(name: str) -> None:
    assert not is_link_name(name)


def test_a_prefix_may_be_a_name_that_no_link_has_alone() -> None:
    assert is_link_prefix("..")
    assert not is_link_prefix("")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\x00b", "\ud800"])
def test_what_leads_elsewhere_is_no_file_name(name: str) -> None:
    assert not is_file_name(name)


def test_the_nearest_word_is_suggested_whatever_its_case() -> None:
    assert nearest("VLNA", ["vlan", "vxlan", "cidr"]) == "did you mean vlan?"


def test_without_a_near_word_all_are_listed() -> None:
    assert nearest("zzz", ["b", "a"]) == "known here: a, b"


@given(st.text(alphabet=st.characters()))
def test_printable_text_can_be_shown_and_encoded(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()


def test_printable_leaves_good_text_alone() -> None:
    assert printable("größe 5") == "größe 5"
    assert printable("a\x1b[31m\ud800") == "a\\x1b[31m\\ud800"


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "address", "0 addresses"),
        (1, "address", "1 address"),
        (2, "address", "2 addresses"),
        (1, "interface", "1 interface"),
        (3, "interface", "3 interfaces"),
    ],
)
def test_things_are_counted_as_people_write_them(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text
