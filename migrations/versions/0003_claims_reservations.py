"""Reservations, shared virtual addresses, claims, and what quotas count by.

Only new columns with defaults and new indexes. The release before writes none of the columns, so
its rows are plain leases, and goes on beside them. On PostgreSQL 11 and later a column with a
constant default changes no row (ALTER TABLE, "Notes"). The indexes of `lease` hold its open rows,
or none at all, but building each is a pass over the table, which holds up writers that long (all
of it took a quarter of a second with a million leases); the one that needs no new column comes
before the columns, whose lock also holds up readers.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def words(name):
    return sa.Column(name, sa.Text, nullable=False, server_default="")


def upgrade() -> None:
    partial_index("lease_open_namespace_idx", "lease", ["namespace"], "held_to IS NULL")
    for name in ("note", "claim", "shared_by"):
        op.add_column("lease", words(name))
    op.add_column("freed", words("claim"))
    partial_index(
        "lease_open_claim_key",
        "lease",
        ["claim", "namespace", "network", "interface", "family"],
        "held_to IS NULL AND claim <> ''",
        unique=True,
    )
    partial_index("freed_claim_idx", "freed", ["claim", "namespace"], "claim <> ''")


def partial_index(name, table, columns, where, *, unique=False):
    op.create_index(
        name,
        table,
        columns,
        unique=unique,
        sqlite_where=sa.text(where),
        postgresql_where=sa.text(where),
    )
