"""Payments: what each workflow holds at the provider, and what was last asked of the provider."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the relation."""
    op.execute("CREATE SCHEMA IF NOT EXISTS payments")
    # state       who moves it on
    # authorizing the answer to authorize_key, or a void; the provider may or may not hold the amount
    # authorized  a void; the provider holds the amount under authorization_id
    # declined    a new attempt, or a void; nothing is held
    # voiding     the answer to void_key; what is held, if anything, is being given up
    # voided      nobody: nothing is held, and nothing will be
    op.execute(
        """
        CREATE TABLE payments.payments (
            workflow_id      uuid        PRIMARY KEY,
            state            text        NOT NULL
                CHECK (state IN ('authorizing', 'authorized', 'declined', 'voiding', 'voided')),
            sequence         bigint      NOT NULL CHECK (sequence >= 0),
            attempt          integer     NOT NULL CHECK (attempt >= 0),
            authorize_key    uuid,
            amount_minor     bigint      CHECK (amount_minor > 0),
            currency         text,
            authorization_id text,
            decline_reason   text,
            void_key         uuid,
            captured_minor   bigint      NOT NULL DEFAULT 0,
            refunded_minor   bigint      NOT NULL DEFAULT 0,
            expires_at       timestamptz,
            requested_at     timestamptz NOT NULL,
            settled_at       timestamptz,

            -- A fence has no authorization to it; every other row says what was asked for.
            CONSTRAINT payments_asked CHECK (
                num_nulls(authorize_key, amount_minor, currency) IN (0, 3)
                AND (authorize_key IS NOT NULL OR state = 'voided')
                AND (authorize_key IS NULL) = (attempt = 0)
            ),
            CONSTRAINT payments_held CHECK (
                CASE state
                    WHEN 'authorizing' THEN authorization_id IS NULL
                    WHEN 'declined' THEN authorization_id IS NULL
                    WHEN 'authorized' THEN authorization_id IS NOT NULL
                    ELSE authorization_id IS NULL OR authorize_key IS NOT NULL
                END
            ),
            CONSTRAINT payments_declined CHECK (state <> 'declined' OR decline_reason IS NOT NULL),
            CONSTRAINT payments_void CHECK ((state IN ('voiding', 'voided')) = (void_key IS NOT NULL)),
            -- Every settled state was told to the saga, by an event with a number.
            CONSTRAINT payments_told CHECK (
                state IN ('authorizing', 'voiding') OR (sequence > 0 AND settled_at IS NOT NULL)
            ),
            CONSTRAINT payments_money CHECK (
                0 <= refunded_minor AND refunded_minor <= captured_minor
                AND captured_minor <= coalesce(amount_minor, 0)
                AND (captured_minor = 0 OR authorization_id IS NOT NULL)
            )
        ) WITH (fillfactor = 70)
        """
    )


def downgrade() -> None:
    """Drop the relation; the schema stays, for the outbox lives in it."""
    op.execute("DROP TABLE payments.payments")
