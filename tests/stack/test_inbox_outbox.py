"""A message takes effect once, and what it emits leaves with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from uuid import uuid4

import psycopg2
import pytest
import pytest_asyncio
from sqlalchemy import func, select

from fulcrum.errors import Corrupt
from fulcrum.store import inbox, outbox
from fulcrum.store.database import Database
from fulcrum.store.inbox import InboxKey
from fulcrum.store.outbox import OutboxRow
from fulcrum.store.relations import messaging

R = messaging("payments")
BODY, OTHER_BODY = b"\x01" * 32, b"\x02" * 32


@pytest_asyncio.fixture
async def db(namespace: Mapping[str, str]) -> AsyncIterator[Database]:
    database = await Database.open(namespace["FULCRUM_POSTGRES_DSN"], size=4)
    yield database
    await database.close()


def keys(*ids: str, body: bytes = BODY) -> list[InboxKey]:
    return [InboxKey(each, body) for each in ids]


def row(value: bytes = b"\x00\xff'", topic: str = "payments") -> OutboxRow:
    return OutboxRow(str(uuid4()), topic, b"workflow", value, {"ce_type": "PaymentVoided", "ü": "%s"})


async def claim(db: Database, *ids: str, consumer: str = "c", body: bytes = BODY) -> set[str]:
    async with db.transaction() as tx:
        return await inbox.claim(tx, R, consumer, keys(*ids, body=body))


async def rows_in_outbox(db: Database, topic: str) -> list[dict[str, object]]:
    return await db.all(select(R.outbox).where(R.outbox.c.topic == topic).order_by(R.outbox.c.id))


async def test_repeat_is_not_claimed(db: Database) -> None:
    """Of a batch, exactly the messages never seen before are claimed, each once."""
    a, b, c = (str(uuid4()) for _ in range(3))
    assert await claim(db, a, b, a) == {a, b}
    assert await claim(db, b, c) == {c}
    assert await claim(db) == set()


async def test_consumers_do_not_know_each_other(db: Database) -> None:
    """Two consumers each take the same message once."""
    message = str(uuid4())
    assert await claim(db, message, consumer="one") == {message}
    assert await claim(db, message, consumer="two") == {message}
    assert await claim(db, message, consumer="two") == set()


async def test_undone_claim_was_none(db: Database) -> None:
    """After a transaction that failed, its messages and what they emitted are new again."""
    message = str(uuid4())

    async def fail() -> None:
        async with db.transaction() as tx:
            await inbox.claim(tx, R, "c", keys(message))
            await outbox.add(tx, R, [row(topic="undone")])
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert await rows_in_outbox(db, "undone") == []
    assert await claim(db, message) == {message}


@pytest.mark.parametrize("commits", [True, False])
async def test_duplicate_waits_for_the_one_in_progress(db: Database, commits: bool) -> None:
    """A copy that arrives meanwhile waits; it is a repeat if the first commits, and new if it fails."""
    message = str(uuid4())
    finish = asyncio.Event()
    claimed = asyncio.Event()

    async def first() -> None:
        async with db.transaction() as tx:
            await inbox.claim(tx, R, "c", keys(message))
            claimed.set()
            await finish.wait()
            if not commits:
                raise KeyError

    working = asyncio.create_task(first())
    await claimed.wait()
    second = asyncio.create_task(claim(db, message))
    done, _ = await asyncio.wait({second}, timeout=0.3)
    assert not done, "the copy did not wait"
    finish.set()
    await asyncio.wait({working})
    assert await second == (set() if commits else {message})
    assert isinstance(working.exception(), KeyError) is not commits


async def test_batches_in_opposite_orders_do_not_deadlock(db: Database) -> None:
    """Two batches that hold the same messages in opposite orders both end, and share them out."""
    for _ in range(10):
        ids = [str(uuid4()) for _ in range(40)]
        one, two = await asyncio.gather(claim(db, *ids), claim(db, *reversed(ids)))
        assert sorted([*one, *two]) == sorted(ids)


async def test_same_id_with_another_body_is_corrupt(db: Database) -> None:
    """One id stands for one body: a changed one is refused, in the same batch or later."""
    message = str(uuid4())
    assert await claim(db, message) == {message}
    with pytest.raises(Corrupt, match=message):
        await claim(db, message, body=OTHER_BODY)
    fresh = str(uuid4())
    async with db.transaction() as tx:
        with pytest.raises(Corrupt, match=fresh):
            await inbox.claim(tx, R, "c", [*keys(fresh), *keys(fresh, body=OTHER_BODY)])


@pytest.mark.parametrize("text", ["", "order-7", "8FDCBAAE26AF4143B52376F6C84640F4"])
async def test_id_that_is_no_uuid_is_corrupt(db: Database, text: str) -> None:
    """An id that Postgres would refuse or write otherwise is refused before it is sent there."""
    with pytest.raises(Corrupt, match="UUID"):
        await claim(db, text)


async def test_repeat_gets_the_first_answer(db: Database) -> None:
    """What a message was answered with comes back byte for byte, also when that was nothing."""
    answered, silent, open_, unknown = (str(uuid4()) for _ in range(4))
    emitted = [row(), row(b"")]
    async with db.transaction() as tx:
        await inbox.claim(tx, R, "c", keys(answered, silent, open_))
        await inbox.record(tx, R, "c", {answered: emitted, silent: []})
    async with db.transaction() as tx:
        found = await inbox.outcomes(tx, R, "c", [answered, silent, open_, unknown])
        assert found == {answered: emitted, silent: [], open_: None}
        assert await inbox.outcomes(tx, R, "other", [answered]) == {}
        assert await inbox.outcomes(tx, R, "c", []) == {}


async def test_rows_leave_as_they_were_given(db: Database) -> None:
    """Rows lie in the outbox in the order of adding, over several calls, with every byte."""
    rows = [row(topic="given"), row(b"\x00" * 1000, topic="given"), row(topic="given")]
    async with db.transaction() as tx:
        await outbox.add(tx, R, rows[:2])
        await outbox.add(tx, R, [])
        await outbox.add(tx, R, rows[2:])
    found = await rows_in_outbox(db, "given")
    assert [
        OutboxRow(r["event_id"], r["topic"], r["key"], r["value"], r["headers"])  # type: ignore[arg-type]
        for r in found
    ] == rows


async def test_order_of_ids_is_order_of_commits_for_a_key(db: Database) -> None:
    """Who holds a row's lock first also emits first, however early the other one added its rows."""
    locked, go = asyncio.Event(), asyncio.Event()
    lock = select(func.pg_advisory_xact_lock(4711))

    async def first() -> None:
        async with db.transaction() as tx:
            await tx.execute(lock)
            locked.set()
            await go.wait()
            await outbox.add(tx, R, [row(b"first", topic="order")])

    async def second() -> None:
        await locked.wait()
        async with db.transaction() as tx:
            await outbox.add(tx, R, [row(b"second", topic="order")])
            go.set()
            await tx.execute(lock)

    await asyncio.gather(first(), second())
    assert [r["value"] for r in await rows_in_outbox(db, "order")] == [b"first", b"second"]


async def test_row_that_kafka_would_refuse_fails_its_transaction(db: Database) -> None:
    """A value too long for Kafka undoes the work that emits it, instead of blocking the outbox."""
    message = str(uuid4())

    async def emit(size: int) -> None:
        async with db.transaction() as tx:
            await inbox.claim(tx, R, "c", keys(message))
            await outbox.add(tx, R, [row(b"x" * size, topic="long")])

    with pytest.raises(psycopg2.IntegrityError, match="fits_kafka"):
        await emit(900_001)
    assert await claim(db, message) == {message}
    assert await rows_in_outbox(db, "long") == []


async def test_listeners_hear_of_commits_only(db: Database) -> None:
    """Whoever listens to a schema is told after a commit that added rows, and not after other ends."""
    heard: list[int] = []
    forget = outbox.on_commit("payments", lambda: heard.append(1))
    foreign = outbox.on_commit("inventory", lambda: heard.append(2))

    async def unit(*rows: OutboxRow, fail: bool = False) -> None:
        async with db.transaction() as tx:
            await outbox.add(tx, R, rows)
            assert len(heard) == before
            if fail:
                raise KeyError

    before = 0
    await unit(row())
    assert heard == [1]
    before = 1
    await unit()
    with pytest.raises(KeyError):
        await unit(row(), fail=True)
    assert heard == [1]
    forget()
    foreign()
    await unit(row())
    assert heard == [1]
