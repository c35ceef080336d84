"""Consumption, new holds and reversals come to a database that is in use, and leave it again."""

from __future__ import annotations

import psycopg2
import psycopg2.errors
import pytest
from alembic import command

from fulcrum.store.migrate import _config, _connected, migrate, status

#: The revision before this one, in every order in which others may come between.
_BEFORE = "0019"
_THERE = """
INSERT INTO inventory.reservations (workflow_id, state, sequence, command_id, attempt, expires_at, changed_at)
VALUES ('6f0c1d9e-1111-5222-8333-444455556666', 'held', 1, gen_random_uuid(), 1, now(), now());
INSERT INTO inventory.reservation_lines (workflow_id, sku, quantity)
VALUES ('6f0c1d9e-1111-5222-8333-444455556666', 'tea', 2);
INSERT INTO inventory.ledger (command_id, sku, kind, available, reserved, workflow_id, at)
VALUES (gen_random_uuid(), 'tea', 'reserve', -2, 2, '6f0c1d9e-1111-5222-8333-444455556666', now());
INSERT INTO payments.payments (workflow_id, state, sequence, attempt, authorize_key, amount_minor, currency,
    authorization_id, capture_key, captured_minor, asked_minor, requested_at, settled_at) VALUES
    (gen_random_uuid(), 'captured', 2, 1, gen_random_uuid(), 100, 'EUR', 'a', gen_random_uuid(), 60, NULL,
     now(), now()),
    (gen_random_uuid(), 'capturing', 1, 1, gen_random_uuid(), 100, 'EUR', 'a', gen_random_uuid(), 0, 60,
     now(), now())
"""
_HELD_ANEW = """
UPDATE payments.payments SET state = 'reauthorizing', reauthorize_key = gen_random_uuid()
WHERE state = 'capturing'
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


def test_what_is_there_outlives_the_way_up_and_down(empty_database: str) -> None:
    """Reservations, ledger and payments stay as they are; nothing counts as consumed, closed or reversed."""
    migrate(empty_database)
    downgrade(empty_database)
    run(empty_database, _THERE)
    migrate(empty_database)
    assert run(empty_database, "SELECT state, closed FROM inventory.reservations") == [("held", False)]
    assert run(empty_database, "SELECT quantity, consumed FROM inventory.reservation_lines") == [(2, 0)]
    rows = run(empty_database, "SELECT state, reverse_attempt FROM payments.payments ORDER BY state")
    assert rows == [("captured", 0), ("capturing", 0)]
    downgrade(empty_database)
    assert run(empty_database, "SELECT count(*) FROM payments.payments") == [(2,)]
    migrate(empty_database)
    assert status(empty_database).pending == ()


@pytest.mark.parametrize(
    "deed",
    [
        "UPDATE inventory.reservations SET state = 'consumed', expires_at = NULL",
        _HELD_ANEW,
    ],
)
def test_what_the_rules_of_before_do_not_know_is_not_taken_back(empty_database: str, deed: str) -> None:
    """Goods that left, and a hold that may be there twice."""
    migrate(empty_database)
    run(empty_database, _THERE)
    run(empty_database, deed)
    with pytest.raises(Exception, match="violated by some row"):
        downgrade(empty_database)


@pytest.mark.parametrize(
    "deed",
    [
        "UPDATE payments.payments SET state = 'reauthorizing' WHERE state = 'capturing'",
        "UPDATE payments.payments SET lapsed_id = 'b'",
        "UPDATE payments.payments SET reverse_key = gen_random_uuid()",
        "UPDATE payments.payments SET reverse_attempt = 1",
        "UPDATE inventory.reservation_lines SET consumed = 3",
        "UPDATE inventory.reservations SET state = 'consumed'",
        "UPDATE inventory.reservations SET state = 'gone', expires_at = NULL",
    ],
)
def test_row_is_refused_that_cannot_be(empty_database: str, deed: str) -> None:
    """More consumed than was held, a hold anew without its key, a reversal without its number."""
    migrate(empty_database)
    run(empty_database, _THERE)
    with pytest.raises(psycopg2.errors.CheckViolation):
        run(empty_database, deed)
