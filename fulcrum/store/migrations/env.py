"""What Alembic runs: the chain of revisions, on the connection that ``fulcrum.store.migrate`` opened."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=None,
    version_table="revision",
    version_table_schema="ops",
    transaction_per_migration=False,
)
context.run_migrations()
