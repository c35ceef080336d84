"""Intake: the intents and stock receipts that clients sent.

Both primary keys are computed from the client's ``Idempotency-Key``, so the key guards itself: a
repeat meets the row it made, and ``fingerprint`` tells whether it asks for the same thing.
"""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the relations."""
    op.execute("CREATE SCHEMA IF NOT EXISTS intake")
    op.execute(
        """
        CREATE TABLE intake.intents (
            workflow_id     uuid        PRIMARY KEY,
            intent_id       uuid        NOT NULL,
            tenant          text        NOT NULL,
            idempotency_key text        NOT NULL,
            fingerprint     bytea       NOT NULL CHECK (octet_length(fingerprint) = 32),
            customer_ref    text        NOT NULL,
            lines           json        NOT NULL,
            amount_minor    bigint      NOT NULL CHECK (amount_minor > 0),
            currency        text        NOT NULL,
            payment_method  text        NOT NULL,
            ship_to         text        NOT NULL,
            definition      text        NOT NULL,
            correlation_id  text        NOT NULL,
            accepted_at     timestamptz NOT NULL
        )
        """
    )
    op.execute(
        """
        CREATE TABLE intake.receipts (
            command_id      uuid        PRIMARY KEY,
            sku             text        NOT NULL,
            idempotency_key text        NOT NULL,
            fingerprint     bytea       NOT NULL CHECK (octet_length(fingerprint) = 32),
            quantity        bigint      NOT NULL CHECK (quantity > 0),
            reference       text        NOT NULL,
            correlation_id  text        NOT NULL,
            accepted_at     timestamptz NOT NULL
        )
        """
    )


def downgrade() -> None:
    """Drop the relations; the schema stays, for the outbox lives in it."""
    op.execute("DROP TABLE intake.receipts")
    op.execute("DROP TABLE intake.intents")
