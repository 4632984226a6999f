"""What must always be true of the tables, checked by reading them and trusting no index.

Run at the end of stress tests and by ``danmpy audit diff``. Whether the leases say what the ledger
says is the business of `verifying`.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any, Final

from sqlalchemy import Connection, Engine, func, select, tuple_, union_all

from danmpy.api.specs import AddressMode
from danmpy.clock import to_rfc3339
from danmpy.db.engine import snapshot
from danmpy.ipam.findings import Finding
from danmpy.ipam.reasserting import ASSERTED
from danmpy.ipam.schema import freed, lease, pool, retired_network, segment_assignment
from danmpy.ipam.values import EndReason

_PAGE: Final = 2000
_BROKEN: Final = "report this with the output of `danmpy audit history --address`"

_ORDER: Final = (lease.c.family, lease.c.address, lease.c.held_from, lease.c.id)
_HISTORY: Final = (
    select(
        *_ORDER,
        lease.c.address_text,
        lease.c.domain,
        lease.c.network,
        lease.c.namespace,
        lease.c.pod,
        lease.c.pod_uid,
        lease.c.held_to,
        lease.c.cool_until,
        lease.c.end_reason,
        lease.c.mode,
        lease.c.claim,
        lease.c.note,
    )
    .order_by(*_ORDER)
    .limit(_PAGE)
)
_HELD_AND_FREED: Final = (
    select(lease.c.address_text, lease.c.domain, lease.c.network)
    .join(freed, (freed.c.domain == lease.c.domain) & (freed.c.address == lease.c.address))
    .where(lease.c.held_to.is_(None))
    .limit(_PAGE)
)
_RETIRED: Final = (
    select(
        lease.c.address_text,
        lease.c.network,
        lease.c.namespace,
        lease.c.pod,
        lease.c.interface,
        lease.c.node,
    )
    .join(retired_network, retired_network.c.uid == lease.c.network_uid)
    .where(lease.c.held_to.is_(None))
    .limit(_PAGE)
)
_CLAIMED_TWICE: Final = (
    select(
        lease.c.namespace,
        lease.c.claim,
        lease.c.network,
        lease.c.interface,
        lease.c.family,
        func.count().label("times"),
    )
    .where(lease.c.held_to.is_(None), lease.c.claim != "")
    .group_by(lease.c.namespace, lease.c.claim, lease.c.network, lease.c.interface, lease.c.family)
    .having(func.count() > 1)
    .limit(_PAGE)
)
_STRAYS: Final = union_all(
    *(
        select(table.c.network, table.c.pool_id, func.count().label("times"))
        .join(pool, pool.c.id == table.c.pool_id, isouter=True)
        .where(table.c.pool_id.is_not(None), pool.c.id.is_(None))
        .group_by(table.c.network, table.c.pool_id)
        for table in (lease, freed)
    )
).limit(_PAGE)
_segment = segment_assignment.c
_SHARED: Final = (
    select(_segment.profile, _segment.kind, _segment.number, func.count().label("times"))
    .where(_segment.released_at.is_(None), _segment.kind != "")
    .group_by(_segment.profile, _segment.kind, _segment.number)
    .having(func.count() > 1)
)


def violations(engine: Engine) -> tuple[Finding, ...]:
    """Everything that is not as it must be; nothing in a sound database.

    Raises:
        StoreError: the database cannot be used.
    """
    found = list(_histories(engine))
    with snapshot(engine) as connection:
        found += _held_and_freed(connection)
        found += _retired(connection)
        found += _claims(connection)
        found += _cursors(connection)
        found += _strays(connection)
        found += _segments(connection)
    return tuple(found)


def _histories(engine: Engine) -> Iterator[Finding]:
    """Each address in each domain: one holder after the other, and rests between them."""
    last: dict[tuple[Any, ...], Any] = {}
    page = _HISTORY
    while True:
        with snapshot(engine) as connection:
            rows = connection.execute(page).all()
        for row in rows:
            place = (row.family, row.address, row.domain)
            before = last.get(place)
            if before is not None:
                yield from _succession(before, row)
            elif last and next(iter(last))[:2] != place[:2]:
                last.clear()
            last[place] = row
        if len(rows) < _PAGE:
            return
        end = rows[-1]
        after = tuple_(end.family, end.address, end.held_from, end.id)
        page = _HISTORY.where(tuple_(*_ORDER) > after)


def _succession(before: Any, row: Any) -> Iterator[Finding]:
    """May `row` follow `before` on the same address?"""
    subject = f"{row.address_text} in {row.domain}"
    holders = (
        f"lease {before.id} of Pod/{before.namespace}/{before.pod} and lease {row.id} of "
        f"Pod/{row.namespace}/{row.pod}"
    )
    if before.held_to is None or row.held_from < before.held_to:
        yield Finding(
            kind="HeldTwice",
            subject=subject,
            message=f"{holders} overlap from {to_rfc3339(row.held_from)}",
            hint=_BROKEN,
        )
        return
    same_pod = (before.namespace, before.pod) == (row.namespace, row.pod)
    if before.end_reason == EndReason.REBOUND:
        if before.pod_uid != row.pod_uid:
            yield Finding(
                kind="PassedToStranger",
                subject=subject,
                message=f"{holders}: it passed on to another pod without a rest",
                hint=_BROKEN,
            )
    elif (
        before.cool_until is not None
        and row.held_from < before.cool_until
        and not (same_pod or _may_cut_in(before, row))
    ):
        yield Finding(
            kind="RestCutShort",
            subject=subject,
            message=f"{holders}: it had to rest until {to_rfc3339(before.cool_until)}, but was "
            f"handed out at {to_rfc3339(row.held_from)}",
            hint=_BROKEN,
        )


def _may_cut_in(before: Any, row: Any) -> bool:
    """May `row` begin while the address still rests after `before`, though it is another pod?

    The next pod of a claim may; a reservation, which puts the address on no link; and a pod that
    had the address all the time, while the database had forgotten it.
    """
    same_claim = (before.namespace, before.claim) == (row.namespace, row.claim)
    had_it = row.note.startswith(ASSERTED)
    return row.mode == AddressMode.RESERVED or had_it or (before.claim != "" and same_claim)


def _held_and_freed(connection: Connection) -> Iterator[Finding]:
    for row in connection.execute(_HELD_AND_FREED):
        yield Finding(
            kind="HeldAndFreed",
            subject=f"{row.address_text} in {row.domain}",
            message=f"{row.network} holds it, and it waits in the queue of freed addresses",
            hint=_BROKEN,
        )


def _retired(connection: Connection) -> Iterator[Finding]:
    for row in connection.execute(_RETIRED):
        yield Finding(
            kind="LeaseOfDeletedNetwork",
            subject=f"Pod/{row.namespace}/{row.pod}",
            message=f"holds {row.address_text} of {row.network}, interface {row.interface}, on "
            f"node {row.node}, but that network was deleted when nobody held an address of it",
            hint="delete the pod; and " + _BROKEN,
        )


def _claims(connection: Connection) -> Iterator[Finding]:
    for row in connection.execute(_CLAIMED_TWICE):
        yield Finding(
            kind="ClaimHeldTwice",
            subject=f"claim {row.namespace}/{row.claim}",
            message=f"{row.times} pods hold an IPv{row.family} address of {row.network}, interface "
            f"{row.interface}, under it",
            hint=_BROKEN,
        )


def _cursors(connection: Connection) -> Iterator[Finding]:
    for row in connection.execute(select(pool).where(pool.c.next.is_not(None))):
        size = 4 if row.family == 4 else 16
        data = bytes(row.next)
        if len(data) != size or ip_address(data) not in ip_network(row.subnet):
            yield Finding(
                kind="CursorOutside",
                subject=f"{row.network} (IPv{row.family}, {row.domain})",
                message=f"the pool's cursor {data.hex()} lies outside {row.subnet}",
                hint=_BROKEN,
            )


def _strays(connection: Connection) -> Iterator[Finding]:
    for row in connection.execute(_STRAYS):
        yield Finding(
            kind="PoolMissing",
            subject=row.network,
            message=f"{row.times} of its addresses are of pool {row.pool_id}, which is not there",
            hint=_BROKEN,
        )


def _segments(connection: Connection) -> Iterator[Finding]:
    for row in connection.execute(_SHARED):
        yield Finding(
            kind="SegmentAssignedTwice",
            subject=f"{row.kind}:{row.profile}:{row.number}",
            message=f"{row.times} networks have it",
            hint="delete all but one of the networks; two tenants may see each other",
        )
