"""Captures and refunds come to a database with payments in it, and leave it again while none was captured."""

from __future__ import annotations

from uuid import uuid4

import psycopg2
import psycopg2.errors
import pytest
from alembic import command
from sqlalchemy import text

from fulcrum.store.migrate import _config, _connected, migrate

#: The revision before this one, in every order in which others may come between.
_BEFORE = "0008"
_HELD = """
INSERT INTO payments.payments (workflow_id, state, sequence, attempt, authorize_key, amount_minor, currency,
    authorization_id, void_key, decline_reason, requested_at, settled_at) VALUES
    (gen_random_uuid(), 'authorized', 1, 1, gen_random_uuid(), 100, 'EUR', 'a', NULL, NULL, now(), now()),
    (gen_random_uuid(), 'authorizing', 0, 1, gen_random_uuid(), 100, 'EUR', NULL, NULL, NULL, now(), NULL),
    (gen_random_uuid(), 'declined', 1, 1, gen_random_uuid(), 100, 'EUR', NULL, NULL, 'no', now(), now()),
    (gen_random_uuid(), 'voided', 2, 1, gen_random_uuid(), 100, 'EUR', 'a', gen_random_uuid(), NULL, now(),
     now())
"""
_CAPTURE = """
UPDATE payments.payments SET state = 'captured', captured_minor = 60, capture_key = gen_random_uuid()
WHERE state = 'authorized'
"""


def downgrade(dsn: str) -> None:
    """Back to before."""
    with _connected(dsn) as connection, connection.begin():
        command.downgrade(_config(connection), _BEFORE)


def run(dsn: str, statement: str) -> list[tuple[object, ...]]:
    """The rows of ``statement``."""
    connection = psycopg2.connect(dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
        found = cursor.fetchall() if cursor.description else []
    connection.close()
    return found


def test_payments_outlive_the_way_up_and_down(empty_database: str) -> None:
    """Rows of every kind stay as they are, none of them captured."""
    migrate(empty_database)
    downgrade(empty_database)
    run(empty_database, _HELD)
    states = "SELECT state, captured_minor FROM payments.payments ORDER BY state"
    before = run(empty_database, states)
    migrate(empty_database)
    assert run(empty_database, states) == before
    assert run(empty_database, "SELECT count(*) FROM payments.payments WHERE asked_minor IS NOT NULL") == [
        (0,)
    ]
    downgrade(empty_database)
    assert run(empty_database, states) == before


def test_captured_money_is_not_forgotten_on_the_way_down(empty_database: str) -> None:
    """The version before knows no captures, so the downgrade is refused and nothing is changed."""
    migrate(empty_database)
    run(empty_database, _HELD)
    run(empty_database, _CAPTURE)
    with pytest.raises(psycopg2.errors.CheckViolation, match="state_check"):
        downgrade(empty_database)
    with _connected(empty_database) as connection:
        kept = connection.execute(text("SELECT count(*) FROM payments.payments WHERE captured_minor = 60"))
        assert kept.scalar_one() == 1


@pytest.mark.parametrize(
    "row",
    [
        "'captured', 101, 0, NULL",
        "'captured', 60, 61, NULL",
        "'captured', 60, 60, NULL",
        "'captured', 0, 0, NULL",
        "'refunded', 60, 59, NULL",
        "'refunding', 60, 20, 41",
        "'refunding', 60, 20, NULL",
        "'capturing', 0, 0, 101",
        "'capturing', 0, 0, 0",
        "'capturing', 0, 0, NULL",
        "'authorized', 60, 0, NULL",
        "'authorized', 0, 0, 60",
    ],
)
def test_row_is_refused_whose_money_cannot_be(namespace: dict[str, str], row: str) -> None:
    """More taken than held, more given back than taken, or an open act that would make it so."""
    state, captured, refunded, asked = row.split(", ")
    with pytest.raises(psycopg2.errors.CheckViolation):
        run(
            namespace["FULCRUM_POSTGRES_DSN"],
            f"""INSERT INTO payments.payments (workflow_id, state, sequence, attempt, authorize_key,
                amount_minor, currency, authorization_id, capture_key, refund_key, captured_minor,
                refunded_minor, asked_minor, requested_at, settled_at)
                VALUES ('{uuid4()}', {state}, 2, 1, gen_random_uuid(), 100, 'EUR', 'a', gen_random_uuid(),
                gen_random_uuid(), {captured}, {refunded}, {asked}, now(), now())""",
        )
