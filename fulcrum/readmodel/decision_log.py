"""Which decisions lie between two places of the journal? Reads the topic without touching whoever else does.

It has a consumer group of its own, only to be seen under a name: where to begin is given, not committed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from fulcrum.errors import Conflict, Misconfigured, Unavailable
from fulcrum.readmodel.store import Offsets
from fulcrum.settings import Settings
from fulcrum.wire.topics import Topics

_WITHIN = 15.0
_LOOK_SECONDS = 0.5
_GATHER_SECONDS = 0.02
#: How often nothing may come, with records still due, before Kafka counts as away.
_SILENT_MOST = 30


class Record(NamedTuple):
    """One record of the journal, as it lies there."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


class DecisionLog:
    """The decisions topic for one reader, in ranges of offsets."""

    def __init__(self, settings: Settings, group: str) -> None:
        self._settings = settings
        self.topic = Topics(settings.namespace).stream("decisions")
        self._consumer = Consumer(
            {
                "bootstrap.servers": settings.kafka_bootstrap,
                "group.id": group,
                "client.id": group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
                "fetch.message.max.bytes": 4 * 1024 * 1024,
                "queued.max.messages.kbytes": 64 * 1024,
                "reconnect.backoff.max.ms": 1000,
                "log_level": 2,
            },
            logger=logging.getLogger("librdkafka"),
        )

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def ends(self) -> dict[tuple[str, int], int]:
        """The offset after the newest decision, by topic and partition."""
        return {place: high for place, (_, high) in self.bounds().items()}

    def at(self, moment: datetime) -> dict[tuple[str, int], int]:
        """The offset of the first decision recorded at ``moment`` or later."""
        ends = self.ends()
        asked = [TopicPartition(*place, round(moment.timestamp() * 1000)) for place in ends]
        with self._answering():
            found = self._consumer.offsets_for_times(asked, timeout=_WITHIN)
        return {
            (each.topic, each.partition): each.offset
            if each.offset >= 0
            else ends[each.topic, each.partition]
            for each in found
        }

    def committed(self, group: str) -> dict[tuple[str, int], int]:
        """How far another group has committed, by topic and partition; 0 where it has not."""
        reader = Consumer({"bootstrap.servers": self._settings.kafka_bootstrap, "group.id": group})
        try:
            with self._answering():
                asked = [TopicPartition(*place) for place in self._places()]
                found = reader.committed(asked, timeout=_WITHIN)
        finally:
            reader.close()
        return {(each.topic, each.partition): max(each.offset, 0) for each in found}

    def read(self, start: Offsets, end: Offsets, most: int) -> Iterator[list[Record]]:
        """The decisions from ``start`` up to, not including, ``end``, in lists of at most ``most``.

        Those of a partition come in their order. Conflict when Kafka no longer has what is asked for.
        """
        due = {place: start.get(place, 0) for place in end if start.get(place, 0) < end[place]}
        if not due:
            return
        with self._answering():
            self._consumer.assign([TopicPartition(*place, offset) for place, offset in due.items()])
            try:
                yield from self._until(due, end, most)
            finally:
                self._consumer.unassign()

    def _until(self, due: dict[tuple[str, int], int], end: Offsets, most: int) -> Iterator[list[Record]]:
        silent = 0
        while due:
            batch = []
            # A list is waited for until it is full, so the first record is asked for alone.
            first = self._consumer.poll(_LOOK_SECONDS)
            silent = 0 if first else silent + 1
            if silent > _SILENT_MOST:
                raise Unavailable(f"Kafka at {self._settings.kafka_bootstrap} sends nothing of {self.topic}")
            polled = [first, *self._consumer.consume(most - 1, timeout=_GATHER_SECONDS)] if first else []
            for message in polled:
                place = cast("tuple[str, int]", (message.topic(), message.partition()))
                if place not in due:
                    continue
                at_end = self._at_end(message)
                offset = cast(int, message.offset())
                if not at_end and offset < end[place]:
                    batch.append(Record(*place, offset, message.key(), message.value()))
                # The end of a partition may lie behind offsets that no record has.
                if offset + (not at_end) >= end[place]:
                    del due[place]
            if batch:
                yield batch

    def _at_end(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return False
        if error.code() == KafkaError._PARTITION_EOF:
            return True
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise Conflict(
                f"{self.topic} [{message.partition()}] no longer has the offset that was asked for: "
                "abort this generation and rebuild from the start"
            )
        raise KafkaException(error)

    def _places(self) -> list[tuple[str, int]]:
        with self._answering():
            found = self._consumer.list_topics(self.topic, timeout=_WITHIN).topics[self.topic]
        if found.error is not None or not found.partitions:
            raise Misconfigured(f"Kafka has no topic {self.topic}; run `fulcrum topics create`")
        return [(self.topic, partition) for partition in sorted(found.partitions)]

    def bounds(self) -> dict[tuple[str, int], tuple[int, int]]:
        """The first offset that Kafka still has and the one after the newest, by topic and partition."""
        places = self._places()
        with self._answering():
            return {
                place: self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=_WITHIN)
                for place in places
            }

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except KafkaException as error:
            raise Unavailable(
                f"Kafka at {self._settings.kafka_bootstrap} does not answer ({error.args[0].str()}); "
                "check FULCRUM_KAFKA_BOOTSTRAP and that the broker runs"
            ) from error
