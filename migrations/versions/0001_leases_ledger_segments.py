"""Leases, the ledger, and the segments of tenants.

The first schema: nothing runs beside it.
"""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
APPEND_ONLY = ("event", "seal")


def words(name):
    return sa.Column(name, sa.Text, nullable=False, server_default="")


def upgrade() -> None:
    create_leases()
    create_ledger()
    create_segments()
    meta = op.create_table(
        "meta",
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("key", name="meta_pkey"),
    )
    op.bulk_insert(meta, [{"key": "ledger_id", "value": uuid.uuid4().hex}])


def partial_index(name, table, columns, where, *, unique=False):
    op.create_index(
        name,
        table,
        columns,
        unique=unique,
        sqlite_where=sa.text(where),
        postgresql_where=sa.text(where),
    )


def create_leases() -> None:
    op.create_table(
        "pool",
        sa.Column("id", NUMBER, nullable=False, autoincrement=True),
        sa.Column("network", sa.Text, nullable=False),
        sa.Column("family", sa.SmallInteger, nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("subnet", sa.Text, nullable=False),
        sa.Column("shape", sa.Text, nullable=False),
        sa.Column("next", sa.LargeBinary),
        sa.PrimaryKeyConstraint("id", name="pool_pkey"),
    )
    op.create_index("pool_network_key", "pool", ["network", "family", "domain"], unique=True)
    op.create_table(
        "lease",
        sa.Column("id", NUMBER, nullable=False, autoincrement=True),
        sa.Column("pool_id", NUMBER, nullable=False),
        sa.Column("network", sa.Text, nullable=False),
        sa.Column("network_uid", sa.Text, nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("family", sa.SmallInteger, nullable=False),
        sa.Column("address", sa.LargeBinary, nullable=False),
        sa.Column("address_text", sa.Text, nullable=False),
        sa.Column("prefix", sa.SmallInteger, nullable=False),
        sa.Column("interface", sa.Text, nullable=False),
        sa.Column("namespace", sa.Text, nullable=False),
        sa.Column("pod", sa.Text, nullable=False),
        words("pod_uid"),
        sa.Column("container_id", sa.Text, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("mac", sa.Text),
        sa.Column("mode", sa.Text, nullable=False),
        sa.Column("pooled", sa.SmallInteger, nullable=False),
        sa.Column("held_from", sa.BigInteger, nullable=False),
        sa.Column("held_to", sa.BigInteger),
        sa.Column("cool_until", sa.BigInteger),
        sa.Column("end_reason", sa.Text),
        sa.CheckConstraint("family IN (4, 6)", name="family"),
        sa.CheckConstraint("held_to IS NULL OR held_to >= held_from", name="interval"),
        sa.CheckConstraint("(held_to IS NULL) = (end_reason IS NULL)", name="ended"),
        sa.ForeignKeyConstraint(["pool_id"], ["pool.id"], name="lease_pool_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="lease_pkey"),
    )
    opened, pod = "held_to IS NULL", "held_to IS NULL AND pod_uid <> ''"
    partial_index("lease_open_address_key", "lease", ["domain", "address"], opened, unique=True)
    partial_index(
        "lease_open_interface_key",
        "lease",
        ["container_id", "interface", "family"],
        opened,
        unique=True,
    )
    partial_index(
        "lease_open_pod_key",
        "lease",
        ["pod_uid", "namespace", "pod", "network", "interface", "family"],
        pod,
        unique=True,
    )
    partial_index("lease_open_node_idx", "lease", ["node"], opened)
    partial_index("lease_open_network_idx", "lease", ["network", "family"], opened)
    op.create_index(
        "lease_address_idx", "lease", ["family", "address", "held_from", "id"], unique=True
    )
    op.create_index("lease_pod_idx", "lease", ["namespace", "pod", "held_from"])
    op.create_table(
        "freed",
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("address", sa.LargeBinary, nullable=False),
        sa.Column("pool_id", NUMBER),
        sa.Column("family", sa.SmallInteger, nullable=False),
        sa.Column("released_at", sa.BigInteger, nullable=False),
        sa.Column("ready_at", sa.BigInteger, nullable=False),
        sa.Column("network", sa.Text, nullable=False),
        sa.Column("interface", sa.Text, nullable=False),
        sa.Column("namespace", sa.Text, nullable=False),
        sa.Column("pod", sa.Text, nullable=False),
        words("pod_uid"),
        sa.Column("end_reason", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["pool_id"], ["pool.id"], name="freed_pool_id_fkey"),
        sa.PrimaryKeyConstraint("domain", "address", name="freed_pkey"),
    )
    op.create_index("freed_queue_idx", "freed", ["pool_id", "ready_at", "address"])
    partial_index("freed_rollback_idx", "freed", ["pod_uid"], "end_reason = 'rollback'")


def create_ledger() -> None:
    op.create_table(
        "event",
        sa.Column("seq", NUMBER, nullable=False, autoincrement=True),
        sa.Column("txid", sa.BigInteger, nullable=False),
        sa.Column("uid", sa.String(32), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("effective_at", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("lease_id", sa.BigInteger),
        sa.Column("closed_id", sa.BigInteger),
        words("network"),
        words("domain"),
        sa.Column("family", sa.SmallInteger),
        words("address"),
        words("interface"),
        words("namespace"),
        words("pod"),
        words("pod_uid"),
        words("container_id"),
        words("node"),
        sa.Column("mac", sa.Text),
        words("reason"),
        sa.Column("detail", sa.Text, nullable=False, server_default="{}"),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="event_pkey"),
        sqlite_autoincrement=True,
    )
    op.create_index("event_uid_key", "event", ["uid"], unique=True)
    op.create_index("event_txid_idx", "event", ["txid", "seq"])
    op.create_index("event_address_idx", "event", ["address", "seq"])
    op.create_index("event_lease_idx", "event", ["lease_id"])
    op.create_index("event_closed_idx", "event", ["closed_id"])
    op.create_table(
        "seal",
        sa.Column("no", NUMBER, nullable=False, autoincrement=False),
        sa.Column("txid_from", sa.BigInteger, nullable=False),
        sa.Column("txid_to", sa.BigInteger, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("merkle_root", sa.LargeBinary, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("no", name="seal_pkey"),
    )
    make_append_only()


def make_append_only() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for table in APPEND_ONLY:
            for verb in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
                )
        return
    op.execute(
        "CREATE FUNCTION danmpy_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION danmpy_append_only()"
        )


def create_segments() -> None:
    op.create_table(
        "segment_assignment",
        sa.Column("id", NUMBER, nullable=False, autoincrement=True),
        sa.Column("network", sa.Text, nullable=False),
        sa.Column("network_uid", sa.Text, nullable=False),
        sa.Column("profile", sa.Text, nullable=False),
        words("kind"),
        sa.Column("number", sa.Integer, nullable=False, server_default="0"),
        sa.Column("assigned_at", sa.BigInteger, nullable=False),
        sa.Column("released_at", sa.BigInteger),
        sa.Column("ready_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="segment_assignment_pkey"),
    )
    partial_index(
        "segment_open_id_key",
        "segment_assignment",
        ["profile", "kind", "number"],
        "released_at IS NULL AND kind <> ''",
        unique=True,
    )
    partial_index(
        "segment_open_network_key",
        "segment_assignment",
        ["network"],
        "released_at IS NULL",
        unique=True,
    )
    op.create_index("segment_ready_idx", "segment_assignment", ["ready_at"])
