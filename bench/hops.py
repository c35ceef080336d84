"""How long was each workflow at every part of the system, and on the way to it?

All is told by what the parts leave behind: the times of events, of records in Kafka and of commands in the
inboxes. So measuring costs the run nothing, and all clocks are those of one machine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from bench.figures import milliseconds
from fulcrum.errors import FulcrumError, Unavailable
from fulcrum.saga.messages import Answer, DecisionMade, Event
from fulcrum.settings import Settings
from fulcrum.store.plain import connected
from fulcrum.store.relations import SCHEMA_OF, messaging
from fulcrum.wire.codec import Codec
from fulcrum.wire.topics import STREAMS, Topics

_WITHIN = 10.0
_READ = 500

#: A topic and a partition of it.
Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Written:
    """A record: where it stands, when it was sent to Kafka (calendar seconds), and the message in it."""

    place: Place
    offset: int
    at: float
    message: object


def ends(settings: Settings) -> dict[Place, int]:
    """The offset of the next record of every stream. It blocks."""
    consumer = _consumer(settings)
    try:
        known = consumer.list_topics(timeout=_WITHIN).topics
        return {
            (topic, partition): consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=_WITHIN
            )[1]
            for topic in map(Topics(settings.namespace).stream, STREAMS)
            for partition in known[topic].partitions
        }
    finally:
        consumer.close()


def hops(settings: Settings, codec: Codec, since: Mapping[Place, int]) -> dict[str, dict[str, float | None]]:
    """Percentiles in milliseconds of what was written since ``since``, hop by hop. It blocks."""
    times = tell(_written(settings, codec, since), _received(settings.postgres_dsn))
    return {hop: milliseconds(seconds, 0.5, 0.99) for hop, seconds in times.items()}


def tell(records: Iterable[Written], received: Mapping[str, datetime]) -> dict[str, list[float]]:
    """Seconds by hop; ``received`` says when a service began with a command."""
    times: dict[str, list[float]] = defaultdict(list)
    events: dict[tuple[Place, int], Written] = {}
    decisions: list[tuple[DecisionMade, float]] = []
    services: dict[str, tuple[str, float]] = {}
    for each in records:
        if isinstance(each.message, Event):
            events[each.place, each.offset] = each
        elif isinstance(each.message, DecisionMade):
            decisions.append((each.message, each.at))
            services |= {command.command_id: (command.service, each.at) for command in each.message.commands}
    for each in events.values():
        event = each.message
        assert isinstance(event, Event)
        if isinstance(event, Answer) and event.command_id in received and event.command_id in services:
            service, decided = services[event.command_id]
            began = received[event.command_id].timestamp()
            times[f"decision in Kafka to {service}"].append(began - decided)
            times[f"{service} to its answer"].append(event.occurred_at.timestamp() - began)
        times[f"{event.stream}: event to Kafka"].append(each.at - event.occurred_at.timestamp())
    for decision, at in decisions:
        cause = events.get(((decision.cause.topic, decision.cause.partition), decision.cause.offset))
        if cause is not None:
            times["event in Kafka to decision in Kafka"].append(at - cause.at)
    return times


def _consumer(settings: Settings) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap,
            "group.id": "bench-hops",
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )


def _written(settings: Settings, codec: Codec, since: Mapping[Place, int]) -> Iterator[Written]:
    until = ends(settings)
    left = {place: end for place, end in until.items() if end > since.get(place, 0)}
    consumer = _consumer(settings)
    try:
        consumer.assign([TopicPartition(topic, part, since.get((topic, part), 0)) for topic, part in left])
        while left:
            messages = consumer.consume(_READ, timeout=_WITHIN)
            if not messages:
                raise Unavailable(f"Kafka at {settings.kafka_bootstrap} gave nothing for {_WITHIN:g} s")
            for each in messages:
                place, offset = (str(each.topic()), each.partition() or 0), each.offset() or 0
                if offset + 1 >= until[place]:
                    left.pop(place, None)
                yield Written(place, offset, each.timestamp()[1] / 1000, _message(codec, each.value()))
    finally:
        consumer.close()


def _message(codec: Codec, value: Any) -> object:
    try:
        return codec.decode(value or b"")
    except FulcrumError:
        return None  # what nobody can read is in no hop


def _received(dsn: str) -> dict[str, datetime]:
    found: dict[str, datetime] = {}
    with connected(dsn, "fulcrum-bench") as connection:
        for service, schema in SCHEMA_OF.items():
            inbox = messaging(schema).inbox
            rows = connection.execute(
                inbox.select()
                .with_only_columns(inbox.c.message_id, inbox.c.received_at)
                .where(inbox.c.consumer == service)
            )
            found |= {row.message_id: row.received_at for row in rows}
    return found
