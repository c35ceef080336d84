"""Reservations that lapse: the states ``confirmed`` and ``expired``, and the ledger's kind ``expire``.

Only a reservation that is held has a time at which it expires, so the index holds what the sweeper looks for
and nothing else.
"""

from alembic import op

revision = "0011"
down_revision = "0010"

_STATES = "ALTER TABLE inventory.reservations ADD CONSTRAINT reservations_state_check CHECK (state IN ({}))"
_KINDS = "ALTER TABLE inventory.ledger ADD CONSTRAINT ledger_kind_check CHECK (kind IN ({}))"
_MOVES = """
    ALTER TABLE inventory.ledger ADD CONSTRAINT ledger_moves CHECK (
        CASE kind
            WHEN 'receive' THEN available > 0 AND reserved = 0 AND consumed = 0
            WHEN 'reserve' THEN available < 0 AND reserved = -available AND consumed = 0
            WHEN 'release' THEN available > 0 AND reserved = -available AND consumed = 0 {}
        END
    )"""


def _drop_checks() -> None:
    op.execute("ALTER TABLE inventory.reservations DROP CONSTRAINT reservations_state_check")
    op.execute("ALTER TABLE inventory.ledger DROP CONSTRAINT ledger_kind_check, DROP CONSTRAINT ledger_moves")


def upgrade() -> None:
    """Widen the checks and create the index. No reservation that is there lapses."""
    _drop_checks()
    # state     who moves it on
    # held      a release, a confirmation, or the sweeper once expires_at has come
    # confirmed a release; the lines are counted in stock.reserved, as those of a held one
    # expired   a release; nothing is held, and nothing will be
    op.execute(_STATES.format("'held', 'confirmed', 'rejected', 'released', 'expired'"))
    op.execute(_KINDS.format("'receive', 'reserve', 'release', 'expire'"))
    op.execute(_MOVES.format("WHEN 'expire' THEN available > 0 AND reserved = -available AND consumed = 0"))
    op.execute(
        "CREATE INDEX reservations_lapsing ON inventory.reservations (expires_at)"
        " WHERE expires_at IS NOT NULL"
    )


def downgrade() -> None:
    """Narrow the checks. What was confirmed is held again for good, what expired counts as released."""
    op.execute("DROP INDEX inventory.reservations_lapsing")
    op.execute("UPDATE inventory.reservations SET expires_at = NULL WHERE expires_at IS NOT NULL")
    op.execute("UPDATE inventory.reservations SET state = 'held' WHERE state = 'confirmed'")
    op.execute("UPDATE inventory.reservations SET state = 'released' WHERE state = 'expired'")
    _drop_checks()
    op.execute("ALTER TABLE inventory.ledger DISABLE TRIGGER ledger_only_grows")
    op.execute("UPDATE inventory.ledger SET kind = 'release' WHERE kind = 'expire'")
    op.execute("ALTER TABLE inventory.ledger ENABLE TRIGGER ledger_only_grows")
    op.execute(_STATES.format("'held', 'rejected', 'released'"))
    op.execute(_KINDS.format("'receive', 'reserve', 'release'"))
    op.execute(_MOVES.format(""))
