"""Generations of the read model: which one people read, which are being built, and how far each has read.

The live generation lies in the schema ``read_model``, any other one in ``read_model_g<number>``, so that a
swap moves tables between schemas and nothing that reads them has to know.
"""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """What is there already becomes generation 1 and stays live."""
    op.execute(
        """
        CREATE TABLE read_model.projections (
            name     text    PRIMARY KEY,
            live     integer NOT NULL CHECK (live > 0),
            previous integer,
            epoch    bigint  NOT NULL CHECK (epoch > 0)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE read_model.generations (
            projection  text        NOT NULL REFERENCES read_model.projections,
            generation  integer     NOT NULL CHECK (generation > 0),
            status      text        NOT NULL
                CHECK (status IN ('building', 'paused', 'failed', 'ready', 'live', 'kept', 'dropped')),
            wanted      text        NOT NULL DEFAULT 'run' CHECK (wanted IN ('run', 'pause', 'abort')),
            indexed     boolean     NOT NULL DEFAULT false,
            replay_from timestamptz,
            decisions   bigint      NOT NULL DEFAULT 0,
            error       text,
            created_at  timestamptz NOT NULL DEFAULT now(),
            updated_at  timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (projection, generation)
        )
        """
    )
    # Two rebuilds of one projection would read the journal twice for nothing.
    op.execute(
        """
        CREATE UNIQUE INDEX generations_one_in_work ON read_model.generations (projection)
        WHERE status IN ('building', 'paused', 'failed', 'ready')
        """
    )
    op.execute(
        """
        CREATE TABLE read_model.generation_offsets (
            projection  text    NOT NULL,
            generation  integer NOT NULL,
            topic       text    NOT NULL,
            partition   integer NOT NULL,
            next_offset bigint  NOT NULL CHECK (next_offset >= 0),
            PRIMARY KEY (projection, generation, topic, partition),
            FOREIGN KEY (projection, generation) REFERENCES read_model.generations
        )
        """
    )
    op.execute("INSERT INTO read_model.projections VALUES ('workflows', 1, NULL, 1)")
    op.execute(
        "INSERT INTO read_model.generations (projection, generation, status, indexed)"
        " VALUES ('workflows', 1, 'live', true)"
    )


def downgrade() -> None:
    """Drop every generation but the live one, which stays where it is."""
    op.execute(
        """
        DO $$
        DECLARE number integer;
        BEGIN
            FOR number IN SELECT generation FROM read_model.generations WHERE status <> 'live' LOOP
                EXECUTE format('DROP SCHEMA IF EXISTS read_model_g%s CASCADE', number);
            END LOOP;
        END $$
        """
    )
    op.execute("DROP TABLE read_model.generation_offsets")
    op.execute("DROP TABLE read_model.generations")
    op.execute("DROP TABLE read_model.projections")
