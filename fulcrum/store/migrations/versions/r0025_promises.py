"""What was promised for a workflow, what holds it, and why its shipment is to be stopped.

Every generation of the read model gets the columns, not only the live one, so that a rollback still fits.
What was projected before was promised nothing and held by nobody, as a rebuild would find.
"""

from alembic import op
from sqlalchemy import text

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    """Add the columns."""
    for schema in _generations():
        op.execute(
            f"""
            ALTER TABLE {schema}.workflow_runs
                ADD COLUMN promised_at timestamptz,
                ADD COLUMN holds       json NOT NULL DEFAULT '[]',
                ADD COLUMN intercept   text
            """
        )


def downgrade() -> None:
    """Drop them; a rebuild brings them back."""
    for schema in _generations():
        op.execute(
            f"ALTER TABLE {schema}.workflow_runs"
            " DROP COLUMN intercept, DROP COLUMN holds, DROP COLUMN promised_at"
        )


def _generations() -> list[str]:
    """The schemas that hold a generation, the live one first."""
    found = op.get_bind().execute(
        text(
            "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relname = 'workflow_runs' AND c.relkind = 'r'"
            " AND n.nspname ~ '^read_model(_g[0-9]+)?$' ORDER BY length(n.nspname), n.nspname"
        )
    )
    return [row.nspname for row in found]
