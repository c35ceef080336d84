"""The audit, which only grows, and operations on workflows beside those on parked messages.

A trigger refuses to change or remove a row of the audit, whoever asks; ``docs/how-to/operate.md`` tells how
its owner removes old ones. An item of an operation is a parked message or a workflow, and never both.
"""

from alembic import op

revision = "0019"
down_revision = "0018"

_AUDIT = """
CREATE TABLE ops.audit (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    act uuid NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    source text NOT NULL CHECK (source IN ('api', 'cli')),
    action text NOT NULL,
    target_kind text NOT NULL,
    target text NOT NULL,
    reason text,
    outcome text NOT NULL CHECK (outcome IN ('began', 'done', 'refused', 'failed')),
    detail text,
    before jsonb,
    after jsonb,
    request_id text NOT NULL
);
CREATE INDEX audit_newest ON ops.audit (at DESC, id DESC);
CREATE INDEX audit_by_actor ON ops.audit (actor, at DESC, id DESC);
CREATE INDEX audit_by_target ON ops.audit (target, at DESC, id DESC);
CREATE UNIQUE INDEX audit_begins_and_ends_once ON ops.audit (act, (outcome = 'began'));

CREATE FUNCTION ops.refuse_change_of_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ops.audit only grows: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON ops.audit
    FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_change_of_audit();
"""

_ITEMS = """
ALTER TABLE ops.operations DROP CONSTRAINT operations_kind_check;
ALTER TABLE ops.operations ADD CONSTRAINT operations_kind_check
    CHECK (kind IN ('replay', 'edit', 'discard', 'restore', 'release') OR kind LIKE 'workflow.%');
ALTER TABLE ops.operation_items
    ALTER COLUMN parked_id DROP NOT NULL,
    ALTER COLUMN message_id DROP NOT NULL,
    ADD CONSTRAINT operation_items_of_messages_have_an_id CHECK (parked_id IS NULL OR message_id IS NOT NULL),
    ADD COLUMN workflow_id uuid,
    ADD CONSTRAINT operation_items_have_one_target CHECK (num_nonnulls(parked_id, workflow_id) = 1),
    ADD CONSTRAINT operation_items_take_a_workflow_once UNIQUE (operation_id, workflow_id);
CREATE INDEX operation_items_open ON ops.operation_items (operation_id)
    WHERE state = 'pending' AND begun_at IS NOT NULL;
CREATE INDEX operation_items_by_workflow ON ops.operation_items (workflow_id) WHERE state = 'pending';
"""


def upgrade() -> None:
    """Create the audit, and let items be workflows."""
    op.execute(_AUDIT)
    op.execute(_ITEMS)


def downgrade() -> None:
    """Drop the audit and the operations on workflows: what those asked for is in the journal."""
    op.execute("DROP TABLE ops.audit")
    op.execute("DROP FUNCTION ops.refuse_change_of_audit()")
    op.execute(
        """
        DROP INDEX ops.operation_items_by_workflow, ops.operation_items_open;
        DELETE FROM ops.operation_items WHERE workflow_id IS NOT NULL;
        DELETE FROM ops.operations WHERE kind LIKE 'workflow.%';
        ALTER TABLE ops.operation_items
            DROP CONSTRAINT operation_items_take_a_workflow_once,
            DROP CONSTRAINT operation_items_have_one_target,
            DROP CONSTRAINT operation_items_of_messages_have_an_id,
            DROP COLUMN workflow_id,
            ALTER COLUMN message_id SET NOT NULL,
            ALTER COLUMN parked_id SET NOT NULL;
        ALTER TABLE ops.operations DROP CONSTRAINT operations_kind_check;
        ALTER TABLE ops.operations ADD CONSTRAINT operations_kind_check
            CHECK (kind IN ('replay', 'edit', 'discard', 'restore', 'release'));
        """
    )
