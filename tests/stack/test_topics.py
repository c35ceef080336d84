"""Topics on a real broker: created once, as configured, and never with a count that breaks the keys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from eventually import eventually
from typer.testing import CliRunner

from fulcrum.cli.topics import app
from fulcrum.errors import Misconfigured, Unavailable
from fulcrum.settings import Settings
from fulcrum.wire.topic_admin import check_topics, ensure_topics, partition_counts
from fulcrum.wire.topics import Topics


@pytest.fixture
def fresh(settings: Settings) -> Settings:
    """A namespace of which nothing exists yet."""
    return settings.model_copy(update={"namespace": f"t{uuid4().hex[:8]}", "partitions": 3})


def test_topics_are_created_once(fresh: Settings) -> None:
    """The first call creates every topic with the wanted partitions, the second finds nothing to do."""
    wanted = sorted(Topics(fresh.namespace).configs())
    assert ensure_topics(fresh) == wanted
    assert partition_counts(fresh) == dict.fromkeys(wanted, 3)
    assert ensure_topics(fresh) == []


def test_missing_topics_are_added_to_those_that_are_there(fresh: Settings) -> None:
    """A start that was interrupted, or a new stream in a new release, is completed."""
    ensure_topics(fresh)
    lost = Topics(fresh.namespace).dlq(Topics(fresh.namespace).stream("payments"))
    admin = AdminClient({"bootstrap.servers": fresh.kafka_bootstrap})
    admin.delete_topics([lost])[lost].result(15)
    eventually(lambda: lost not in partition_counts(fresh), within=15, state=lambda: partition_counts(fresh))
    assert ensure_topics(fresh) == [lost]


def test_the_broker_keeps_events_for_ever_and_compacts_the_changelog(fresh: Settings) -> None:
    """What the broker says of each topic is what was asked for."""
    ensure_topics(fresh)
    topics = Topics(fresh.namespace)
    admin = AdminClient({"bootstrap.servers": fresh.kafka_bootstrap})
    asked = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in topics.configs()]
    told = {resource.name: future.result(15) for resource, future in admin.describe_configs(asked).items()}
    for name, wanted in topics.configs().items():
        assert {key: told[name][key].value for key in wanted} == wanted, name


def test_another_partition_count_is_refused_with_both_counts_and_the_remedy(fresh: Settings) -> None:
    """Keys would lie in other partitions than the state that belongs to them, so nothing starts."""
    ensure_topics(fresh)
    wrong = fresh.model_copy(update={"partitions": 4})
    with pytest.raises(Misconfigured) as caught:
        ensure_topics(wrong)
    message = str(caught.value)
    assert message.startswith("partitions=4, but ")
    assert f"{fresh.namespace}.intents has 3" in message
    assert "set FULCRUM_PARTITIONS to what the topics have" in message


@pytest.mark.parametrize(
    ("topic", "key", "value"),
    [
        ("intents", "cleanup.policy", "compact"),
        ("decisions", "retention.ms", "86400000"),
        ("", "cleanup.policy", "delete"),
    ],
)
def test_a_topic_that_would_lose_what_is_needed_is_refused(
    fresh: Settings, topic: str, key: str, value: str
) -> None:
    """Kafka would delete events that a rebuild needs, or the state of runs that are on their way."""
    ensure_topics(fresh)
    check_topics(fresh)
    topics = Topics(fresh.namespace)
    name = topics.stream(topic) if topic else topics.changelog
    right = topics.configs()[name][key]
    entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
    changed = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": fresh.kafka_bootstrap})
    admin.incremental_alter_configs([changed])[changed].result(15)

    def refused() -> str | None:
        try:
            check_topics(fresh)
        except Misconfigured as error:
            return str(error)
        return None

    message = eventually(refused, within=15)
    assert message.startswith(f"topic {name} has {key}={value}, by which Kafka would delete")
    assert f"--add-config {key}={right}" in message


def test_a_missing_topic_is_waited_for(fresh: Settings) -> None:
    """The agents wait, because somebody may be about to create it; the error says how."""
    with pytest.raises(Unavailable, match=rf"no topic .*{fresh.namespace}\.intents.*`fulcrum topics create`"):
        check_topics(fresh)


def test_the_agents_refuse_topics_that_would_lose_events(fresh: Settings) -> None:
    """The process ends with the reason instead of reading on."""
    ensure_topics(fresh)
    given = fresh.model_copy(update={"partitions": 4})
    env = {
        f"FULCRUM_{name.upper()}": str(value) for name, value in given.model_dump(exclude_none=True).items()
    }
    command = [sys.executable, "-m", "fulcrum", "run", "agents"]
    ended = subprocess.run(
        command, env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode != 0
    assert f"partitions=4, but {fresh.namespace}" in ended.stdout + ended.stderr


def test_two_processes_may_create_at_once(fresh: Settings) -> None:
    """Every topic is made by one of them, both go on, and both can use every topic."""
    with ThreadPoolExecutor() as threads:
        made = list(threads.map(ensure_topics, [fresh, fresh, fresh]))
    assert sorted(name for names in made for name in names) == sorted(Topics(fresh.namespace).configs())


def test_more_replicas_than_brokers_is_refused_with_the_remedy(fresh: Settings) -> None:
    """One broker cannot hold two copies."""
    with pytest.raises(Misconfigured, match=r"replication=2 is more than .* lower FULCRUM_REPLICATION"):
        ensure_topics(fresh.model_copy(update={"replication": 2}))


def test_a_broker_that_is_away_is_unavailable(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody at the address: the error names it and the setting."""
    monkeypatch.setattr("fulcrum.wire.topic_admin._TIMEOUT", 0.5)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 does not answer .* FULCRUM_KAFKA_BOOTSTRAP"):
        ensure_topics(settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:1"}))


def test_the_command_creates_and_lists(fresh: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fulcrum topics create` says what it made, `list` shows what is there and what is missing."""
    for name in ("namespace", "partitions", "kafka_bootstrap"):
        monkeypatch.setenv(f"FULCRUM_{name.upper()}", str(getattr(fresh, name)))
    before = json.loads(CliRunner().invoke(app, ["list", "-o", "json"]).stdout)
    assert {row["partitions"] for row in before} == {0}
    created = CliRunner().invoke(app, ["create"])
    assert f"created {fresh.namespace}.intents\n" in created.stdout
    assert CliRunner().invoke(app, ["create"]).stdout == "All 15 topics are there.\n"
    after = json.loads(CliRunner().invoke(app, ["list", "-o", "json"]).stdout)
    assert {row["topic"]: row["partitions"] for row in after} == partition_counts(fresh)
