"""The tables. Times are BIGINT microseconds since the epoch; addresses are big-endian bytes.

Bytes order the same way on SQLite (memcmp) and on PostgreSQL (bytea), for IPv4 (4) and IPv6 (16)
alike, which text and 64-bit numbers do not. The canonical text of an address stands beside it.

Uniqueness is decided by the partial unique indexes and by nothing else: the cursor of a pool, the
queue of freed addresses, row locks and isolation levels only make collisions rare.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)


class Octets(LargeBinary):
    """Bytes. What somebody put there by hand that is none (SQLite allows it) comes out as it is.

    Both drivers give bytes; the conversion of `LargeBinary` would only break on anything else.
    """

    def result_processor(self, dialect: Any, coltype: object) -> None:
        """Nothing to convert."""


# SQLite numbers rows by itself only in a column declared INTEGER.
_Number = BigInteger().with_variant(Integer, "sqlite")


def _id(name: str = "id") -> Column[Any]:
    return Column(name, _Number, primary_key=True, autoincrement=True)


def _text(name: str) -> Column[Any]:
    return Column(name, Text, nullable=False, server_default="")


pool = Table(
    "pool",
    metadata,
    _id(),
    Column("network", Text, nullable=False),
    Column("family", SmallInteger, nullable=False),
    Column("domain", Text, nullable=False),
    Column("subnet", Text, nullable=False),
    # A digest of subnet, range, reserved and excluded: another one starts the cursor anew.
    Column("shape", Text, nullable=False),
    # The first address that was never handed out by the cursor; null once there is none. Never
    # indexed: moving an indexed column leaves dead entries that slow every pick under a long
    # snapshot.
    Column("next", Octets),
    Index("pool_network_key", "network", "family", "domain", unique=True),
)
"""One row a network, family and domain: where the cursor stands."""

lease = Table(
    "lease",
    metadata,
    _id(),
    # No key: every pod of a network would lock the row of its pool. SQLite still has one.
    Column("pool_id", _Number, nullable=False),
    Column("network", Text, nullable=False),
    Column("network_uid", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Column("family", SmallInteger, nullable=False),
    Column("address", Octets, nullable=False),
    Column("address_text", Text, nullable=False),
    Column("prefix", SmallInteger, nullable=False),
    Column("interface", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("pod", Text, nullable=False),
    _text("pod_uid"),
    Column("container_id", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("mac", Text),
    Column("mode", Text, nullable=False),
    # 1 when the address lies in the dynamic range: then it joins the pool's queue when released.
    Column("pooled", SmallInteger, nullable=False),
    Column("held_from", BigInteger, nullable=False),
    Column("held_to", BigInteger),
    # Until when the address rested after `held_to`; null when it passed straight on (rebound).
    Column("cool_until", BigInteger),
    Column("end_reason", Text),
    # What a reservation is for; empty for leases of pods.
    _text("note"),
    # The stable name that the address is kept for, inside the namespace; empty when there is none.
    _text("claim"),
    # Of a shared virtual address: the pods that move it, as namespace/pattern, spaces between.
    _text("shared_by"),
    CheckConstraint("family IN (4, 6)", name="family"),
    CheckConstraint("held_to IS NULL OR held_to >= held_from", name="interval"),
    CheckConstraint("(held_to IS NULL) = (end_reason IS NULL)", name="ended"),
)
"""The one table of holdings: open rows (`held_to` null) are held now, closed rows are history.

A reservation is a row as well: mode ``reserved``, without pod and node, and with a container id of
its own that no runtime has.
"""

_OPEN = text("held_to IS NULL")
_OPEN_CLAIM = text("held_to IS NULL AND claim <> ''")
_OPEN_POD = text("held_to IS NULL AND pod_uid <> ''")


def _partial(name: str, where: Any, *columns: Any, unique: bool = False) -> Index:
    return Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


_partial("lease_open_address_key", _OPEN, lease.c.domain, lease.c.address, unique=True)
_partial(
    "lease_open_interface_key",
    _OPEN,
    lease.c.container_id,
    lease.c.interface,
    lease.c.family,
    unique=True,
)
_partial(
    "lease_open_pod_key",
    _OPEN_POD,
    lease.c.pod_uid,
    lease.c.namespace,
    lease.c.pod,
    lease.c.network,
    lease.c.interface,
    lease.c.family,
    unique=True,
)
_partial(
    "lease_open_claim_key",
    _OPEN_CLAIM,
    lease.c.claim,
    lease.c.namespace,
    lease.c.network,
    lease.c.interface,
    lease.c.family,
    unique=True,
)
_partial("lease_open_node_idx", _OPEN, lease.c.node)
_partial("lease_open_namespace_idx", _OPEN, lease.c.namespace)
_partial("lease_open_network_idx", _OPEN, lease.c.network, lease.c.family)
Index(
    "lease_address_idx", lease.c.family, lease.c.address, lease.c.held_from, lease.c.id, unique=True
)
Index("lease_pod_idx", lease.c.namespace, lease.c.pod, lease.c.held_from)

freed = Table(
    "freed",
    metadata,
    Column("domain", Text, primary_key=True),
    Column("address", Octets, primary_key=True),
    # The pool whose queue it waits in; null when it lies outside the dynamic range.
    Column("pool_id", _Number),
    Column("family", SmallInteger, nullable=False),
    Column("released_at", BigInteger, nullable=False),
    Column("ready_at", BigInteger, nullable=False),
    Column("network", Text, nullable=False),
    Column("interface", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("pod", Text, nullable=False),
    _text("pod_uid"),
    Column("end_reason", Text, nullable=False),
    # The claim that the address is kept for, of `namespace`; empty when nobody has a right to it.
    _text("claim"),
    Index("freed_queue_idx", "pool_id", "ready_at", "address"),
    Index(
        "freed_rollback_idx",
        "pod_uid",
        sqlite_where=text("end_reason = 'rollback'"),
        postgresql_where=text("end_reason = 'rollback'"),
    ),
    Index(
        "freed_claim_idx",
        "claim",
        "namespace",
        sqlite_where=text("claim <> ''"),
        postgresql_where=text("claim <> ''"),
    ),
)
"""Addresses that were held and are not: cooling until `ready_at`, then the queue for reuse.

The row stays until the address is bound again, so that its next lease cannot start before the
end of the last one, whatever the clock does.
"""

event = Table(
    "event",
    metadata,
    _id("seq"),
    # PostgreSQL: the id of the transaction (64 bits); SQLite, which has one writer: the number of
    # the row. Sealing goes by it, because sequence numbers commit out of order.
    Column("txid", BigInteger, nullable=False),
    Column("uid", String(32), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("effective_at", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("lease_id", BigInteger),
    Column("closed_id", BigInteger),
    _text("network"),
    _text("domain"),
    Column("family", SmallInteger),
    _text("address"),
    _text("interface"),
    _text("namespace"),
    _text("pod"),
    _text("pod_uid"),
    _text("container_id"),
    _text("node"),
    Column("mac", Text),
    _text("reason"),
    Column("detail", Text, nullable=False, server_default="{}"),
    Column("digest", Octets, nullable=False),
    Index("event_uid_key", "uid", unique=True),
    Index("event_txid_idx", "txid", "seq"),
    Index("event_address_idx", "address", "seq"),
    Index("event_lease_idx", "lease_id"),
    Index("event_closed_idx", "closed_id"),
    sqlite_autoincrement=True,
)
"""The ledger. Triggers of the migration refuse to change or delete a row, on both databases."""

seal = Table(
    "seal",
    metadata,
    Column("no", _Number, primary_key=True, autoincrement=False),
    Column("txid_from", BigInteger, nullable=False),
    Column("txid_to", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("merkle_root", Octets, nullable=False),
    Column("root", Octets, nullable=False),
    Column("at", BigInteger, nullable=False),
)
"""Seals over the events of [`txid_from`, `txid_to`), chained: each root covers the one before."""

segment_assignment = Table(
    "segment_assignment",
    metadata,
    _id(),
    Column("network", Text, nullable=False),
    Column("network_uid", Text, nullable=False),
    Column("profile", Text, nullable=False),
    # Empty and 0 for a profile without ids: the bare device.
    _text("kind"),
    Column("number", Integer, nullable=False, server_default="0"),
    Column("assigned_at", BigInteger, nullable=False),
    Column("released_at", BigInteger),
    Column("ready_at", BigInteger),
)
"""Which profile and id each TenantNetwork has (open rows) and had (closed rows)."""

_ASSIGNED = text("released_at IS NULL")
_partial(
    "segment_open_id_key",
    text("released_at IS NULL AND kind <> ''"),
    segment_assignment.c.profile,
    segment_assignment.c.kind,
    segment_assignment.c.number,
    unique=True,
)
_partial("segment_open_network_key", _ASSIGNED, segment_assignment.c.network, unique=True)
Index("segment_ready_idx", segment_assignment.c.ready_at)

retired_network = Table(
    "retired_network",
    metadata,
    Column("uid", Text, primary_key=True),
    Column("network", Text, nullable=False),
    Column("retired_at", BigInteger, nullable=False),
)
"""Networks that are deleted for good: no lease may name one of these UIDs ever again."""

node_network = Table(
    "node_network",
    metadata,
    Column("node", Text, primary_key=True),
    Column("network", Text, primary_key=True),
    # Empty where the network has no wire or no device of its own on this node.
    _text("segment"),
    _text("device"),
    Column("ready", SmallInteger, nullable=False),
    _text("reason"),
    _text("message"),
    Column("attached", Integer, nullable=False, server_default="0"),
)
"""What each node says of each network now. A mirror: each node can write its part anew."""

_partial(
    "node_network_segment_idx",
    text("segment <> ''"),
    node_network.c.segment,
    node_network.c.node,
)
_partial("node_network_failed_idx", text("ready = 0"), node_network.c.network, node_network.c.node)
_partial("node_network_attached_idx", text("attached > 0"), node_network.c.network)

meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Facts about this database: `ledger_id`, which starts the chain of seals; `segment_term`, the
highest term of a controller that assigned segments."""

retention = Table(
    "retention",
    metadata,
    Column("namespace", Text, primary_key=True),
    # 0: for ever.
    Column("days", Integer, nullable=False),
    Column("actor", Text, nullable=False),
    Column("set_at", BigInteger, nullable=False),
)
"""For how long the history of single namespaces is kept; all others follow the settings."""

legal_hold = Table(
    "legal_hold",
    metadata,
    _id(),
    # One of the three is set: what must not be pruned.
    _text("namespace"),
    _text("network"),
    _text("address"),
    Column("note", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("held_at", BigInteger, nullable=False),
    Column("lifted_at", BigInteger),
)
"""History that is kept whatever its age, while `lifted_at` is null."""

pruned = Table(
    "pruned",
    metadata,
    Column("no_from", _Number, primary_key=True, autoincrement=False),
    Column("no_to", BigInteger, nullable=False),
    Column("txid_from", BigInteger, nullable=False),
    Column("txid_to", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    Index("pruned_txid_idx", "txid_from"),
)
"""Runs of seals (both ends included) whose events are gone. Only what stands here lets the triggers
of the ledger delete events."""

usage_sample = Table(
    "usage_sample",
    metadata,
    Column("network", Text, primary_key=True),
    Column("family", SmallInteger, primary_key=True),
    # Seconds that the sample stands for: 300, or 3600 for those that are kept for long.
    Column("step", Integer, primary_key=True),
    # The start of that time.
    Column("at", BigInteger, primary_key=True),
    Column("capacity", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("cooling", BigInteger, nullable=False),
    Column("free", BigInteger, nullable=False),
    # The most that was held at once in that time, as far as it was looked at.
    Column("peak", BigInteger, nullable=False),
    Index("usage_sample_age_idx", "step", "at"),
)
"""How full each pool was. Numbers above 2^63-1 (a /64 has them) stand as that."""
