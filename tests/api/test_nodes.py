from __future__ import annotations

from ipaddress import ip_address

import pytest

from danmpy.api.addresses import TextError
from danmpy.api.nodes import internal_addresses, observed_vteps, parse_vteps


def test_a_parent_has_one_address_or_a_list() -> None:
    text = '{"ens4": "192.0.2.1", "ens5": ["192.0.2.2", "2001:db8::2"], "*": []}'
    assert parse_vteps(text) == {
        "ens4": (ip_address("192.0.2.1"),),
        "ens5": (ip_address("192.0.2.2"), ip_address("2001:db8::2")),
        "*": (),
    }


@pytest.mark.parametrize(
    "text",
    ["", "[1", "[]", '"192.0.2.1"', '{"ens4": 5}', '{"ens4": ["x"]}', '{"ens4": {"a": "b"}}',
     '{"a b": []}',
     '{"ens4": "224.0.0.1"}', '{"ens4": "192.0.2.1", "ens4": "192.0.2.2"}'],
)  # fmt: skip
def test_other_texts_are_refused_with_a_way_out(text: str) -> None:
    with pytest.raises(TextError) as caught:
        parse_vteps(text)
    assert caught.value.hint


def test_internal_addresses_are_read_from_the_status() -> None:
    status = {
        "addresses": [
            {"type": "Hostname", "address": "node-a"},
            {"type": "InternalIP", "address": "192.0.2.1"},
            {"type": "InternalIP", "address": "2001:db8::1"},
            {"type": "InternalIP", "address": "nonsense"},
            {"type": "InternalIP"},
            "nonsense",
        ]
    }
    assert internal_addresses(status) == (ip_address("192.0.2.1"), ip_address("2001:db8::1"))


@pytest.mark.parametrize("status", [None, [], "x", {}, {"addresses": "x"}, {"addresses": None}])
def test_a_status_that_cannot_be_read_has_no_addresses(status: object) -> None:
    assert internal_addresses(status) == ()


@pytest.mark.parametrize(
    ("text", "written", "found"),
    [
        ('{"ens4": "192.0.2.1"}', (), {"ens4": "192.0.2.1"}),
        ('{"ens4": "192.0.2.1"}', ("ens5",), {"ens4": "192.0.2.1"}),
        ('{"ens4": "192.0.2.1"}', ("ens4",), {}),
        ('{"ens4": "192.0.2.1"}', ("*",), {}),
        ('{"ens4": "nonsense"}', (), {}),
        ("[", (), {}),
        (None, (), {}),
        (5, (), {}),
    ],
)
def test_what_the_node_found_counts_where_nobody_wrote_anything(
    text: object, written: tuple[str, ...], found: dict[str, str]
) -> None:
    expected = {parent: (ip_address(address),) for parent, address in found.items()}
    assert observed_vteps(text, written) == expected
