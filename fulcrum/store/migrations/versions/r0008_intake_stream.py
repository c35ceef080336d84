"""Intake keeps what it has said on its stream: how often, which cancellations, and whether anybody heard it.

``check_at`` is when the reconciler next looks whether the intent's workflow has started; null once it has.
Only what is not confirmed yet stands in the index, so a look costs what there is to do.
"""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Extend the intents and create the cancellations. Intents that are there already are looked at once."""
    op.execute(
        """
        ALTER TABLE intake.intents
            ADD COLUMN last_sequence bigint      NOT NULL DEFAULT 1 CHECK (last_sequence > 0),
            ADD COLUMN check_at      timestamptz DEFAULT now(),
            ADD COLUMN repairs       integer     NOT NULL DEFAULT 0 CHECK (repairs >= 0)
        """
    )
    op.execute("ALTER TABLE intake.intents ALTER COLUMN check_at DROP DEFAULT")
    op.execute("CREATE INDEX intents_unconfirmed ON intake.intents (check_at) WHERE check_at IS NOT NULL")
    op.execute(
        """
        CREATE TABLE intake.cancellations (
            workflow_id    uuid        NOT NULL REFERENCES intake.intents,
            sequence       bigint      NOT NULL CHECK (sequence > 1),
            event_id       uuid        NOT NULL,
            reason         text        NOT NULL,
            actor          text        NOT NULL,
            correlation_id text        NOT NULL,
            requested_at   timestamptz NOT NULL,
            PRIMARY KEY (workflow_id, sequence),
            UNIQUE (workflow_id, event_id)
        )
        """
    )


def downgrade() -> None:
    """Drop what was added."""
    op.execute("DROP TABLE intake.cancellations")
    op.execute("DROP INDEX intake.intents_unconfirmed")
    op.execute(
        "ALTER TABLE intake.intents DROP COLUMN last_sequence, DROP COLUMN check_at, DROP COLUMN repairs"
    )
