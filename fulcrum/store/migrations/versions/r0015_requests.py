"""Intake keeps every request of an operator, not only those to cancel.

A cancellation is a request whose verb is cancel, so the relation gets another name, and columns for what
other verbs say.
"""

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Rename the cancellations and give each its verb."""
    op.execute("ALTER TABLE intake.cancellations RENAME TO requests")
    op.execute(
        """
        ALTER TABLE intake.requests
            ADD COLUMN verb    text NOT NULL DEFAULT 'cancel',
            ADD COLUMN step    text,
            ADD COLUMN result  text,
            ADD COLUMN seconds bigint CHECK (seconds > 0)
        """
    )
    op.execute("ALTER TABLE intake.requests ALTER COLUMN verb DROP DEFAULT")


def downgrade() -> None:
    """Keep the cancellations; the other requests have left, and the journal has what came of them."""
    op.execute("DELETE FROM intake.requests WHERE verb <> 'cancel'")
    for column in ("verb", "step", "result", "seconds"):
        op.execute(f"ALTER TABLE intake.requests DROP COLUMN {column}")
    op.execute("ALTER TABLE intake.requests RENAME TO cancellations")
