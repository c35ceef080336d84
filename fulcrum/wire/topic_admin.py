"""Are the topics on the broker, and are they what Fulcrum needs? Creates them and checks them."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.cimpl import NewTopic

from fulcrum.errors import Misconfigured, Unavailable
from fulcrum.settings import Settings
from fulcrum.wire.topics import VITAL_SETTINGS, Topics

_TIMEOUT = 30.0
_LOOK_SECONDS = 0.05


def ensure_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing and return their names; it blocks, so call it from a thread.

    On return every topic can be used. ``Misconfigured`` as for ``check_topics``, ``Unavailable`` when Kafka
    does not answer.
    """
    admin = _admin(settings)
    existing = _refuse_unfit(settings, admin)
    wanted = Topics(settings.namespace).configs()
    missing = {name: config for name, config in wanted.items() if name not in existing}
    created = _create(missing, settings, admin)
    _when_visible(settings, admin)
    _refuse_unfit(settings, admin)
    return created


def check_topics(settings: Settings) -> None:
    """See that every topic is there and is what Fulcrum needs; it blocks, so call it from a thread.

    ``Misconfigured`` names each topic with another partition count (a workflow's events and its state would
    lie in different partitions) or with a setting by which Kafka would delete what is still needed.
    ``Unavailable`` names what is missing, or says that Kafka does not answer.
    """
    existing = _refuse_unfit(settings, _admin(settings))
    if missing := sorted(Topics(settings.namespace).configs().keys() - existing):
        raise Unavailable(f"Kafka has no topic {', '.join(missing)}; run `fulcrum topics create`")


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


def _when_visible(settings: Settings, admin: AdminClient) -> None:
    """Return once the broker shows every topic: it learns of a new one a moment later."""
    wanted = Topics(settings.namespace).configs().keys()
    deadline = time.monotonic() + _TIMEOUT
    while missing := wanted - partition_counts(settings, admin).keys():
        if time.monotonic() > deadline:
            listed = ", ".join(sorted(missing))
            raise Unavailable(f"Kafka at {settings.kafka_bootstrap} does not show {listed} yet; try again")
        time.sleep(_LOOK_SECONDS)


def partition_counts(settings: Settings, admin: AdminClient | None = None) -> dict[str, int]:
    """Partitions of each topic of the namespace that exists. Blocks; ``Unavailable`` as above."""
    admin = admin or _admin(settings)
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


def _refuse_unfit(settings: Settings, admin: AdminClient) -> set[str]:
    """The topics that exist; Misconfigured when one of them is unfit."""
    counts = partition_counts(settings, admin)
    wrong = {name: count for name, count in counts.items() if count != settings.partitions}
    if wrong:
        listed = ", ".join(f"{name} has {count}" for name, count in sorted(wrong.items()))
        raise Misconfigured(
            f"partitions={settings.partitions}, but {listed}. A partition count never changes once keys are "
            "in it: set FULCRUM_PARTITIONS to what the topics have, or use another FULCRUM_NAMESPACE"
        )
    _refuse_losing(counts, settings, admin)
    return set(counts)


def _refuse_losing(names: Collection[str], settings: Settings, admin: AdminClient) -> None:
    """Misconfigured when Kafka would delete from one of the topics what is still needed."""
    configs = Topics(settings.namespace).configs()
    asked = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
    described = admin.describe_configs(asked, request_timeout=_TIMEOUT) if asked else {}
    for resource, future in described.items():
        try:
            told = future.result(_TIMEOUT)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                continue  # Another process has just asked for it, and not every broker knows it yet.
            raise Unavailable(_no_answer(settings, error.args[0])) from error
        for key, wanted in configs[resource.name].items():
            if key in VITAL_SETTINGS and told[key].value != wanted:
                raise Misconfigured(
                    f"topic {resource.name} has {key}={told[key].value}, by which Kafka would delete what is "
                    f"still needed. Set it to {wanted}: kafka-configs.sh --alter --topic {resource.name} "
                    f"--add-config {key}={wanted}"
                )


def _admin(settings: Settings) -> AdminClient:
    return AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 0})
