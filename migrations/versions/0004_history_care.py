"""Care of history: periods and legal holds, pruned batches of the ledger, samples of use.

New tables, and other triggers. The release before deletes nothing and changes no closed lease but
its `cool_until`, so it goes on beside them. Events may now be deleted where `pruned` says that
their whole seal went; a closed lease is history, and goes only after the event that began it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
PRUNED = (
    "coalesce((SELECT txid_to FROM pruned WHERE txid_from <= OLD.txid"
    " ORDER BY txid_from DESC LIMIT 1), 0) > OLD.txid"
)
SEALED_RUN = (
    "EXISTS (SELECT 1 FROM seal WHERE no = NEW.no_from AND txid_from = NEW.txid_from)"
    " AND EXISTS (SELECT 1 FROM seal WHERE no = NEW.no_to AND txid_to = NEW.txid_to)"
)
TOLD = (
    "EXISTS (SELECT 1 FROM event WHERE lease_id = OLD.id"
    " AND kind IN ('ALLOCATE', 'REBIND', 'RESERVE', 'IMPORT', 'ADOPT'))"
)
LEASE_COLUMNS = (
    *("id", "pool_id", "network", "network_uid", "domain", "family", "address", "address_text"),
    *("prefix", "interface", "namespace", "pod", "pod_uid", "container_id", "node", "mac", "mode"),
    *("pooled", "held_from", "held_to", "end_reason", "note", "claim", "shared_by"),
)


def words(name):
    return sa.Column(name, sa.Text, nullable=False, server_default="")


def number(name):
    return sa.Column(name, sa.BigInteger, nullable=False)


def upgrade() -> None:
    op.create_table(
        "retention",
        sa.Column("namespace", sa.Text, nullable=False),
        sa.Column("days", sa.Integer, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        number("set_at"),
        sa.PrimaryKeyConstraint("namespace", name="retention_pkey"),
    )
    op.create_table(
        "legal_hold",
        sa.Column("id", NUMBER, nullable=False, autoincrement=True),
        *map(words, ("namespace", "network", "address")),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        number("held_at"),
        sa.Column("lifted_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="legal_hold_pkey"),
    )
    op.create_table(
        "pruned",
        sa.Column("no_from", NUMBER, nullable=False, autoincrement=False),
        *map(number, ("no_to", "txid_from", "txid_to", "count", "at")),
        sa.PrimaryKeyConstraint("no_from", name="pruned_pkey"),
    )
    op.create_index("pruned_txid_idx", "pruned", ["txid_from"])
    op.create_table(
        "usage_sample",
        sa.Column("network", sa.Text, nullable=False),
        sa.Column("family", sa.SmallInteger, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        *map(number, ("at", "capacity", "held", "cooling", "free", "peak")),
        sa.PrimaryKeyConstraint("network", "family", "step", "at", name="usage_sample_pkey"),
    )
    op.create_index("usage_sample_age_idx", "usage_sample", ["step", "at"])
    if op.get_bind().dialect.name == "sqlite":
        guard_sqlite()
    else:
        guard_postgresql()


def guard_sqlite() -> None:
    def refuse(name, table, verb, words, when=""):
        condition = f"WHEN {when} " if when else ""
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {verb} ON {table} {condition}"
            f"BEGIN SELECT RAISE(ABORT, '{words}'); END"
        )

    op.execute("DROP TRIGGER event_no_delete")
    refuse("event_no_delete", "event", "DELETE", "event is append-only", f"NOT ({PRUNED})")
    for verb in ("UPDATE", "DELETE"):
        refuse(f"pruned_no_{verb.lower()}", "pruned", verb, "pruned is append-only")
    refuse(
        "pruned_sealed", "pruned", "INSERT", "only whole seals are pruned", f"NOT ({SEALED_RUN})"
    )
    changed = " OR ".join(f"OLD.{name} IS NOT NEW.{name}" for name in LEASE_COLUMNS)
    refuse(
        "lease_history_update",
        "lease",
        "UPDATE",
        "a closed lease is history",
        f"OLD.held_to IS NOT NULL AND ({changed})",
    )
    refuse(
        "lease_history_delete",
        "lease",
        "DELETE",
        "a lease is history while the ledger tells of it",
        f"OLD.held_to IS NULL OR {TOLD}",
    )


def guard_postgresql() -> None:
    def function(name, condition, words):
        op.execute(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"IF {condition} THEN RAISE EXCEPTION '{words}'; END IF; "
            "IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; END $$"
        )

    def trigger(name, table, moment, calls, when=""):
        condition = f"WHEN ({when}) " if when else ""
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {moment} ON {table} FOR EACH ROW {condition}"
            f"EXECUTE FUNCTION {calls}()"
        )

    function("danmpy_pruned_only", f"NOT ({PRUNED})", "event is append-only")
    function("danmpy_sealed_only", f"NOT ({SEALED_RUN})", "only whole seals are pruned")
    function(
        "danmpy_lease_closed",
        "(to_jsonb(OLD) - 'cool_until') IS DISTINCT FROM (to_jsonb(NEW) - 'cool_until')",
        "a closed lease is history",
    )
    function(
        "danmpy_lease_told",
        f"OLD.held_to IS NULL OR {TOLD}",
        "a lease is history while the ledger tells of it",
    )
    # LOCK TABLE asks for a right to change rows, which a node does not have.
    op.execute(
        "CREATE FUNCTION danmpy_lock_events() RETURNS void LANGUAGE plpgsql SECURITY DEFINER "
        "SET search_path FROM CURRENT AS $$ BEGIN "
        "LOCK TABLE event IN SHARE ROW EXCLUSIVE MODE; END $$"
    )
    op.execute("DROP TRIGGER event_append_only ON event")
    for table, verbs in {
        "event": "UPDATE OR TRUNCATE",
        "pruned": "UPDATE OR DELETE OR TRUNCATE",
    }.items():
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE {verbs} ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION danmpy_append_only()"
        )
    trigger("event_pruned_only", "event", "DELETE", "danmpy_pruned_only")
    trigger("pruned_sealed", "pruned", "INSERT", "danmpy_sealed_only")
    trigger(
        "lease_history_update", "lease", "UPDATE", "danmpy_lease_closed", "OLD.held_to IS NOT NULL"
    )
    trigger("lease_history_delete", "lease", "DELETE", "danmpy_lease_told")
