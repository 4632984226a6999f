"""Leases of nodes that are no more: nobody is left there who could release them.

A node that is merely not ready, or whose daemon is silent, keeps what it has: its pods may run and
send. Only when its Node object is gone, and the pod as well, nobody uses the address any more. That
is looked at twice, with a grace between, and once more before anything is taken; whoever cannot be
asked proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog
from sqlalchemy import Connection, Engine, bindparam, case, select, update

from danmpy.clock import MICROSECONDS, Clock
from danmpy.db.engine import database_now, read, run_write
from danmpy.ipam.epoch import HOLDING_NODES
from danmpy.ipam.leases import CLAIM_SECONDS
from danmpy.ipam.releasing import Rest, rest
from danmpy.ipam.rows import to_lease
from danmpy.ipam.schema import lease
from danmpy.ipam.values import EndReason, Lease

_log = structlog.get_logger(__name__)

AT_ONCE: Final = 100
"""Leases that one run takes at most: if all of this should be a mistake, it is a small one."""

UNSEEN_S: Final = 120.0
"""Seconds without a look after which nothing is known of the time between."""

_open = lease.c.held_to.is_(None)
_OF_NODES: Final = (
    select(lease)
    .where(_open, lease.c.node.in_(bindparam("of_nodes", expanding=True)), lease.c.pod != "")
    .order_by(lease.c.id)
)
_ends: Final[Any] = case(
    (lease.c.held_from > bindparam("now"), lease.c.held_from), else_=bindparam("now")
)
_CLOSE: Final = (
    update(lease)
    .where(
        _open,
        lease.c.id == bindparam("lease_id"),
        lease.c.container_id == bindparam("of_container"),
    )
    .values(
        held_to=_ends, cool_until=_ends + bindparam("rests"), end_reason=str(EndReason.RECLAIMED)
    )
    .returning(lease)
)

PodName = tuple[str, str, str]
"""Namespace, name and UID of a pod."""


class Cluster(Protocol):
    """The cluster as it is now, never as it was remembered.

    Raises (all methods):
        ClusterError: the API server cannot be asked.
    """

    def nodes(self) -> frozenset[str]:
        """The names of all nodes."""

    def pods_on(self, node: str) -> frozenset[PodName]:
        """The pods that are bound to `node`."""

    def uid_of(self, namespace: str, pod: str) -> str | None:
        """The UID of a pod; None when there is none of that name."""


def is_alone(item: Lease, nodes: frozenset[str], pods: frozenset[PodName]) -> bool:
    """Are the node and the pod of this lease both gone?"""
    if item.node in nodes or item.is_reservation or not item.pod:
        return False
    if item.pod_uid:
        return (item.namespace, item.pod, item.pod_uid) not in pods
    return all((namespace, name) != (item.namespace, item.pod) for namespace, name, _ in pods)


def is_it(item: Lease, uid: str | None) -> bool:
    """Is the pod with `uid` (None: there is none) the one of this lease? When in doubt it is."""
    return uid is not None and (not item.pod_uid or not uid or uid == item.pod_uid)


class Suspicions:
    """Remembers since when leases are alone; seconds that only go forward come in."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._since: dict[tuple[int, str], float] = {}
        self._looked_at = 0.0

    def note(self, alone: Iterable[Lease], now: float) -> tuple[Lease, ...]:
        """One look: those that were alone in every look of the whole grace."""
        if now - self._looked_at > UNSEEN_S:
            self._since = {}
        self._looked_at = now
        found = {(item.id, item.container_id): item for item in alone}
        self._since = {key: self._since.get(key, now) for key in found}
        return tuple(
            item
            for key, item in found.items()
            if self._since[key] < now and now - self._since[key] >= self._grace_s
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RestSettings:
    """How long the addresses rest that are taken back, in seconds."""

    cooldown_seconds: int
    claim_seconds: int = CLAIM_SECONDS


class LeaseEnder:
    """Ends single leases for somebody who is not their container.

    Raises (all methods):
        StoreError: the database cannot be used.
    """

    def __init__(self, engine: Engine, clock: Clock, settings: RestSettings) -> None:
        self._engine = engine
        self._clock = clock
        self._rests = Rest(
            cooldown=settings.cooldown_seconds * MICROSECONDS,
            claimed=settings.claim_seconds * MICROSECONDS,
        )

    def nodes(self) -> frozenset[str]:
        """The nodes whose pods hold leases."""
        with read(self._engine) as connection:
            return frozenset(connection.execute(HOLDING_NODES).scalars())

    def held_on(self, nodes: Iterable[str]) -> tuple[Lease, ...]:
        """What the pods of `nodes` hold."""
        with read(self._engine) as connection:
            rows = connection.execute(_OF_NODES, {"of_nodes": sorted(nodes)})
            return tuple(map(to_lease, rows))

    def end(self, item: Lease, why: str) -> bool:
        """End exactly this lease of this container; False when it is another one's by now."""

        def work(connection: Connection) -> bool:
            now = database_now(connection, self._clock)
            asked = {
                "lease_id": item.id,
                "of_container": item.container_id,
                "now": now,
                "rests": self._rests.of(item.claim),
            }
            ended = connection.execute(_CLOSE, asked).all()
            return bool(rest(connection, ended, now, {"why": why}))

        taken = run_write(self._engine, work)
        if taken:
            address = str(item.address.ip)
            _log.info("lease taken back", pod=item.holder, node=item.node, address=address, why=why)
        return taken


class Reclaimer:
    """Takes back what nodes held that are no more. For one thread of the replica that leads."""

    def __init__(
        self, leases: LeaseEnder, grace_seconds: int, cluster: Cluster, leading: Callable[[], bool]
    ) -> None:
        self._leases = leases
        self._suspicions = Suspicions(grace_seconds)
        self._cluster = cluster
        self._leading = leading

    def look(self, now: float) -> int:
        """One look at `now` (monotonic seconds); gives how many leases were taken back.

        Raises:
            ClusterError: the API server could not be asked; nothing more was taken.
            StoreError: the database cannot be used.
        """
        if not self._leading():
            self._suspicions.note((), now)
            return 0
        gone = self._leases.nodes() - self._cluster.nodes()
        # The database first: a pod that is added meanwhile is in the cluster before it has a lease.
        leases = self._leases.held_on(gone) if gone else ()
        nodes = self._cluster.nodes() if leases else frozenset()
        pods = frozenset(
            name
            for node in sorted({item.node for item in leases})
            for name in self._cluster.pods_on(node)
        )
        alone = [item for item in leases if is_alone(item, nodes, pods)]
        ripe = self._suspicions.note(alone, now)
        return sum(self._take(item) for item in ripe[:AT_ONCE])

    def _take(self, item: Lease) -> bool:
        """Take `item` back, if its pod is still not there and it is still the very same lease."""
        if is_it(item, self._cluster.uid_of(item.namespace, item.pod)) or not self._leading():
            return False
        return self._leases.end(item, f"node {item.node} is gone")
