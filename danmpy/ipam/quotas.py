"""How many addresses the pods of a namespace may hold together, settled where they are bound."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, select

from danmpy.errors import ExhaustedError
from danmpy.ipam.locks import lock_alone
from danmpy.ipam.schema import lease

# By the partial index over open rows. Reservations are in no namespace, so they do not count. How
# far a namespace is beyond its quota does not matter: no more rows are read than there may be.
_HELD: Final = select(func.count()).select_from(
    select(lease.c.id)
    .where(lease.c.held_to.is_(None), lease.c.namespace == bindparam("namespace"))
    .limit(bindparam("most"))
    .subquery()
)


def count_alone(connection: Connection, namespace: str, quota: int) -> int:
    """How many addresses the pods of `namespace` hold, at most one more than `quota`, and nobody
    adds one until the transaction ends.

    Releases may go on: they only make room. To be called after the locks of pools and networks,
    by everybody: then those who wait here hold nothing that the one before them still needs.
    """
    lock_alone(connection, f"quota/{namespace}")
    held: Any = connection.execute(_HELD, {"namespace": namespace, "most": quota + 1}).scalar_one()
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
        hint="delete pods of the namespace that have addresses, or raise quotas.addresses in the "
        "TenantConfigs that serve it",
        subject=f"Namespace/{namespace}",
    )
