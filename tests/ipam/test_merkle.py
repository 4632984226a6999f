"""The hashes of the seals."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from danmpy.ipam.merkle import chain_start, chained_root, leaf_hash, merkle_root


def by_the_book(leaves: list[bytes]) -> bytes:
    """RFC 9162, 2.1.1, word for word: split at the largest power of two below the number."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = by_the_book(leaves[:split]), by_the_book(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


@given(st.integers(0, 70))
def test_the_tree_is_that_of_the_rfc(count) -> None:
    leaves = [leaf_hash(number, number, b"digest") for number in range(count)]

    assert merkle_root(leaves) == by_the_book(leaves)


def test_a_leaf_covers_the_numbers_that_the_digest_does_not() -> None:
    assert len({leaf_hash(1, 1, b"d"), leaf_hash(2, 1, b"d"), leaf_hash(1, 2, b"d")}) == 3


def test_every_field_of_a_seal_and_the_root_before_it_change_its_root() -> None:
    seal = {
        "no": 1,
        "txid_from": 0,
        "txid_to": 9,
        "count": 3,
        "last_seq": 8,
        "at": 5,
        "merkle_root": b"m",
    }
    roots = {chained_root(b"", seal), chained_root(b"x", seal)}
    for name, value in seal.items():
        changed = b"n" if name == "merkle_root" else value + 1
        roots.add(chained_root(b"", {**seal, name: changed}))

    assert len(roots) == 9
    assert chain_start("a") != chain_start("b")
