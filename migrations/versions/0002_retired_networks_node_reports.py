"""Networks that are deleted for good, and what the nodes say of theirs.

Two new tables. The release before knows neither and goes on beside them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def words(name):
    return sa.Column(name, sa.Text, nullable=False, server_default="")


def upgrade() -> None:
    op.create_table(
        "retired_network",
        sa.Column("uid", sa.Text, nullable=False),
        sa.Column("network", sa.Text, nullable=False),
        sa.Column("retired_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("uid", name="retired_network_pkey"),
    )
    op.create_table(
        "node_network",
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("network", sa.Text, nullable=False),
        words("segment"),
        words("device"),
        sa.Column("ready", sa.SmallInteger, nullable=False),
        words("reason"),
        words("message"),
        sa.Column("attached", sa.Integer, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("node", "network", name="node_network_pkey"),
    )
    partial_index("node_network_segment_idx", ["segment", "node"], "segment <> ''")
    partial_index("node_network_failed_idx", ["network", "node"], "ready = 0")
    partial_index("node_network_attached_idx", ["network"], "attached > 0")


def partial_index(name, columns, where):
    op.create_index(
        name,
        "node_network",
        columns,
        sqlite_where=sa.text(where),
        postgresql_where=sa.text(where),
    )
