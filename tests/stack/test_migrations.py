"""How a database gets its schema, once, whoever asks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest
from alembic import command

from fulcrum.errors import Misconfigured
from fulcrum.operations.relations import GROUPS, ITEMS, OPERATIONS
from fulcrum.store import migrate as migrating
from fulcrum.store.database import Database
from fulcrum.store.migrate import migrate, require_current, status
from fulcrum.store.relations import ATTEMPTS, PARKED_MESSAGES, SERVICE_SCHEMAS, messaging


def fetch(dsn: str, statement: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
        found = cursor.fetchall() if cursor.description else []
    connection.close()
    return found


def downgrade(dsn: str, revision: str) -> None:
    """Take back what came after ``revision``."""
    with migrating._connected(dsn) as connection, connection.begin():
        command.downgrade(migrating._config(connection), revision)


async def test_empty_database_is_brought_up_to_date(empty_database: str) -> None:
    """An empty database lacks every revision and refuses roles; migrated, it lacks none and takes them."""
    db = await Database.open(empty_database, size=1)
    before = status(empty_database)
    assert before.current is None
    assert before.pending[0] == "0001"
    with pytest.raises(Misconfigured, match="fulcrum db migrate"):
        await require_current(db)
    assert migrate(empty_database) == before
    after = status(empty_database)
    assert (after.current, after.pending) == (after.head, ())
    await require_current(db)
    await db.close()


def test_two_migrations_at_once(empty_database: str) -> None:
    """Of several migrations at one time, one does the work and the others find it done."""
    with ThreadPoolExecutor(3) as pool:
        found = [each.pending for each in pool.map(migrate, [empty_database] * 3)]
    assert sorted(map(len, found))[:2] == [0, 0]
    assert len(max(found, key=len)) > 1


async def test_database_of_a_newer_version_is_refused(empty_database: str) -> None:
    """A revision that this version does not know is named, and nothing is changed."""
    migrate(empty_database)
    fetch(empty_database, "UPDATE ops.revision SET version_num = '9999'")
    with pytest.raises(Misconfigured, match="9999"):
        migrate(empty_database)


@pytest.mark.parametrize("schema", SERVICE_SCHEMAS)
def test_relations_match_the_migrations(schema: str, template: str, namespace: dict[str, str]) -> None:
    """Every messaging relation has the columns that the code declares, with the same types."""
    dsn = namespace["FULCRUM_POSTGRES_DSN"]
    relations = messaging(schema)
    for table in (relations.outbox, relations.outbox_parked, relations.lease, relations.inbox):
        rows = fetch(
            dsn,
            "SELECT column_name, udt_name, is_nullable = 'YES' FROM information_schema.columns "
            f"WHERE table_schema = '{schema}' AND table_name = '{table.name}'",
        )
        assert {row[0]: row[2] for row in rows} == {c.name: bool(c.nullable) for c in table.columns}


def test_attempts_match_their_migration(template: str, namespace: dict[str, str]) -> None:
    """The relation of attempts has the columns that the code declares, and the same of them may be empty."""
    rows = fetch(
        namespace["FULCRUM_POSTGRES_DSN"],
        "SELECT column_name, is_nullable = 'YES' FROM information_schema.columns "
        "WHERE table_schema = 'ops' AND table_name = 'attempts'",
    )
    assert dict(rows) == {c.name: bool(c.nullable) for c in ATTEMPTS.columns}


def test_attempts_come_and_go_over_what_is_there(empty_database: str) -> None:
    """They are added beside what a database of before holds, and taken away without touching it."""
    migrate(empty_database)
    downgrade(empty_database, "0008")
    insert = (
        "INSERT INTO ops.parked_messages (id, service, message_id, type, queue, reason, error_class, error, "
        "fingerprint, attempts, headers, body) "
        "VALUES (gen_random_uuid(), 'payment', 'm', 'T', 'q', 'r', 'c', 'e', 'f', 1, '{}', '')"
    )
    fetch(empty_database, insert)
    migrate(empty_database)
    assert fetch(empty_database, "SELECT count(*) FROM ops.attempts") == [(0,)]
    downgrade(empty_database, "0008")
    assert fetch(empty_database, "SELECT to_regclass('ops.attempts')") == [(None,)]
    assert fetch(empty_database, "SELECT message_id FROM ops.parked_messages") == [("m",)]


def test_expiry_can_be_taken_back_with_what_it_made(empty_database: str) -> None:
    """What was confirmed is held again, what expired counts as released; forward again nothing is lost."""
    migrate(empty_database)
    fetch(
        empty_database,
        """
        INSERT INTO inventory.reservations (workflow_id, state, sequence, command_id, attempt, expires_at,
                                            changed_at)
        SELECT gen_random_uuid(), state, 1, gen_random_uuid(), 1, lapses, now()
        FROM (VALUES ('held', now()), ('confirmed', NULL), ('expired', NULL)) made (state, lapses);
        INSERT INTO inventory.ledger (command_id, sku, kind, available, reserved, workflow_id, at)
        VALUES (gen_random_uuid(), 'sku', 'expire', 1, -1, gen_random_uuid(), now())
        """,
    )
    downgrade(empty_database, "0008")
    states = fetch(empty_database, "SELECT state FROM inventory.reservations WHERE expires_at IS NULL")
    assert sorted(states) == [("held",), ("held",), ("released",)]
    assert fetch(empty_database, "SELECT kind FROM inventory.ledger") == [("release",)]
    migrate(empty_database)
    assert status(empty_database).pending == ()


def test_parked_messages_keep_their_story_over_the_workbench(empty_database: str) -> None:
    """Revision 0013 comes to messages that are parked already, and goes from them with what it brought."""
    migrate(empty_database)
    downgrade(empty_database, "0008")
    fetch(
        empty_database,
        "INSERT INTO ops.parked_messages (id, parked_at, service, message_id, type, queue, reason,"
        " error_class, error, fingerprint, attempts, headers, body) VALUES (gen_random_uuid(), '2026-03-01',"
        " 'payment', 'm', 't', 'q', 'r', 'c', 'e', 'f', 1, '{}', 'x')",
    )
    migrate(empty_database)
    state = "SELECT kept_at = parked_at, status FROM ops.parked_messages"
    assert fetch(empty_database, state) == [(True, "parked")]
    fetch(empty_database, "UPDATE ops.parked_messages SET status = 'edited'")
    downgrade(empty_database, "0008")
    assert fetch(empty_database, "SELECT status FROM ops.parked_messages") == [("replayed",)]
    migrate(empty_database)
    for table in (OPERATIONS, ITEMS, GROUPS, PARKED_MESSAGES):
        rows = fetch(
            empty_database,
            "SELECT column_name, is_nullable = 'YES' FROM information_schema.columns "
            f"WHERE table_schema = 'ops' AND table_name = '{table.name}'",
        )
        assert dict(rows) == {column.name: bool(column.nullable) for column in table.columns}
