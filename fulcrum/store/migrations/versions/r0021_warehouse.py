"""The warehouse: pack jobs with their lines and history, and the commands that wait for them."""

from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Create the relations."""
    # state        who moves it on
    # not_asked    a PackOrder, or a cancellation; only a hand-over was refused
    # queued       the floor, once it says that it has the task
    # assigned     the floor
    # picking      the floor
    # short_picked the floor, which is asked to pick again until waits_until
    # packed       a hand-over, or a cancellation
    # handed_over  nobody
    # failed       a new attempt, or a cancellation; nothing is picked
    # cancelled    nobody: nothing is picked, and nothing will be
    op.execute(
        """
        CREATE TABLE warehouse.pack_jobs (
            workflow_id     uuid        PRIMARY KEY,
            state           text        NOT NULL
                CHECK (state IN ('not_asked', 'queued', 'assigned', 'picking', 'short_picked', 'packed',
                                 'handed_over', 'failed', 'cancelled')),
            goal            text        CHECK (goal IN ('pick', 'pack', 'put_back', 'hand_over')),
            sequence        bigint      NOT NULL CHECK (sequence >= 0),
            attempt         integer     NOT NULL CHECK (attempt >= 0),
            pack_key        uuid,
            cancel_key      uuid,
            hand_over_key   uuid,
            ship_to         text,
            tracking_number text,
            parcels         integer     CHECK (parcels > 0),
            reason          text,
            waits_until     timestamptz,
            requested_at    timestamptz NOT NULL,
            changed_at      timestamptz NOT NULL,
            due_at          timestamptz,

            -- A fence has no order to it; every other row says what was asked for.
            CONSTRAINT pack_jobs_asked CHECK (
                (pack_key IS NULL) = (attempt = 0)
                AND (pack_key IS NOT NULL OR state IN ('not_asked', 'cancelled'))
                AND num_nulls(pack_key, ship_to) IN (0, 2)
            ),
            -- A job that is driven to something is looked at again, and a job that is left alone is not.
            CONSTRAINT pack_jobs_driven CHECK ((goal IS NULL) = (due_at IS NULL)),
            CONSTRAINT pack_jobs_open CHECK (
                CASE WHEN state IN ('queued', 'assigned', 'picking', 'short_picked')
                         THEN goal IN ('pick', 'pack', 'put_back') AND goal IS NOT NULL
                     WHEN state = 'packed' THEN goal IS NULL OR goal IN ('put_back', 'hand_over')
                     ELSE goal IS NULL END
            ),
            CONSTRAINT pack_jobs_waits CHECK (state <> 'short_picked' OR waits_until IS NOT NULL),
            CONSTRAINT pack_jobs_packed CHECK (state <> 'packed' OR parcels IS NOT NULL),
            CONSTRAINT pack_jobs_handed_over CHECK (
                num_nulls(hand_over_key, tracking_number) IN (0, 2)
                AND (state <> 'handed_over' OR pack_key IS NOT NULL)
            ),
            CONSTRAINT pack_jobs_cancelled CHECK (state <> 'cancelled' OR cancel_key IS NOT NULL)
        ) WITH (fillfactor = 70)
        """
    )
    op.execute(
        """
        CREATE INDEX pack_jobs_due ON warehouse.pack_jobs (due_at) WHERE due_at IS NOT NULL;

        CREATE TABLE warehouse.pack_lines (
            workflow_id uuid    NOT NULL REFERENCES warehouse.pack_jobs ON DELETE CASCADE,
            line        integer NOT NULL CHECK (line >= 0),
            sku         text    NOT NULL,
            requested   bigint  NOT NULL CHECK (requested > 0),
            picked      bigint  NOT NULL CHECK (picked BETWEEN 0 AND requested),
            unit_minor  bigint  NOT NULL,
            on_short    text    NOT NULL CHECK (on_short IN ('cancel_line', 'wait', 'cancel_order')),
            PRIMARY KEY (workflow_id, line)
        ) WITH (fillfactor = 70);

        CREATE TABLE warehouse.pack_job_events (
            id          bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
            workflow_id uuid        NOT NULL,
            at          timestamptz NOT NULL,
            attempt     integer     NOT NULL,
            state       text        NOT NULL,
            goal        text,
            reason      text
        );
        CREATE INDEX pack_job_events_of ON warehouse.pack_job_events (workflow_id, id);

        CREATE TABLE warehouse.open_commands (
            command_id  uuid        PRIMARY KEY,
            workflow_id uuid        NOT NULL,
            type        text        NOT NULL,
            begun_at    timestamptz NOT NULL,
            headers     jsonb       NOT NULL
        )
        """
    )


def downgrade() -> None:
    """Drop the relations; the schema stays, for the outbox lives in it."""
    op.execute(
        "DROP TABLE warehouse.open_commands, warehouse.pack_job_events, warehouse.pack_lines, "
        "warehouse.pack_jobs"
    )
