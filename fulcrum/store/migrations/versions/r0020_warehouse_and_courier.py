"""Outbox, lease and inbox of the warehouse and of the courier."""

from alembic import op

revision = "0020"
down_revision = "0019"

_SERVICES = ("warehouse", "courier")

# See 0001 for why autovacuum follows so closely.
_MESSAGING = """
CREATE SCHEMA IF NOT EXISTS {schema};

CREATE TABLE {schema}.outbox (
    shard smallint NOT NULL DEFAULT 0,
    id bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
    event_id uuid NOT NULL,
    topic text NOT NULL,
    key bytea NOT NULL,
    headers jsonb NOT NULL,
    value bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shard, id),
    CONSTRAINT outbox_value_fits_kafka CHECK (octet_length(value) <= 900000)
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 100000
);

CREATE TABLE {schema}.outbox_lease (
    shard smallint PRIMARY KEY,
    owner text,
    epoch bigint NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
INSERT INTO {schema}.outbox_lease (shard, expires_at) VALUES (0, '-infinity');

CREATE TABLE {schema}.inbox (
    consumer text NOT NULL,
    message_id uuid NOT NULL,
    fingerprint bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    outcome jsonb,
    PRIMARY KEY (consumer, message_id)
) WITH (fillfactor = 70);

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
        op.execute(_MESSAGING.format(schema=schema))


def downgrade() -> None:
    """Drop them with everything that is in them."""
    for schema in _SERVICES:
        named = ", ".join(f"{schema}.{name}" for name in ("outbox", "outbox_parked", "outbox_lease", "inbox"))
        op.execute(f"DROP TABLE {named}")
