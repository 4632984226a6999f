"""The end of what is kept for a claim: its addresses are anybody's when they have cooled down."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, case, literal_column, select, update

from danmpy.api.specs import IPAddress
from danmpy.ipam import ledger
from danmpy.ipam.ledger import EventKind
from danmpy.ipam.rows import event_of, to_lease
from danmpy.ipam.schema import freed, lease
from danmpy.ipam.values import Json

_ROWS: Final = select(
    freed.c.domain,
    freed.c.address,
    freed.c.family,
    freed.c.network,
    freed.c.interface,
    freed.c.namespace,
    freed.c.pod,
    freed.c.pod_uid,
    freed.c.claim,
    freed.c.released_at,
).where(freed.c.claim != literal_column("''"))
_AT: Final = _ROWS.where(
    freed.c.family == bindparam("of_family"),
    freed.c.address == bindparam("at_address"),
    freed.c.network == bindparam("of_network"),
)
_OF_CLAIM: Final = _ROWS.where(
    freed.c.claim == bindparam("of_claim"), freed.c.namespace == bindparam("of_namespace")
)
_cooled: Final[Any] = freed.c.released_at + bindparam("cooldown")
_UNCLAIM: Final = (
    update(freed)
    .where(
        freed.c.domain == bindparam("in_domain"),
        freed.c.address == bindparam("at_address"),
        freed.c.claim == bindparam("of_claim"),
        freed.c.released_at == bindparam("ended_at"),
    )
    .values(claim="", ready_at=case((freed.c.ready_at > _cooled, _cooled), else_=freed.c.ready_at))
    .returning(freed.c.ready_at)
)
_LAST: Final = (
    update(lease)
    .where(
        lease.c.id
        == select(lease.c.id)
        .where(
            lease.c.family == bindparam("of_family"),
            lease.c.address == bindparam("at_address"),
            lease.c.domain == bindparam("in_domain"),
            lease.c.held_to == bindparam("ended_at"),
        )
        .order_by(lease.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    .values(cool_until=bindparam("rests_until"))
    .returning(lease)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """An address that was kept for `claim` of `namespace`, until just now.

    `released_at`: when its last lease ended (microseconds); `lease_id` is None when that lease is
    older than what is kept of the past.
    """

    namespace: str
    claim: str
    network: str
    address: IPAddress
    released_at: int
    lease_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unclaiming:
    """The work of one transaction: `cooldown` in microseconds, `detail` is what the events say."""

    connection: Connection
    now: int
    cooldown: int
    reason: str
    detail: Json

    def at(self, network: str, address: IPAddress) -> tuple[Forgotten, ...]:
        """Keep `address` of `network` for no claim any more; nothing when it is kept for none."""
        asked = {
            "of_family": address.version,
            "at_address": address.packed,
            "of_network": network,
        }
        return self._forget(_AT, asked)

    def of(self, namespace: str, claim: str) -> tuple[Forgotten, ...]:
        """Keep nothing for `claim` any more."""
        return self._forget(_OF_CLAIM, {"of_claim": claim, "of_namespace": namespace})

    def _forget(self, which: Select[Any], asked: dict[str, Any]) -> tuple[Forgotten, ...]:
        rows = self.connection.execute(which, asked).all()
        done = [self._unclaim(row) for row in sorted(rows, key=lambda r: (r.domain, r.address))]
        ended = [each for each in done if each is not None]
        ledger.append(self.connection, [told for _, told in ended])
        return tuple(forgotten for forgotten, _ in ended)

    def _unclaim(self, row: Any) -> tuple[Forgotten, Json] | None:
        place = {
            "in_domain": row.domain,
            "at_address": row.address,
            "ended_at": row.released_at,
        }
        asked = {**place, "of_claim": row.claim, "cooldown": self.cooldown}
        ready = self.connection.execute(_UNCLAIM, asked).scalar()
        if ready is None:
            return None  # its pod was just given it
        last = self.connection.execute(
            _LAST, {**place, "of_family": row.family, "rests_until": ready}
        ).first()
        detail = {**self.detail, "claim": row.claim, "cool_until": ready}
        told = self._told(row) if last is None else self._told_of(last)
        forgotten = Forgotten(
            namespace=row.namespace,
            claim=row.claim,
            network=row.network,
            address=ip_address(bytes(row.address)),
            released_at=row.released_at,
            lease_id=None if last is None else last.id,
        )
        return forgotten, {**told, "reason": self.reason, "detail": detail}

    def _told_of(self, last: Any) -> Json:
        return event_of(
            to_lease(last),
            EventKind.UNCLAIM,
            self.now,
            effective_at=self.now,
            closed_id=last.id,
        )

    def _told(self, row: Any) -> Json:
        """What is said where the lease itself was pruned: without its number."""
        return {
            "at": self.now,
            "effective_at": self.now,
            "kind": str(EventKind.UNCLAIM),
            "network": row.network,
            "domain": row.domain,
            "family": row.family,
            "address": str(ip_address(bytes(row.address))),
            "interface": row.interface,
            "namespace": row.namespace,
            "pod": row.pod,
            "pod_uid": row.pod_uid,
        }
