"""Is everything on Kafka being read, and does the read model have the journal's end?

Looked at are where the consumer groups stand, the one record that each of them would read next, the last
records of the journal, and those of the dead-letter topics: a few hundred records, whatever lies there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from fulcrum.doctor.findings import Fault, Finding, State, found
from fulcrum.errors import Unavailable
from fulcrum.saga.messages import EVENT_STREAMS
from fulcrum.settings import Settings
from fulcrum.wire.topics import Topics

_WITHIN = 5.0
#: The first question about a group on a new cluster waits until its coordinator is there.
_GROUP_WITHIN = 15.0
#: Records of the journal, and of dead letters, that are read from each partition at most.
_TAIL, _LETTERS = 25, 5
_NONE = -1001

Place = tuple[str, int]


class Kafka:
    """A reader outside every consumer group, that fetches little at a time. Use ``opened``."""

    def __init__(self, settings: Settings, consumer: Consumer) -> None:
        self.topics = Topics(settings.namespace)
        self.settings = settings
        self._consumer = consumer

    def places(self, topics: Sequence[str]) -> list[Place]:
        """Every partition of ``topics``."""
        known = self._consumer.list_topics(timeout=_WITHIN).topics
        return [(topic, number) for topic in topics if topic in known for number in known[topic].partitions]

    def ends(self, place: Place) -> tuple[int, int]:
        """The first offset of a partition, and the one after its last."""
        low, high = self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=_WITHIN)
        return int(low), int(high)

    def committed(self, group: str, places: Sequence[Place]) -> dict[Place, int]:
        """Where ``group`` stands, or -1001, in each partition."""
        asking = _consumer(self.settings, group)
        try:
            answer = asking.committed([TopicPartition(*place) for place in places], timeout=_GROUP_WITHIN)
        finally:
            asking.close()
        return {(each.topic, each.partition): each.offset for each in answer}

    def since(self, moment: float, places: Sequence[Place]) -> dict[Place, int | None]:
        """The first offset of each partition whose record is younger than ``moment`` (seconds), or None."""
        asked = [TopicPartition(*place, int(moment * 1000)) for place in places]
        answer = self._consumer.offsets_for_times(asked, timeout=_WITHIN)
        return {(each.topic, each.partition): each.offset if each.offset >= 0 else None for each in answer}

    def read(self, starts: Mapping[Place, int], most: int) -> Iterator[Message]:
        """Up to ``most`` records of each partition from its offset in ``starts``."""
        ends = {place: self.ends(place)[1] for place in starts}
        left = {
            place: min(most, ends[place] - start) for place, start in starts.items() if ends[place] > start
        }
        deadline = time.monotonic() + _WITHIN
        asked = [TopicPartition(*place, starts[place]) for place in left]
        self._consumer.assign(asked)
        # A pause outlives the assignment in which it was made.
        self._consumer.resume(asked)
        while left:
            message = self._consumer.poll(0.2)
            if message is None or message.error():
                if time.monotonic() > deadline:
                    raise Unavailable(f"Kafka gave no more of {sorted(left)} within {_WITHIN:g} s")
                continue
            place = (str(message.topic()), int(message.partition() or 0))
            if place not in left:
                continue
            yield message
            left[place] -= 1
            if left[place] <= 0 or int(message.offset() or 0) + 1 >= ends[place]:
                del left[place]
                self._consumer.pause([TopicPartition(*place)])
        self._consumer.unassign()


def _consumer(settings: Settings, group: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "log_level": 0,
            "fetch.wait.max.ms": 10,
            "queued.min.messages": 1,
            "fetch.queue.backoff.ms": 10,
            "fetch.message.max.bytes": 65_536,
        }
    )


@contextmanager
def opened(settings: Settings) -> Iterator[Kafka]:
    """A reader that is closed at the end; ``Unavailable`` when Kafka does not answer."""
    consumer = _consumer(settings, f"{settings.namespace}-doctor")
    try:
        yield Kafka(settings, consumer)
    except KafkaException as error:
        raise Unavailable(
            f"Kafka at {settings.kafka_bootstrap} does not answer ({error.args[0].str()}); "
            "check FULCRUM_KAFKA_BOOTSTRAP"
        ) from error
    finally:
        consumer.close()


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a consumer group stands in one partition: its next offset, and the one after the last record."""

    group: str
    topic: str
    partition: int
    offset: int
    end: int

    @property
    def lag(self) -> int:
        """Records that wait to be read."""
        return max(0, self.end - self.offset)


def standings(kafka: Kafka) -> list[Standing]:
    """Where each of Fulcrum's consumer groups stands, in every partition that it must read."""
    events = [kafka.topics.stream(stream) for stream in EVENT_STREAMS]
    decisions = kafka.topics.stream("decisions")
    namespace = kafka.settings.namespace
    groups = {f"{namespace}-orchestrator": [*events, decisions], f"{namespace}-projector": [decisions]}
    stands = []
    for group, topics in groups.items():
        places = kafka.places(topics)
        for place, offset in kafka.committed(group, places).items():
            low, high = kafka.ends(place)
            stands.append(Standing(group, *place, low if offset == _NONE else offset, high))
    return stands


def unread(kafka: Kafka, grace: float) -> Finding:
    """Records that have waited longer than ``grace`` for the group that must read them."""
    looked_at = standings(kafka)
    faults = []
    for group in dict.fromkeys(each.group for each in looked_at):
        behind = {
            (each.topic, each.partition): each for each in looked_at if each.group == group and each.lag
        }
        for message in kafka.read({place: each.offset for place, each in behind.items()}, 1):
            place = (str(message.topic()), int(message.partition() or 0))
            age = time.time() - message.timestamp()[1] / 1000
            if age > grace:
                detail = f"{behind[place].lag} records, the first {age:.0f} s old"
                faults.append(Fault("{}/{}".format(*place), f"{group} is behind", detail))
    return found("every record is read in time", 5, len(looked_at), faults)


def dead_letters(kafka: Kafka) -> Finding:
    """What lies in the dead-letter topics; causes are those of the last letters of each partition."""
    topics = [kafka.topics.dlq(kafka.topics.stream(stream)) for stream in (*EVENT_STREAMS, "decisions")]
    places = kafka.places(topics)
    starts = {}
    for place in places:
        low, high = kafka.ends(place)
        if high > low:
            starts[place] = max(low, high - _LETTERS)
    faults = []
    for message in kafka.read(starts, _LETTERS):
        headers = dict(message.headers() or [])
        error = _text(headers.get("fulcrum-dlq-error"))
        subject = f"{message.topic()}/{message.partition()}@{message.offset()}"
        faults.append(Fault(subject, f"{message.topic()}: {error.split(':')[0][:80]}", error))
    return found("no event is put aside", 5, len(places), faults, State.ATTENTION)


def _text(value: bytes | str | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or "unknown"


def journal_tail(kafka: Kafka, grace: float) -> list[bytes]:
    """The last decisions of each partition that are older than ``grace``."""
    until = time.time() - grace
    starts = {}
    for place, young in kafka.since(until, kafka.places([kafka.topics.stream("decisions")])).items():
        low, high = kafka.ends(place)
        end = high if young is None else young
        if end > low:
            starts[place] = max(low, end - _TAIL)
    return [
        message.value() or b""
        for message in kafka.read(starts, _TAIL)
        if message.timestamp()[1] / 1000 < until
    ]
