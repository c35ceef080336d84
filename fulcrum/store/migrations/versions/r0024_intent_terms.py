"""What was agreed about an order beyond its lines, and signals beside the other requests of operators."""

from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Add the columns; what was accepted before agreed on nothing more."""
    op.execute(
        """
        ALTER TABLE intake.intents
            ADD COLUMN terms       json,
            ADD COLUMN promised_at timestamptz,
            ADD COLUMN holds       json
        """
    )
    op.execute(
        """
        ALTER TABLE intake.requests
            ADD COLUMN signal  text,
            ADD COLUMN payload text,
            ADD CONSTRAINT requests_signals_say_what
                CHECK ((verb = 'signal') = (signal IS NOT NULL AND payload IS NOT NULL))
        """
    )


def downgrade() -> None:
    """Drop them; signals have left, and the journal has what came of them."""
    op.execute("DELETE FROM intake.requests WHERE verb = 'signal'")
    op.execute("ALTER TABLE intake.requests DROP COLUMN payload, DROP COLUMN signal")
    op.execute("ALTER TABLE intake.intents DROP COLUMN holds, DROP COLUMN promised_at, DROP COLUMN terms")
