"""Captures and refunds, and the commands whose provider call has no recorded outcome."""

from alembic import op

revision = "0010"
down_revision = "0009"

_STATES = "'not_asked', 'authorizing', 'authorized', 'declined', 'voiding', 'voided'"


def upgrade() -> None:
    """Let money move, within what is held; payments that are there already were never captured."""
    # capturing   the answer to capture_key; the provider may have taken asked_minor
    # captured    a refund; the provider took captured_minor
    # refunding   the answer to refund_key; the provider may have given asked_minor back
    # refunded    nobody: all that was taken was given back
    op.execute(
        "ALTER TABLE payments.payments ADD COLUMN capture_key uuid, ADD COLUMN refund_key uuid, "
        "ADD COLUMN asked_minor bigint"
    )
    _replace("state_check", f"state IN ({_STATES}, 'capturing', 'captured', 'refunding', 'refunded')")
    _replace(
        "held",
        """
        CASE WHEN state IN ('authorizing', 'declined') THEN authorization_id IS NULL
             WHEN state IN ('authorized', 'capturing', 'captured', 'refunding', 'refunded')
                 THEN authorization_id IS NOT NULL
             ELSE authorization_id IS NULL OR authorize_key IS NOT NULL END
        """,
    )
    _add(
        "taken",
        """
        CASE WHEN state IN ('captured', 'refunding')
                 THEN refunded_minor < captured_minor AND capture_key IS NOT NULL
             WHEN state = 'refunded'
                 THEN captured_minor > 0 AND refunded_minor = captured_minor AND refund_key IS NOT NULL
             ELSE captured_minor = 0 END
        """,
    )
    # What is asked for must be within bounds before the provider is asked.
    _add(
        "open_money",
        """
        CASE state
            WHEN 'capturing'
                THEN asked_minor IS NOT NULL AND capture_key IS NOT NULL
                     AND asked_minor BETWEEN 1 AND amount_minor
            WHEN 'refunding'
                THEN asked_minor IS NOT NULL AND refund_key IS NOT NULL
                     AND asked_minor BETWEEN 1 AND captured_minor - refunded_minor
            ELSE asked_minor IS NULL
        END
        """,
    )
    op.execute(
        """
        CREATE TABLE payments.open_commands (
            command_id uuid        PRIMARY KEY,
            type       text        NOT NULL,
            begun_at   timestamptz NOT NULL,
            due_at     timestamptz NOT NULL,
            headers    jsonb       NOT NULL,
            body       bytea       NOT NULL
        ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)
        """
    )


def downgrade() -> None:
    """Back to the rules of before; refused while money was captured or is being so."""
    op.execute("DROP TABLE payments.open_commands")
    op.execute(
        "ALTER TABLE payments.payments DROP CONSTRAINT payments_taken, DROP CONSTRAINT payments_open_money"
    )
    _replace("state_check", f"state IN ({_STATES})")
    _replace(
        "held",
        """
        CASE state
            WHEN 'authorizing' THEN authorization_id IS NULL
            WHEN 'declined' THEN authorization_id IS NULL
            WHEN 'authorized' THEN authorization_id IS NOT NULL
            ELSE authorization_id IS NULL OR authorize_key IS NOT NULL
        END
        """,
    )
    op.execute(
        "ALTER TABLE payments.payments DROP COLUMN capture_key, DROP COLUMN refund_key, "
        "DROP COLUMN asked_minor"
    )


def _replace(name: str, rule: str) -> None:
    op.execute(f"ALTER TABLE payments.payments DROP CONSTRAINT payments_{name}")
    _add(name, rule)


def _add(name: str, rule: str) -> None:
    op.execute(f"ALTER TABLE payments.payments ADD CONSTRAINT payments_{name} CHECK ({rule})")
