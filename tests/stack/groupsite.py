"""A topic of its own in the real broker, and what one group has read of it, seen from outside."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import uuid4

from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from confluent_kafka.cimpl import NewTopic
from eventually import eventually
from faust.types import TP

PARTITIONS = 2
#: Seconds after which the broker's answer is given up.
_TIMEOUT = 30.0


@dataclass(frozen=True)
class Site:
    """A topic of two partitions, the changelog of the table beside it, and the name of the group."""

    bootstrap: str
    namespace: str = field(default_factory=lambda: f"t{uuid4().hex[:8]}")

    @property
    def group(self) -> str:
        return f"{self.namespace}-reader"

    @property
    def topic(self) -> str:
        return f"{self.namespace}.events"

    @property
    def changelog(self) -> str:
        return f"{self.group}-seen-changelog"

    def tp(self, partition: int) -> TP:
        """A partition of the topic."""
        return TP(self.topic, partition)

    def create(self, *topics: str) -> None:
        """Create these topics, or else those that a worker needs."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        asked = [NewTopic(name, PARTITIONS, 1) for name in topics or (self.topic, self.changelog)]
        for created in admin.create_topics(asked, operation_timeout=_TIMEOUT).values():
            created.result(_TIMEOUT)
        # The broker shows a new topic a moment later; a group that joins before it is dealt nothing.
        eventually(
            lambda: {new.topic for new in asked} <= admin.list_topics(timeout=_TIMEOUT).topics.keys(),
            within=_TIMEOUT,
            state=lambda: sorted(admin.list_topics(timeout=_TIMEOUT).topics),
        )

    def append(self, partition: int, count: int, topic: str = "") -> None:
        """Write ``count`` events at the end of a partition."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 0})
        for number in range(count):
            producer.produce(topic or self.topic, str(number).encode(), str(number).encode(), partition)
        assert producer.flush(_TIMEOUT) == 0

    def commit(self, partition: int, offset: int) -> None:
        """Set the group's offset from outside; the group must have no members."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        wanted = ConsumerGroupTopicPartitions(self.group, [TopicPartition(self.topic, partition, offset)])
        for done in admin.alter_consumer_group_offsets([wanted]).values():
            assert not done.result(_TIMEOUT).topic_partitions[0].error

    def committed(self, partition: int) -> int | None:
        """The group's offset as the broker has it; None when it has none."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        asked = ConsumerGroupTopicPartitions(self.group, [TopicPartition(self.topic, partition)])
        (answer,) = admin.list_consumer_group_offsets([asked]).values()
        offset: int = answer.result(_TIMEOUT).topic_partitions[0].offset
        return offset if offset >= 0 else None

    def end(self, partition: int, topic: str = "") -> int:
        """The offset that the next event will have."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        asked = TopicPartition(topic or self.topic, partition)
        (answer,) = admin.list_offsets({asked: OffsetSpec.latest()}).values()
        return answer.result(_TIMEOUT).offset

    def delete_before(self, partition: int, offset: int) -> None:
        """Let the broker forget the events below ``offset``, as retention does."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        for deleted in admin.delete_records([TopicPartition(self.topic, partition, offset)]).values():
            deleted.result(_TIMEOUT)
