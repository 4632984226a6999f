"""Alembic's entry: runs on the connection that `danmpy.db.migrate` hands over, and on no other.

The connection is inside a transaction and holds the migrator's lock; all versions commit together.
"""

from alembic import context

from danmpy.ipam.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=False,
)
context.run_migrations()
