"""One bind, inside one transaction: what is already there, what passes on, what is new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    Connection,
    bindparam,
    exists,
    literal_column,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from danmpy.api.specs import IPAM_CLAIM, AddressMode, Family, IPAddress, NetworkSpec
from danmpy.clock import Clock, to_rfc3339
from danmpy.errors import ConflictError, IntentError, NotReadyError
from danmpy.ipam import claims, ledger, quotas
from danmpy.ipam.ledger import EventKind
from danmpy.ipam.picking import (
    OpenPool,
    Pick,
    PoolKey,
    any_of,
    collision,
    exhausted,
    lock_pools,
    places_asked,
    rolled_back,
    store_picks,
    take,
)
from danmpy.ipam.pools import layout, pack
from danmpy.ipam.registry import keep_open
from danmpy.ipam.releasing import Rest, rest
from danmpy.ipam.rows import event_of, lease_from, to_lease
from danmpy.ipam.schema import freed, lease, meta, retired_network
from danmpy.ipam.values import EndReason, Lease, LeaseOwner, until
from danmpy.ipam.wants import Want, static_address

_open = lease.c.held_to.is_(None)

# Two look-ups and no OR, and '' as a literal: otherwise SQLite reads every open lease, because it
# cannot tell that the partial index covers the question.
_EXISTING: Final = union_all(
    select(lease).where(_open, lease.c.container_id == bindparam("container_id")),
    select(lease).where(
        _open,
        lease.c.pod_uid == bindparam("pod_uid"),
        lease.c.pod_uid != literal_column("''"),
        # A careless runtime may give several pods one UID; none may lose its address for that. As
        # one text, so that nobody goes by the index over namespaces: without statistics PostgreSQL
        # does, and reads all that the tenant holds.
        lease.c.namespace + literal_column("'/'") + lease.c.pod == bindparam("pod"),
        lease.c.container_id != bindparam("container_id"),
    ),
)
_END: Final = (
    update(lease)
    .where(lease.c.id == bindparam("lease"), _open)
    .values(
        held_to=bindparam("ended_at"),
        cool_until=bindparam("rests_until"),
        end_reason=bindparam("why"),
    )
)
_HOLDERS: Final = select(lease).where(_open, any_of(lease))
_RESTING: Final = select(freed).where(any_of(freed))
# Asked where the row is stored: after `keep_open`, and without a round trip of its own. As text,
# because SQLAlchemy does not know the new row as something that a subquery can look at.
_retired = (
    exists().where(retired_network.c.uid == literal_column("lease.network_uid")).label("retired")
)
# And are the pools closed, because the database may have forgotten who holds what?
_closed = exists().where(meta.c.key == literal_column("'closed'")).label("closed")
_STORED: Final = (lease.c.id, lease.c.domain, lease.c.address, _retired, _closed)
_INSERT: Final = {
    "sqlite": sqlite.insert(lease).on_conflict_do_nothing().returning(*_STORED),
    "postgresql": postgresql.insert(lease).on_conflict_do_nothing().returning(*_STORED),
}


@dataclass(slots=True)
class Binding:
    """The work of one `LeaseStore.bind`; made anew for every try."""

    connection: Connection
    clock: Clock
    rests: Rest
    owner: LeaseOwner

    def run(self, wants: Sequence[Want]) -> tuple[Lease, ...]:
        """Bind `wants`; see `LeaseStore.bind`."""
        # Locks first, looks later: what is read below cannot change under us.
        pools = lock_pools(self.connection, {want.key: want.pool for want in wants})
        now = keep_open(self.connection, self.clock, {want.network.uid for want in wants})
        own, others = self._existing()
        kept = {want: own[want.slot] for want in wants if want.slot in own}
        for want, found in kept.items():
            _require_same(want, found)
        fresh = [want for want in wants if want not in kept]
        if not fresh:
            return tuple(kept[want] for want in wants)
        handed = self._make_room(fresh, others, now)
        picks = {want: Pick(value=int(old.address.ip)) for want, old in handed.items()}
        for want, pick in picks.items():
            # Neither held nor freed for this moment, so only this keeps the cursor off it.
            pools[want.key].taken.add(pick.value)
        picks |= self._pick(pools, [want for want in fresh if want not in picks], now)
        bound = self._insert(pools, picks, handed, now)
        return tuple((kept | bound)[want] for want in wants)

    def _existing(
        self,
    ) -> tuple[dict[tuple[str, Family], Lease], list[Lease]]:
        """What this container holds, and what other containers of the pod hold."""
        rows = self.connection.execute(
            _EXISTING,
            {
                "container_id": self.owner.container_id,
                "pod_uid": self.owner.pod_uid,
                "pod": f"{self.owner.namespace}/{self.owner.pod}",
            },
        )
        leases = [to_lease(row) for row in rows]
        own = {
            (item.interface, item.family): item
            for item in leases
            if item.container_id == self.owner.container_id
        }
        return own, [item for item in leases if item.container_id != self.owner.container_id]

    def _make_room(
        self, wants: Sequence[Want], others: Sequence[Lease], now: int
    ) -> dict[Want, Lease]:
        """As `_take_over`; and may the pod have the rest, by its quota and its claim?"""
        owner = self.owner
        if owner.quota is None:
            handed, _ = self._take_over(wants, others, now)
        else:
            asking = {want.claim for want in wants if want.is_claimed}
            held = quotas.count_alone(self.connection, owner.namespace, owner.quota, asking)
            handed, ended = self._take_over(wants, others, now)
            quotas.require_room(
                owner.namespace, owner.quota, held=held, ended=ended, asked=len(wants)
            )
        claims.require_vacant(self.connection, owner, [want for want in wants if want.is_claimed])
        return handed

    def _take_over(
        self, wants: Sequence[Want], others: Sequence[Lease], now: int
    ) -> tuple[dict[Want, Lease], int]:
        """End what an older sandbox of the pod holds for these interfaces; tell what passes on, and
        how many leases ended.
        """
        handed: dict[Want, Lease] = {}
        left = {old.id: old for old in others}
        # An address that is asked for by name passes on also to another interface of the pod. Those
        # come first, so that no dynamic want takes it away.
        for want in sorted(wants, key=lambda want: want.ask.address is None):
            fitting = (old for old in left.values() if _passes_on(want, old))
            found = next(fitting, None)
            if found is not None:
                handed[want] = left.pop(found.id)
        places = {(want.key[0], want.slot) for want in wants}
        replaced = tuple(
            old for old in left.values() if (old.network, (old.interface, old.family)) in places
        )
        if handed or replaced:
            self._end(tuple(handed.values()), replaced, now)
        return handed, len(handed) + len(replaced)

    def _end(self, rebound: tuple[Lease, ...], replaced: tuple[Lease, ...], now: int) -> None:
        rows = [
            {
                "lease": old.id,
                "ended_at": max(now, old.from_),
                "rests_until": self.rests.until(max(now, old.from_), old.claim)
                if why is _REPLACED
                else None,
                "why": str(why),
            }
            for group, why in ((rebound, EndReason.REBOUND), (replaced, _REPLACED))
            for old in group
        ]
        # One statement a row, because a driver need not count the rows of many.
        for row in rows:
            if self.connection.execute(_END, row).rowcount != 1:
                raise collision()
        if replaced:
            ids = [old.id for old in replaced]
            ended = self.connection.execute(select(lease).where(lease.c.id.in_(ids)))
            rest(self.connection, ended.all(), now)

    def _pick(
        self, pools: Mapping[PoolKey, OpenPool], wants: Sequence[Want], now: int
    ) -> dict[Want, Pick]:
        """An address for each want; the static ones first, so that no dynamic one takes them."""
        statics = [want for want in wants if want.ask.mode is AddressMode.STATIC]
        picks = self._static(pools, statics, now) if statics else {}
        dynamics = [want for want in wants if want not in picks]
        claimed = {want: (pools[want.key], want) for want in dynamics if want.claim}
        if claimed:
            picks |= claims.kept_for(self.connection, self.owner.namespace, claimed)
        places = {want: (pools[want.key], want.interface) for want in dynamics if want not in picks}
        if self.owner.pod_uid and places:
            picks |= rolled_back(self.connection, self.owner.pod_uid, places)
        for key in sorted({want.key for want in dynamics}):
            group = [want for want in dynamics if want.key == key and want not in picks]
            found = take(self.connection, pools[key], len(group), now)
            if len(found) < len(group):
                raise exhausted(self.connection, pools[key], group[0].network, now)
            picks |= dict(zip(group, found, strict=True))
        return picks

    def _static(
        self, pools: Mapping[PoolKey, OpenPool], wants: Sequence[Want], now: int
    ) -> dict[Want, Pick]:
        keys = places_asked((want.network.domain, want.packed or b"") for want in wants)
        holders = {
            (row.domain, row.address): row for row in self.connection.execute(_HOLDERS, keys)
        }
        # Looked at after the holders: an address released in between is seen here as resting.
        resting = {
            (row.domain, row.address): row for row in self.connection.execute(_RESTING, keys)
        }
        picks = {}
        for want in wants:
            place = (want.network.domain, want.packed)
            address = static_address(want)
            if place in holders:
                raise _taken(want, address, to_lease(holders[place]), self.owner)
            last = resting.get(place)
            claimed = last is not None and self._require_rested(want, address, last, now)
            pools[want.key].taken.add(int(address))
            picks[want] = Pick(
                value=int(address),
                released_at=last.released_at if last else 0,
                was_freed=last is not None,
                claimed=claimed,
            )
        own = [want for want, pick in picks.items() if pick.claimed]
        claims.require_vacant(self.connection, self.owner, own)
        return picks

    def _require_rested(self, want: Want, address: IPAddress, last: Any, now: int) -> bool:
        """A static address rests like any other, but its own pod may have it back at once, and so
        may the next one under the claim that it is kept for. Gives whether it is that one.
        """
        same_pod = (last.namespace, last.pod) == (self.owner.namespace, self.owner.pod)
        own = last.claim != "" and (last.namespace, last.claim) == (
            self.owner.namespace,
            want.claim,
        )
        if last.claim.startswith(IPAM_CLAIM):
            same_pod = False  # the pod may have gone on without it
        if last.ready_at > now and not (same_pod or own):
            after = f"Pod/{last.namespace}/{last.pod}" if last.pod else "a reservation"
            if last.claim:
                after += f" and kept for its claim {last.claim}"
            raise NotReadyError(
                f"static address {address} is cooling down after {after} {until(last.ready_at)}",
                hint="danmpy release frees what is kept for a claim"
                if last.claim
                else "it is free then; nothing else has to be done",
                subject=str(want.network.key),
            )
        return own

    def _insert(
        self,
        pools: Mapping[PoolKey, OpenPool],
        picks: Mapping[Want, Pick],
        handed: Mapping[Want, Lease],
        now: int,
    ) -> dict[Want, Lease]:
        rows = {}
        for want, pick in picks.items():
            old = handed.get(want)
            # Never before the end of the address's last lease, also when the clock went back.
            start = max(now, pick.released_at, old.from_ if old else 0)
            rows[want] = self._row(pools[want.key], want, pick, start)
        ordered = sorted(rows.values(), key=lambda row: (row["domain"], row["address"]))
        dialect = self.connection.dialect.name
        answers = self.connection.execute(_INSERT[dialect], ordered).all()
        stored = {(row.domain, row.address): row for row in answers}
        for want, row in rows.items():
            answer = stored.get((row["domain"], row["address"]))
            if answer is not None and answer.retired:
                raise being_deleted(want.network)
            if answer is not None and answer.closed:
                raise pools_closed()
        if len(stored) < len(rows):
            raise collision()
        bound = {
            want: lease_from({**row, "id": stored[row["domain"], row["address"]].id})
            for want, row in rows.items()
        }
        picked = {
            (want.network.domain, rows[want]["address"]): pick for want, pick in picks.items()
        }
        store_picks(self.connection, pools.values(), picked)
        events = []
        for want, item in bound.items():
            if want in handed:
                events.append(event_of(item, EventKind.REBIND, now, closed_id=handed[want].id))
            else:
                events.append(event_of(item, EventKind.ALLOCATE, now))
        ledger.append(self.connection, events)
        return bound

    def _row(self, opened: OpenPool, want: Want, pick: Pick, start: int) -> dict[str, Any]:
        return {
            "pool_id": opened.id,
            "network": want.key[0],
            "network_uid": want.network.uid,
            "domain": want.network.domain,
            "family": want.family,
            "address": pack(want.family, pick.value),
            "address_text": str(want.pool.address(pick.value)),
            "prefix": want.pool.subnet.prefixlen,
            "interface": want.interface,
            "namespace": self.owner.namespace,
            "pod": self.owner.pod,
            "pod_uid": self.owner.pod_uid,
            "container_id": self.owner.container_id,
            "node": self.owner.node,
            "mac": want.mac,
            "mode": str(want.ask.mode),
            "pooled": int(opened.space.holds(pick.value)),
            "held_from": start,
            "held_to": None,
            "cool_until": None,
            "end_reason": None,
            "note": "",
            "claim": want.claim if want.is_claimed or pick.claimed else "",
            "shared_by": "",
        }


_REPLACED: Final = EndReason.REPLACED


def _passes_on(want: Want, old: Lease) -> bool:
    """May the address of `old`, held by an older sandbox of the same pod, pass on to `want`?"""
    if (old.domain, old.family, old.address.network) != (
        want.network.domain,
        want.family,
        want.pool.subnet,
    ):
        return False
    if want.ask.address is not None:
        return want.ask.address == old.address.ip
    same_place = (old.network, old.interface) == (want.key[0], want.interface)
    if want.claim.startswith(IPAM_CLAIM) and want.claim != old.claim:
        return False
    # The network's pool may have changed since: nobody starts on an address that is excluded now.
    return same_place and layout(want.pool).holds(int(old.address.ip))


def _require_same(want: Want, found: Lease) -> None:
    """A repeated ADD must ask for what the container already has.

    Raises:
        ConflictError: it asks for something else; the attachment would differ from its record.
    """
    same = (found.network, found.domain) == (want.key[0], want.network.domain)
    if not same or want.ask.address not in {None, found.address.ip}:
        raise ConflictError(
            f"container {found.container_id} already holds {found.address.ip} of {found.network} "
            f"on {found.interface}",
            hint="DEL the container before it is added with other interfaces",
            subject=str(want.network.key),
        )


def being_deleted(network: NetworkSpec) -> IntentError:
    """The refusal of a network that is retired (`ipam.registry`)."""
    return IntentError(
        "the network is being deleted, so no pod gets an interface on it any more",
        hint="take the network out of the pod's interfaces, or create it anew",
        subject=str(network.key),
    )


def pools_closed(why: str = "the database was restored or failed over") -> NotReadyError:
    """The refusal of everything while an epoch is closed (`ipam.epoch`)."""
    return NotReadyError(
        f"no address is handed out until the nodes have told what their pods have: {why}",
        hint="this ends by itself; `danmpy db epoch` names the nodes that are missing, and "
        "`danmpy db accept-epoch` goes on without them",
        subject="database",
    )


def _taken(want: Want, address: IPAddress, holder: Lease, owner: LeaseOwner) -> ConflictError:
    if holder.is_shared_by(owner.namespace, owner.pod):
        return ConflictError(
            f"static address {address} is shared by {', '.join(holder.shared_by)} "
            f"({holder.note}): those pods move it among them, and it is leased to none of them",
            hint="ask for another address, or dynamic; the pods' own software (keepalived, VRRP) "
            "puts the shared one on",
            subject=str(want.network.key),
        )
    if holder.is_reservation:
        return ConflictError(
            f"static address {address} is held by {holder.holder} since {to_rfc3339(holder.from_)}",
            hint="ask for another address; danmpy unreserve ends the reservation",
            subject=str(want.network.key),
        )
    return ConflictError(
        f"static address {address} is held by Pod/{holder.namespace}/{holder.pod} "
        f"({holder.network}, interface {holder.interface}, node {holder.node}) "
        f"since {to_rfc3339(holder.from_)}",
        hint="remove that pod or ask for another address",
        subject=str(want.network.key),
    )
