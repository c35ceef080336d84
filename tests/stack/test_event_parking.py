"""An event that no agent could take is kept where people look, and goes back to its topic as it came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from commandbus import CODEC, running
from confluent_kafka import Consumer, TopicPartition
from eventually import eventually_async
from intake import records_of
from operated import cleared, operating, outcomes, request, until
from sqlalchemy import select

from fulcrum.commands.parking import Filter, get_parked, list_parked
from fulcrum.operations import store
from fulcrum.operations.event_parker import EventParker
from fulcrum.saga.messages import CancelRequested
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.store.relations import PARKED_MESSAGES
from fulcrum.wire.headers import Envelope
from fulcrum.wire.producer import KafkaProducer, Record
from fulcrum.wire.topics import Topics

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def nothing_parked(db: Database) -> AsyncIterator[None]:
    await cleared(db)
    yield


def event(workflow_id: str, sequence: int) -> CancelRequested:
    """An event of intake."""
    return CancelRequested(
        event_id=str(uuid4()),
        workflow_id=workflow_id,
        sequence=sequence,
        occurred_at=datetime(2026, 3, 1, tzinfo=UTC),
        reason="called off",
        actor="ana",
    )


def letter(settings: Settings, given: CancelRequested, at: str, **changes: Any) -> Record:
    """``given`` as an agent puts it into the dead-letter topic."""
    topics = Topics(settings.namespace)
    topic = topics.stream("intents")
    headers = Envelope(
        message_id=given.event_id,
        type="CancelRequested",
        source="intake",
        workflow_id=given.workflow_id,
        time=given.occurred_at,
        correlation_id="order-7",
        causation_id=None,
        traceparent=None,
    ).to_kafka()
    headers += [("odd", b"\xff\x00")]
    headers += [
        ("fulcrum-dlq-error", b"Corrupt: gap in stream intents"),
        ("fulcrum-dlq-topic", topic.encode()),
        ("fulcrum-dlq-partition", b"1"),
        ("fulcrum-dlq-offset", str(40 + given.sequence).encode()),
        ("fulcrum-dlq-consumer", b"orchestrator"),
        ("fulcrum-dlq-at", at.encode()),
    ]
    record = Record(topics.dlq(topic), given.workflow_id.encode(), CODEC.encode(given), headers)
    return record._replace(**changes)


async def dead_letter(settings: Settings, *records: Record) -> None:
    """Put ``records`` into the dead-letter topic."""
    producer = KafkaProducer(settings)
    await producer.send_batch(list(records))
    await producer.close()


async def kept(db: Database, workflow_id: str, count: int) -> list[dict[str, Any]]:
    """The parked events of a workflow, oldest first, once there are ``count``."""
    wanted = Filter(service="events", workflow_id=workflow_id)

    async def enough() -> bool:
        return len((await list_parked(db, wanted))[0]) == count

    await eventually_async(enough, within=30, state=lambda: list_parked(db))
    return [await get_parked(db, row["id"]) for row in (await list_parked(db, wanted))[0]][::-1]


async def test_dead_lettered_event_is_kept_whole(db: Database, settings: Settings) -> None:
    """Bytes, place, cause and the decoded view are kept, and all else that the record said."""
    given = event(str(uuid4()), 2)
    await dead_letter(settings, letter(settings, given, "2026-03-01T10:00:00+00:00"))
    async with running(EventParker(db, settings, CODEC.read)):
        (row,) = await kept(db, given.workflow_id, 1)
    assert (row["type"], row["message_id"]) == ("CancelRequested", given.event_id)
    assert (row["reason"], row["error_class"], row["error"]) == (
        "refused by orchestrator", "Corrupt", "gap in stream intents",
    )  # fmt: skip
    origin = row["origin"]
    topic = Topics(settings.namespace).stream("intents")
    assert (origin["topic"], origin["partition"], origin["offset"]) == (topic, 1, 42)
    assert CODEC.decode(row["body"]) == given
    assert row["decoded"]["reason"] == "called off"
    assert row["parked_at"].isoformat() == "2026-03-01T10:00:00+00:00"
    assert not [name for name in row["headers"] if name.startswith("fulcrum-dlq-")]


async def test_record_that_is_read_twice_is_kept_once(db: Database, settings: Settings) -> None:
    """A parker that lost its place reads everything again and makes no second row."""
    given = event(str(uuid4()), 1)
    await dead_letter(settings, letter(settings, given, "2026-03-01T10:00:00+00:00"))
    async with running(EventParker(db, settings, CODEC.read)):
        (first,) = await kept(db, given.workflow_id, 1)
    topic = Topics(settings.namespace).dlq(Topics(settings.namespace).stream("intents"))

    def rewind() -> None:
        asked = {
            "bootstrap.servers": settings.kafka_bootstrap,
            "group.id": f"{settings.namespace}-event-parker",
        }
        consumer = Consumer(asked)
        consumer.commit(
            offsets=[TopicPartition(topic, number, 0) for number in range(settings.partitions)],
            asynchronous=False,
        )
        consumer.close()

    await asyncio.to_thread(rewind)
    marker = event(str(uuid4()), 1)
    await dead_letter(settings, letter(settings, marker, "2026-03-01T10:00:00+00:00"))
    async with running(EventParker(db, settings, CODEC.read)):
        await kept(db, marker.workflow_id, 1)
        assert [row["id"] for row in await kept(db, given.workflow_id, 1)] == [first["id"]]


async def test_record_that_says_nothing_is_kept(db: Database, settings: Settings) -> None:
    """No headers and bytes that nobody can read: the row says where they came from."""
    workflow_id = str(uuid4())
    bare = letter(settings, event(workflow_id, 1), "", headers=[], value=b"\xff")
    await dead_letter(settings, bare)
    async with running(EventParker(db, settings, CODEC.read)):
        (row,) = await kept(db, workflow_id, 1)
    assert (row["body"], row["decoded"], row["type"]) == (b"\xff", None, "unknown")
    assert row["queue"] == Topics(settings.namespace).stream("intents")


async def test_replayed_events_go_back_in_the_order_of_their_log(db: Database, settings: Settings) -> None:
    """Same topic, key, headers and bytes; the first event leaves before those behind its gap."""
    workflow_id = str(uuid4())
    events = [event(workflow_id, number) for number in range(1, 8)]
    letters = [letter(settings, each, "2026-03-01T10:00:00+00:00") for each in events]
    await dead_letter(settings, *letters[::-1])
    async with running(EventParker(db, settings, CODEC.read)):
        await kept(db, workflow_id, 7)
    made, _ = await store.create(db, request(filter=Filter(service="events", workflow_id=workflow_id)))
    async with operating(db, settings):
        await until(db, made["id"], "done")
    assert await outcomes(db, made["id"]) == [("succeeded", "sent")] * 7
    found = await asyncio.to_thread(records_of, settings, workflow_id)
    assert [CODEC.decode(record.value()) for record in found] == events
    assert found[0].headers() == [
        pair for pair in letters[0].headers if not pair[0].startswith("fulcrum-dlq")
    ]


async def test_event_that_is_refused_again_is_seen(db: Database, settings: Settings) -> None:
    """A canary event that comes back through the dead-letter topic stops the rest."""
    workflow_id = str(uuid4())
    first, second = event(workflow_id, 1), event(workflow_id, 2)
    at = "2026-03-01T10:00:00+00:00"
    await dead_letter(settings, letter(settings, first, at), letter(settings, second, at))
    patient = settings.model_copy(update={"canary_wait": 60.0})
    async with running(EventParker(db, settings, CODEC.read)), operating(db, patient):
        await kept(db, workflow_id, 2)
        wanted = Filter(service="events", workflow_id=workflow_id)
        made, _ = await store.create(db, request(filter=wanted, canary=1))

        async def sent() -> bool:
            return await outcomes(db, made["id"]) == [("succeeded", "sent"), ("pending", None)]

        await eventually_async(sent, within=10)
        await dead_letter(settings, letter(settings, first, "2026-03-01T11:00:00+00:00"))
        row = await until(db, made["id"], "stopped")
    assert (row["failed"], row["pending"]) == (1, 1)
    left = select(PARKED_MESSAGES.c.id).where(PARKED_MESSAGES.c.message_id == second.event_id)
    assert await db.one(left.where(PARKED_MESSAGES.c.status == "parked")) is not None
