"""Outbox, lease and inbox of every service, and the parked messages."""

from alembic import op

revision = "0001"
down_revision = None

_SERVICES = ("intake", "payments", "inventory")

# Rows live for milliseconds. Autovacuum must follow the deletes at once, or each read of the lowest ids
# walks over the dead ones first; the lease is one row that is updated every second.
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
"""

_PARKED = """
CREATE TABLE ops.parked_messages (
    id uuid PRIMARY KEY,
    parked_at timestamptz NOT NULL DEFAULT now(),
    service text NOT NULL,
    message_id text NOT NULL,
    type text NOT NULL,
    workflow_id uuid,
    queue text NOT NULL,
    reason text NOT NULL,
    error_class text NOT NULL,
    error text NOT NULL,
    fingerprint text NOT NULL,
    attempts integer NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    decoded jsonb,
    status text NOT NULL DEFAULT 'parked'
        CONSTRAINT parked_messages_status CHECK (status IN ('parked', 'replaying', 'replayed', 'discarded')),
    status_at timestamptz NOT NULL DEFAULT now(),
    actor text,
    note text
);
CREATE INDEX parked_messages_newest ON ops.parked_messages (parked_at DESC, id DESC);
CREATE INDEX parked_messages_by_status ON ops.parked_messages (status, parked_at DESC, id DESC);
CREATE INDEX parked_messages_by_cause ON ops.parked_messages (fingerprint);
CREATE INDEX parked_messages_by_workflow ON ops.parked_messages (workflow_id);
"""


def upgrade() -> None:
    """Create them."""
    for schema in _SERVICES:
        op.execute(_MESSAGING.format(schema=schema))
    op.execute("CREATE SCHEMA IF NOT EXISTS ops")
    op.execute(_PARKED)


def downgrade() -> None:
    """Drop them with everything that is in them."""
    op.execute("DROP TABLE ops.parked_messages")
    for schema in _SERVICES:
        op.execute(f"DROP TABLE {schema}.outbox, {schema}.outbox_lease, {schema}.inbox")
