"""The parking workbench: groups with a note, operations with an outcome for each message, and their traces.

A parked message remembers when it was kept by the database's clock (``kept_at``, by which a second parking is
told from the first), which operation moved it, what it was edited into or from, where in Kafka it lay
(``origin``), and when its body was deleted.
"""

from alembic import op

revision = "0013"
down_revision = "0011"

_PARKED = """
ALTER TABLE ops.parked_messages
    ADD COLUMN kept_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ADD COLUMN operation_id uuid,
    ADD COLUMN edited_from uuid,
    ADD COLUMN edited_as uuid,
    ADD COLUMN origin jsonb,
    ADD COLUMN body_deleted_at timestamptz,
    DROP CONSTRAINT parked_messages_status,
    ADD CONSTRAINT parked_messages_status
        CHECK (status IN ('parked', 'replaying', 'replayed', 'edited', 'discarded'));
UPDATE ops.parked_messages SET kept_at = parked_at;
DROP INDEX ops.parked_messages_by_cause, ops.parked_messages_by_workflow;
CREATE INDEX parked_messages_by_cause ON ops.parked_messages (fingerprint, parked_at DESC, id DESC);
CREATE INDEX parked_messages_by_workflow ON ops.parked_messages (workflow_id, parked_at DESC, id DESC);
CREATE INDEX parked_messages_by_service ON ops.parked_messages (service, parked_at DESC, id DESC);
CREATE INDEX parked_messages_by_type ON ops.parked_messages (type, parked_at DESC, id DESC);
CREATE INDEX parked_messages_by_message ON ops.parked_messages (message_id, kept_at);
CREATE INDEX parked_messages_to_sweep ON ops.parked_messages (status_at)
    WHERE body_deleted_at IS NULL AND status IN ('replayed', 'edited', 'discarded');
"""

_GROUPS = """
CREATE TABLE ops.parked_groups (
    fingerprint text PRIMARY KEY,
    note text NOT NULL,
    owner text,
    actor text NOT NULL,
    updated_at timestamptz NOT NULL
);
"""

_OPERATIONS = """
CREATE TABLE ops.operations (
    id uuid PRIMARY KEY,
    fingerprint bytea NOT NULL,
    kind text NOT NULL CHECK (kind IN ('replay', 'edit', 'discard', 'restore', 'release')),
    state text NOT NULL
        CHECK (state IN ('pending', 'running', 'paused', 'stopped', 'done', 'aborted')),
    actor text NOT NULL,
    reason text NOT NULL,
    selection jsonb NOT NULL,
    arguments jsonb NOT NULL,
    rate double precision CHECK (rate > 0),
    canary integer NOT NULL CHECK (canary >= 0),
    canary_until timestamptz,
    stop_ratio double precision CHECK (stop_ratio >= 0 AND stop_ratio <= 1),
    matched integer NOT NULL,
    excluded jsonb NOT NULL,
    total integer NOT NULL,
    succeeded integer NOT NULL DEFAULT 0 CHECK (succeeded >= 0),
    failed integer NOT NULL DEFAULT 0 CHECK (failed >= 0),
    skipped integer NOT NULL DEFAULT 0 CHECK (skipped >= 0),
    pending integer NOT NULL CHECK (pending >= 0),
    why text,
    history jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    lease_owner text,
    lease_epoch bigint NOT NULL DEFAULT 0,
    lease_until timestamptz NOT NULL DEFAULT '-infinity',
    CONSTRAINT operations_account_for_every_item CHECK (total = succeeded + failed + skipped + pending),
    CONSTRAINT operations_done_leaves_nothing CHECK (state <> 'done' OR pending = 0)
);
CREATE INDEX operations_newest ON ops.operations (created_at DESC, id DESC);
CREATE INDEX operations_by_state ON ops.operations (state, created_at DESC, id DESC);
CREATE INDEX operations_with_work ON ops.operations (created_at)
    WHERE pending > 0 OR state IN ('pending', 'running');

CREATE TABLE ops.operation_items (
    operation_id uuid NOT NULL REFERENCES ops.operations,
    number integer NOT NULL CHECK (number > 0),
    parked_id uuid NOT NULL REFERENCES ops.parked_messages,
    service text NOT NULL,
    message_id text NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'succeeded', 'failed', 'skipped')),
    outcome text,
    begun_at timestamptz,
    ended_at timestamptz,
    PRIMARY KEY (operation_id, number),
    UNIQUE (operation_id, parked_id),
    CONSTRAINT operation_items_end_with_an_outcome CHECK ((state = 'pending') = (outcome IS NULL))
);
CREATE INDEX operation_items_by_message ON ops.operation_items (parked_id) WHERE state = 'pending';
CREATE INDEX operation_items_unobserved ON ops.operation_items (ended_at) WHERE outcome = 'sent';
CREATE INDEX operation_items_by_state ON ops.operation_items (operation_id, state, number);
"""


def upgrade() -> None:
    """Extend the parked messages and create the rest."""
    op.execute(_PARKED)
    op.execute(_GROUPS)
    op.execute(_OPERATIONS)


def downgrade() -> None:
    """Drop what was added. An edited message counts as replayed again: it was sent in another form."""
    op.execute("DROP TABLE ops.operation_items, ops.operations, ops.parked_groups")
    op.execute(
        """
        DROP INDEX ops.parked_messages_by_cause, ops.parked_messages_by_workflow,
            ops.parked_messages_by_service, ops.parked_messages_by_type, ops.parked_messages_by_message,
            ops.parked_messages_to_sweep;
        UPDATE ops.parked_messages SET status = 'replayed' WHERE status = 'edited';
        ALTER TABLE ops.parked_messages
            DROP CONSTRAINT parked_messages_status,
            ADD CONSTRAINT parked_messages_status
                CHECK (status IN ('parked', 'replaying', 'replayed', 'discarded')),
            DROP COLUMN kept_at, DROP COLUMN operation_id, DROP COLUMN edited_from, DROP COLUMN edited_as,
            DROP COLUMN origin, DROP COLUMN body_deleted_at;
        CREATE INDEX parked_messages_by_cause ON ops.parked_messages (fingerprint);
        CREATE INDEX parked_messages_by_workflow ON ops.parked_messages (workflow_id);
        """
    )
