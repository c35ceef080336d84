"""Order on the real broker, whatever happens to the one that sends: paused, killed, overtaken, held up.

Long, because each fault needs its own relays, one of them paused or killed at the worst moment.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import NamedTuple
from uuid import uuid4

import pytest
import pytest_asyncio
from commandbus import running
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from eventually import eventually_async
from relaying import relaying, sender
from sqlalchemy import func, insert, select, text, update

from fulcrum.settings import Settings
from fulcrum.store import unsent
from fulcrum.store.database import Database
from fulcrum.store.outbox import OutboxRow
from fulcrum.store.relations import messaging
from fulcrum.store.relay import Relay
from fulcrum.wire.producer import KafkaProducer

R = messaging("intake")
PARTITIONS = 3
#: Numbered rows of 50 keys; the event's id is computed from the number.
_FILL = text(
    "INSERT INTO intake.outbox (event_id, topic, key, headers, value) "
    "SELECT md5(n::text)::uuid, :topic, convert_to('key-' || n % 50, 'UTF8'), "
    "jsonb_build_object('ce_id', md5(n::text)::uuid), convert_to(n::text, 'UTF8') "
    "FROM generate_series(1, :count) n ORDER BY n"
)


class Sent(NamedTuple):
    """One record as it lies in Kafka."""

    key: bytes
    value: bytes
    event_id: bytes


@pytest_asyncio.fixture
async def db(settings: Settings) -> AsyncIterator[Database]:
    database = await Database.open(settings.postgres_dsn, size=16)
    for table in (R.outbox, R.outbox_parked):
        await database.execute(table.delete())
    await database.execute(update(R.lease).values(owner=None, expires_at=text("'-infinity'")))
    yield database
    await database.close()


@pytest_asyncio.fixture
async def producer(settings: Settings) -> AsyncIterator[KafkaProducer]:
    opened = KafkaProducer(settings)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def topic(settings: Settings) -> str:
    """A topic that nobody has written to, for records up to 100 kB."""
    name = f"{settings.namespace}.relay-{uuid4().hex[:6]}"
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    new = NewTopic(name, PARTITIONS, 1, config={"max.message.bytes": "100000"})
    await asyncio.to_thread(admin.create_topics([new])[name].result, 15)
    return name


async def _log(settings: Settings, topic: str) -> list[Sent]:
    """Everything in the topic, each partition in order."""

    def read() -> list[Sent]:
        consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap, "group.id": uuid4().hex})
        found = []
        for partition in range(PARTITIONS):
            at = TopicPartition(topic, partition, 0)
            _, end = consumer.get_watermark_offsets(at, timeout=15)
            consumer.assign([at])
            position = 0
            while position < end:
                message = consumer.poll(15.0)
                assert message is not None, f"partition {partition} stands at {position} of {end}"
                assert message.error() is None
                position = (message.offset() or 0) + 1
                headers = dict(message.headers() or [])
                found.append(Sent(message.key() or b"", message.value() or b"", headers["ce_id"]))
        consumer.close()
        return found

    return await asyncio.to_thread(read)


def _first_in_order(log: Sequence[Sent]) -> int:
    """Fail unless each key's first copies are in order, and all copies alike; how many are repeats."""
    rows: dict[bytes, list[Sent]] = defaultdict(list)
    for sent in log:
        rows[sent.key].append(sent)
    for key, mine in rows.items():
        numbers = [int(sent.value) for sent in dict.fromkeys(mine)]
        assert numbers == sorted({*numbers}), f"{key!r} is out of order, or a repeat has another id"
    return len(log) - len({*log})


async def _left(db: Database) -> int:
    row = await db.one(select(func.count().label("n")).select_from(R.outbox))
    assert row is not None
    return int(row["n"])


async def _until_left(db: Database, most: int, within: float = 30) -> None:
    async def reached() -> bool:
        return await _left(db) <= most

    await eventually_async(reached, within=within, state=lambda: _left(db))


async def _led_by(db: Database, owner: str) -> None:
    async def leads() -> bool:
        row = await db.one(select(R.lease.c.owner, R.lease.c.expires_at > func.now()))
        return row is not None and f"/{owner}/" in (row["owner"] or "")

    await eventually_async(leads, within=20)


def _row(topic: str, key: str, value: bytes) -> dict[str, object]:
    event_id = str(uuid4())
    return {
        "event_id": event_id,
        "topic": topic,
        "key": key.encode(),
        "value": value,
        "headers": {"ce_id": event_id},
    }


async def test_paused_processes_that_wake_put_nothing_out_of_order(
    db: Database, settings: Settings, topic: str
) -> None:
    """The leader is stopped in the middle of its work, the other goes on, the first wakes and finds itself
    overtaken: three times. Each row's first copy keeps its place, and every repeat has the row's id."""
    count = 60_000
    await db.execute(_FILL, {"topic": topic, "count": count})
    with relaying(settings, "one") as one, relaying(settings, "two") as two:
        await _until_left(db, count - 1)
        row = await db.one(select(R.lease.c.owner))
        assert row is not None
        leader, other = (("one", one), ("two", two))[:: 1 if "/one/" in row["owner"] else -1]
        for turn in range(1, 4):
            await _until_left(db, count - 12_000 * turn)
            os.kill(leader[1].pid, signal.SIGSTOP)
            await _led_by(db, other[0])
            await _until_left(db, count - 12_000 * turn - 3_000)
            os.kill(leader[1].pid, signal.SIGCONT)
            leader, other = other, leader
        await _until_left(db, 0)
    log = await _log(settings, topic)
    assert {int(sent.value) for sent in log} == {*range(1, count + 1)}
    _first_in_order(log)


async def test_batch_that_was_held_up_is_not_sent_under_a_lost_lease(
    db: Database, settings: Settings, topic: str, producer: KafkaProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relay that comes to its producer only after another one has taken over sends nothing at all."""
    held, opened = asyncio.Event(), asyncio.Event()
    send = sender(producer)

    async def late(rows: Sequence[OutboxRow], may_send: Callable[[], bool]) -> int:
        held.set()
        await opened.wait()
        return await send(rows, may_send)

    async def asleep(_: object) -> bool:
        await asyncio.Event().wait()
        return True

    one = Relay(db, R, settings, "one", late)
    monkeypatch.setattr(one._lease, "renew", asleep)
    await db.execute(_FILL, {"topic": topic, "count": 300})
    other = KafkaProducer(settings)
    async with running(one):
        await held.wait()
        async with running(Relay(db, R, settings, "two", sender(other))):
            await _until_left(db, 0)
            monkeypatch.undo()
            opened.set()
            await db.execute(insert(R.outbox).values(_row(topic, "key-1", b"301")))
            await _until_left(db, 0)
    await other.close()
    log = await _log(settings, topic)
    assert (len(log), _first_in_order(log)) == (301, 0)


async def test_batch_in_kafka_whose_lease_is_lost_is_repeated_in_order(
    db: Database, settings: Settings, topic: str, producer: KafkaProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka has the batch, and its relay loses the lease before it hears of that: the next one sends it again
    with the same ids, and the first relay deletes nothing."""
    sent, opened = asyncio.Event(), asyncio.Event()
    send = sender(producer)

    async def unheard(rows: Sequence[OutboxRow], may_send: Callable[[], bool]) -> int:
        acknowledged = await send(rows, may_send)
        sent.set()
        await opened.wait()
        return acknowledged

    async def asleep(_: object) -> bool:
        await asyncio.Event().wait()
        return True

    one = Relay(db, R, settings, "one", unheard)
    monkeypatch.setattr(one._lease, "renew", asleep)
    await db.execute(_FILL, {"topic": topic, "count": 300})
    other = KafkaProducer(settings)
    async with running(one):
        await sent.wait()
        async with running(Relay(db, R, settings, "two", sender(other))):
            await _until_left(db, 0)
            monkeypatch.undo()
            opened.set()
            await db.execute(insert(R.outbox).values(_row(topic, "key-1", b"301")))
            await _until_left(db, 0)
    await other.close()
    log = await _log(settings, topic)
    assert (len(log), _first_in_order(log)) == (601, 300)


async def test_killed_between_sending_and_deleting(db: Database, settings: Settings, topic: str) -> None:
    """A relay that dies with rows in Kafka and in the table: the next one repeats them under their ids."""
    await db.execute(_FILL, {"topic": topic, "count": 1200})
    with relaying(settings, "one", {"FULCRUM_CRASH_AT": "outbox.sent:2"}) as one:
        await asyncio.to_thread(one.wait, 30)
    assert one.returncode == -signal.SIGKILL
    left = await _left(db)
    with relaying(settings, "one"):
        await _until_left(db, 0)
    log = await _log(settings, topic)
    assert {int(sent.value) for sent in log} == {*range(1, 1201)}
    assert 0 < _first_in_order(log) <= left


async def test_row_that_kafka_refuses_parks_its_key_alone(
    db: Database, settings: Settings, topic: str, producer: KafkaProducer
) -> None:
    """What its key sent before has arrived and is not parked; what it emits later is; all others go on."""
    await db.execute(_FILL, {"topic": topic, "count": 100})
    await db.execute(insert(R.outbox).values(_row(topic, "key-7", os.urandom(200_000))))
    await db.execute(insert(R.outbox).values(_row(topic, "key-7", b"101")))
    await db.execute(insert(R.outbox).values(_row(topic, "key-8", b"102")))
    async with running(Relay(db, R, settings, "one", sender(producer))):
        await _until_left(db, 0)
    log = await _log(settings, topic)
    assert {int(sent.value) for sent in log} == {*range(1, 101), 102}
    _first_in_order(log)
    parked = await db.all(select(R.outbox_parked).order_by(R.outbox_parked.c.id))
    assert [(row["key"], len(row["value"])) for row in parked] == [(b"key-7", 200_000), (b"key-7", 3)]


class _RolledBack(Exception):
    """On purpose."""


async def test_late_commits_keep_each_keys_order(
    db: Database, settings: Settings, topic: str, producer: KafkaProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transactions that take their ids early and commit late, or not at all, one after another for each key:
    every committed row is sent once, in its key's order, without a look at the whole table."""
    monkeypatch.setattr(unsent, "_SWEEP", 3600.0)
    swift_commits, swift_writers = 0, 8
    changed = asyncio.Condition()

    async def write(key: int, number: int, patient: bool) -> bytes:
        """A transaction; a patient one waits for the commits of others, which took later ids."""
        value = b"%d" % (1000 * key + number)
        async with db.transaction() as tx:
            await tx.execute(insert(R.outbox).values(_row(topic, f"key-{key}", value)))
            due = swift_commits + 5
            if patient:
                async with changed:
                    await changed.wait_for(lambda: swift_commits >= due or not swift_writers)
            if number % 5 == 4:
                raise _RolledBack
        return value

    async def write_all(key: int, patient: bool) -> list[bytes]:
        nonlocal swift_commits, swift_writers
        kept = []
        for number in range(40):
            with suppress(_RolledBack):
                kept.append(await write(key, number, patient))
            async with changed:
                swift_commits += not patient
                changed.notify_all()
        async with changed:
            swift_writers -= not patient
            changed.notify_all()
        return kept

    async with running(Relay(db, R, settings, "one", sender(producer))):
        kept = await asyncio.gather(*(write_all(key, patient=key < 2) for key in range(10)))
        await _until_left(db, 0)
    log = await _log(settings, topic)
    assert sorted(sent.value for sent in log) == sorted(value for values in kept for value in values)
    assert _first_in_order(log) == 0
