"""What are the Kafka topics called, and how are they created? All names come from the namespace."""

from __future__ import annotations

import time
from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from fulcrum.errors import Misconfigured, Unavailable
from fulcrum.saga.messages import EVENT_STREAMS
from fulcrum.settings import Settings

#: Every topic that carries messages: the services' event streams and the journal.
STREAMS: tuple[str, ...] = (*EVENT_STREAMS, "decisions")

_TIMEOUT = 15.0
_LOOK_SECONDS = 0.05

#: Events are the history that everything is rebuilt from: kept for ever and never compacted,
#: because compaction would leave only the last event of each workflow.
_KEEP_ALL = {"cleanup.policy": "delete", "retention.ms": "-1"}
_KEEP_LATEST = {"cleanup.policy": "compact"}


class Topics:
    """The topic names of one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        #: The topic behind the ``workflow_runs`` table of the orchestrator's Faust app.
        self.changelog = f"{namespace}-orchestrator-workflow_runs-changelog"

    def stream(self, stream: str) -> str:
        """The topic of a stream: intents, payments, inventory, timers or decisions."""
        if stream not in STREAMS:
            raise KeyError(f"{stream!r} is no stream; one of {', '.join(STREAMS)}")
        return f"{self.namespace}.{stream}"

    def dlq(self, topic: str) -> str:
        """The dead-letter topic beside ``topic``."""
        return f"{topic}.dlq"

    def configs(self) -> dict[str, dict[str, str]]:
        """Every topic with the configuration it is created with."""
        streams = [self.stream(stream) for stream in STREAMS]
        kept = {name: _KEEP_ALL for stream in streams for name in (stream, self.dlq(stream))}
        return {**kept, self.changelog: _KEEP_LATEST}


def ensure_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing and return their names; it blocks, so call it from a thread.

    On return every topic can be used. ``Misconfigured`` names each one that exists with another partition
    count: all of them must agree, or a workflow's events and its state would lie in different partitions.
    ``Unavailable`` when Kafka does not answer.
    """
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 0})
    wanted = Topics(settings.namespace).configs()
    existing = partition_counts(settings, admin)
    _refuse_other_counts(existing, settings)
    missing = {name: config for name, config in wanted.items() if name not in existing}
    created = _create(missing, settings, admin)
    _refuse_other_counts(_when_visible(settings, admin), settings)
    return created


def _create(missing: Mapping[str, dict[str, str]], settings: Settings, admin: AdminClient) -> list[str]:
    if not missing:
        return []
    asked = [
        NewTopic(name, settings.partitions, settings.replication, config=config)
        for name, config in missing.items()
    ]
    created = []
    for name, future in admin.create_topics(asked, operation_timeout=_TIMEOUT).items():
        try:
            future.result(_TIMEOUT)
        except KafkaException as error:
            _explain_failure(name, error.args[0], settings)
        else:
            created.append(name)
    return sorted(created)


def _when_visible(settings: Settings, admin: AdminClient) -> dict[str, int]:
    """The partition counts once the broker shows every topic: it learns of a new one a moment later."""
    wanted = Topics(settings.namespace).configs().keys()
    deadline = time.monotonic() + _TIMEOUT
    while (counts := partition_counts(settings, admin)).keys() != wanted:
        if time.monotonic() > deadline:
            missing = ", ".join(sorted(wanted - counts.keys()))
            raise Unavailable(f"Kafka at {settings.kafka_bootstrap} does not show {missing} yet; try again")
        time.sleep(_LOOK_SECONDS)
    return counts


def partition_counts(settings: Settings, admin: AdminClient | None = None) -> dict[str, int]:
    """Partitions of each topic of the namespace that exists. Blocks; ``Unavailable`` as above."""
    admin = admin or AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 0})
    asked = TopicCollection(list(Topics(settings.namespace).configs()))
    counts = {}
    for name, future in admin.describe_topics(asked, request_timeout=_TIMEOUT).items():
        try:
            counts[name] = len(future.result().partitions)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise Unavailable(_no_answer(settings, error.args[0])) from error
    return counts


def _explain_failure(name: str, error: KafkaError, settings: Settings) -> None:
    """Raise what a failed creation means; somebody else creating it at the same moment is fine."""
    if error.code() == KafkaError.TOPIC_ALREADY_EXISTS:
        return
    if error.code() == KafkaError.INVALID_REPLICATION_FACTOR:
        raise Misconfigured(
            f"topic {name}: replication={settings.replication} is more than the brokers there are "
            f"({error.str()}); lower FULCRUM_REPLICATION or add brokers"
        )
    if error.retriable() or error.code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT):
        raise Unavailable(_no_answer(settings, error))
    raise Misconfigured(f"topic {name} cannot be created: {error.str()} ({error.name()})")


def _no_answer(settings: Settings, error: KafkaError) -> str:
    return (
        f"Kafka at {settings.kafka_bootstrap} does not answer ({error.str()}); "
        "check FULCRUM_KAFKA_BOOTSTRAP and that the broker runs"
    )


def _refuse_other_counts(counts: Mapping[str, int], settings: Settings) -> None:
    wrong = {name: count for name, count in counts.items() if count != settings.partitions}
    if wrong:
        listed = ", ".join(f"{name} has {count}" for name, count in sorted(wrong.items()))
        raise Misconfigured(
            f"partitions={settings.partitions}, but {listed}. A partition count never changes once keys are "
            "in it: set FULCRUM_PARTITIONS to what the topics have, or use another FULCRUM_NAMESPACE"
        )
