"""Does Postgres prepare every lasting statement, and answer it as before?"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from uuid import uuid4

import psycopg2
import pytest
import pytest_asyncio
from sqlalchemy import Text, bindparam, select, text

import fulcrum.agents.projector
import fulcrum.operations.runner
import fulcrum.web.app
import fulcrum.workers.service
from fulcrum.store import outbox, statements
from fulcrum.store.database import Database, SerializationFailure
from fulcrum.store.outbox import OutboxRow
from fulcrum.store.prepared import Prepared, form_of
from fulcrum.store.relations import messaging

#: What makes the statements that are looked at.
_MODULES = (fulcrum.agents.projector, fulcrum.operations.runner, fulcrum.web.app, fulcrum.workers.service)
R = messaging("inventory")
COUNTED = statements.lasting(
    select(R.outbox.c.topic, bindparam("n", type_=Text).label("n")).where(
        R.outbox.c.topic.like("a%"), R.outbox.c.topic == bindparam("wanted")
    )
)


@pytest.fixture(autouse=True)
def _wanted() -> Iterator[None]:
    yield
    Prepared.wanted = True


@pytest_asyncio.fixture
async def db(namespace: Mapping[str, str]) -> AsyncIterator[Database]:
    """One session, so that all is prepared on the same."""
    database = await Database.open(namespace["FULCRUM_POSTGRES_DSN"], size=1)
    yield database
    await database.close()


def row(topic: str) -> OutboxRow:
    return OutboxRow(str(uuid4()), topic, b"key", b"\x00value%", {"a": "100 %"})


async def prepared(db: Database) -> set[str]:
    """The names of what is prepared on the session."""
    found = await db.all(text("SELECT name FROM pg_prepared_statements"))
    return {each["name"] for each in found}


def test_every_lasting_statement_can_be_prepared(namespace: Mapping[str, str]) -> None:
    """Each place has a type that Postgres finds out by itself."""
    connection = psycopg2.connect(namespace["FULCRUM_POSTGRES_DSN"])
    connection.autocommit = True
    try:
        assert len(statements._lasting_texts) > len(_MODULES)
        for number, sql in enumerate(sorted(statements._lasting_texts)):
            with connection.cursor() as cursor:
                cursor.execute(f"PREPARE p{number} AS {form_of(sql).definition}")
    finally:
        connection.close()


async def test_rows_are_the_same_however_often_a_statement_runs(db: Database) -> None:
    """Plain, prepared in its own round trip, and called."""
    for number in range(4):
        async with db.transaction() as tx:
            await outbox.add(tx, R, [row("abc"), row("other")])
        found = await db.all(COUNTED, {"wanted": "abc", "n": str(number)})
        assert [each["topic"] for each in found] == ["abc"] * (number + 1)
        assert {each["n"] for each in found} == {str(number)}
    assert len(await prepared(db)) == 2
    kept = await db.all(select(R.outbox.c.value, R.outbox.c.headers).where(R.outbox.c.topic == "abc"))
    assert kept == [{"value": b"\x00value%", "headers": {"a": "100 %"}}] * 4


async def test_what_a_rolled_back_transaction_prepared_stays_usable(db: Database) -> None:
    """Postgres keeps it, and so does the session."""

    async def fail() -> None:
        async with db.transaction() as tx:
            await tx.all(COUNTED, {"wanted": "rolled back", "n": "1"})
            raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await fail()
    assert await db.all(COUNTED, {"wanted": "rolled back", "n": "1"}) == []


async def test_a_session_that_loses_what_it_prepared_ends_it_for_all(db: Database) -> None:
    """As behind a pooler: the work is repeated without preparing, on another session."""
    for _ in range(3):
        await db.all(COUNTED, {"wanted": "", "n": "1"})
    await db.execute(text("DEALLOCATE ALL"))

    with pytest.raises(SerializationFailure):
        await db.all(COUNTED, {"wanted": "", "n": "1"})

    for _ in range(3):
        assert await db.all(COUNTED, {"wanted": "", "n": "1"}) == []
    assert await prepared(db) == set()
