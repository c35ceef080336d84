"""How work reaches Postgres, and what it hears when it does not.

Long, because every way to lose Postgres is tried on the same pool.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg2
import pytest
import pytest_asyncio
import uvloop
from eventually import eventually_async
from link import linked
from sqlalchemy import insert, text

from fulcrum.errors import Misconfigured, Unavailable
from fulcrum.store.database import Database, DatabaseDown, SerializationFailure
from fulcrum.store.pool import Pool
from fulcrum.store.relations import messaging

R = messaging("inventory")
ID = "8fdcbaae-26af-4143-b523-76f6c84640f4"


@pytest.fixture(scope="module")
def dsn(namespace: Mapping[str, str]) -> str:
    """A migrated database with one more relation."""
    found = namespace["FULCRUM_POSTGRES_DSN"]
    connection = psycopg2.connect(found)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE numbers (n int PRIMARY KEY, note text CHECK (note <> 'bad'))")
        cursor.execute("INSERT INTO numbers VALUES (-1, 'a'), (-2, 'b')")
    connection.close()
    return found


@pytest_asyncio.fixture
async def db(dsn: str) -> AsyncIterator[Database]:
    database = await Database.open(dsn, size=3, statement_timeout=0.4, lock_timeout=0.2, acquire_timeout=0.3)
    yield database
    await database.close()


@pytest_asyncio.fixture
async def patient(dsn: str) -> AsyncIterator[Database]:
    """A database whose statements may take long."""
    database = await Database.open(dsn, size=3, statement_timeout=30)
    yield database
    await database.close()


async def count(db: Database, low: int) -> int:
    """Rows of the hundred that begins at ``low``."""
    row = await db.one(text("SELECT count(*) AS n FROM numbers WHERE n BETWEEN :a AND :a + 99"), {"a": low})
    assert row is not None
    return int(row["n"])


def add(n: int, note: str = "") -> str:
    return f"INSERT INTO numbers VALUES ({n}, '{note}')"


async def unit(
    db: Database, *statements: str, last: str | None = None, error: type[Exception] | None = None
) -> None:
    """One transaction of ``statements``, with ``last`` at its commit, left by ``error``."""
    async with db.transaction() as tx:
        if last:
            tx.at_commit(text(last))
        for statement in statements:
            await tx.execute(text(statement))
        if error:
            raise error


async def test_values_arrive_as_python_uses_them(db: Database) -> None:
    """bytea is bytes, uuid is text, jsonb is objects, times are aware and in UTC, a percent sign is one."""
    row = {"event_id": ID, "topic": "100%s", "key": b"\x00'", "value": b"%\xff", "headers": {"a": ["ü", 1]}}
    inserted = await db.one(insert(R.outbox).values(row).returning(R.outbox))
    assert inserted is not None
    assert {name: inserted[name] for name in row} == row
    assert type(inserted["key"]) is bytes
    assert inserted["created_at"].utcoffset() == timedelta(0)


async def test_statement_timeout_is_no_cancellation(db: Database) -> None:
    """A statement that takes too long raises Unavailable, and the session goes on."""
    began = time.monotonic()
    with pytest.raises(Unavailable, match="time limit") as caught:
        await db.execute(text("SELECT pg_sleep(10)"))
    assert not isinstance(caught.value, DatabaseDown)
    assert time.monotonic() - began < 3
    assert await db.one(text("SELECT 1 AS n")) == {"n": 1}


async def test_statement_timeout_rolls_the_transaction_back(db: Database) -> None:
    """What was done before the statement that took too long is undone."""
    with pytest.raises(Unavailable):
        await unit(db, add(100), "SELECT pg_sleep(10)")
    assert await count(db, 100) == 0


async def test_cancellation_stays_cancellation(patient: Database) -> None:
    """A task that is really cancelled in a statement ends as cancelled, and its work is undone."""

    task = asyncio.create_task(unit(patient, add(200), "SELECT pg_sleep(20)"))
    await asyncio.wait({task}, timeout=0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await count(patient, 200) == 0


async def test_cancellation_that_comes_with_the_answer_is_kept(db: Database) -> None:
    """Who is cancelled between two statements, or in one, whenever that is, does not begin another."""

    async def ask_for_ever() -> None:
        while True:
            await db.ping()

    for _ in range(300):
        task = asyncio.create_task(ask_for_ever())
        await asyncio.wait({task}, timeout=random.random() / 500)
        task.cancel()
        ended, _ = await asyncio.wait({task}, timeout=5)
        assert ended, "it went on"


async def test_timeout_of_the_caller_stays_a_timeout(patient: Database) -> None:
    """A caller's own deadline around a statement is reported as that deadline."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await patient.execute(text("SELECT pg_sleep(20)"))
    await patient.ping()


async def test_transaction_is_all_or_nothing(db: Database) -> None:
    """Leaving without an error commits; an error undoes everything and is passed on."""
    async with db.transaction() as tx:
        assert await tx.execute(text(add(300))) == 1
        await tx.execute(text(add(301)))
    with pytest.raises(KeyError):
        await unit(db, add(302), error=KeyError)
    assert await count(db, 300) == 2


async def test_constraint_violation_is_passed_on(db: Database) -> None:
    """What the statement itself did wrong is Postgres's own error, and the very session goes on."""
    session = await db.one(text("SELECT pg_backend_pid()"))
    with pytest.raises(psycopg2.IntegrityError):
        await db.execute(text(add(-1)))
    with pytest.raises(psycopg2.IntegrityError):
        await unit(db, add(400), add(401, "bad"))
    assert await db.one(text("SELECT pg_backend_pid()")) == session
    assert await count(db, 400) == 0


async def test_commit_after_a_swallowed_error_is_refused(db: Database) -> None:
    """A transaction whose failure was caught inside cannot pretend to have committed."""

    async def careless() -> None:
        async with db.transaction() as tx:
            await tx.execute(text(add(500)))
            with suppress(psycopg2.IntegrityError):
                await tx.execute(text(add(-1)))

    with pytest.raises(RuntimeError, match="rolled back"):
        await careless()
    assert await count(db, 500) == 0


async def test_last_statements_run_with_the_commit(db: Database) -> None:
    """at_commit runs last, in order, and its failure undoes the transaction."""
    async with db.transaction() as tx:
        tx.at_commit(text("UPDATE numbers SET note = note || '1' WHERE n = 600"))
        tx.at_commit(text("UPDATE numbers SET note = note || :more WHERE n = 600"), {"more": "2%"})
        await tx.execute(text(add(600, "0")))
    assert await db.one(text("SELECT note FROM numbers WHERE n = 600")) == {"note": "012%"}
    with pytest.raises(psycopg2.IntegrityError):
        await unit(db, add(601), last=add(-1))
    assert await count(db, 600) == 1
    await db.ping()


async def test_statements_ahead_run_with_the_next_one(db: Database) -> None:
    """They run before it, in order, their values in place; without a next one they run with the commit."""
    async with db.transaction() as tx:
        tx.ahead(text(add(1610, "0")))
        tx.ahead(text("UPDATE numbers SET note = note || :more WHERE n = 1610"), {"more": "1%s"})
        assert await tx.one(text("SELECT note FROM numbers WHERE n = :n"), {"n": 1610}) == {"note": "01%s"}
    async with db.transaction() as tx:
        tx.ahead(text(add(1611)))
    assert await count(db, 1610) == 2


async def test_only_last_statements(db: Database) -> None:
    """A transaction of nothing but at_commit statements is one too."""
    async with db.transaction() as tx:
        tx.at_commit(text(add(700)))
        tx.at_commit(text(add(701)))
    assert await count(db, 700) == 2


async def test_callbacks_follow_the_commit(db: Database) -> None:
    """after_commit is called once the rows can be seen, and not at all after a failure."""
    called: list[str] = []
    async with db.transaction() as tx:
        await tx.execute(text(add(800)))
        tx.after_commit(lambda: called.append("committed"))
        assert called == []
    assert called == ["committed"]

    async def fail() -> None:
        async with db.transaction() as tx:
            tx.after_commit(lambda: called.append("never"))
            tx.at_commit(text(add(-1)))

    with pytest.raises(psycopg2.IntegrityError):
        await fail()
    assert called == ["committed"]


async def test_deadlock_is_a_serialization_failure(dsn: str) -> None:
    """Of two transactions that wait for each other, one hears that it may try again."""
    db = await Database.open(dsn, statement_timeout=10, lock_timeout=10)
    ready = [asyncio.Event(), asyncio.Event()]
    touch = text("UPDATE numbers SET note = note WHERE n = :n")

    async def work(me: int) -> None:
        async with db.transaction() as tx:
            await tx.execute(touch, {"n": -1 - me})
            ready[me].set()
            await ready[1 - me].wait()
            await tx.execute(touch, {"n": -2 + me})

    ends = await asyncio.gather(work(0), work(1), return_exceptions=True)
    assert [type(end) for end in ends if end] == [SerializationFailure]
    await db.close()


async def test_lock_timeout_is_unavailable(db: Database) -> None:
    """Waiting too long for a row raises Unavailable and blames no connection."""
    touch = text("UPDATE numbers SET note = note WHERE n = -1")
    async with db.transaction() as tx:
        await tx.execute(touch)
        with pytest.raises(Unavailable, match="lock timeout") as caught:
            await db.execute(touch)
    assert not isinstance(caught.value, DatabaseDown)


async def test_exhausted_pool_waits_boundedly(db: Database) -> None:
    """When every session is taken the next one waits a limited time, and succeeds once one is back."""
    held = [db.transaction() for _ in range(3)]
    for each in held:
        await each.__aenter__()
    with pytest.raises(DatabaseDown, match="free"):
        await db.ping()
    waiting = asyncio.create_task(db.ping())
    await held[0].__aexit__(None, None, None)
    await waiting
    for each in held[1:]:
        await each.__aexit__(None, None, None)


async def test_lost_connection_is_replaced(dsn: str) -> None:
    """Work in progress hears DatabaseDown when Postgres goes, and new work succeeds once it is back."""
    async with linked(dsn) as (link, through):
        db = await Database.open(through, size=2)

        async def lose() -> None:
            async with db.transaction() as tx:
                await tx.execute(text(add(900)))
                await link.cut()
                await tx.execute(text(add(901)))

        with pytest.raises(DatabaseDown):
            await lose()
        with pytest.raises(DatabaseDown):
            await db.ping()
        await link.mend()
        await eventually_async(lambda: _answers(db), within=5)
        assert await count(db, 900) == 0
        await db.close()


async def _answers(db: Database) -> bool:
    await db.ping()
    return True


async def test_killed_sessions_are_not_used_again(dsn: str) -> None:
    """Sessions that the server ended while they were idle do not fail the work that comes next."""
    db = await Database.open(dsn, size=3, application_name="victim")
    tasks = [db.execute(text("SELECT pg_sleep(0.05)")) for _ in range(3)]
    await asyncio.gather(*tasks)
    other = await Database.open(dsn, size=1, application_name="killer")
    ended = await other.execute(
        text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'victim'"
        )
    )
    assert ended == 3
    await eventually_async(lambda: _answers(db), within=5)
    await asyncio.gather(*[db.ping() for _ in range(3)])
    await other.close()
    await db.close()


async def test_connection_lost_between_answer_and_reading(dsn: str) -> None:
    """A connection that breaks after the answer came and before it was read is lost like any other."""
    pool = Pool(dsn, 1, 1.0, 1.0, "")
    session = await pool.acquire()
    await session.run("SELECT 1 AS n")
    session.close()
    with pytest.raises(DatabaseDown):
        session.rows()
    pool.release(session)


def test_refused_connections_do_not_spoil_the_next(dsn: str) -> None:
    """Under uvloop, which the roles run on, a connection works at once after others were refused."""

    async def ping(db: Database) -> None:
        await db.ping()

    async def be_refused_and_return() -> None:
        async with linked(dsn) as (link, through):
            db = await Database.open(through, size=4)
            for _ in range(5):
                await link.cut()
                ends = await asyncio.gather(*[ping(db) for _ in range(8)], return_exceptions=True)
                assert {type(end) for end in ends} == {DatabaseDown}
                await link.mend()
                await asyncio.gather(*[ping(db) for _ in range(4)])
            await db.close()

    uvloop.run(be_refused_and_return())


async def test_silent_server_is_noticed(dsn: str) -> None:
    """A server that says nothing any more is given up in bounded time, not waited for without end."""
    async with linked(dsn) as (link, through):
        db = await Database.open(through, size=1, statement_timeout=0.2)
        link.freeze()
        began = time.monotonic()
        with pytest.raises(DatabaseDown):
            await db.ping()
        assert time.monotonic() - began < 4
        await link.mend()
        await eventually_async(lambda: _answers(db), within=5)
        await db.close()


async def test_absent_server_is_named_without_the_password() -> None:
    """Opening where nobody answers raises Unavailable with the address and nothing secret."""
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1/nowhere") as caught:
        await Database.open("postgresql://me:geheim@127.0.0.1:1/nowhere", wait=0)
    assert "geheim" not in str(caught.value)


async def test_missing_database_is_misconfigured(dsn: str) -> None:
    """A database that does not exist will not come by waiting, so the start is refused at once."""
    missing = urlsplit(dsn)._replace(path=f"/no_{uuid4().hex[:8]}").geturl()
    with pytest.raises(Misconfigured, match="FULCRUM_POSTGRES_DSN"):
        await Database.open(missing)


async def test_open_waits_for_the_server(dsn: str) -> None:
    """Opening while Postgres comes up succeeds when it is there."""
    async with linked(dsn) as (link, through):
        await link.cut()
        opening = asyncio.create_task(Database.open(through, wait=10))
        done, _ = await asyncio.wait({opening}, timeout=0.5)
        assert not done
        await link.mend()
        db = await opening
        await db.close()
