"""What lies on Kafka and RabbitMQ, and what does somebody else put there?"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import aio_pika
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

_WITHIN = 20.0

#: Where each partition of a topic ended at some moment.
Ends = dict[tuple[str, int], int]


@dataclass(frozen=True)
class Record:
    """One record of a topic."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]

    def header(self, name: str) -> str | None:
        """The header's last value as text."""
        return next((value.decode() for key, value in reversed(self.headers) if key == name), None)


class Kafka:
    """Reads whole topics and writes what it is told, outside every consumer group of the system."""

    def __init__(self, bootstrap: str) -> None:
        self._common = {"bootstrap.servers": bootstrap, "log_level": 2}
        self._onlooker = self._consumer("onlooker")

    def _consumer(self, group: str) -> Consumer:
        return Consumer({**self._common, "group.id": group, "enable.auto.commit": False})

    def close(self) -> None:
        """Leave."""
        self._onlooker.close()

    def _places(self, topics: Iterable[str]) -> list[TopicPartition]:
        known = self._onlooker.list_topics(timeout=_WITHIN).topics
        return [TopicPartition(topic, number) for topic in topics for number in known[topic].partitions]

    def ends(self, topics: Iterable[str]) -> Ends:
        """The end offset of every partition of ``topics``."""
        return {
            (place.topic, place.partition): self._onlooker.get_watermark_offsets(place, timeout=_WITHIN)[1]
            for place in self._places(topics)
        }

    def behind(self, group: str, topics: Collection[str]) -> Ends:
        """How many records of each partition the consumer group has not finished; empty when it has all."""
        consumer = self._consumer(group)
        try:
            committed = consumer.committed(self._places(topics), timeout=_WITHIN)
        finally:
            consumer.close()
        done = {(place.topic, place.partition): max(place.offset, 0) for place in committed}
        return {place: end - done[place] for place, end in self.ends(topics).items() if end > done[place]}

    def count(self, topics: Iterable[str]) -> int:
        """How many records were ever written to ``topics``."""
        return sum(self.ends(topics).values())

    def read(self, topics: Iterable[str], since: Mapping[tuple[str, int], int] | None = None) -> list[Record]:
        """Every record of ``topics`` up to now, from ``since`` on; in order within a partition."""
        start = since or {}
        left = {place: end for place, end in self.ends(topics).items() if end > start.get(place, 0)}
        records: list[Record] = []
        consumer = self._consumer("onlooker")
        try:
            consumer.assign([TopicPartition(t, p, start.get((t, p), 0)) for t, p in left])
            deadline = time.monotonic() + _WITHIN
            while left:
                # It waits for all 500 or the timeout, so the timeout is short.
                messages = consumer.consume(500, timeout=0.2)
                assert messages or time.monotonic() < deadline, f"nothing more comes from {left}"
                for message in messages:
                    record = _record(message)
                    records.append(record)
                    place = (record.topic, record.partition)
                    if place in left and record.offset + 1 >= left[place]:
                        del left[place]
        finally:
            consumer.close()
        return records

    def write(self, records: Iterable[Record]) -> None:
        """Write each record to its own topic and partition; its offset is a new one."""
        failures: list[KafkaError] = []
        producer = Producer({**self._common, "acks": "all", "enable.idempotence": True})
        for record in records:
            producer.produce(
                record.topic,
                record.value,
                record.key,
                partition=record.partition,
                headers=list(record.headers),
                on_delivery=lambda error, _: failures.append(error) if error else None,
            )
        assert producer.flush(_WITHIN) == 0, "Kafka did not take every record"
        assert not failures, failures


def _record(message: Message) -> Record:
    assert message.error() is None, message.error()
    return Record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        tuple(message.headers() or ()),
    )


@dataclass(frozen=True)
class Letter:
    """A message for the command exchange. ``message_id`` and ``type`` go into the AMQP properties."""

    service: str
    body: bytes
    message_id: str
    type: str
    headers: Mapping[str, str]


async def send_commands(url: str, namespace: str, letters: Collection[Letter]) -> None:
    """Publish to the command exchange as the bridge does: persistent, confirmed, never unroutable."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        exchange = await channel.get_exchange(f"{namespace}.commands", ensure=False)
        for letter in letters:
            message = aio_pika.Message(
                letter.body,
                headers=dict(letter.headers),
                message_id=letter.message_id,
                type=letter.type,
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            )
            await exchange.publish(message, routing_key=letter.service)
