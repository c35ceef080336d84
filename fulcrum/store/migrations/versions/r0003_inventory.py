"""Inventory: stock by SKU, what each workflow holds of it, and the ledger of every change."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the relations."""
    op.execute("CREATE SCHEMA IF NOT EXISTS inventory")
    op.execute(
        """
        CREATE TABLE inventory.stock (
            sku       text   PRIMARY KEY,
            available bigint NOT NULL CHECK (available >= 0),
            reserved  bigint NOT NULL CHECK (reserved >= 0),
            consumed  bigint NOT NULL CHECK (consumed >= 0),
            version   bigint NOT NULL CHECK (version > 0)
        ) WITH (fillfactor = 50)
        """
    )
    # state    who moves it on
    # held     a release; the lines are counted in stock.reserved
    # rejected a new attempt, or a release; nothing is held
    # released nobody: nothing is held, and nothing will be
    op.execute(
        """
        CREATE TABLE inventory.reservations (
            workflow_id uuid        PRIMARY KEY,
            state       text        NOT NULL CHECK (state IN ('held', 'rejected', 'released')),
            sequence    bigint      NOT NULL CHECK (sequence > 0),
            command_id  uuid        NOT NULL,
            attempt     integer     NOT NULL CHECK (attempt >= 0),
            reason      text        CHECK (state <> 'rejected' OR reason IS NOT NULL),
            expires_at  timestamptz CHECK (expires_at IS NULL OR state = 'held'),
            changed_at  timestamptz NOT NULL
        ) WITH (fillfactor = 80)
        """
    )
    # No foreign key to stock: it would lock the row of a hot SKU once more for every line.
    op.execute(
        """
        CREATE TABLE inventory.reservation_lines (
            workflow_id uuid   NOT NULL REFERENCES inventory.reservations,
            sku         text   NOT NULL,
            quantity    bigint NOT NULL CHECK (quantity > 0),
            PRIMARY KEY (workflow_id, sku)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE inventory.ledger (
            command_id  uuid        NOT NULL,
            sku         text        NOT NULL,
            kind        text        NOT NULL CHECK (kind IN ('receive', 'reserve', 'release')),
            available   bigint      NOT NULL,
            reserved    bigint      NOT NULL,
            consumed    bigint      NOT NULL DEFAULT 0,
            workflow_id uuid,
            reference   text,
            at          timestamptz NOT NULL,
            PRIMARY KEY (command_id, sku),
            CONSTRAINT ledger_moves CHECK (
                CASE kind
                    WHEN 'receive' THEN available > 0 AND reserved = 0 AND consumed = 0
                    WHEN 'reserve' THEN available < 0 AND reserved = -available AND consumed = 0
                    WHEN 'release' THEN available > 0 AND reserved = -available AND consumed = 0
                END
            ),
            CONSTRAINT ledger_owner CHECK ((kind = 'receive') = (workflow_id IS NULL))
        )
        """
    )
    op.execute(
        """
        CREATE FUNCTION inventory.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'inventory.ledger only grows: correct it by another entry';
        END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER ledger_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON inventory.ledger
        FOR EACH STATEMENT EXECUTE FUNCTION inventory.refuse_change()
        """
    )


def downgrade() -> None:
    """Drop the relations; the schema stays, for the outbox lives in it."""
    op.execute("DROP TABLE inventory.ledger, inventory.reservation_lines")
    op.execute("DROP TABLE inventory.reservations, inventory.stock")
    op.execute("DROP FUNCTION inventory.refuse_change()")
