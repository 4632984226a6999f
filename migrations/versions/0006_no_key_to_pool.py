"""Leases and freed addresses lock no row of their pool any more.

All pods of a network share that row, and the key to it made each of them lock it. No row of a pool
is ever deleted, which is what the key was for; `invariants.violations` looks for what names none.
The release before does not notice. Dropping the keys reads and rewrites nothing. SQLite has one
writer, for whom the lock is no matter, and cannot drop a key without writing the table anew.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table in ("lease", "freed"):
            op.drop_constraint(f"{table}_pool_id_fkey", table, type_="foreignkey")
