"""The read model: workflow runs and their timelines as people read them, and stock beside them.

The ``json`` columns are kept as written and never searched, so they are not ``jsonb``.
"""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the relations and the view."""
    op.execute("CREATE SCHEMA IF NOT EXISTS read_model")
    op.execute(
        """
        CREATE TABLE read_model.workflow_runs (
            workflow_id    uuid        PRIMARY KEY,
            intent_id      uuid        NOT NULL,
            tenant         text        NOT NULL,
            customer_ref   text        NOT NULL,
            definition     text        NOT NULL,
            status         text        NOT NULL,
            version        bigint      NOT NULL CHECK (version > 0),
            reason         text,
            lines          json        NOT NULL,
            amount_minor   bigint      NOT NULL,
            currency       text        NOT NULL,
            correlation_id text        NOT NULL,
            started_at     timestamptz NOT NULL,
            updated_at     timestamptz NOT NULL,
            finished_at    timestamptz,
            steps          json        NOT NULL
        )
        """
    )
    op.execute(
        """
        CREATE TABLE read_model.timeline (
            workflow_id   uuid        NOT NULL,
            version       bigint      NOT NULL CHECK (version > 0),
            at            timestamptz NOT NULL,
            status_before text,
            status        text        NOT NULL,
            step          text,
            cause         json        NOT NULL,
            commands      json        NOT NULL,
            ignored       text,
            reason        text,
            PRIMARY KEY (workflow_id, version)
        )
        """
    )
    # Lists run newest first; the start of a run never changes, so a page boundary stays where it was.
    op.execute("CREATE INDEX workflow_runs_newest ON read_model.workflow_runs (started_at, workflow_id)")
    op.execute(
        "CREATE INDEX workflow_runs_status_newest"
        " ON read_model.workflow_runs (status, started_at, workflow_id)"
    )
    op.execute(
        """
        CREATE VIEW read_model.stock AS
        SELECT sku, available, reserved, consumed,
               available + reserved + consumed AS received, version
        FROM inventory.stock
        """
    )


def downgrade() -> None:
    """Drop the schema with all that is in it; it can be built again from the journal."""
    op.execute("DROP SCHEMA read_model CASCADE")
