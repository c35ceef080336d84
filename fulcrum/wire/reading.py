"""Up to where has a consumer group read a topic?"""

from __future__ import annotations

import time
from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from fulcrum.errors import Unavailable
from fulcrum.settings import Settings

_WITHIN = 5.0
#: The first question about a group on a new cluster is answered once its coordinator is there.
_GROUP_WITHIN = 15.0
_ASK_AGAIN = 0.2
_NOT_YET = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)


def committed(settings: Settings, group: str, topic: str) -> dict[int, int]:
    """The offset that ``group`` reads next, by partition; without those of which it has finished nothing.

    It joins no group. It blocks, so call it from a thread. Unavailable when Kafka does not answer.
    """
    consumer = _reader(settings, group)
    try:
        found = consumer.list_topics(topic, timeout=_WITHIN).topics[topic]
        answer = _patiently(consumer, [TopicPartition(topic, number) for number in found.partitions])
    except KafkaException as error:
        raise _silent(settings, group, error) from error
    finally:
        consumer.close()
    return {each.partition: each.offset for each in answer if each.offset >= 0}


def standings(
    settings: Settings, group: str, topics: Sequence[str]
) -> dict[tuple[str, int], tuple[int, int]]:
    """By topic and partition: the offset that ``group`` reads next, and the one after the last record.

    What the group has finished nothing of is read from its first record on. It joins no group. It blocks, so
    call it from a thread. Unavailable when Kafka does not answer.
    """
    consumer = _reader(settings, group)
    try:
        known = consumer.list_topics(timeout=_WITHIN).topics
        places = [
            TopicPartition(topic, number)
            for topic in topics
            if topic in known
            for number in known[topic].partitions
        ]
        found = {}
        for each in _patiently(consumer, places):
            low, high = consumer.get_watermark_offsets(
                TopicPartition(each.topic, each.partition), timeout=_WITHIN
            )
            found[each.topic, each.partition] = (each.offset if each.offset >= 0 else low, high)
    except KafkaException as error:
        raise _silent(settings, group, error) from error
    finally:
        consumer.close()
    return found


def _reader(settings: Settings, group: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )


def _silent(settings: Settings, group: str, error: KafkaException) -> Unavailable:
    return Unavailable(
        f"Kafka at {settings.kafka_bootstrap} does not say where group {group} stands "
        f"({error.args[0].str()}); check FULCRUM_KAFKA_BOOTSTRAP"
    )


def _patiently(consumer: Consumer, places: list[TopicPartition]) -> list[TopicPartition]:
    deadline = time.monotonic() + _GROUP_WITHIN
    while True:
        try:
            return consumer.committed(places, timeout=_GROUP_WITHIN) if places else []
        except KafkaException as error:
            if error.args[0].code() not in _NOT_YET or time.monotonic() > deadline:
                raise
            time.sleep(_ASK_AGAIN)
