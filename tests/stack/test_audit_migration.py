"""Do operations survive the revision that brought the audit, up and down, in a database that is in use?"""

from __future__ import annotations

from uuid import uuid4

import psycopg2
from alembic import command
from alembic.script import ScriptDirectory

from fulcrum.store import migrate as migrating

REVISION = "0019"
PARKED = """
    INSERT INTO ops.parked_messages (id, parked_at, service, message_id, type, queue, reason, error_class,
        error, fingerprint, attempts, headers, body)
    VALUES (%(parked)s, now(), 'inventory', 'm', 'ReserveStock', 'q', 'corrupt', 'E',
        'e', 'f', 1, '{}', '')"""
OPERATION = """
    INSERT INTO ops.operations (id, fingerprint, kind, state, actor, reason, selection, arguments, canary,
        matched, excluded, total, pending, history)
    VALUES (%(id)s, '', %(kind)s, 'pending', 'ana', 'because', '{}', '{}', 0, 1, '{}', 1, 1, '[]')"""
ITEM = """
    INSERT INTO ops.operation_items (operation_id, number, parked_id, workflow_id, service, message_id)
    VALUES (%(id)s, 1, %(parked)s, %(workflow)s, 's', %(message)s)"""
AUDIT = """
    INSERT INTO ops.audit (act, actor, source, action, target_kind, target, outcome, request_id)
    VALUES (gen_random_uuid(), 'ana', 'api', 'parked.replay', 'parked', 'x', 'done', 'r')"""


def test_operations_on_messages_outlive_the_audit(empty_database: str) -> None:
    """Down: only those on workflows go, and the audit. Up: both can be again."""
    migrating.migrate(empty_database)
    parked, of_message, of_workflow = (str(uuid4()) for _ in range(3))
    with psycopg2.connect(empty_database) as connection, connection.cursor() as cursor:
        cursor.execute(PARKED, {"parked": parked})
        cursor.execute(OPERATION, {"id": of_message, "kind": "replay"})
        cursor.execute(OPERATION, {"id": of_workflow, "kind": "workflow.pause"})
        both = {"parked": None, "workflow": None, "message": None}
        cursor.execute(ITEM, {**both, "id": of_message, "parked": parked, "message": "m"})
        cursor.execute(ITEM, {**both, "id": of_workflow, "workflow": str(uuid4())})
        cursor.execute(AUDIT)
    connection.close()
    with migrating._connected(empty_database) as alembic, alembic.begin():
        config = migrating._config(alembic)
        before = ScriptDirectory.from_config(config).get_revision(REVISION).down_revision
        assert isinstance(before, str)
        command.downgrade(config, before)
    assert rows(empty_database, "SELECT kind FROM ops.operations") == [("replay",)]
    assert rows(empty_database, "SELECT parked_id, message_id FROM ops.operation_items") == [(parked, "m")]
    assert rows(empty_database, "SELECT to_regclass('ops.audit')::text") == [(None,)]
    migrating.migrate(empty_database)
    assert rows(empty_database, "SELECT kind FROM ops.operations") == [("replay",)]
    assert rows(empty_database, "SELECT count(*) FROM ops.audit") == [(0,)]


def rows(dsn: str, query: str) -> list[tuple[object, ...]]:
    """What ``query`` finds."""
    connection = psycopg2.connect(dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute(query)
        found = cursor.fetchall()
    connection.close()
    return found
