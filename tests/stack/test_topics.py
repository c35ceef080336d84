"""Topics on a real broker: created once, as configured, and never with a count that breaks the keys."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource
from eventually import eventually
from typer.testing import CliRunner

from fulcrum.cli.topics import app
from fulcrum.errors import Misconfigured, Unavailable
from fulcrum.settings import Settings
from fulcrum.wire.topics import Topics, ensure_topics, partition_counts


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
    monkeypatch.setattr("fulcrum.wire.topics._TIMEOUT", 0.5)
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
    assert CliRunner().invoke(app, ["create"]).stdout == "All 11 topics are there.\n"
    after = json.loads(CliRunner().invoke(app, ["list", "-o", "json"]).stdout)
    assert {row["topic"]: row["partitions"] for row in after} == partition_counts(fresh)
