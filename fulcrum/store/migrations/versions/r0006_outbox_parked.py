"""Outbox rows that Kafka will never take, with the later rows of their key."""

from alembic import op

revision = "0006"
down_revision = "0005"

_SERVICES = ("intake", "payments", "inventory")

_PARKED = """
CREATE TABLE {schema}.outbox_parked (
    shard smallint NOT NULL,
    id bigint NOT NULL,
    event_id uuid NOT NULL,
    topic text NOT NULL,
    key bytea NOT NULL,
    headers jsonb NOT NULL,
    value bytea NOT NULL,
    created_at timestamptz NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now(),
    error text NOT NULL,
    PRIMARY KEY (shard, id)
);
CREATE INDEX outbox_parked_by_key ON {schema}.outbox_parked (key);
"""


def upgrade() -> None:
    """Create them."""
    for schema in _SERVICES:
        op.execute(_PARKED.format(schema=schema))


def downgrade() -> None:
    """Drop them with everything that is in them."""
    for schema in _SERVICES:
        op.execute(f"DROP TABLE {schema}.outbox_parked")
