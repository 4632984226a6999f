"""The hashes of the ledger's seals."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from danmpy.ipam.ledger import canonical


def leaf_hash(seq: int, txid: int, digest: bytes) -> bytes:
    """The leaf of one event: its numbers, which its digest does not cover, and the digest."""
    data = canonical([seq, txid, _hex(digest)])
    return hashlib.sha256(b"\x00" + data.encode()).digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The Merkle tree hash of RFC 9162, 2.1.1, over leaves that are hashed already.

    Pairing neighbours and passing the odd one up makes the same tree as splitting at powers of two.
    """
    level = list(leaves)
    while len(level) > 1:
        pairs = zip_longest(level[::2], level[1::2])
        level = [
            left if right is None else hashlib.sha256(b"\x01" + left + right).digest()
            for left, right in pairs
        ]
    return level[0] if level else hashlib.sha256().digest()


def chain_start(ledger_id: str) -> bytes:
    """What stands for the root before the first seal, so that two ledgers never look alike."""
    return hashlib.sha256(f"danmpy ledger {ledger_id}".encode()).digest()


def chained_root(previous: bytes, seal: Mapping[str, Any]) -> bytes:
    """The root of a seal: everything that it says, and the root before it."""
    names = ("no", "txid_from", "txid_to", "count", "last_seq", "at")
    fields: dict[str, object] = {name: seal[name] for name in names}
    fields["merkle_root"] = _hex(seal["merkle_root"])
    return hashlib.sha256(previous + canonical(fields).encode()).digest()


def _hex(data: Any) -> object:
    """Bytes as JSON knows them; anything else was put there by hand and only has to differ."""
    return data.hex() if isinstance(data, bytes) else data
