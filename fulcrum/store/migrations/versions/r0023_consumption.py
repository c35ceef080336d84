"""Stock that has left the building, holds that lapse before a capture, and money that is given back."""

from alembic import op

revision = "0023"
down_revision = "0022"

_STATES = "ALTER TABLE inventory.reservations ADD CONSTRAINT reservations_state_check CHECK (state IN ({}))"
_KINDS = "ALTER TABLE inventory.ledger ADD CONSTRAINT ledger_kind_check CHECK (kind IN ({}))"
_MOVES = """
    ALTER TABLE inventory.ledger ADD CONSTRAINT ledger_moves CHECK (
        CASE kind
            WHEN 'receive' THEN available > 0 AND reserved = 0 AND consumed = 0
            WHEN 'reserve' THEN available < 0 AND reserved = -available AND consumed = 0
            WHEN 'release' THEN available > 0 AND reserved = -available AND consumed = 0
            WHEN 'expire' THEN available > 0 AND reserved = -available AND consumed = 0 {}
        END
    )"""
# A consumption makes the rest of its line available, in the same entry.
_GONE = """
            WHEN 'consume' THEN consumed > 0 AND available >= 0 AND reserved = -(available + consumed)
            WHEN 'restock' THEN available > 0 AND reserved = 0 AND consumed = -available"""

_PAYMENT_STATES = (
    "'not_asked', 'authorizing', 'authorized', 'declined', 'voiding', 'voided', 'capturing', 'captured', "
    "'refunding', 'refunded'"
)
_HELD = """
    CASE WHEN state IN ('authorizing', 'declined') THEN authorization_id IS NULL
         WHEN state IN ('authorized', 'capturing', {}'captured', 'refunding', 'refunded')
             THEN authorization_id IS NOT NULL
         ELSE authorization_id IS NULL OR authorize_key IS NOT NULL END
    """
_OPEN_MONEY = """
    CASE WHEN state IN ('capturing'{})
             THEN asked_minor IS NOT NULL AND capture_key IS NOT NULL
                  AND asked_minor BETWEEN 1 AND amount_minor
         WHEN state = 'refunding'
             THEN asked_minor IS NOT NULL AND refund_key IS NOT NULL
                  AND asked_minor BETWEEN 1 AND captured_minor - refunded_minor
         ELSE asked_minor IS NULL END
    """


def upgrade() -> None:
    """Widen the checks; nothing that is there was consumed, held anew or reversed."""
    _drop_stock_checks()
    # state       who moves it on
    # consumed    a restock; the lines are counted in stock.consumed
    # written_off a restock that finds them after all; they stay counted there
    # restocked   nobody: they came back and are available again
    op.execute(
        _STATES.format(
            "'held', 'confirmed', 'rejected', 'released', 'expired', 'consumed', 'written_off', 'restocked'"
        )
    )
    op.execute(_KINDS.format("'receive', 'reserve', 'release', 'expire', 'consume', 'restock'"))
    op.execute(_MOVES.format(_GONE))
    op.execute("ALTER TABLE inventory.reservations ADD COLUMN closed boolean NOT NULL DEFAULT false")
    op.execute(
        "ALTER TABLE inventory.reservation_lines ADD COLUMN consumed bigint NOT NULL DEFAULT 0 "
        "CONSTRAINT reservation_lines_consumed CHECK (consumed BETWEEN 0 AND quantity)"
    )
    op.execute(
        "ALTER TABLE payments.payments ADD COLUMN reauthorize_key uuid, ADD COLUMN lapsed_id text, "
        "ADD COLUMN reverse_key uuid, ADD COLUMN reverse_attempt integer NOT NULL DEFAULT 0"
    )
    # reauthorizing the answer to reauthorize_key; another hold may be there in place of one that had lapsed
    _replace("state_check", f"state IN ({_PAYMENT_STATES}, 'reauthorizing')")
    _replace("held", _HELD.format("'reauthorizing', "))
    _replace("open_money", _OPEN_MONEY.format(", 'reauthorizing'"))
    _add(
        "held_anew",
        """
        (state <> 'reauthorizing' OR reauthorize_key IS NOT NULL)
        AND (lapsed_id IS NULL OR reauthorize_key IS NOT NULL)
        """,
    )
    _add("reversed", "reverse_attempt >= 0 AND (reverse_key IS NULL) = (reverse_attempt = 0)")


def downgrade() -> None:
    """Back to the rules of before; refused while stock has left the building or a hold is asked for anew."""
    op.execute(
        "ALTER TABLE payments.payments DROP CONSTRAINT payments_held_anew, DROP CONSTRAINT payments_reversed"
    )
    _replace("state_check", f"state IN ({_PAYMENT_STATES})")
    _replace("held", _HELD.format(""))
    _replace("open_money", _OPEN_MONEY.format(""))
    op.execute(
        "ALTER TABLE payments.payments DROP COLUMN reauthorize_key, DROP COLUMN lapsed_id, "
        "DROP COLUMN reverse_key, DROP COLUMN reverse_attempt"
    )
    _drop_stock_checks()
    op.execute(_STATES.format("'held', 'confirmed', 'rejected', 'released', 'expired'"))
    op.execute(_KINDS.format("'receive', 'reserve', 'release', 'expire'"))
    op.execute(_MOVES.format(""))
    op.execute("ALTER TABLE inventory.reservations DROP COLUMN closed")
    op.execute("ALTER TABLE inventory.reservation_lines DROP COLUMN consumed")


def _drop_stock_checks() -> None:
    op.execute("ALTER TABLE inventory.reservations DROP CONSTRAINT reservations_state_check")
    op.execute("ALTER TABLE inventory.ledger DROP CONSTRAINT ledger_kind_check, DROP CONSTRAINT ledger_moves")


def _replace(name: str, rule: str) -> None:
    op.execute(f"ALTER TABLE payments.payments DROP CONSTRAINT payments_{name}")
    _add(name, rule)


def _add(name: str, rule: str) -> None:
    op.execute(f"ALTER TABLE payments.payments ADD CONSTRAINT payments_{name} CHECK ({rule})")
