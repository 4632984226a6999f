"""What most pods ask for, bound in one round trip: only on PostgreSQL, and only what is plain.

Plain is: dynamic addresses for a pod that has none yet, from pools that still have addresses which
nobody ever had, without claim and quota. Then nothing has to be looked at between the steps, and
a function of the database (`danmpy_bind`, made by a migration) takes them all. It locks no row
that other pods need: it picks addresses out of a window that we name, passes over those that
others are just picking, and moves the pool's cursor now and then. Everything else it leaves alone
and says so; then `Binding` does the work, and the word on every rule is there.

The unique indexes decide about the function's rows as about all others, and the ledger's events of
it carry the same digest (`ledger.digest_of`) over text that is made here.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any, Final

from sqlalchemy import Connection, Engine

from danmpy.api.specs import AddressMode, PoolSpec
from danmpy.db.engine import count_retry, run_call, run_write
from danmpy.db.errors import TransientError
from danmpy.ipam.ledger import EVENT_FIELDS, EventKind, canonical
from danmpy.ipam.picking import PoolKey, make_pools
from danmpy.ipam.pools import Layout, layout, pack, unpack
from danmpy.ipam.registry import lock_of
from danmpy.ipam.values import Lease, LeaseOwner
from danmpy.ipam.wants import Want

WINDOWS: Final = (144, 144, 1024, 8192)
"""How many addresses the function may look at, try by try. The first is enough unless the cursor
that we remember is of yesterday, or hundreds of addresses are picked at the same moment."""

_LOW_MASK: Final = 2**32 - 1
"""The function counts in the last 32 bits of an address; the rest is the stem."""

_IPV6_WITH_IPV4: Final = 2**48
"""Below it lie ``::/96`` and ``::ffff:0:0/96``, which PostgreSQL writes with dots and we do not."""

_CALL: Final = "SELECT lease_id, address, held_from, next_fresh FROM danmpy_bind(%s::text::jsonb)"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What is asked of one pool: so many addresses."""

    key: PoolKey
    spec: PoolSpec
    space: Layout
    count: int


class Shortcut:
    """Binds what is plain. Remembers where the cursor of each pool was, which saves a question."""

    def __init__(self, engine: Engine, guard: Callable[[Connection], None] | None = None) -> None:
        """`guard` as that of `LeaseStore`."""
        self._engine = engine
        self._guard = guard
        self._cursors: dict[tuple[PoolKey, str], int] = {}

    def bind(self, owner: LeaseOwner, wants: Sequence[Want]) -> tuple[Lease, ...] | None:
        """The leases, committed; None when nothing was done and `Binding` has to do it.

        Raises:
            StoreError: as `LeaseStore.bind`.
        """
        if owner.quota is not None or any(want.claim for want in wants):
            return None
        keys = [want.key for want in wants]
        order = sorted(range(len(wants)), key=keys.__getitem__)
        pools = _pools([(keys[place], wants[place]) for place in order])
        if pools is None:
            return None
        asked = _question(owner, [wants[place] for place in order])
        for width in WINDOWS:
            asked["pools"] = [self._offer(pool, width) for pool in pools]
            try:
                rows = run_call(self._engine, _CALL, (json.dumps(asked),), guard=self._guard)
            except TransientError as error:
                count_retry(self._engine, error)
                return None
            if not rows:
                return None
            known = [unpack(row[3]) for row in rows if row[3] is not None]
            for pool, cursor in zip(pools, known, strict=False):
                self._cursors[pool.key, pool.space.shape] = cursor
            made = dict(zip(order, (row for row in rows if row[0] is not None), strict=False))
            if made:
                return tuple(_lease(owner, want, made[no]) for no, want in enumerate(wants))
            if not known:
                self._make({pool.key: pool.spec for pool in pools})
        return None

    def _make(self, specs: dict[PoolKey, PoolSpec]) -> None:
        run_write(self._engine, lambda connection: make_pools(connection, specs))

    def _offer(self, pool: _Asked, width: int) -> dict[str, Any]:
        """The window of `width` addresses behind the cursor, inside one run of the layout."""
        network, family, domain = pool.key
        at = pool.space.at_or_after(self._cursors.get((pool.key, pool.space.shape), 0))
        low = pool.space.ranges[-1][1] if at is None else at
        end = low | _LOW_MASK
        _, high = next(pool.space.between(low, end))
        return {
            "network": network,
            "family": family,
            "domain": domain,
            "shape": pool.space.shape,
            "stem": pack(family, low)[:-4].hex(),
            "low": low & _LOW_MASK,
            "high": min(high, low + width - 1) & _LOW_MASK,
            "base": str(pool.spec.address(low)),
            "count": pool.count,
        }


def _pools(wants: Sequence[tuple[PoolKey, Want]]) -> list[_Asked] | None:
    """The pools in the order of `wants`, which is that of their keys; None when it is not plain."""
    pools: list[_Asked] = []
    for key, want in wants:
        if want.ask.mode is not AddressMode.DYNAMIC:
            return None
        if pools and pools[-1].key == key:
            pools[-1] = replace(pools[-1], count=pools[-1].count + 1)
            continue
        space = layout(want.pool)
        if not space.ranges or (want.family == 6 and want.pool.first < _IPV6_WITH_IPV4):
            return None
        pools.append(_Asked(key=key, spec=want.pool, space=space, count=1))
    return pools


def _question(owner: LeaseOwner, wants: Sequence[Want]) -> dict[str, Any]:
    """What `danmpy_bind` wants to know besides the pools; `wants` in the order of the pools."""
    uids = sorted({want.network.uid for want in wants})
    return {
        "namespace": owner.namespace,
        "pod": owner.pod,
        "pod_uid": owner.pod_uid,
        "container_id": owner.container_id,
        "node": owner.node,
        "uids": uids,
        "locks": sorted(map(lock_of, uids)),
        "wants": [_want(owner, want) for want in wants],
    }


@cache
def _detail(mode: str, prefix: int) -> str:
    """What the event says besides, as `rows.event_of` of a lease without note and claim."""
    return canonical({"mode": mode, "prefix": prefix})


def _want(owner: LeaseOwner, want: Want) -> dict[str, Any]:
    uid = uuid.uuid4().hex
    detail = _detail(str(want.ask.mode), want.pool.subnet.prefixlen)
    # Marks that nobody can guess, so that no name can be taken for one.
    address, moment, lease = (f"@{name}{uid}@" for name in ("address", "moment", "lease"))
    told = {
        **EVENT_FIELDS,
        "uid": uid,
        "at": moment,
        "effective_at": moment,
        "kind": str(EventKind.ALLOCATE),
        "lease_id": lease,
        "network": want.key[0],
        "domain": want.network.domain,
        "family": want.family,
        "address": address,
        "interface": want.interface,
        "namespace": owner.namespace,
        "pod": owner.pod,
        "pod_uid": owner.pod_uid,
        "container_id": owner.container_id,
        "node": owner.node,
        "mac": want.mac,
        "detail": detail,
    }
    # What only the database knows is filled in there, by its `format`.
    digested = (
        canonical(told)
        .replace("%", "%%")
        .replace(address, "%1$s")
        .replace(f'"{moment}"', "%2$s")
        .replace(f'"{lease}"', "%3$s")
    )
    return {
        "network": want.key[0],
        "network_uid": want.network.uid,
        "family": want.family,
        "prefix": want.pool.subnet.prefixlen,
        "interface": want.interface,
        "mac": want.mac,
        "event_uid": uid,
        "detail": detail,
        "digested": digested,
    }


def _lease(owner: LeaseOwner, want: Want, row: Any) -> Lease:
    make = IPv4Interface if want.family == 4 else IPv6Interface
    return Lease(
        id=row[0],
        network=want.key[0],
        network_uid=want.network.uid,
        domain=want.network.domain,
        family=want.family,
        address=make((bytes(row[1]), want.pool.subnet.prefixlen)),
        interface=want.interface,
        namespace=owner.namespace,
        pod=owner.pod,
        pod_uid=owner.pod_uid,
        container_id=owner.container_id,
        node=owner.node,
        mac=want.mac,
        mode=want.ask.mode,
        from_=row[2],
    )
