"""Does each check of an invariant see what breaks it? It is shown a sound system and a broken one.

Long, because each check has its own way to be broken.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime

import aio_pika
import aiohttp
import psycopg2
import pytest
from confluent_kafka import Producer
from intents import intent_created
from redis.asyncio import Redis

from bench.leftovers import remove
from fulcrum.commands.topology import Topology, declare
from fulcrum.doctor.in_postgres import QUERIES, found_by
from fulcrum.doctor.invariants import Violation, check_all
from fulcrum.errors import Misconfigured
from fulcrum.settings import Settings
from fulcrum.wire.codec import open_codec
from fulcrum.wire.topics import Topics
from fulcrum.workers.psp_simulator import PspSimulator

RUN = "6f0c1d9e-1111-5222-8333-444455556666"
OTHER = "00000000-0000-5000-8000-000000000000"
_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

_RUN = f"""
INSERT INTO read_model.workflow_runs VALUES ('{RUN}', '{OTHER}', 'acme', 'c', 'fulfillment.v1',
    'completed', 2, NULL, '[{{"sku":"tea","quantity":2}}]', 1250, 'EUR', 'corr', now(), now(), now(), '[]');
"""
#: A workflow that completed: it pays 12.50 and holds 2 of the 10 units that came in.
_SOUND = f"""
INSERT INTO intake.intents VALUES ('{RUN}', '{OTHER}', 'acme', 'k', sha256('k'), 'c', '[]', 1250, 'EUR',
    'pay_ok', 'a', 'fulfillment.v1', 'corr', now());
INSERT INTO intake.receipts VALUES ('{OTHER}', 'tea', 'k', sha256('k'), 10, 'r', 'corr', now());
{_RUN}
INSERT INTO read_model.timeline VALUES
    ('{RUN}', 1, now(), NULL, 'running', NULL, '{{}}', '[]'),
    ('{RUN}', 2, now(), 'running', 'completed', NULL, '{{}}', '[]');
INSERT INTO payments.payments (workflow_id, state, sequence, attempt, authorize_key, amount_minor, currency,
    authorization_id, requested_at, settled_at)
    VALUES ('{RUN}', 'authorized', 1, 1, '{OTHER}', 1250, 'EUR', 'auth-1', now(), now());
INSERT INTO payments.inbox VALUES ('payment', '{RUN}', 'f', now(), '[]');
INSERT INTO inventory.stock VALUES ('tea', 8, 2, 0, 2);
INSERT INTO inventory.reservations VALUES ('{RUN}', 'held', 1, '{RUN}', 1, NULL, NULL, now());
INSERT INTO inventory.reservation_lines VALUES ('{RUN}', 'tea', 2);
INSERT INTO inventory.ledger VALUES
    ('{OTHER}', 'tea', 'receive', 10, 0, 0, NULL, 'r', now()),
    ('{RUN}', 'tea', 'reserve', -2, 2, 0, '{RUN}', NULL, now());
"""

_PARKED = """INSERT INTO ops.parked_messages (id, service, message_id, type, queue, reason, error_class,
    error, fingerprint, attempts, headers, body) VALUES (gen_random_uuid(), 'payment', 'm', 't', 'q',
    'corrupt', 'c', 'e', 'f', 1, '{}', '')"""
_OUTBOX_PARKED = """INSERT INTO inventory.outbox_parked
    VALUES (0, 1, gen_random_uuid(), 't', 'k', '{}', 'v', now(), now(), 'e')"""
_REOPENED = f"""INSERT INTO read_model.timeline
    VALUES ('{RUN}', 3, now(), 'completed', 'running', NULL, '{{}}', '[]')"""
_OUTBOX = """INSERT INTO payments.outbox (event_id, topic, key, headers, value)
    VALUES (gen_random_uuid(), 't', 'k', '{}', 'v')"""

_CAPTURED = f"state = 'captured', captured_minor = 1250, capture_key = '{OTHER}'"

_TERMS = '[{"unit_minor": 500, "on_short": "cancel_line"}]'
#: The same workflow under a definition that ships: one of the two units left, and only that one was paid.
_SHIPPED = f"""
UPDATE read_model.workflow_runs SET definition = 'fulfillment.v2';
UPDATE payments.payments SET state = 'captured', captured_minor = 750, capture_key = '{OTHER}';
UPDATE inventory.reservations SET state = 'consumed';
UPDATE inventory.reservation_lines SET consumed = 1;
UPDATE inventory.stock SET available = 9, reserved = 0, consumed = 1;
INSERT INTO inventory.ledger VALUES ('{RUN[:-1]}7', 'tea', 'consume', 1, -2, 1, '{RUN}', NULL, now());
UPDATE intake.intents SET terms = '{_TERMS}';
"""
#: Both units left, and one was paid.
_SHIPPED_WHOLE = f"{_SHIPPED}; UPDATE inventory.reservation_lines SET consumed = 2"
#: It was cancelled after that: the money is given back, and the unit is lost.
_LOST = f"""{_SHIPPED}
UPDATE read_model.workflow_runs SET status = 'cancelled';
UPDATE payments.payments SET state = 'refunded', refunded_minor = 750, refund_key = '{OTHER}';
UPDATE inventory.reservations SET state = 'written_off';
"""

_PACK_JOB = f"""INSERT INTO warehouse.pack_jobs (workflow_id, state, goal, sequence, attempt, pack_key,
    ship_to, parcels, requested_at, changed_at, due_at)
    VALUES ('{RUN}', %s, 1, 1, '{OTHER}', 'a', 1, now(), now(), %s)"""
_PACKING = _PACK_JOB % ("'picking', 'pack'", "now()")
_PACKED_MORE = f"""{_PACK_JOB % ("'packed', NULL", "NULL")};
    INSERT INTO warehouse.pack_lines VALUES ('{RUN}', 0, 'tea', 5, 5, 0, 'cancel_order')"""
_PACKED_CANCELLED = f"""{_PACK_JOB % ("'packed', NULL", "NULL")};
    UPDATE read_model.workflow_runs SET status = 'cancelled'"""
_SHIPMENT = f"""INSERT INTO courier.deliveries
    (workflow_id, state, sequence, attempt, create_key, shipment_id, tracking_number, label_url, requested_at)
    VALUES ('{RUN}', 'in_transit', 1, 1, '{OTHER}', 's', 't', 'l', now())"""

#: For each check what makes it speak. One deed may break more than one.
_BREAKS: Mapping[str, list[str]] = {
    "every intent has ended": [
        "UPDATE read_model.workflow_runs SET status = 'running'",
        "DELETE FROM read_model.workflow_runs",
    ],
    "every run has its intent": [
        "DELETE FROM intake.intents",
        "UPDATE intake.intents SET amount_minor = 1",
    ],
    "versions are dense": [
        "DELETE FROM read_model.timeline WHERE version = 1",
        "UPDATE read_model.workflow_runs SET version = 3",
    ],
    "a final status never changes": [_REOPENED],
    "a completed run holds its lines, no other run holds any": [
        "UPDATE read_model.workflow_runs SET status = 'cancelled'",
        "UPDATE inventory.reservations SET state = 'released'",
        "UPDATE inventory.reservation_lines SET quantity = 1",
        "UPDATE read_model.workflow_runs SET definition = 'fulfillment.v2'",
    ],
    "goods left for completed runs, and for no others": [
        "UPDATE read_model.workflow_runs SET definition = 'fulfillment.v2'",
        f"{_SHIPPED}; UPDATE inventory.reservations SET state = 'released'",
        f"{_SHIPPED}; UPDATE read_model.workflow_runs SET definition = 'fulfillment.v1'",
        f"{_LOST}; UPDATE inventory.reservations SET state = 'consumed'",
    ],
    "what is consumed is what left for runs": [
        f"{_SHIPPED}; UPDATE inventory.reservations SET state = 'restocked'",
        f"{_SHIPPED}; UPDATE inventory.stock SET consumed = 2",
    ],
    "what was captured is the price of what left": [
        f"{_SHIPPED}; UPDATE payments.payments SET captured_minor = 1250",
        f"{_SHIPPED}; UPDATE payments.payments SET captured_minor = 749",
        _SHIPPED_WHOLE,
        f"{_SHIPPED_WHOLE}; UPDATE intake.intents SET terms = NULL",
    ],
    "what is reserved is what runs hold": [
        "UPDATE inventory.stock SET reserved = 3, available = 7",
        "DELETE FROM inventory.reservation_lines",
    ],
    "stock equals its ledger": [
        "UPDATE inventory.stock SET available = 9",
        "DELETE FROM inventory.stock",
    ],
    "received equals available, reserved and consumed": ["UPDATE inventory.stock SET available = 7"],
    "every receipt is in the ledger": [
        "UPDATE intake.receipts SET quantity = 11",
        f"UPDATE intake.receipts SET command_id = '{RUN}'",
    ],
    "payments ended as their runs did": [
        "UPDATE payments.payments SET state = 'declined', authorization_id = NULL, decline_reason = 'no'",
        "DELETE FROM payments.payments",
        f"UPDATE payments.payments SET {_CAPTURED}, refunded_minor = 1",
        f"UPDATE payments.payments SET {_CAPTURED}; UPDATE read_model.workflow_runs SET status = 'cancelled'",
        "UPDATE read_model.workflow_runs SET status = 'cancelled'",
        "DELETE FROM read_model.workflow_runs",
        "UPDATE read_model.workflow_runs SET definition = 'fulfillment.v2'",
        f"{_LOST}; UPDATE payments.payments SET state = 'captured', refunded_minor = 1",
    ],
    "no payment command is left open": [
        f"INSERT INTO payments.open_commands VALUES ('{RUN}', 'CapturePayment', now(), now(), '{{}}', '')"
    ],
    "pack jobs ended as their runs did": [
        _PACKING,
        _PACKED_CANCELLED,
        f"{_PACKING}; DELETE FROM read_model.workflow_runs",
    ],
    "no parcel is on its way for a run that ended without it": [
        _SHIPMENT,
        f"{_SHIPMENT}; UPDATE read_model.workflow_runs SET status = 'cancelled'",
    ],
    "no warehouse command is left open": [
        f"INSERT INTO warehouse.open_commands VALUES ('{RUN}', '{RUN}', 'PackOrder', now(), '{{}}')"
    ],
    "no more is packed than was ordered": [_PACKED_MORE],
    "payments are of the intent's amount": ["UPDATE payments.payments SET amount_minor = 1251"],
    "outboxes are empty": [_OUTBOX],
    "every command received was answered": ["UPDATE payments.inbox SET outcome = NULL"],
    "nothing is parked": [
        _PARKED,
        _OUTBOX_PARKED,
    ],
}


@pytest.fixture
def cursor(namespace: Mapping[str, str]) -> Iterator[psycopg2.extensions.cursor]:
    """A transaction in which one sound workflow is stored, and which is undone at the end."""
    connection = psycopg2.connect(namespace["FULCRUM_POSTGRES_DSN"])
    with connection.cursor() as opened:
        opened.execute(_SOUND)
        yield opened
    connection.rollback()
    connection.close()


def test_a_sound_workflow_breaks_nothing(cursor: psycopg2.extensions.cursor) -> None:
    """No check speaks without a cause."""
    assert found_by(cursor) == []


@pytest.mark.parametrize(
    ("status", "deed"),
    [
        ("completed", f"UPDATE payments.payments SET {_CAPTURED}"),
        (
            "cancelled",
            f"""UPDATE payments.payments SET {_CAPTURED}; UPDATE payments.payments
                SET state = 'refunded', refunded_minor = captured_minor, refund_key = '{OTHER}'""",
        ),
    ],
)
def test_money_may_be_taken_and_given_back(
    cursor: psycopg2.extensions.cursor, status: str, deed: str
) -> None:
    """A completed run may have its payment captured, a cancelled one refunded."""
    cursor.execute(deed)
    cursor.execute(f"UPDATE read_model.workflow_runs SET status = '{status}'")

    assert found_by(cursor, ["payments ended as their runs did"]) == []


@pytest.mark.parametrize("deed", [_SHIPPED, _LOST], ids=["shipped", "lost"])
def test_what_left_and_was_paid_breaks_nothing(cursor: psycopg2.extensions.cursor, deed: str) -> None:
    """A short order pays for what left; one that is lost on its way pays nothing, and stays consumed."""
    cursor.execute(deed)

    assert found_by(cursor) == []


def test_every_check_is_tried() -> None:
    """A check that was never seen to speak proves nothing."""
    assert _BREAKS.keys() == QUERIES.keys()


@pytest.mark.parametrize(("check", "deed"), [(c, deed) for c, deeds in _BREAKS.items() for deed in deeds])
def test_a_check_sees_what_breaks_it(cursor: psycopg2.extensions.cursor, check: str, deed: str) -> None:
    """Each check speaks when what it guards is broken."""
    cursor.execute(deed)

    assert [violation.check for violation in found_by(cursor, [check])] == [check]


@pytest.mark.parametrize(
    "deed",
    [
        "UPDATE read_model.workflow_runs SET status = 'terminated'",
        "UPDATE read_model.workflow_runs SET status = 'cancelled', steps = '[{\"skipped_by\": \"ana\"}]'",
    ],
)
def test_what_an_operator_left_standing_breaks_nothing(cursor: psycopg2.extensions.cursor, deed: str) -> None:
    """A person answers for what a terminated run holds, and for a run with a step that they skipped."""
    cursor.execute(deed)

    assert found_by(cursor) == []


# --- beside Postgres ------------------------------------------------------------------------------


@pytest.fixture
async def env(settings: Settings, namespace: Mapping[str, str]) -> AsyncIterator[dict[str, str]]:
    """An empty system: topics, schemas, queues, a provider, and nothing in any of them."""
    simulator = PspSimulator(settings)
    await simulator.start(0)
    async with await aio_pika.connect(settings.rabbitmq_url) as connection:
        await declare(await connection.channel(), settings)
    yield {**namespace, "FULCRUM_PSP_URL": f"http://127.0.0.1:{simulator.port}"}
    await simulator.stop()


async def checks(env: Mapping[str, str]) -> list[str]:
    """The names of the checks that speak, once what was just written can be seen."""
    return [violation.check for violation in await check_all(env)]


async def test_an_empty_system_breaks_nothing(env: dict[str, str]) -> None:
    """All checks can be carried out, and none speaks."""
    assert await check_all(env) == []


async def test_a_missing_address_is_named() -> None:
    """Without an address a check cannot be carried out, which is no success."""
    with pytest.raises(Misconfigured, match="FULCRUM_PSP_URL"):
        await check_all({"FULCRUM_POSTGRES_DSN": "postgresql://nobody@127.0.0.1:1/none"})


async def test_an_effect_outside_a_run_is_seen(env: dict[str, str]) -> None:
    """The provider holds money for a workflow that nobody started."""
    body = {"amount_minor": 1, "currency": "EUR", "token": "pay_ok", "reference": OTHER}
    async with aiohttp.ClientSession() as session:
        url = f"{env['FULCRUM_PSP_URL']}/v1/authorizations"
        async with session.post(url, json=body, headers={"Idempotency-Key": "k"}) as answer:
            assert answer.status == 201

    assert await check_all(env) == [Violation("the provider acts for runs only", OTHER, "1 authorize")]


async def test_a_cached_run_that_is_not_stored_is_seen(env: dict[str, str]) -> None:
    """The cache shows a version that the database does not have."""
    async with Redis.from_url(env["FULCRUM_REDIS_URL"]) as client:
        key = f"{env['FULCRUM_NAMESPACE']}:run:{OTHER}"
        await client.hset(key, "version", "3")
        try:
            assert await check_all(env) == [
                Violation("the cache is never ahead", OTHER, "cached 3, stored 0")
            ]
        finally:
            await client.delete(key)


async def test_a_cached_run_that_stays_behind_is_seen(env: dict[str, str]) -> None:
    """An older version that the cache would show for long; one that lapses shortly is as designed."""
    connection = psycopg2.connect(env["FULCRUM_POSTGRES_DSN"])
    connection.autocommit = True
    key = f"{env['FULCRUM_NAMESPACE']}:run:{RUN}"
    with connection.cursor() as cursor:
        cursor.execute(_RUN)
        try:
            async with Redis.from_url(env["FULCRUM_REDIS_URL"]) as client:
                await client.hset(key, "version", "1")
                await client.expire(key, 3600)
                assert "the cache is not left behind" in await checks(env)
                await client.expire(key, 30)
                assert "the cache is not left behind" not in await checks(env)
                await client.delete(key)
        finally:
            cursor.execute("DELETE FROM read_model.workflow_runs")
    connection.close()


async def test_a_waiting_command_is_seen(env: dict[str, str]) -> None:
    """A command that no worker has taken."""
    name = Topology(env["FULCRUM_NAMESPACE"]).queue("payment")
    async with await aio_pika.connect(env["FULCRUM_RABBITMQ_URL"]) as connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.default_exchange.publish(aio_pika.Message(b"left alone"), routing_key=name)
        try:
            assert await check_all(env) == [Violation("no command waits", name, "1 messages")]
        finally:
            queue = await channel.get_queue(name, ensure=False)
            await queue.purge()


async def test_lost_and_dead_records_are_seen(env: dict[str, str], settings: Settings) -> None:
    """An event that nobody decided on, bytes that nobody put aside, and a record that somebody did."""
    codec, topics = await open_codec(settings), Topics(settings.namespace)
    event = intent_created(workflow_id=OTHER)
    intents, dead = topics.stream("intents"), topics.dlq(topics.stream("intents"))
    letter = [("fulcrum-dlq-topic", intents.encode()), ("fulcrum-dlq-partition", b"0")]
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap})
    producer.produce(intents, codec.encode(event), OTHER, partition=0)
    producer.produce(intents, b"junk", OTHER, partition=0)
    producer.produce(dead, b"junk", OTHER, partition=0, headers=[*letter, ("fulcrum-dlq-offset", b"7")])
    assert producer.flush(20) == 0

    assert sorted(await checks(env)) == [
        "every event is decided on or put aside",
        "every unreadable record is put aside",
        "nothing is dead-lettered",
    ]


async def test_what_a_benchmark_made_up_is_removed(env: dict[str, str], settings: Settings) -> None:
    """Topics, queues and subjects of the namespace are gone; a second time finds nothing and is fine."""
    name = f"{settings.namespace}x"
    connection = psycopg2.connect(env["FULCRUM_POSTGRES_DSN"])
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    dsn = env["FULCRUM_POSTGRES_DSN"].replace(settings.namespace, name)
    mine = {**env, "FULCRUM_POSTGRES_DSN": dsn}

    assert await remove(mine) == []
    assert await remove(mine) == []

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_database WHERE datname = %s", (name,))
        assert cursor.fetchone() == (0,)
    connection.close()
    with pytest.raises(Misconfigured, match=r"schema register"):
        await open_codec(settings)
    async with await aio_pika.connect(settings.rabbitmq_url) as broker:
        channel = await broker.channel()
        with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
            await channel.declare_queue(Topology(settings.namespace).queue("payment"), passive=True)
