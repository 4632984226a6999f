"""Addresses that are kept for a name: the next pod of a claim gets what the one before it had.

A claim is a name inside a namespace: that of a StatefulSet's pod, or one that any pod is given. It
keeps each dynamic address of the pod by its place (network, interface and family). When the pod
goes, the addresses rest for others longer than usual, and may be had back at once, also after
the rest, as long as nobody else got them meanwhile. Where the claim is an object (IPAMClaim), its
addresses are nobody else's until that object is gone (`ipam.ipamclaims`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import Connection, bindparam, exists, literal_column, select

from danmpy.api.specs import IPAM_CLAIM, Family
from danmpy.clock import to_rfc3339
from danmpy.errors import ConflictError, DanmpyError, NotReadyError
from danmpy.ipam.picking import OpenPool, Pick, PoolKey
from danmpy.ipam.pools import unpack
from danmpy.ipam.rows import to_lease
from danmpy.ipam.schema import freed, lease
from danmpy.ipam.values import Lease, LeaseOwner

T = TypeVar("T")


class Claimant(Protocol):
    """Who asks for an address under a claim (`ipam.wants.Want`)."""

    @property
    def claim(self) -> str:
        """The name in the namespace."""

    @property
    def interface(self) -> str:
        """For which interface."""

    @property
    def family(self) -> Family:
        """Of which family."""

    @property
    def key(self) -> PoolKey:
        """From which pool."""


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


def require_vacant(connection: Connection, owner: LeaseOwner, wants: Collection[Claimant]) -> None:
    """May `owner` have what `wants` ask for under their claims?

    To be asked when everything that passes on from older sandboxes of the same pod is closed.

    Raises:
        NotReadyError: the pod before it, of the same name, still holds one; the same call succeeds
            once that is gone.
        ConflictError: another pod holds one under the same claim.
    """
    places = {(want.claim, want.key[0], want.interface, want.family) for want in wants}
    for claim in sorted({place[0] for place in places}):
        for row in connection.execute(_HELD, _named(owner.namespace, claim)):
            held = to_lease(row)
            if (claim, held.network, held.interface, held.family) in places:
                raise _occupied(held, owner)


def kept_for(
    connection: Connection, namespace: str, places: Mapping[T, tuple[OpenPool, Claimant]]
) -> dict[T, Pick]:
    """The addresses that claims of `namespace` keep, where they still rest or wait in the queue.

    `places` names a pool and who asks for every want. What the pool's ranges do not hold any more
    is not given: the want gets another address.
    """
    rows = {
        claim: connection.execute(_KEPT, _named(namespace, claim)).all()
        for claim in sorted({asking.claim for _, asking in places.values()})
    }
    picks: dict[T, Pick] = {}
    for want, (opened, asking) in places.items():
        network, family, domain = opened.key
        for row in rows[asking.claim]:
            value = unpack(row.address)
            if (
                (row.network, row.interface, row.domain, row.family)
                == (network, asking.interface, domain, family)
                and opened.space.holds(value)
                and value not in opened.taken
            ):
                opened.taken.add(value)
                picks[want] = Pick(value=value, released_at=row.released_at, was_freed=True)
                break
    return picks


def _named(namespace: str, claim: str) -> dict[str, Any]:
    return {"claim": claim, "namespace": namespace}


def _occupied(held: Lease, owner: LeaseOwner) -> DanmpyError:
    words = (
        f"claim {held.claim} still has {held.address.ip} of {held.network} in the hands of "
        f"{held.holder} (UID {held.pod_uid or 'unknown'}, sandbox {held.container_id[:12]} on node "
        f"{held.node}) since {to_rfc3339(held.from_)}"
    )
    subject = f"Pod/{owner.namespace}/{owner.pod}"
    by_hand = (
        "; if its node is lost, "
        f"danmpy release {held.address.ip} --network {held.network} --reason TEXT"
    )
    if held.pod == owner.pod or held.claim.startswith(IPAM_CLAIM):
        # The same workload in another pod, such as a virtual machine that was started anew.
        hint = "it is tried again until that sandbox is gone"
        return NotReadyError(words, hint=hint + by_hand, subject=subject)
    hint = "a claim serves one pod at a time: delete that pod, or give this one another claim"
    return ConflictError(words, hint=hint + by_hand, subject=subject)
