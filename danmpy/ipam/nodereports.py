"""What each node says of each network: its device, whether it works, how many interfaces use it.

A mirror, never read back as truth by the node that wrote it. Rows are written when they change and
not otherwise: a thousand networks on two hundred nodes must not keep the database busy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, Engine, bindparam, delete, func, select, text
from sqlalchemy.dialects import postgresql, sqlite

from danmpy.api.specs import NetworkKey
from danmpy.api.words import printable
from danmpy.clock import MICROSECONDS, Clock
from danmpy.db.engine import read, run_write, snapshot
from danmpy.ipam.locks import lock_alone
from danmpy.ipam.realised import NodeFailure, Realised
from danmpy.ipam.schema import node_network

_MESSAGE_MAX: Final = 500
"""Characters. The kernel's words and the hint fit; a log that somebody put there does not."""

_FAILURES_TOLD: Final = 5
_TRUSTED: Final = 60 * MICROSECONDS
"""How long what was written is taken to stand there without a look. `forget` may have taken it,
when the node was missing from the cluster for a moment, and a backup may have been put back."""

_columns = node_network.c
_MINE: Final = select(node_network).where(_columns.node == bindparam("of_node"))
_REMOVE: Final = delete(node_network).where(
    _columns.node == bindparam("of_node"), _columns.network == bindparam("of_network")
)


def _upsert(insert: Any) -> Any:
    statement = insert(node_network)
    return statement.on_conflict_do_update(
        index_elements=[_columns.node, _columns.network],
        set_={
            column.name: statement.excluded[column.name]
            for column in node_network.columns
            if not column.primary_key
        },
    )


_STORE: Final = {"sqlite": _upsert(sqlite.insert), "postgresql": _upsert(postgresql.insert)}
_TOTALS: Final = select(
    _columns.network,
    func.count().label("nodes"),
    func.sum(_columns.ready).label("ready"),
    func.sum(_columns.attached).label("attached"),
).group_by(_columns.network)
_ranked = (
    select(
        _columns.network,
        _columns.node,
        _columns.reason,
        _columns.message,
        func.row_number()
        .over(partition_by=_columns.network, order_by=_columns.node)
        .label("place"),
    )
    .where(_columns.ready == 0)
    .subquery()
)
_FAILURES: Final = (
    select(_ranked)
    .where(_ranked.c.place <= _FAILURES_TOLD)
    .order_by(_ranked.c.network, _ranked.c.place)
)
_ATTACHED: Final = select(func.coalesce(func.sum(_columns.attached), 0)).where(
    _columns.network == bindparam("of_network"), _columns.attached > 0
)
# From one name to the next by the primary key: of a thousand nodes there are a million rows.
_NODES: Final = text(
    """
    WITH RECURSIVE known(node) AS (
        SELECT min(node) FROM node_network
        UNION ALL
        SELECT (SELECT min(node) FROM node_network WHERE node > known.node)
        FROM known WHERE node IS NOT NULL
    )
    SELECT node FROM known WHERE node IS NOT NULL
    """
)
_FORGET: Final = delete(node_network).where(
    _columns.node.in_(bindparam("gone_nodes", expanding=True))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeNetwork:
    """What one node says of one network.

    `segment` is the text of its `SegmentKey` while the node has a device for it, also when the
    network is not wanted any more: an id is not assigned again before the last node reports none.
    `device` is the name of that device. `attached` counts the interfaces of pods on it.
    """

    network: str
    segment: str = ""
    device: str = ""
    ready: bool
    reason: str = ""
    message: str = ""
    attached: int = 0


class NodeReports:
    """The reports of all nodes. One thread writes; any may read.

    Raises (all methods):
        StoreError: the database is unreachable, busy for 5 s, read-only or of another schema.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._written: dict[str, tuple[Mapping[str, NodeNetwork], int]] = {}

    def write(self, node: str, rows: Mapping[str, NodeNetwork]) -> None:
        """Make the rows of `node` these (by network); a message is cut to 500 characters.

        What stands there already is not written, and is not even looked at for a minute after it
        was written.
        """
        wanted = {network: _storable(row) for network, row in rows.items()}
        now = self._clock()
        known, at = self._written.get(node, ({}, 0))
        # Either way: a clock that was set back must not make this last for hours.
        if known == wanted and abs(now - at) < _TRUSTED:
            return
        self._written.pop(node, None)
        with read(self._engine) as connection:
            changed = _rows(connection, node) != wanted
        if changed:
            run_write(self._engine, lambda connection: _make(connection, node, wanted))
        self._written[node] = wanted, now

    def attached(self, network: NetworkKey) -> int:
        """How many interfaces of pods all nodes together report on `network`."""
        with read(self._engine) as connection:
            total: Any = connection.execute(_ATTACHED, {"of_network": str(network)}).scalar_one()
            return int(total)

    def read(self, node: str) -> Mapping[str, NodeNetwork]:
        """The rows of `node`, by network."""
        with read(self._engine) as connection:
            return _rows(connection, node)

    def summary(self) -> Mapping[str, Realised]:
        """Every network that some node reports, over all nodes."""
        with snapshot(self._engine) as connection:
            totals = connection.execute(_TOTALS).all()
            failed = connection.execute(_FAILURES).all()
        failures: dict[str, list[NodeFailure]] = {}
        for row in failed:
            failures.setdefault(row.network, []).append(
                NodeFailure(node=row.node, reason=row.reason, message=row.message)
            )
        return {
            row.network: Realised(
                ready=row.ready,
                failed=row.nodes - row.ready,
                attached=row.attached,
                failures=tuple(failures.get(row.network, ())),
            )
            for row in totals
        }

    def nodes(self) -> frozenset[str]:
        """The nodes that have said something."""
        with read(self._engine) as connection:
            return frozenset(connection.execute(_NODES).scalars())

    def forget(self, alive: frozenset[str]) -> int:
        """Delete the rows of nodes that are not `alive`; gives the number of rows.

        At once, so `alive` are also those that are only missing for a moment. No node at all
        proves nothing but that nobody looked: then nothing is deleted.
        """
        if not alive:
            return 0
        gone = sorted(self.nodes() - alive)
        if not gone:
            return 0

        def work(connection: Connection) -> int:
            for node in gone:
                lock_alone(connection, f"node/{node}")
            return int(connection.execute(_FORGET, {"gone_nodes": gone}).rowcount)

        return run_write(self._engine, work)


def _storable(row: NodeNetwork) -> NodeNetwork:
    return replace(row, message=printable(row.message)[:_MESSAGE_MAX])


def _rows(connection: Connection, node: str) -> dict[str, NodeNetwork]:
    return {
        row.network: NodeNetwork(
            network=row.network,
            segment=row.segment,
            device=row.device,
            ready=bool(row.ready),
            reason=row.reason,
            message=row.message,
            attached=row.attached,
        )
        for row in connection.execute(_MINE, {"of_node": node})
    }


def _make(connection: Connection, node: str, wanted: Mapping[str, NodeNetwork]) -> None:
    """By difference, looked at again with the node to ourselves.

    Two processes of one node may be at it for a moment, when the daemon is replaced.
    """
    lock_alone(connection, f"node/{node}")
    stored = _rows(connection, node)
    removed = sorted(stored.keys() - wanted.keys())
    changed = sorted(name for name, row in wanted.items() if stored.get(name) != row)
    if removed:
        connection.execute(
            _REMOVE, [{"of_node": node, "of_network": network} for network in removed]
        )
    if changed:
        connection.execute(
            _STORE[connection.dialect.name],
            [_columns_of(node, network, wanted[network]) for network in changed],
        )


def _columns_of(node: str, network: str, row: NodeNetwork) -> dict[str, Any]:
    return {
        "node": node,
        "network": network,
        "segment": row.segment,
        "device": row.device,
        "ready": int(row.ready),
        "reason": row.reason,
        "message": row.message,
        "attached": row.attached,
    }
