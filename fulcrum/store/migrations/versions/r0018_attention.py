"""Workflows that do not move by themselves, one row for each rule that says so, and who looks for them.

The open commands of a workflow are found by its id, as are those of many workflows at once.
"""

from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Create the relation, and the lease of the one process that writes it."""
    op.execute(
        """
        CREATE TABLE ops.attention (
            workflow_id uuid        NOT NULL,
            rule        text        NOT NULL,
            since       timestamptz NOT NULL,
            seen_at     timestamptz NOT NULL,
            detail      text        NOT NULL,
            suggestion  text        NOT NULL,
            PRIMARY KEY (workflow_id, rule)
        )
        """
    )
    op.execute("CREATE INDEX attention_oldest ON ops.attention (since, workflow_id, rule)")
    op.execute("CREATE INDEX attention_by_rule ON ops.attention (rule, since, workflow_id)")
    op.execute(
        """
        CREATE TABLE ops.attention_lease (
            id         integer     PRIMARY KEY CHECK (id = 1),
            owner      text,
            expires_at timestamptz NOT NULL
        )
        """
    )
    op.execute("INSERT INTO ops.attention_lease VALUES (1, NULL, '-infinity')")
    op.execute("CREATE INDEX commands_published_by_workflow ON ops.commands_published (workflow_id)")


def downgrade() -> None:
    """Drop what was added; who attends to what is computed anew after the next upgrade."""
    op.execute("DROP INDEX ops.commands_published_by_workflow")
    op.execute("DROP TABLE ops.attention_lease")
    op.execute("DROP TABLE ops.attention")
