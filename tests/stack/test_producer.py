"""The relay's producer: each key lies where Faust looks for it, in order, whatever is given up on the way."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import defaultdict
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio
from aiokafka.partitioner import DefaultPartitioner
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from eventually import eventually_async

from fulcrum.errors import Misconfigured, Unavailable
from fulcrum.settings import Settings
from fulcrum.wire.producer import KafkaProducer, Record, Unsendable

PARTITIONS = 3


async def _create(settings: Settings, **config: str) -> str:
    """A topic of three partitions that nobody has written to."""
    name = f"{settings.namespace}.producer-{uuid4().hex[:6]}"
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    new = NewTopic(name, PARTITIONS, 1, config=config)
    await asyncio.to_thread(admin.create_topics([new])[name].result, 15)
    return name


@pytest_asyncio.fixture
async def topic(settings: Settings) -> str:
    """A topic as the broker makes it."""
    return await _create(settings)


@pytest_asyncio.fixture
async def narrow_topic(settings: Settings) -> str:
    """A topic that takes batches up to 100 kB, compressed."""
    return await _create(settings, **{"max.message.bytes": "100000"})


@pytest_asyncio.fixture
async def producer(settings: Settings) -> AsyncIterator[KafkaProducer]:
    """A producer as the relay has it."""
    opened = KafkaProducer(settings)
    yield opened
    await opened.close()


def _records(topic: str, count: int, keys: int = 7) -> list[Record]:
    """Numbered records, spread over the keys."""
    return [
        Record(topic, b"key-%d" % (n % keys), b"%d" % n, [("ce_id", b"id-%d" % n), ("traceparent", b"t")])
        for n in range(count)
    ]


def _read(settings: Settings, topic: str) -> list[Message]:
    """Everything in a topic, each partition in order."""
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap, "group.id": f"test-{uuid4().hex}"})
    found: list[Message] = []
    for partition in range(PARTITIONS):
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=15)
        consumer.assign([TopicPartition(topic, partition, low)])
        position = low
        while position < high:
            message = consumer.poll(15.0)
            assert message is not None, f"partition {partition} stands at {position} of {high}"
            assert message.error() is None
            position = (message.offset() or 0) + 1
            found.append(message)
    consumer.close()
    return found


def _numbers_by_key(messages: list[Message]) -> dict[bytes, list[int]]:
    numbers: dict[bytes, list[int]] = defaultdict(list)
    for message in messages:
        numbers[message.key() or b""].append(int(message.value() or b"-1"))
    return numbers


async def test_a_batch_arrives_whole_with_its_headers_and_in_order(
    settings: Settings, producer: KafkaProducer, topic: str
) -> None:
    """Everything is acknowledged, and each key's records stand in the order in which they were given."""
    records = _records(topic, 500)
    assert await producer.send_batch(records) == 500
    messages = await asyncio.to_thread(_read, settings, topic)
    assert len(messages) == 500
    for key, numbers in _numbers_by_key(messages).items():
        assert numbers == [int(record.value) for record in records if record.key == key]
    by_value = {message.value(): message.headers() for message in messages}
    assert by_value[b"499"] == [("ce_id", b"id-499"), ("traceparent", b"t")]


async def test_a_key_lies_in_the_partition_where_faust_looks_for_it(
    settings: Settings, producer: KafkaProducer, topic: str
) -> None:
    """Partitions are those of aiokafka's murmur2; librdkafka's own default would put most keys elsewhere."""
    await producer.send_batch(_records(topic, 200, keys=200))
    partitions = list(range(PARTITIONS))
    partitioner = DefaultPartitioner()
    messages = await asyncio.to_thread(_read, settings, topic)
    assert len(messages) == 200
    for message in messages:
        assert message.partition() == partitioner(message.key(), partitions, partitions)


async def test_records_that_are_given_up_in_flight_are_sent_again_in_order(
    settings: Settings, producer: KafkaProducer, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the deadline cuts batches in the middle, copies may follow; no key's record comes too early."""
    monkeypatch.setattr("fulcrum.wire.producer._LOOK_SECONDS", 0.001)
    # Large and incompressible, so that Kafka has its hands full when the deadline passes.
    rest = records = [r._replace(headers=[("noise", os.urandom(1500))]) for r in _records(topic, 20_000)]
    cuts = 0
    # What is under way when the deadline passes may still be acknowledged: a cut takes some luck.
    while len(rest) > 1 and cuts < 3:
        rest = rest[await producer.send_batch(rest[:1]) :]  # connected, so that the next batch gets going
        given, sent = rest[:4_000], 0
        with monkeypatch.context() as hurried, contextlib.suppress(Unavailable):
            hurried.setattr(producer, "_deadline", 0.0)
            sent = await producer.send_batch(given)
        rest = rest[sent:]
        cuts += sent < len(given)
    assert cuts > 0, "nothing was cut, so this run shows nothing"
    while rest:
        rest = rest[await producer.send_batch(rest) :]
    numbers_by_key = _numbers_by_key(await asyncio.to_thread(_read, settings, topic))
    assert sum(map(len, numbers_by_key.values())) >= len(records)
    for key, numbers in numbers_by_key.items():
        first_seen = list(dict.fromkeys(numbers))
        assert first_seen == [int(record.value) for record in records if record.key == key]


async def test_a_full_queue_delays_and_loses_nothing(settings: Settings, topic: str) -> None:
    """A batch that is larger than librdkafka's queue goes through it in pieces, in order."""
    small = KafkaProducer(settings, queue=20)
    records = _records(topic, 1000, keys=1)
    assert await small.send_batch(records) == 1000
    await small.close()
    messages = await asyncio.to_thread(_read, settings, topic)
    assert _numbers_by_key(messages) == {b"key-0": list(range(1000))}


async def _send_all(producer: KafkaProducer, rows: list[Record]) -> list[Unsendable]:
    """Send as the relay does: from the first row that is not acknowledged, stepping over what is refused."""
    refused = []
    while rows:
        try:
            rows = rows[await producer.send_batch(rows) :]
        except Unsendable as error:
            refused.append(error)
            rows = rows[1:]
    return refused


@pytest.mark.parametrize("size", [200_000, 2_000_000], ids=["for the topic", "for the client"])
async def test_a_record_that_can_never_be_sent_is_named_alone(
    settings: Settings, producer: KafkaProducer, narrow_topic: str, size: int
) -> None:
    """Whoever refuses it, the record itself is named with the reason, and all others arrive in order."""
    records = _records(narrow_topic, 10)
    giant = Record(narrow_topic, b"key-3", os.urandom(size), [])
    [refused] = await _send_all(producer, [*records[:5], giant, *records[5:]])
    assert refused.record == giant
    assert f"{size} bytes for {narrow_topic} cannot be sent: " in str(refused)
    assert "essage size too large" in refused.reason
    messages = await asyncio.to_thread(_read, settings, narrow_topic)
    for key, numbers in _numbers_by_key(messages).items():
        assert list(dict.fromkeys(numbers)) == [int(r.value) for r in records if r.key == key]
    assert {int(message.value() or b"") for message in messages} == set(range(10))


async def test_a_batch_that_is_too_large_for_its_topic_blames_no_record(
    settings: Settings, producer: KafkaProducer, narrow_topic: str
) -> None:
    """Records that fit one by one go in smaller batches; none is called unsendable."""
    rows = [Record(narrow_topic, b"key", os.urandom(1000), [("n", b"%d" % n)]) for n in range(150)]
    assert await _send_all(producer, rows) == []
    messages = await asyncio.to_thread(_read, settings, narrow_topic)
    assert list(dict.fromkeys(message.value() for message in messages)) == [row.value for row in rows]


async def test_a_missing_topic_is_named_with_its_remedy(producer: KafkaProducer, topic: str) -> None:
    """Records before it are acknowledged; then the error says which topic and how to create it."""
    missing = Record(f"{topic}-missing", b"key", b"value", [])
    assert await producer.send_batch([*_records(topic, 2), missing]) == 2
    with pytest.raises(Misconfigured, match=rf"topic {topic}-missing .* run `fulcrum topics create`"):
        await producer.send_batch([missing])
    await producer.send_batch(_records(topic, 1))


async def test_a_broker_that_is_away_is_unavailable_after_the_deadline(settings: Settings) -> None:
    """Nobody at the address: the batch ends at its deadline with the reason; the loop goes on meanwhile."""
    away = KafkaProducer(settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:1"}), deadline=0.5)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    ticking = asyncio.create_task(tick())
    with pytest.raises(Unavailable, match=r"Kafka at 127\.0\.0\.1:1 acknowledged nothing .*FULCRUM_KAFKA"):
        await away.send_batch(_records("any", 3))
    ticking.cancel()
    await away.close()
    assert ticks > 20


async def test_closing_does_not_wait_for_a_broker_that_is_away(settings: Settings) -> None:
    """A process that is told to stop stops, although a batch could not be sent."""
    away = KafkaProducer(settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:1"}), deadline=60.0)
    sending = asyncio.create_task(away.send_batch(_records("any", 3)))

    async def started() -> bool:
        return away._producer is not None

    await eventually_async(started, within=5)
    async with asyncio.timeout(5):
        await away.close()
        with pytest.raises(Unavailable):
            await sending


async def test_an_empty_batch_is_nothing(settings: Settings) -> None:
    """The relay's idle turn costs no connection."""
    idle = KafkaProducer(settings)
    assert await idle.send_batch([]) == 0
    assert idle._producer is None
    await idle.close()
