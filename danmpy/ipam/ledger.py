"""The ledger: events appended in the transaction of the change that they tell of."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, case, func, insert, literal_column, select

from danmpy.ipam.schema import event, seal

__all__ = ["EVENT_FIELDS", "TXID_SHIFT", "EventKind", "append", "digest_of"]


class EventKind(StrEnum):
    """What happened."""

    ALLOCATE = "ALLOCATE"
    REBIND = "REBIND"
    CONFIRM = "CONFIRM"
    RELEASE = "RELEASE"
    RESERVE = "RESERVE"
    IMPORT = "IMPORT"
    UNCLAIM = "UNCLAIM"
    ADOPT = "ADOPT"
    EPOCH = "EPOCH"
    PRUNE = "PRUNE"
    HOLD = "HOLD"
    RETENTION = "RETENTION"
    SEGMENT_ASSIGN = "SEGMENT_ASSIGN"
    SEGMENT_RELEASE = "SEGMENT_RELEASE"


EVENT_FIELDS: Final[Mapping[str, object]] = {
    "uid": "",
    "at": 0,
    "effective_at": 0,
    "kind": "",
    "lease_id": None,
    "closed_id": None,
    "network": "",
    "domain": "",
    "family": None,
    "address": "",
    "interface": "",
    "namespace": "",
    "pod": "",
    "pod_uid": "",
    "container_id": "",
    "node": "",
    "mac": None,
    "reason": "",
    "detail": "{}",
}
"""The columns that the digest covers, with what stands in one that does not apply.

`seq` and `txid` are given by the database and are covered by the seal.
"""

TXID_SHIFT: Final[ColumnElement[int]] = literal_column(
    "coalesce((SELECT value::bigint FROM meta WHERE key = 'txid_shift'), 0)"
)
"""PostgreSQL: what is added to the number of a transaction. A server to which a dump was restored
counts from the start again, and its events must not fall among those that are sealed."""

# Until the epoch of a restore has begun, which sets the shift, there is no number: null is refused.
_own = select(
    (literal_column("pg_current_xact_id()::text::bigint") + TXID_SHIFT).label("txid")
).subquery()
_sealed = select(seal.c.txid_to).order_by(seal.c.no.desc()).limit(1).scalar_subquery()
_TXID: Final = select(case((_own.c.txid >= func.coalesce(_sealed, 0), _own.c.txid)))
# The number of the transaction: PostgreSQL's own; on SQLite, with its one writer, that of the row.
_APPEND: Final = {
    "postgresql": insert(event).values(txid=_TXID.scalar_subquery()),
    "sqlite": insert(event).values(
        txid=select(func.coalesce(func.max(event.c.seq), 0) + 1).scalar_subquery()
    ),
}


def append(connection: Connection, events: Sequence[Mapping[str, Any]]) -> None:
    """Append `events` (columns of `EVENT_FIELDS`; `detail` a mapping) in this transaction."""
    if not events:
        return
    rows = []
    for item in events:
        row = {**EVENT_FIELDS, **item, "uid": uuid.uuid4().hex}
        row["detail"] = canonical(item.get("detail", {}))
        row["digest"] = digest_of(row)
        rows.append(row)
    connection.execute(_APPEND[connection.dialect.name], rows)


def digest_of(row: Mapping[str, Any]) -> bytes:
    """SHA-256 over the canonical JSON of the columns in `EVENT_FIELDS`."""
    return hashlib.sha256(canonical({name: row[name] for name in EVENT_FIELDS}).encode()).digest()


_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=repr)


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: one text for one value.

    Bytes have no place in it. SQLite lets somebody put them there by hand; then the digest differs.
    """
    return _CANONICAL.encode(value)
