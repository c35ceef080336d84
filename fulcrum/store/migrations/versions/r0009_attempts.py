"""Attempts of commands: each that failed, and the one that ended a row of failures."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Create them. What is on a retry queue now begins to be kept at its next attempt."""
    op.execute(
        """
        CREATE TABLE ops.attempts (
            command_id  text        NOT NULL,
            round       integer     NOT NULL CHECK (round > 0),
            attempt     integer     NOT NULL CHECK (attempt > 0),
            started_at  timestamptz NOT NULL,
            workflow_id uuid,
            service     text        NOT NULL,
            type        text        NOT NULL,
            step        text,
            outcome     text        NOT NULL
                CONSTRAINT attempts_outcome CHECK (outcome IN ('succeeded', 'retried', 'parked')),
            kind        text
                CONSTRAINT attempts_kind CHECK (kind IN ('transient', 'permanent', 'poison', 'bug')),
            error_class text,
            error       text,
            duration_ms integer     NOT NULL CHECK (duration_ms >= 0),
            worker      text        NOT NULL,
            next_due    timestamptz,
            PRIMARY KEY (command_id, round, attempt, started_at),
            CONSTRAINT attempts_failed CHECK ((outcome = 'succeeded') = (kind IS NULL)),
            CONSTRAINT attempts_due CHECK ((outcome = 'retried') = (next_due IS NOT NULL))
        )
        """
    )
    op.execute("CREATE INDEX attempts_by_workflow ON ops.attempts (workflow_id, started_at)")


def downgrade() -> None:
    """Drop them; the count of attempts travels with each message and goes on."""
    op.execute("DROP TABLE ops.attempts")
