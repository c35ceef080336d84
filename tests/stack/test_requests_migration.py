"""Do requests survive the revision that gave them their verb, up and down, in a database that is in use?"""

from __future__ import annotations

from uuid import uuid4

import psycopg2
from alembic import command
from alembic.script import ScriptDirectory

from fulcrum.store import migrate as migrating

REVISION = "0015"
INTENT = """
    INSERT INTO intake.intents (workflow_id, intent_id, tenant, idempotency_key, fingerprint, customer_ref,
        lines, amount_minor, currency, payment_method, ship_to, definition, correlation_id, accepted_at)
    VALUES (%(id)s, %(id)s, 'acme', 'k', sha256('x'), 'c', '[]', 1, 'EUR', 'pay_ok', 'a', 'fulfillment.v1',
        'x', now())"""
REQUEST = """
    INSERT INTO intake.requests (workflow_id, sequence, event_id, verb, reason, actor, correlation_id,
        requested_at)
    VALUES (%(id)s, %(sequence)s, gen_random_uuid(), %(verb)s, 'because', 'ana', 'x', now())"""


def test_cancellations_become_requests_and_back(empty_database: str) -> None:
    """Down: only what was a cancellation is left. Up: each cancellation has its verb again."""
    migrating.migrate(empty_database)
    workflow_id = str(uuid4())
    with psycopg2.connect(empty_database) as connection, connection.cursor() as cursor:
        cursor.execute(INTENT, {"id": workflow_id})
        for sequence, verb in ((2, "pause"), (3, "cancel")):
            cursor.execute(REQUEST, {"id": workflow_id, "sequence": sequence, "verb": verb})
    connection.close()
    with migrating._connected(empty_database) as alembic, alembic.begin():
        config = migrating._config(alembic)
        before = ScriptDirectory.from_config(config).get_revision(REVISION).down_revision
        assert isinstance(before, str)
        command.downgrade(config, before)
    assert rows(empty_database, "SELECT sequence, reason FROM intake.cancellations") == [(3, "because")]
    migrating.migrate(empty_database)
    assert rows(empty_database, "SELECT sequence, verb, step FROM intake.requests") == [(3, "cancel", None)]


def rows(dsn: str, query: str) -> list[tuple[object, ...]]:
    """What ``query`` finds."""
    connection = psycopg2.connect(dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute(query)
        found = cursor.fetchall()
    connection.close()
    return found
