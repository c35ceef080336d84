"""Workflows that do not move are found by the rule that fits, and forgotten once they move.

Long, because each rule is made true and untrue again on real servers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from uuid import uuid4

import pytest
import pytest_asyncio
from alembic import command
from alembic.script import ScriptDirectory
from commandbus import broker
from commandbus import running as working
from confluent_kafka import Consumer, Producer, TopicPartition
from decisions import decision, step
from deliveries import delivery, receive, reserve
from eventually import eventually_async
from sqlalchemy import func, select, text
from stuck import Watched, new_id, overdue, running, watched
from test_migrations import fetch

from fulcrum.attention import detector as detecting
from fulcrum.attention.reading import PAGE
from fulcrum.attention.relations import ATTENTION, LEASE
from fulcrum.commands import accounts
from fulcrum.commands.consumer import CommandConsumer
from fulcrum.commands.publisher import CommandPublisher
from fulcrum.errors import Rejected
from fulcrum.operations.releasing import release_key
from fulcrum.readmodel.relations import workflow_runs
from fulcrum.settings import Settings
from fulcrum.store import migrate as migrating
from fulcrum.store import outbox
from fulcrum.store.outbox import OutboxRow
from fulcrum.store.relations import PARKED_MESSAGES, messaging
from fulcrum.store.relay import Relay
from fulcrum.telemetry import metrics
from fulcrum.wire.codec import open_codec
from fulcrum.wire.topics import Topics
from fulcrum.workers.inventory import InventoryWorker

_WITHIN = 30.0
INVENTORY = messaging("inventory")


@pytest_asyncio.fixture
async def seen(settings: Settings) -> AsyncIterator[Watched]:
    """A detector that waits for nothing, on an empty system."""
    async with watched(settings) as found:
        yield found


async def rules_become(seen: Watched, workflow_id: str, *rules: str) -> None:
    """Look until the workflow matches these rules and no other."""

    async def they_are() -> bool:
        return await seen.rules(workflow_id) == sorted(rules)

    await eventually_async(they_are, within=_WITHIN, state=seen.found)


# --- each rule ---------------------------------------------------------------------------------------


async def test_a_deadline_that_passes_unnoticed_is_found_and_cleared(seen: Watched) -> None:
    """Overdue, it stands in the list with the command to type; asked for again, it is gone."""
    workflow_id = new_id()
    await seen.brought(overdue(workflow_id))
    assert await seen.rules(workflow_id) == ["past_deadline"]
    (row,) = await seen.found()
    assert "waiting on StockReserved" in row["detail"]
    assert row["suggestion"].startswith(f"fulcrum wf retry {workflow_id} --step reserve_stock")
    await seen.brought(running(workflow_id, 2))
    assert await seen.rules(workflow_id) == []


async def test_a_command_is_followed_to_where_it_stays(seen: Watched) -> None:
    """Without a worker it lies on its queue; then its event in the outbox; then its event is nowhere."""
    codec, settings = await open_codec(seen.settings), seen.settings
    workflow_id, sku = new_id(), f"sku-{uuid4().hex[:8]}"
    reserving = reserve(workflow_id, (sku, 1))
    async with broker(settings):
        publisher = await CommandPublisher.open(settings)
        for each in (receive(sku, 5), reserving):
            kind, belongs = type(each).__name__, getattr(each, "workflow_id", None)
            body, headers = codec.encode(each), delivery(each).headers
            await publisher.publish("inventory", body, headers, each.command_id, kind)
            await accounts.enter_published(seen.db, each.command_id, "inventory", kind, belongs)
        await publisher.close()
        await seen.brought(running(workflow_id, command_id=reserving.command_id))
        assert await seen.rules(workflow_id) == ["unacknowledged"]
        (row,) = await seen.found()
        assert "nobody takes commands of inventory" in row["detail"]
        assert row["suggestion"] == "fulcrum run inventory"

        handle = InventoryWorker(seen.db, codec, Topics(settings.namespace)).handle
        async with working(CommandConsumer(settings, "inventory", codec.read, handle, batch_size=10)):
            await rules_become(seen, workflow_id, "outbox_unsent")
    await seen.db.execute(INVENTORY.outbox.delete())
    await rules_become(seen, workflow_id, "unanswered")
    await seen.brought(decision(3, workflow_id=workflow_id))
    assert await seen.rules(workflow_id) == []


async def test_a_parked_message_holds_its_workflow_until_it_is_replayed(seen: Watched) -> None:
    """The suggestion names the message; sent again it holds nothing up."""
    workflow_id, parked_id = new_id(), str(uuid4())
    await seen.brought(running(workflow_id))
    parked = {
        "id": parked_id,
        "service": "inventory",
        "message_id": str(uuid4()),
        "type": "ReserveStock",
        "workflow_id": workflow_id,
        "queue": "q",
        "reason": "exhausted",
        "error_class": "KeyError",
        "error": "no row",
        "fingerprint": "f1",
        "attempts": 7,
        "headers": {},
        "body": b"",
    }
    await seen.db.execute(PARKED_MESSAGES.insert().values(parked))
    assert await seen.rules(workflow_id) == ["parked_message"]
    (row,) = await seen.found()
    assert row["suggestion"] == f'fulcrum parked replay {parked_id} --reason "..."'
    assert "KeyError: no row" in row["detail"]
    await seen.db.execute(PARKED_MESSAGES.update().values(status="replayed"))
    assert await seen.rules(workflow_id) == []


async def test_an_event_that_kafka_refuses_is_found_behind_its_relay(seen: Watched) -> None:
    """Unsent first, then refused; released and taken, it holds nothing up."""
    workflow_id = new_id()
    await seen.brought(running(workflow_id))
    async with seen.db.transaction() as tx:
        row = OutboxRow(str(uuid4()), "t", workflow_id.encode(), b"v", {})
        await outbox.add(tx, INVENTORY, [row])
    assert await seen.rules(workflow_id) == ["outbox_unsent"]
    refusing = True

    async def send(rows: Sequence[OutboxRow], may_send: Callable[[], bool]) -> int:
        if refusing:
            raise Rejected("the record is too large")
        return len(rows)

    async def refused() -> bool:
        await seen.rules(workflow_id)
        return ["Kafka refused" in row["detail"] for row in await seen.found()] == [True]

    async with working(Relay(seen.db, INVENTORY, seen.settings, "test", send)):
        await eventually_async(refused, within=_WITHIN, state=seen.found)
        assert (await seen.found())[0]["suggestion"] == "fulcrum parked keys"
        refusing = False
        await release_key(seen.db, "inventory", workflow_id.encode(), "ana", "it is smaller now")
        await rules_become(seen, workflow_id)


async def test_a_partition_that_nobody_reads_is_found_until_its_group_moves(seen: Watched) -> None:
    """The whole partition's workflows are held up; at the end of the log none is."""
    workflow_id = new_id()
    await seen.brought(running(workflow_id))
    assert await seen.rules(workflow_id) == []
    topic = Topics(seen.settings.namespace).stream("payments")
    await asyncio.to_thread(append, seen.settings, topic, workflow_id)
    await rules_become(seen, workflow_id, "partition_stalled")
    (row,) = await seen.found()
    assert f"{seen.settings.namespace}-orchestrator has not moved" in row["detail"]
    await asyncio.to_thread(read_to_the_end, seen.settings, topic)
    await rules_become(seen, workflow_id)


async def test_an_accepted_intent_that_nobody_reads_is_found(seen: Watched) -> None:
    """There is no run yet that could be overdue; once it has started, it moves."""
    workflow_id = new_id()
    accepted = text(
        "INSERT INTO intake.intents (workflow_id, intent_id, tenant, idempotency_key, fingerprint,"
        " customer_ref, lines, amount_minor, currency, payment_method, ship_to, definition, correlation_id,"
        " accepted_at, check_at) SELECT id, id, 'acme', 'k', sha256('x'), 'c', '[]', 1, 'EUR', 'pay_ok', 'a',"
        " 'fulfillment.v1', 'x', now() - interval '1 hour', now() FROM (SELECT CAST(:id AS uuid) AS id) given"
    )
    await seen.db.execute(accepted, {"id": workflow_id})
    topic = Topics(seen.settings.namespace).stream("intents")
    await asyncio.to_thread(append, seen.settings, topic, workflow_id)
    await rules_become(seen, workflow_id, "partition_stalled")
    await asyncio.to_thread(read_to_the_end, seen.settings, topic)
    await seen.brought(running(workflow_id))
    await rules_become(seen, workflow_id)


def append(settings: Settings, topic: str, workflow_id: str) -> None:
    """Put a record of the workflow into ``topic``."""
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap, "partitioner": "murmur2_random"})
    producer.produce(topic, b"v", workflow_id.encode())
    assert producer.flush(10) == 0


def read_to_the_end(settings: Settings, topic: str) -> None:
    """Let the orchestrator's group have read the topic."""
    group = f"{settings.namespace}-orchestrator"
    consumer = Consumer(
        {"bootstrap.servers": settings.kafka_bootstrap, "group.id": group, "enable.auto.commit": False}
    )
    ends = []
    for number in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)
        ends.append(TopicPartition(topic, number, end))
    consumer.commit(offsets=ends, asynchronous=False)
    consumer.close()


async def test_an_undo_that_was_given_up_is_found_until_a_person_acts(seen: Watched) -> None:
    """As long as the workflow needs attention."""
    workflow_id = new_id()
    left = step("authorize_payment", status="undo_requested", finished_at=None, late=10)
    given_up = decision(2, workflow_id=workflow_id, status="needs_attention", steps=(left, step()))
    await seen.brought(given_up)
    assert await seen.rules(workflow_id) == ["compensation_failed"]
    await seen.brought(decision(3, workflow_id=workflow_id, status="cancelled"))
    assert await seen.rules(workflow_id) == []


async def test_a_paused_workflow_is_listed_and_raises_no_alarm(seen: Watched) -> None:
    """However overdue it was, the metric does not count it."""
    workflow_id = new_id()
    await seen.brought(overdue(workflow_id))
    assert await seen.rules(workflow_id) == ["past_deadline"]
    assert metrics.workflows_stuck.labels("past_deadline")._value.get() == 1
    paused = decision(2, workflow_id=workflow_id, status="paused", steps=overdue(workflow_id).steps)
    await seen.brought(paused)
    assert await seen.rules(workflow_id) == ["paused"]
    assert metrics.workflows_stuck.labels("past_deadline")._value.get() == 0


async def test_nothing_is_found_before_its_threshold(settings: Settings) -> None:
    """With the thresholds of every day, what has just happened is no matter."""
    async with watched(
        settings, stuck_deadline_grace=7200.0, stuck_outbox_grace=60.0, stuck_lag_grace=60.0
    ) as patient:
        workflow_id = new_id()
        await patient.brought(overdue(workflow_id))
        async with patient.db.transaction() as tx:
            row = OutboxRow(str(uuid4()), "t", workflow_id.encode(), b"v", {})
            await outbox.add(tx, INVENTORY, [row])
        assert await patient.rules(workflow_id) == []


# --- the looking itself ------------------------------------------------------------------------------


async def test_one_process_looks_at_a_time(seen: Watched) -> None:
    """Another one tells what the first has found; it takes over once the lease is free."""
    workflow_id = new_id()
    await seen.detector.look()
    await seen.brought(overdue(workflow_id))
    other = seen.another("other")
    assert await other.look() == {}
    lease = await seen.db.one(select(LEASE))
    assert lease is not None
    assert lease["owner"] == "watched"
    await seen.db.execute(LEASE.update().values(expires_at=datetime(2026, 1, 1, tzinfo=UTC)))
    assert await other.look() == {"past_deadline": 1}


async def test_a_match_that_goes_on_keeps_its_beginning(seen: Watched) -> None:
    """The list tells for how long a workflow has stood still, not when it was looked at."""
    workflow_id = new_id()
    await seen.brought(overdue(workflow_id))
    await seen.rules(workflow_id)
    (first,) = await seen.found()
    await seen.rules(workflow_id)
    (second,) = await seen.found()
    assert second["since"] == first["since"] < first["seen_at"] < second["seen_at"]


async def test_more_workflows_than_one_look_reads_are_all_found(
    seen: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next look goes on where the one before ended, and after the last page it begins again."""
    monkeypatch.setattr(detecting, "_PAGES", 1)
    ids = [new_id() for _ in range(PAGE + 20)]
    await seen.brought(*(overdue(workflow_id) for workflow_id in ids))

    async def all_of_them() -> bool:
        await seen.detector.look()
        return {row["workflow_id"] for row in await seen.found()} == set(ids)

    await eventually_async(all_of_them, within=_WITHIN)
    await seen.brought(*(running(workflow_id, 2) for workflow_id in ids))

    async def none_of_them() -> bool:
        await seen.detector.look()
        return not await seen.found()

    await eventually_async(none_of_them, within=_WITHIN)


async def test_what_is_kept_of_a_run_that_is_gone_goes_too(seen: Watched) -> None:
    """A read model that was built anew without it leaves nothing behind."""
    workflow_id = new_id()
    await seen.brought(overdue(workflow_id))
    assert await seen.rules(workflow_id) == ["past_deadline"]
    await seen.db.execute(workflow_runs.delete())
    assert await seen.rules(workflow_id) == []


async def test_servers_that_are_away_hide_no_other_rule(settings: Settings) -> None:
    """Without RabbitMQ and Kafka, what Postgres knows is still told."""
    away = {"rabbitmq_url": "amqp://guest:guest@127.0.0.1:1/", "kafka_bootstrap": "127.0.0.1:1"}
    async with watched(settings, **away) as seen:
        workflow_id = new_id()
        reserving = reserve(workflow_id, ("sku", 1))
        await accounts.enter_published(
            seen.db, reserving.command_id, "inventory", "ReserveStock", workflow_id
        )
        await seen.brought(overdue(workflow_id))
        assert await seen.rules(workflow_id) == ["past_deadline"]


async def test_each_question_has_an_index(seen: Watched) -> None:
    """Open commands of a workflow are found by it, and pages of a rule by their place."""
    names = text("SELECT indexname AS name FROM pg_indexes WHERE schemaname = 'ops'")
    found = {row["name"] for row in await seen.db.all(names)}
    assert {"commands_published_by_workflow", "attention_oldest", "attention_by_rule"} <= found


# --- the relations -----------------------------------------------------------------------------------


def test_relations_come_and_go_over_what_is_there(empty_database: str) -> None:
    """They have the columns that the code declares, and a downgrade leaves the accounts as they were."""
    migrating.migrate(empty_database)
    for table in (ATTENTION, LEASE):
        rows = fetch(
            empty_database,
            "SELECT column_name, is_nullable = 'YES' FROM information_schema.columns "
            f"WHERE table_schema = 'ops' AND table_name = '{table.name}'",
        )
        assert dict(rows) == {column.name: bool(column.nullable) for column in table.columns}
    fetch(
        empty_database,
        "INSERT INTO ops.commands_published (command_id, service, type, decided_at, published_at) "
        "VALUES (gen_random_uuid(), 'payment', 't', now(), now())",
    )
    with migrating._connected(empty_database) as connection, connection.begin():
        config = migrating._config(connection)
        before = ScriptDirectory.from_config(config).get_revision("0018").down_revision
        assert isinstance(before, str)
        command.downgrade(config, before)
    assert fetch(empty_database, "SELECT to_regclass('ops.attention')") == [(None,)]
    assert fetch(empty_database, "SELECT count(*) FROM ops.commands_published") == [(1,)]
    migrating.migrate(empty_database)
    assert fetch(empty_database, "SELECT owner FROM ops.attention_lease") == [(None,)]


async def test_the_count_of_a_rule_is_that_of_its_rows(seen: Watched) -> None:
    """What a look returns, the metric and the relation say the same."""
    await seen.brought(*(overdue(new_id()) for _ in range(3)))
    assert await seen.detector.look() == {"past_deadline": 3}
    row = await seen.db.one(select(func.count().label("n")).select_from(ATTENTION))
    assert row == {"n": 3}
