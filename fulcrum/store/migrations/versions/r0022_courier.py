"""Shipments, the courier's updates, and the courier's commands that have no answer yet."""

from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Create them."""
    # requested         the answer to create_key; the courier may have it in its books
    # refused           a new attempt, or a cancellation
    # booked and on     the courier's updates; has shipment_id
    # cancelled         nobody; a fence, when create_key is null
    op.execute(
        """
        CREATE TABLE courier.deliveries (
            workflow_id      uuid        PRIMARY KEY,
            state            text        NOT NULL CHECK (state IN (
                'requested', 'refused', 'booked', 'picked_up', 'in_transit', 'out_for_delivery', 'exception',
                'delivered', 'returned', 'lost', 'cancelled')),
            sequence         bigint      NOT NULL CHECK (sequence >= 0),
            attempt          integer     NOT NULL,
            create_key       uuid,
            cancel_key       uuid,
            shipment_id      text        UNIQUE,
            tracking_number  text,
            label_url        text,
            refusal          text,
            intercepted      boolean     NOT NULL DEFAULT false,
            courier_sequence integer     NOT NULL DEFAULT 0 CHECK (courier_sequence >= 0),
            undamaged        boolean,
            requested_at     timestamptz NOT NULL,
            ended_at         timestamptz,
            poll_at          timestamptz,
            CONSTRAINT deliveries_asked CHECK ((create_key IS NULL) = (attempt = 0)
                AND (create_key IS NOT NULL OR state = 'cancelled')),
            CONSTRAINT deliveries_booked CHECK (num_nulls(shipment_id, tracking_number, label_url) IN (0, 3)
                AND CASE WHEN state IN ('requested', 'refused') THEN shipment_id IS NULL
                         WHEN state = 'cancelled' THEN true
                         ELSE shipment_id IS NOT NULL END),
            CONSTRAINT deliveries_ended CHECK (
                (state IN ('refused', 'delivered', 'returned', 'lost', 'cancelled')) = (ended_at IS NOT NULL))
        );
        CREATE INDEX deliveries_poll ON courier.deliveries (poll_at) WHERE poll_at IS NOT NULL;

        CREATE TABLE courier.tracking_updates (
            update_id   text        PRIMARY KEY,
            workflow_id uuid        NOT NULL,
            shipment_id text        NOT NULL,
            sequence    integer     NOT NULL CHECK (sequence > 0),
            status      text        NOT NULL,
            at          timestamptz NOT NULL,
            came_by     text        NOT NULL CHECK (came_by IN ('webhook', 'poll')),
            received_at timestamptz NOT NULL,
            body        bytea       NOT NULL
        );
        CREATE INDEX tracking_updates_of ON courier.tracking_updates (workflow_id, sequence);

        CREATE TABLE courier.open_commands (
            command_id  uuid        PRIMARY KEY,
            workflow_id uuid        NOT NULL,
            type        text        NOT NULL,
            begun_at    timestamptz NOT NULL,
            due_at      timestamptz,
            headers     jsonb       NOT NULL,
            body        bytea       NOT NULL
        ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
        CREATE INDEX open_commands_of ON courier.open_commands (workflow_id);
        CREATE INDEX open_commands_due ON courier.open_commands (due_at) WHERE due_at IS NOT NULL;
        """
    )


def downgrade() -> None:
    """Drop them with everything that is in them."""
    op.execute("DROP TABLE courier.open_commands, courier.tracking_updates, courier.deliveries")
