"""What happens to an address when its lease ends: it rests, and the ledger says why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row
from sqlalchemy.dialects import postgresql, sqlite

from danmpy.ipam import ledger
from danmpy.ipam.ledger import EventKind
from danmpy.ipam.rows import event_of, to_lease
from danmpy.ipam.schema import freed
from danmpy.ipam.values import Lease


def _upsert(insert: Any) -> Any:
    statement = insert(freed)
    columns = [column.name for column in freed.columns if not column.primary_key]
    return statement.on_conflict_do_update(
        index_elements=[freed.c.domain, freed.c.address],
        set_={name: statement.excluded[name] for name in columns},
    )


_REST: Final = {"sqlite": _upsert(sqlite.insert), "postgresql": _upsert(postgresql.insert)}


def rest(connection: Connection, ended: Sequence[Row[Any]], now: int) -> tuple[Lease, ...]:
    """Let the addresses of these ended rows of `lease` cool down, and record their release."""
    if not ended:
        return ()
    rows = [
        {
            "domain": row.domain,
            "address": row.address,
            "pool_id": row.pool_id if row.pooled else None,
            "family": row.family,
            "released_at": row.held_to,
            "ready_at": row.cool_until,
            "network": row.network,
            "interface": row.interface,
            "namespace": row.namespace,
            "pod": row.pod,
            "pod_uid": row.pod_uid,
            "end_reason": row.end_reason,
        }
        for row in ended
    ]
    rows.sort(key=lambda row: (row["domain"], row["address"]))
    connection.execute(_REST[connection.dialect.name], rows)
    leases = tuple(to_lease(row) for row in ended)
    events = [
        event_of(
            item,
            EventKind.RELEASE,
            now,
            effective_at=item.to,
            closed_id=item.id,
            reason=item.end_reason,
            detail={"cool_until": row.cool_until},
        )
        for item, row in zip(leases, ended, strict=True)
    ]
    ledger.append(connection, events)
    return leases
