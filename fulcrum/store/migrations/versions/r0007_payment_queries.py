"""Payments that were only asked about, and holds that lapse."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Let a query come before any authorization: its answer has a number, so there must be a row."""
    # not_asked   an authorization, or a void; nothing was asked of the provider
    _replace(
        "state_check", "state IN ('not_asked', 'authorizing', 'authorized', 'declined', 'voiding', 'voided')"
    )
    _replace(
        "asked",
        """
        num_nulls(authorize_key, amount_minor, currency) IN (0, 3)
        AND CASE state WHEN 'not_asked' THEN authorize_key IS NULL
                       WHEN 'voided' THEN true
                       ELSE authorize_key IS NOT NULL END
        AND (authorize_key IS NULL) = (attempt = 0)
        """,
    )
    _replace(
        "told",
        """
        CASE WHEN state IN ('authorizing', 'voiding') THEN true
             WHEN state = 'not_asked' THEN sequence > 0
             ELSE sequence > 0 AND settled_at IS NOT NULL END
        """,
    )
    op.execute(
        "ALTER TABLE payments.payments ADD CONSTRAINT payments_expiry "
        "CHECK (expires_at IS NULL OR authorization_id IS NOT NULL)"
    )


def downgrade() -> None:
    """Back to the rules of before; refused while there are payments that were only asked about."""
    op.execute("ALTER TABLE payments.payments DROP CONSTRAINT payments_expiry")
    _replace("state_check", "state IN ('authorizing', 'authorized', 'declined', 'voiding', 'voided')")
    _replace(
        "asked",
        """
        num_nulls(authorize_key, amount_minor, currency) IN (0, 3)
        AND (authorize_key IS NOT NULL OR state = 'voided')
        AND (authorize_key IS NULL) = (attempt = 0)
        """,
    )
    _replace("told", "state IN ('authorizing', 'voiding') OR (sequence > 0 AND settled_at IS NOT NULL)")


def _replace(name: str, rule: str) -> None:
    op.execute(
        f"ALTER TABLE payments.payments DROP CONSTRAINT payments_{name}, "
        f"ADD CONSTRAINT payments_{name} CHECK ({rule})"
    )
