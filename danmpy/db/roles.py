"""PostgreSQL roles: what each process may do to the database, as SQL for an administrator.

Four roles that nobody logs in with; a login is made a member of one. The node's role is the reason:
nodes are many, and pods that break out of one of them must not be able to change what the ledger
says, nor when a lease was held. The triggers of the migrations refuse what no process ever does.
"""

from __future__ import annotations

from typing import Final

OWNER: Final = "danmpy_owner"
NODE: Final = "danmpy_node"
CONTROLLER: Final = "danmpy_controller"
READER: Final = "danmpy_reader"

TABLES: Final = (
    *("alembic_version", "event", "freed", "lease", "legal_hold", "meta", "node_network", "pool"),
    *("pruned", "retention", "retired_network", "seal", "segment_assignment", "usage_sample"),
)
"""Every table of the schema."""

_CHANGE: Final = "SELECT, INSERT, UPDATE, DELETE"

_NODE: Final = {
    "alembic_version": "SELECT",
    "event": "SELECT, INSERT",
    "freed": _CHANGE,
    # A lease ends, and its MAC becomes known; what it says besides is as it was stored.
    "lease": "SELECT, INSERT, UPDATE (held_to, cool_until, end_reason, mac)",
    "meta": _CHANGE,
    "node_network": _CHANGE,
    "pool": "SELECT, INSERT, UPDATE (shape, subnet, next)",
    "pruned": "SELECT",
    "retired_network": "SELECT",
    "seal": "SELECT, INSERT",
    "segment_assignment": "SELECT",
}
# With what a node may. Deleting events and leases is for pruning; the triggers let nothing else be
# deleted. Commands of operators need the same.
_CONTROLLER: Final = {
    "event": "DELETE",
    "lease": "DELETE",
    "legal_hold": "SELECT, INSERT, UPDATE",
    "pruned": "SELECT, INSERT",
    "retention": _CHANGE,
    "retired_network": _CHANGE,
    "segment_assignment": "SELECT, INSERT, UPDATE",
    "usage_sample": _CHANGE,
}


def roles_sql() -> str:
    """SQL that makes the roles, or brings them to what this release needs; run again and again.

    For ``psql`` on danmpy's database, as a superuser, after every ``danmpy db upgrade``. The tables
    belong to `OWNER` afterwards.
    """
    lines = ["BEGIN;"]
    lines += [
        f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN "
        f"CREATE ROLE {role} NOLOGIN; END IF; END $$;"
        for role in (OWNER, NODE, CONTROLLER, READER)
    ]
    lines.append(_owned())
    names = ", ".join(TABLES)
    everybody = f"PUBLIC, {NODE}, {CONTROLLER}, {READER}"
    lines += [
        f"GRANT USAGE, CREATE ON SCHEMA public TO {OWNER};",
        f"GRANT USAGE ON SCHEMA public TO {NODE}, {CONTROLLER}, {READER};",
        f"REVOKE ALL ON {names} FROM {everybody};",
        f"REVOKE CREATE ON SCHEMA public FROM {everybody};",
        "REVOKE ALL ON FUNCTION danmpy_lock_events() FROM PUBLIC;",
        f"GRANT EXECUTE ON FUNCTION danmpy_lock_events() TO {NODE};",
        f"GRANT {NODE} TO {CONTROLLER};",
        f"GRANT SELECT ON {names} TO {READER};",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {NODE}, {CONTROLLER};",
    ]
    for role, rights in ((NODE, _NODE), (CONTROLLER, _CONTROLLER)):
        lines += [f"GRANT {granted} ON {table} TO {role};" for table, granted in rights.items()]
    return "\n".join([*lines, "COMMIT;", ""])


def _owned() -> str:
    """The tables and functions get their owner."""
    tables = ", ".join(f"'{name}'" for name in TABLES)
    return (  # names are ours, nobody gives them
        "DO $$ DECLARE item text; BEGIN "  # noqa: S608
        "FOR item IN SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' "
        f"AND relnamespace = 'public'::regnamespace AND relname IN ({tables}) LOOP "
        f"EXECUTE format('ALTER TABLE %s OWNER TO {OWNER}', item); END LOOP; "
        "FOR item IN SELECT oid::regprocedure::text FROM pg_proc "
        "WHERE pronamespace = 'public'::regnamespace AND starts_with(proname, 'danmpy_') LOOP "
        f"EXECUTE format('ALTER FUNCTION %s OWNER TO {OWNER}', item); END LOOP; END $$;"
    )
