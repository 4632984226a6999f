from __future__ import annotations

from danmpy.mirrors.values import InterfaceFacts, family_of
from support.mirroring import EXT


def test_the_family_of_an_address_shows_in_its_text() -> None:
    assert [family_of(text) for text in ("10.0.0.1/24", "0.0.0.0/0", "::/0", "fd00::1/64")] == [
        4, 4, 6, 6,
    ]  # fmt: skip


def test_the_first_address_of_a_family_counts() -> None:
    facts = InterfaceFacts(name="eth0", network=EXT, addresses=("10.0.0.1/24", "10.0.0.2/24"))
    assert facts.address(4) == "10.0.0.1/24"
    assert facts.address(6) == ""
