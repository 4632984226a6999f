"""Addresses that are kept for a name: the next pod of a claim gets what the one before it had.

A claim is a name inside a namespace: that of a StatefulSet's pod, or one that any pod is given. It
keeps each dynamic address of the pod by its place (network, interface and family). When the pod
goes, the addresses rest for others longer than usual, and may be had back at once, also after
the rest, as long as nobody else got them meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, bindparam, exists, literal_column, select

from danmpy.api.specs import Family
from danmpy.clock import to_rfc3339
from danmpy.errors import ConflictError, DanmpyError, NotReadyError
from danmpy.ipam.picking import OpenPool, Pick
from danmpy.ipam.pools import unpack
from danmpy.ipam.rows import to_lease
from danmpy.ipam.schema import freed, lease
from danmpy.ipam.values import Lease, LeaseOwner

T = TypeVar("T")

ClaimPlace = tuple[str, str, Family]
"""Network, interface and family: what one claim has at most one address of."""

# The literals are those of the partial indexes that these go by.
_HELD: Final = select(lease).where(
    lease.c.held_to.is_(None),
    lease.c.claim != literal_column("''"),
    lease.c.claim == bindparam("claim"),
    lease.c.namespace == bindparam("namespace"),
)
_KEPT: Final = (
    select(
        freed.c.network,
        freed.c.interface,
        freed.c.domain,
        freed.c.family,
        freed.c.address,
        freed.c.released_at,
    )
    .where(
        freed.c.claim != literal_column("''"),
        freed.c.claim == bindparam("claim"),
        freed.c.namespace == bindparam("namespace"),
        ~exists().where(
            lease.c.domain == freed.c.domain,
            lease.c.address == freed.c.address,
            lease.c.held_to.is_(None),
        ),
    )
    .order_by(freed.c.released_at.desc(), freed.c.address)
)


def require_vacant(
    connection: Connection, owner: LeaseOwner, places: Collection[ClaimPlace]
) -> None:
    """May `owner` have addresses under its claim at these places?

    To be asked when everything that passes on from older sandboxes of the same pod is closed.

    Raises:
        NotReadyError: the pod before it, of the same name, still holds one; the same call succeeds
            once that is gone.
        ConflictError: another pod holds one under the same claim.
    """
    for row in connection.execute(_HELD, _named(owner)):
        held = to_lease(row)
        place = (held.network, held.interface, held.family)
        if place in places:
            raise _occupied(held, owner)


def kept_for(
    connection: Connection, owner: LeaseOwner, places: Mapping[T, tuple[OpenPool, str]]
) -> dict[T, Pick]:
    """The addresses that the claim of `owner` keeps, where they still rest or wait in the queue.

    `places` names a pool and an interface for every want. What the pool's ranges do not hold any
    more is not given: the want gets another address.
    """
    rows = connection.execute(_KEPT, _named(owner)).all()
    picks: dict[T, Pick] = {}
    for want, (opened, interface) in places.items():
        network, family, domain = opened.key
        for row in rows:
            value = unpack(row.address)
            if (
                (row.network, row.interface, row.domain, row.family)
                == (network, interface, domain, family)
                and opened.space.holds(value)
                and value not in opened.taken
            ):
                opened.taken.add(value)
                picks[want] = Pick(value=value, released_at=row.released_at, was_freed=True)
                break
    return picks


def _named(owner: LeaseOwner) -> dict[str, Any]:
    return {"claim": owner.claim, "namespace": owner.namespace}


def _occupied(held: Lease, owner: LeaseOwner) -> DanmpyError:
    words = (
        f"claim {owner.claim} still has {held.address.ip} of {held.network} in the hands of "
        f"{held.holder} (UID {held.pod_uid or 'unknown'}, sandbox {held.container_id[:12]} on node "
        f"{held.node}) since {to_rfc3339(held.from_)}"
    )
    subject = f"Pod/{owner.namespace}/{owner.pod}"
    by_hand = (
        "; if its node is lost, "
        f"danmpy release {held.address.ip} --network {held.network} --reason TEXT"
    )
    if held.pod == owner.pod:
        hint = "it is tried again until that sandbox is gone"
        return NotReadyError(words, hint=hint + by_hand, subject=subject)
    hint = "a claim serves one pod at a time: delete that pod, or give this one another claim"
    return ConflictError(words, hint=hint + by_hand, subject=subject)
