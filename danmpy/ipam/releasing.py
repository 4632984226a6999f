"""What happens to an address when its lease ends: it rests, and the ledger says why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, bindparam, case, literal_column
from sqlalchemy.dialects import postgresql, sqlite

from danmpy.api.specs import IPAM_CLAIM
from danmpy.ipam import ledger
from danmpy.ipam.ledger import EventKind
from danmpy.ipam.rows import event_of, to_lease
from danmpy.ipam.schema import freed
from danmpy.ipam.values import FOR_THE_CLAIM, Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """How long addresses rest, in microseconds: `cooldown`, and `claimed` where that is longer and
    the address is kept for a claim.
    """

    cooldown: int
    claimed: int

    def of(self, claim: str) -> int:
        """How long an address rests that was held under `claim` (empty: under none)."""
        if claim.startswith(IPAM_CLAIM):
            return FOR_THE_CLAIM
        return max(self.cooldown, self.claimed) if claim else self.cooldown

    def until(self, at: int, claim: str) -> int:
        """Until when an address rests whose lease ended at `at`."""
        return at + self.of(claim)

    def parameters(self) -> dict[str, int]:
        """What a statement with `rest_of` in it is given."""
        return {"cooldown": self.cooldown, "claimed": max(self.cooldown, self.claimed)}


def rest_of(claim: ColumnElement[str]) -> ColumnElement[int]:
    """As `Rest.of`, for a column."""
    return case(
        (claim.like(f"{IPAM_CLAIM}%"), literal_column(str(FOR_THE_CLAIM))),
        (claim != "", bindparam("claimed")),
        else_=bindparam("cooldown"),
    )


def _upsert(insert: Any) -> Any:
    statement = insert(freed)
    columns = [column.name for column in freed.columns if not column.primary_key]
    return statement.on_conflict_do_update(
        index_elements=[freed.c.domain, freed.c.address],
        set_={name: statement.excluded[name] for name in columns},
    )


_REST: Final = {"sqlite": _upsert(sqlite.insert), "postgresql": _upsert(postgresql.insert)}


def rest(
    connection: Connection,
    ended: Sequence[Row[Any]],
    now: int,
    detail: Mapping[str, object] | None = None,
) -> tuple[Lease, ...]:
    """Let the addresses of these ended rows of `lease` cool down, and record their release.

    `detail` is what the events say besides: who released it and why.
    """
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
            "claim": row.claim,
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
            detail={**(detail or {}), "cool_until": row.cool_until},
        )
        for item, row in zip(leases, ended, strict=True)
    ]
    ledger.append(connection, events)
    return leases
