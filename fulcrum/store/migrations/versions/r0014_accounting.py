"""Every command that was published, until it is handled or given up by a person.

Rows live for seconds, as those of an outbox do, so autovacuum must follow the deletes at once.
"""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Create the accounts. Commands that left before are not in them."""
    op.execute(
        """
        CREATE TABLE ops.commands_published (
            command_id        uuid        PRIMARY KEY,
            service           text        NOT NULL,
            type              text        NOT NULL,
            workflow_id       uuid,
            decided_at        timestamptz NOT NULL,
            journal_partition integer,
            journal_offset    bigint,
            published_at      timestamptz,
            CONSTRAINT commands_published_by CHECK (
                published_at IS NOT NULL OR (journal_partition IS NOT NULL AND journal_offset IS NOT NULL))
        ) WITH (
            autovacuum_vacuum_scale_factor = 0,
            autovacuum_vacuum_threshold = 1000,
            autovacuum_vacuum_cost_delay = 0
        )
        """
    )


def downgrade() -> None:
    """Drop what was added."""
    op.execute("DROP TABLE ops.commands_published")
