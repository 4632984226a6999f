"""Addresses of IPAMClaims (NPWG 1.3): nobody else's while the object is there, free afterwards.

The objects belong to whoever runs the workload, such as a controller of virtual machines, and they
outlive its pods. Their status tells the addresses: a mirror, what counts is in the database.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Final, Protocol

import structlog
from sqlalchemy import Connection, Engine, exists, literal_column, select

from danmpy.api.ipam_claims import KIND
from danmpy.api.specs import IPAM_CLAIM
from danmpy.clock import MICROSECONDS, Clock
from danmpy.db.engine import database_now, read, run_write
from danmpy.errors import NotReadyError
from danmpy.intent.values import Intent
from danmpy.ipam.rows import to_lease
from danmpy.ipam.schema import freed, lease, pool
from danmpy.ipam.unclaiming import Forgotten, Unclaiming

_log = structlog.get_logger(__name__)

LOOK_S: Final = 10.0
"""Seconds between two looks."""

GRACE_S: Final = 10.0
"""Seconds for which a claim must be missing in every look before its addresses are given free."""

UNSEEN_S: Final = 120.0
"""Seconds without a look after which nothing is known of the time between."""

ClaimName = tuple[str, str]
"""Namespace and name of an IPAMClaim."""

_open = lease.c.held_to.is_(None)
_HELD: Final = (
    select(lease)
    .where(_open, lease.c.claim != literal_column("''"), lease.c.claim.like(f"{IPAM_CLAIM}%"))
    .order_by(lease.c.family, lease.c.network, lease.c.interface)
)
_KEPT: Final = (
    select(
        freed.c.namespace,
        freed.c.claim,
        freed.c.network,
        freed.c.interface,
        freed.c.family,
        freed.c.address,
        pool.c.subnet,
    )
    .join_from(
        freed,
        pool,
        (pool.c.network == freed.c.network)
        & (pool.c.family == freed.c.family)
        & (pool.c.domain == freed.c.domain),
        isouter=True,
    )
    .where(
        freed.c.claim != literal_column("''"),
        freed.c.claim.like(f"{IPAM_CLAIM}%"),
        ~exists().where(
            lease.c.domain == freed.c.domain, lease.c.address == freed.c.address, _open
        ),
    )
    .order_by(freed.c.family, freed.c.network, freed.c.interface, freed.c.released_at.desc())
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedAddresses:
    """What there is for one claim: `ips` with their prefix length; does a pod hold some of it, and
    is some of it kept, with nobody on it?
    """

    ips: tuple[str, ...] = ()
    kept: bool = False


class IpamClaimStore:
    """The addresses of IPAMClaims in the database.

    Raises (all methods):
        StoreError: the database cannot be used.
    """

    def __init__(self, engine: Engine, clock: Clock, cooldown_seconds: int) -> None:
        self._engine = engine
        self._clock = clock
        self._cooldown = cooldown_seconds * MICROSECONDS

    def addresses(self) -> Mapping[ClaimName, ClaimedAddresses]:
        """By claim, IPv4 first. Of one place only what is held, else what was held last."""
        with read(self._engine) as connection:
            held = [to_lease(row) for row in connection.execute(_HELD)]
            kept = connection.execute(_KEPT).all()
        ips: dict[ClaimName, dict[tuple[int, str, str], str]] = {}
        for item in held:
            place = (int(item.family), item.network, item.interface)
            ips.setdefault(_name_of(item), {})[place] = str(item.address)
        for row in kept:
            place = (row.family, row.network, row.interface)
            ips.setdefault(_name_of(row), {}).setdefault(place, _with_prefix(row))
        resting = {_name_of(row) for row in kept}
        return {
            name: ClaimedAddresses(
                ips=tuple(text for _, text in sorted(places.items())), kept=name in resting
            )
            for name, places in ips.items()
        }

    def forget(self, name: ClaimName, why: str) -> tuple[Forgotten, ...]:
        """Keep nothing for this claim any more."""
        namespace, claim = name

        def work(connection: Connection) -> tuple[Forgotten, ...]:
            unclaiming = Unclaiming(
                connection=connection,
                now=database_now(connection, self._clock),
                cooldown=self._cooldown,
                reason="unclaimed",
                detail={"why": why},
            )
            return unclaiming.of(namespace, f"{IPAM_CLAIM}{claim}")

        return run_write(self._engine, work)


def _name_of(row: Any) -> ClaimName:
    return row.namespace, row.claim.removeprefix(IPAM_CLAIM)


def _with_prefix(row: Any) -> str:
    address = ip_address(bytes(row.address))
    prefix = address.max_prefixlen if row.subnet is None else ip_network(row.subnet).prefixlen
    return f"{address}/{prefix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimObject:
    """One IPAMClaim as it is now, as far as its status goes."""

    name: ClaimName
    uid: str = ""
    resource_version: str = ""
    ips: tuple[str, ...] = ()


class ClaimObjects(Protocol):
    """The IPAMClaims that there are.

    Raises (all methods):
        ClusterError, NotReadyError: they cannot be looked at now, or not all of them.
    """

    def listed(self) -> Collection[ClaimObject] | None:
        """All of them; None where nobody knows the kind, and so nothing is known."""

    def is_there(self, name: ClaimName) -> bool:
        """Is this one, now?"""

    def tell(self, claim: ClaimObject, ips: tuple[str, ...]) -> bool:
        """Write its status; False when it has changed meanwhile, and the next look decides."""


class DeclaredClaims:
    """The IPAMClaims of a folder (`ClaimObjects`). Their status is nowhere."""

    def __init__(self, wishes: Callable[[], Intent]) -> None:
        self._wishes = wishes

    def listed(self) -> Collection[ClaimObject]:
        """Those in the folder, also those that are refused: they are there."""
        return [ClaimObject(name=name) for name in self._names()]

    def is_there(self, name: ClaimName) -> bool:
        """Is it in the folder?"""
        return name in self._names()

    def tell(self, claim: ClaimObject, ips: tuple[str, ...]) -> bool:
        """Nothing to write."""
        return True

    def _names(self) -> frozenset[ClaimName]:
        wishes = self._wishes()
        if not wishes.complete:
            raise NotReadyError(
                "not every manifest can be read, so no claim is known to be gone",
                hint="correct what `danmpy check` names",
                subject=KIND,
            )
        subjects = (problem.subject.split("/") for problem in wishes.problems)
        refused = {(it[1], it[2]) for it in subjects if it[0] == KIND and len(it) == 3}
        return frozenset({*wishes.ipam_claims, *refused})


class IpamClaimKeeper:
    """Gives free what claims keep that are gone, and tells the others their addresses.

    For one thread of the replica that leads.
    """

    def __init__(
        self, store: IpamClaimStore, objects: ClaimObjects, leading: Callable[[], bool]
    ) -> None:
        self._store = store
        self._objects = objects
        self._leading = leading
        self._missing: dict[ClaimName, float] = {}
        self._looked_at = 0.0

    def look(self, now: float) -> int:
        """One look at `now` (monotonic seconds); gives how many addresses were given free.

        Raises:
            ClusterError, NotReadyError: the claims cannot be looked at; nothing was given free.
            StoreError: the database cannot be used.
        """
        if not self._leading():
            self._missing = {}
            return 0
        # The database first: a claim is there before an address is bound to it.
        known = self._store.addresses()
        listed = self._objects.listed()
        if listed is None:
            self._missing = {}
            return 0
        there = {each.name: each for each in listed}
        ripe = self._note((name for name in known if name not in there), now)
        for name, each in there.items():
            ips = known.get(name, _NOTHING).ips
            # Claims without an address of ours may have one of another plugin.
            if ips and ips != each.ips and self._leading():
                self._objects.tell(each, ips)
        return sum(self._forget(name) for name in ripe if known[name].kept)

    def _note(self, missing: Iterable[ClaimName], now: float) -> list[ClaimName]:
        """Those that were missing in every look of the whole grace."""
        if now - self._looked_at > UNSEEN_S:
            self._missing = {}
        self._looked_at = now
        self._missing = {name: self._missing.get(name, now) for name in missing}
        return [
            name for name, since in self._missing.items() if since < now and now - since >= GRACE_S
        ]

    def _forget(self, name: ClaimName) -> int:
        if self._objects.is_there(name) or not self._leading():
            return 0
        freed_now = self._store.forget(name, "its IPAMClaim is gone")
        for each in freed_now:
            _log.info(
                "address of a claim given free",
                claim="/".join(name),
                network=each.network,
                address=str(each.address),
            )
        return len(freed_now)


_NOTHING: Final = ClaimedAddresses()
