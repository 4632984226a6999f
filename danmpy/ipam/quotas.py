"""How many addresses the pods of a namespace may hold together, settled where they are bound.

What its IPAMClaims keep counts like what its pods hold: it is nobody else's for as long as the
namespace likes, and would otherwise be a way around the quota.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import Connection, bindparam, exists, func, literal_column, select, union_all

from danmpy.api.specs import IPAM_CLAIM
from danmpy.errors import ExhaustedError
from danmpy.ipam.locks import lock_alone
from danmpy.ipam.schema import freed, lease

# By the partial indexes over open rows and over claims; in one statement, so that what is released
# meanwhile is not in both. Reservations are in no namespace, so they do not count. How far a
# namespace is beyond its quota does not matter: no more rows are read than there may be.
_HELD: Final = select(func.count()).select_from(
    union_all(
        select(lease.c.address).where(
            lease.c.held_to.is_(None), lease.c.namespace == bindparam("namespace")
        ),
        select(freed.c.address).where(
            freed.c.claim != literal_column("''"),
            freed.c.claim.like(f"{IPAM_CLAIM}%"),
            freed.c.namespace == bindparam("namespace"),
            freed.c.claim.not_in(bindparam("asking", expanding=True)),
            ~exists().where(
                lease.c.domain == freed.c.domain,
                lease.c.address == freed.c.address,
                lease.c.held_to.is_(None),
            ),
        ),
    )
    .limit(bindparam("most"))
    .subquery()
)


def count_alone(
    connection: Connection, namespace: str, quota: int, asking: Collection[str] = ()
) -> int:
    """How many addresses the pods of `namespace` hold and its IPAMClaims keep, but for the claims
    `asking`, whose addresses come back; at most one more than `quota`, and nobody adds one until
    the transaction ends.

    Releases may go on: they only make room. To be called after the locks of pools and networks,
    by everybody: then those who wait here hold nothing that the one before them still needs.
    """
    lock_alone(connection, f"quota/{namespace}")
    asked = {"namespace": namespace, "most": quota + 1, "asking": sorted(asking)}
    held: Any = connection.execute(_HELD, asked).scalar_one()
    return int(held)


def require_room(namespace: str, quota: int, *, held: int, ended: int, asked: int) -> None:
    """May a pod that ends `ended` of the `held` leases of its namespace have `asked` new ones?

    What passes on from sandbox to sandbox is in both and counts for nothing; so a quota that was
    lowered below what is held stops no pod from getting back what it has. `held` is as from
    `count_alone`: any number above `quota` stands for all of them.

    Raises:
        ExhaustedError: there would be more of them, and more than `quota`.
    """
    after = held - ended + asked
    if after <= max(quota, held):
        return
    count = "1 address" if quota == 1 else f"{quota} addresses"
    more = "hold more already" if held > quota else f"hold {held} and would hold {after}"
    raise ExhaustedError(
        f"the pods of namespace {namespace} may hold {count} (quotas.addresses), {more}",
        hint="delete pods of the namespace that have addresses, or IPAMClaims that keep some, or "
        "raise quotas.addresses in the TenantConfigs that serve it",
        subject=f"Namespace/{namespace}",
    )
