"""Seals over the ledger, and the check that ledger, seals and leases tell the same story.

A seal covers a batch of events with a Merkle tree (RFC 9162, 2.1.1) over their digests and numbers,
and its root covers the root of the seal before it. Whoever changes, removes, adds or swaps sealed
events has to write all later seals anew, or take them away: then their events are merely unsealed.
That does not stop somebody who may do so as well: keep number and root of the last seal
(`VerifyReport.seals` and `root`) in another place and compare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Engine,
    Executable,
    bindparam,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from danmpy.clock import MICROSECONDS, Clock
from danmpy.db.engine import database_now, read, run_write
from danmpy.ipam.ledger import TXID_SHIFT
from danmpy.ipam.merkle import chain_start, chained_root, leaf_hash, merkle_root
from danmpy.ipam.schema import event, meta, seal
from danmpy.ipam.verifying import VerifyReport, verify

__all__ = ["Ledger", "VerifyReport"]

BATCH: Final = 10_000
"""Events of one seal, at most; a transaction with more is sealed whole."""

_LAST: Final = select(seal).order_by(seal.c.no.desc()).limit(1)
_LEDGER_ID: Final = select(meta.c.value).where(meta.c.key == "ledger_id")
_LEAVES: Final = (
    select(event.c.seq, event.c.txid, event.c.digest)
    .where(event.c.txid >= bindparam("low"), event.c.txid < bindparam("high"))
    .order_by(event.c.txid, event.c.seq)
)
_INSERT: Final = {
    "sqlite": sqlite.insert(seal).on_conflict_do_nothing().returning(seal.c.no),
    "postgresql": postgresql.insert(seal).on_conflict_do_nothing().returning(seal.c.no),
}
# All transactions below this number have ended, so no more events can come with one of them.
_SETTLED: Final[Mapping[str, Executable]] = {
    "postgresql": select(
        literal_column("pg_snapshot_xmin(pg_current_snapshot())::text::bigint") + TXID_SHIFT
    ),
    "sqlite": select(func.coalesce(func.max(event.c.seq), 0) + 1),
}


class Ledger:
    """Seals the ledger and verifies it.

    Raises (all methods):
        StoreError: the database cannot be used.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def seal(self, *, pause_s: float = 0) -> int:
        """Seal the events that are settled and not sealed yet; gives how many that were.

        Nothing is done within `pause_s` of the last seal, whoever made it: a thousand nodes that
        each seal now and then would make a seal for every event, and seals stay for ever.

        Any number of processes may do so at the same time. When there is nothing to seal, nothing
        is written.
        """
        total = 0
        if pause_s and self._is_fresh(int(pause_s * MICROSECONDS)):
            return 0
        while self._is_due():
            sealed = run_write(self._engine, self._seal_batch)
            if sealed == 0:
                break
            total += sealed
        return total

    def verify(self) -> VerifyReport:
        """Is everything as it was written? Reads the whole ledger and every lease."""
        return verify(self._engine)

    def _is_fresh(self, pause: int) -> bool:
        """Was there a seal just now? One of the future is not: the clock was set back."""
        with read(self._engine) as connection:
            last = connection.execute(_LAST).first()
            if last is None:
                return False
            age: int = database_now(connection, self._clock) - last.at
            return 0 <= age < pause

    def _is_due(self) -> bool:
        with read(self._engine) as connection:
            _, low, _ = _end_of_chain(connection)
            high = connection.execute(_SETTLED[connection.dialect.name]).scalar_one()
            leaf = connection.execute(_LEAVES.limit(1), {"low": low, "high": high}).first()
        return leaf is not None

    def _seal_batch(self, connection: Connection) -> int:
        no, low, previous = _end_of_chain(connection)
        high = connection.execute(_SETTLED[connection.dialect.name]).scalar_one()
        leaves: Sequence[Any] = connection.execute(
            _LEAVES.limit(BATCH + 1), {"low": low, "high": high}
        ).all()
        if len(leaves) > BATCH:
            high, leaves = _cut(connection, leaves)
        if not leaves:
            return 0
        row: dict[str, Any] = {
            "no": no + 1,
            "txid_from": low,
            "txid_to": high,
            "count": len(leaves),
            "last_seq": max(leaf.seq for leaf in leaves),
            "merkle_root": merkle_root(
                [leaf_hash(leaf.seq, leaf.txid, leaf.digest) for leaf in leaves]
            ),
            "at": database_now(connection, self._clock),
        }
        row["root"] = chained_root(previous, row)
        done = connection.execute(_INSERT[connection.dialect.name], row)
        # Somebody else may have made this seal meanwhile; the next round goes on behind it.
        return len(leaves) if done.first() is not None else 0


def _cut(connection: Connection, leaves: Sequence[Any]) -> tuple[int, Sequence[Any]]:
    """End a batch that is too long between two transactions."""
    last = leaves[-1].txid
    if leaves[0].txid == last:
        whole = connection.execute(_LEAVES, {"low": last, "high": last + 1}).all()
        return last + 1, whole
    return last, [leaf for leaf in leaves if leaf.txid < last]


def _end_of_chain(connection: Connection) -> tuple[int, int, bytes]:
    """Number, end and root of the last seal; the chain starts with the ledger's own id."""
    last = connection.execute(_LAST).first()
    if last is None:
        return 0, 0, chain_start(connection.execute(_LEDGER_ID).scalar_one())
    return last.no, last.txid_to, last.root
