"""Does ``fulcrum doctor`` see what is broken on a system at work, and leave alone what is in flight?

Long, because it is a table: for each question what breaks it, and what is only in flight.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from string import Template
from typing import Any

import aio_pika
import psycopg2
import pytest
from confluent_kafka import Producer
from redis.asyncio import Redis

from fulcrum.commands.topology import Topology, declare
from fulcrum.doctor.findings import Finding, State
from fulcrum.doctor.live import examine
from fulcrum.doctor.live_postgres import Scope, connect, look
from fulcrum.doctor.questions import QUESTIONS
from fulcrum.errors import Unavailable
from fulcrum.readmodel import store
from fulcrum.saga.messages import Cause, DecisionMade
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.wire.codec import open_codec
from fulcrum.wire.topics import Topics
from fulcrum.workers.psp_simulator import PspSimulator

RUN = "6f0c1d9e-1111-5222-8333-444455556666"
OTHER = "00000000-0000-5000-8000-000000000000"
SCOPE = Scope(grace=60, sample=100)

#: A workflow that completed at $when: it pays 12.50 and holds 2 of the 10 units that came in.
_SOUND = Template("""
INSERT INTO intake.intents (workflow_id, intent_id, tenant, idempotency_key, fingerprint, customer_ref, lines,
    amount_minor, currency, payment_method, ship_to, definition, correlation_id, accepted_at,
    check_at) VALUES ($run, $other, 'acme', 'k', sha256('k'), 'c', '[]', 1250, 'EUR', 'pay_ok', 'a',
            'fulfillment.v1', 'corr', $when, $when);
INSERT INTO read_model.workflow_runs (workflow_id, intent_id, tenant, customer_ref, definition, status,
    version, lines, amount_minor, currency, correlation_id, started_at, updated_at, finished_at, steps)
    VALUES ($run, $other, 'acme', 'c', 'fulfillment.v1', 'completed', 2, '[{"sku":"tea","quantity":2}]',
            1250, 'EUR', 'corr', $when, $when, $when, json_build_array(json_build_object(
                'name', 'authorize_payment', 'status', 'done', 'command_id', $run, 'deadline_at', NULL)));
INSERT INTO read_model.timeline (workflow_id, version, at, status_before, status, cause, commands) VALUES
    ($run, 1, $when, NULL, 'running', '{}', '[]'),
    ($run, 2, $when, 'running', 'completed', '{}', '[]');
INSERT INTO payments.payments (workflow_id, state, sequence, attempt, authorize_key, amount_minor, currency,
    authorization_id, requested_at, settled_at)
    VALUES ($run, 'authorized', 1, 1, $other, 1250, 'EUR', 'auth-1', $when, $when);
INSERT INTO payments.inbox VALUES ('payment', $run, 'f', $when, '[]');
INSERT INTO warehouse.pack_jobs (workflow_id, state, sequence, attempt, pack_key, ship_to, parcels,
    requested_at, changed_at) VALUES ($run, 'packed', 1, 1, $run, 'a', 1, $when, $when);
INSERT INTO warehouse.pack_lines VALUES ($run, 0, 'tea', 2, 2, 625, 'cancel_order');
INSERT INTO inventory.stock VALUES ('tea', 8, 2, 0, 2);
INSERT INTO inventory.reservations (workflow_id, state, sequence, command_id, attempt, changed_at)
    VALUES ($run, 'held', 1, $run, 1, $when);
INSERT INTO inventory.reservation_lines VALUES ($run, 'tea', 2);
INSERT INTO inventory.ledger (command_id, sku, kind, available, reserved, workflow_id, at) VALUES
    ($other, 'tea', 'receive', 10, 0, NULL, $when),
    ($run, 'tea', 'reserve', -2, 2, $run, $when);
""")
_LONG_AGO, _JUST_NOW = "now() - interval '1 hour'", "now()"

_AWAITED = """UPDATE read_model.workflow_runs SET status = 'running', steps = json_build_array(
    json_build_object('name', 's', 'status', 'requested', 'deadline_at', now() - interval '{}'))"""
_NOTHING_AWAITED = "UPDATE read_model.workflow_runs SET status = 'running', steps = '[]'"
#: Its time of settlement is as before, so it is long past.
_REFUNDED = """UPDATE payments.payments SET state = 'captured', captured_minor = amount_minor,
    refunded_minor = 1, capture_key = authorize_key"""
_CANCELLING = "UPDATE warehouse.pack_jobs SET goal = 'put_back', due_at = now(), cancel_key = pack_key"
_OUTBOX = """INSERT INTO payments.outbox (event_id, topic, key, headers, value, created_at)
    VALUES (gen_random_uuid(), 't', 'k', '{{}}', 'v', {})"""
_PARKED = """INSERT INTO ops.parked_messages (id, service, message_id, type, queue, reason, error_class,
    error, fingerprint, attempts, headers, body) VALUES (gen_random_uuid(), 'payment', 'm', 'VoidPayment',
    'q', 'corrupt', 'Corrupt', 'e', 'f', 1, '{}', '')"""
_REOPENED = f"""INSERT INTO read_model.timeline
    (workflow_id, version, at, status_before, status, cause, commands)
    VALUES ('{RUN}', 3, now(), 'completed', 'running', '{{}}', '[]')"""

#: The same workflow under a definition that ships: both units left, and were paid.
_SHIPPED = f"""
    UPDATE read_model.workflow_runs SET definition = 'fulfillment.v2';
    UPDATE payments.payments SET state = 'captured', captured_minor = 1250, capture_key = '{OTHER}';
    UPDATE inventory.reservations SET state = 'consumed';
    UPDATE inventory.reservation_lines SET consumed = 2;
    UPDATE inventory.stock SET reserved = 0, consumed = 2;
    INSERT INTO inventory.ledger (command_id, sku, kind, available, reserved, consumed, workflow_id, at)
    VALUES ('{RUN[:-1]}7', 'tea', 'consume', 0, -2, 2, '{RUN}', now())"""

#: For each question what makes it speak, and the cause that it then names.
_BREAKS: Mapping[str, list[tuple[str, str]]] = {
    "every accepted intent is started": [("DELETE FROM read_model.workflow_runs", "no run")],
    "every unfinished run is moved on": [
        (_AWAITED.format("2 minutes"), "overdue"),
        (_NOTHING_AWAITED, "waits for nothing"),
    ],
    "no run needs attention": [
        ("UPDATE read_model.workflow_runs SET status = 'needs_attention'", "needs attention"),
        ("UPDATE read_model.workflow_runs SET status = 'paused'", "paused"),
    ],
    "a final status never changes": [(_REOPENED, "completed to running")],
    "every run has its intent": [
        ("DELETE FROM intake.intents", "no intent"),
        ("UPDATE intake.intents SET currency = 'USD'", "another intent"),
    ],
    "what is done was received and answered": [
        ("DELETE FROM payments.inbox", "not received"),
        ("UPDATE payments.inbox SET outcome = NULL", "not answered"),
    ],
    "a completed run holds its lines, a cancelled one none": [
        ("UPDATE read_model.workflow_runs SET status = 'cancelled'", "holds what it should not"),
        ("UPDATE inventory.reservations SET state = 'released'", "holds nothing"),
        ("UPDATE inventory.reservation_lines SET quantity = 1", "holds another quantity"),
    ],
    "goods left for completed runs, and for no others": [
        ("UPDATE read_model.workflow_runs SET definition = 'fulfillment.v2'", "consumed nothing"),
        (
            f"{_SHIPPED}; UPDATE read_model.workflow_runs SET status = 'cancelled'",
            "consumed what it should not",
        ),
    ],
    "what is consumed is what left for runs": [
        (f"{_SHIPPED}; UPDATE inventory.reservations SET state = 'restocked'", "another sum")
    ],
    "what was captured is the price of what left": [
        (f"{_SHIPPED}; UPDATE payments.payments SET captured_minor = 1249", "another amount")
    ],
    "stock equals its ledger": [("UPDATE inventory.stock SET available = 9", "another sum")],
    "what is reserved is what runs hold": [("DELETE FROM inventory.reservation_lines", "another sum")],
    "payments ended as their runs did": [
        ("DELETE FROM payments.payments", "completed, payment missing"),
        ("UPDATE read_model.workflow_runs SET status = 'cancelled'", "cancelled, payment authorized"),
        (_REFUNDED, "completed, payment captured"),
        (
            "UPDATE read_model.workflow_runs SET definition = 'fulfillment.v2'",
            "completed, payment authorized",
        ),
    ],
    "payments are of the intent's amount": [
        ("UPDATE payments.payments SET amount_minor = 1251", "another amount")
    ],
    "no finished run has a pack job under way": [
        (_CANCELLING, "completed, pack job packed to put_back"),
        ("UPDATE read_model.workflow_runs SET status = 'cancelled'", "cancelled, pack job packed"),
        ("UPDATE warehouse.pack_jobs SET state = 'failed'", "completed, pack job failed"),
    ],
    "no more is packed than was ordered": [
        ("UPDATE warehouse.pack_lines SET requested = 3, picked = 3", "more than was ordered"),
        ("UPDATE warehouse.pack_lines SET sku = 'pot'", "more than was ordered"),
    ],
    "outboxes are relayed": [(_OUTBOX.format(_LONG_AGO), "not relayed")],
    "no message is parked": [(_PARKED, "payment: VoidPayment, Corrupt")],
    "versions are dense": [
        ("DELETE FROM read_model.timeline WHERE version = 1", "a version is missing"),
    ],
}

#: What looks the same as a fault and is on its way: by question.
_IN_FLIGHT: Mapping[str, list[str]] = {
    "every accepted intent is started": ["DELETE FROM read_model.workflow_runs"],
    "every unfinished run is moved on": [_AWAITED.format("30 seconds"), _NOTHING_AWAITED],
    "a completed run holds its lines, a cancelled one none": [
        "UPDATE read_model.workflow_runs SET status = 'cancelled'",
    ],
    "payments ended as their runs did": ["UPDATE read_model.workflow_runs SET status = 'cancelled'"],
    "no finished run has a pack job under way": [
        "UPDATE read_model.workflow_runs SET status = 'cancelled'",
        _CANCELLING,
    ],
    "outboxes are relayed": [_OUTBOX.format(_JUST_NOW)],
}


@pytest.fixture
def cursor(namespace: Mapping[str, str]) -> Iterator[psycopg2.extensions.cursor]:
    """A transaction that is undone at the end."""
    connection = psycopg2.connect(namespace["FULCRUM_POSTGRES_DSN"])
    with connection.cursor() as opened:
        yield opened
    connection.rollback()
    connection.close()


def _sound(when: str) -> str:
    return _SOUND.substitute(when=when, run=f"'{RUN}'::uuid", other=f"'{OTHER}'::uuid")


def _faults(cursor: psycopg2.extensions.cursor, check: str) -> dict[str, int]:
    (question,) = [each for each in QUESTIONS if each.check == check]
    (finding,) = look(cursor, SCOPE, [question])
    assert finding.state in (State.HOLDS, question.bad), finding
    assert (finding.state is State.HOLDS) == (not finding.causes)
    return dict(finding.causes)


def test_a_sound_workflow_holds(cursor: psycopg2.extensions.cursor) -> None:
    """No question speaks without a cause, and each says how much it has looked at."""
    cursor.execute(_sound(_LONG_AGO))

    findings = look(cursor, SCOPE)

    assert [(each.check, each.state, each.causes) for each in findings if each.state is not State.HOLDS] == []
    assert len(findings) == len(QUESTIONS)


def test_every_question_is_tried() -> None:
    """A question that was never seen to speak proves nothing."""
    assert _BREAKS.keys() == {question.check for question in QUESTIONS}


@pytest.mark.parametrize(
    ("check", "deed", "cause"), [(c, deed, cause) for c, deeds in _BREAKS.items() for deed, cause in deeds]
)
def test_a_question_names_what_breaks_it(
    cursor: psycopg2.extensions.cursor, check: str, deed: str, cause: str
) -> None:
    """Each question speaks when what it guards is broken, and says why."""
    cursor.execute(_sound(_LONG_AGO))
    cursor.execute(deed)

    assert _faults(cursor, check) == {cause: 1}


@pytest.mark.parametrize(
    "deed",
    [
        "UPDATE read_model.workflow_runs SET status = 'terminated'",
        "UPDATE read_model.workflow_runs SET status = 'cancelled', steps = '[{\"skipped_by\": \"ana\"}]'",
    ],
)
@pytest.mark.parametrize(
    "check", ["a completed run holds its lines, a cancelled one none", "payments ended as their runs did"]
)
def test_an_operator_answers_for_what_they_left_standing(
    cursor: psycopg2.extensions.cursor, check: str, deed: str
) -> None:
    """A terminated run, and one with a step that somebody skipped, are no fault."""
    cursor.execute(_sound(_LONG_AGO))
    cursor.execute(deed)

    assert _faults(cursor, check) == {}


@pytest.mark.parametrize(("check", "deed"), [(c, d) for c, deeds in _IN_FLIGHT.items() for d in deeds])
def test_what_is_in_flight_counts_for_nothing(
    cursor: psycopg2.extensions.cursor, check: str, deed: str
) -> None:
    """The same within the grace period is no fault."""
    cursor.execute(_sound(_JUST_NOW))
    cursor.execute(deed)

    assert _faults(cursor, check) == {}


def test_it_cannot_write_and_gives_up_soon(namespace: Mapping[str, str]) -> None:
    """Its connection refuses to write, and breaks off what takes long."""
    connection = connect(namespace["FULCRUM_POSTGRES_DSN"])
    with connection.cursor() as opened:
        with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
            opened.execute("DELETE FROM intake.intents")
        with pytest.raises(psycopg2.errors.QueryCanceled):
            opened.execute("SELECT pg_sleep(20)")
    connection.close()


def test_what_is_too_much_is_said_to_be_skipped(
    cursor: psycopg2.extensions.cursor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums over more rows than it may read are left out, and said to be."""
    monkeypatch.setattr("fulcrum.doctor.live_postgres.MOST_TO_ADD_UP", -1)

    skipped = [each for each in look(cursor, SCOPE) if each.state is State.SKIPPED]

    assert [each.check for each in skipped] == [
        "stock equals its ledger",
        "what is reserved is what runs hold",
        "what is consumed is what left for runs",
    ]
    assert "more than" in skipped[0].note


# --- beside Postgres ------------------------------------------------------------------------------


@pytest.fixture
async def empty(settings: Settings) -> AsyncIterator[Settings]:
    """A system with topics, schemas, queues and a provider, in which nothing has happened."""
    simulator = PspSimulator(settings)
    await simulator.start(0)
    async with await aio_pika.connect(settings.rabbitmq_url) as connection:
        await declare(await connection.channel(), settings)
    yield settings.model_copy(update={"psp_url": f"http://127.0.0.1:{simulator.port}"})
    await simulator.stop()


def _odd(findings: list[Finding]) -> dict[str, tuple[State, list[str]]]:
    return {
        each.check: (each.state, sorted(each.causes)) for each in findings if each.state is not State.HOLDS
    }


async def test_an_empty_system_is_fine(empty: Settings) -> None:
    """All checks can be carried out, and none speaks."""
    findings = await examine(empty, SCOPE)

    assert [each for each in findings if each.state is not State.HOLDS] == []


async def test_a_record_that_nobody_reads_is_seen(empty: Settings) -> None:
    """An event older than the grace period that the orchestrator's group has not finished; no younger one."""
    topic = Topics(empty.namespace).stream("intents")
    producer = Producer({"bootstrap.servers": empty.kafka_bootstrap})
    old = int(datetime.now(UTC).timestamp() - 3600) * 1000
    producer.produce(topic, b"waits", OTHER, partition=0, timestamp=old)
    producer.produce(topic, b"young", OTHER, partition=1)
    assert producer.flush(20) == 0

    found = _odd(await examine(empty, SCOPE))

    group = f"{empty.namespace}-orchestrator"
    assert found == {"every record is read in time": (State.BROKEN, [f"{group} is behind"])}


async def test_a_dead_letter_asks_for_attention(empty: Settings) -> None:
    """It is counted by the error that put it aside, and breaks nothing."""
    dead = Topics(empty.namespace).dlq(Topics(empty.namespace).stream("payments"))
    producer = Producer({"bootstrap.servers": empty.kafka_bootstrap})
    producer.produce(dead, b"junk", OTHER, headers=[("fulcrum-dlq-error", b"Corrupt: no frame")])
    assert producer.flush(20) == 0

    assert _odd(await examine(empty, SCOPE))["no event is put aside"] == (
        State.ATTENTION,
        [f"{dead}: Corrupt"],
    )


async def test_commands_that_nobody_takes_ask_for_attention(empty: Settings) -> None:
    """A command in a queue without a consumer."""
    name = Topology(empty.namespace).queue("payment")
    async with await aio_pika.connect(empty.rabbitmq_url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.default_exchange.publish(aio_pika.Message(b"left alone"), routing_key=name)
        try:
            found = _odd(await examine(empty, SCOPE))
            assert found["somebody takes every command"] == (State.ATTENTION, ["nobody takes them"])
        finally:
            await (await channel.get_queue(name, ensure=False)).purge()


async def test_what_the_cache_makes_up_is_seen(empty: Settings) -> None:
    """The cache shows a version that the database does not have yet, or an old one for long."""
    connection = psycopg2.connect(empty.postgres_dsn)
    connection.autocommit = True
    key = f"{empty.namespace}:run:{RUN}"
    with connection.cursor() as opened:
        opened.execute(_sound(_LONG_AGO))
        try:
            async with Redis.from_url(empty.redis_url) as client:
                for version, cause in (
                    ("3", "the cache is never ahead"),
                    ("1", "the cache is not left behind"),
                ):
                    await client.hset(key, "version", version)
                    await client.expire(key, 3600)
                    found = _odd(await examine(empty, SCOPE))
                    assert found["the cache shows what is stored"] == (State.BROKEN, [cause])
                await client.delete(key)
            # The same run says that money is held, of which the provider knows nothing.
            assert found["the provider holds what the runs say"] == (
                State.BROKEN,
                ["the provider holds what the run says"],
            )
        finally:
            opened.execute(
                "TRUNCATE intake.intents, intake.requests, read_model.workflow_runs,"
                " read_model.timeline, payments.payments, payments.inbox, inventory.stock,"
                " inventory.reservations, inventory.reservation_lines"
            )
            opened.execute("ALTER TABLE inventory.ledger DISABLE TRIGGER ALL")
            opened.execute("DELETE FROM inventory.ledger")
            opened.execute("ALTER TABLE inventory.ledger ENABLE TRIGGER ALL")
    connection.close()


async def test_a_decision_that_is_not_shown_is_seen(empty: Settings) -> None:
    """The end of the journal is compared with the read model, once it is old enough."""
    codec = await open_codec(empty)
    made = _decision()
    producer = Producer({"bootstrap.servers": empty.kafka_bootstrap})
    topic = Topics(empty.namespace).stream("decisions")
    old = int(datetime.now(UTC).timestamp() - 3600) * 1000
    producer.produce(topic, codec.encode(made), OTHER, partition=0, timestamp=old)
    assert producer.flush(20) == 0
    check = "the read model has the journal's end"

    assert _odd(await examine(empty, SCOPE))[check] == (State.BROKEN, ["an entry is missing"])

    db = await Database.open(empty.postgres_dsn, size=1)
    async with db.transaction() as tx:
        await store.apply(tx, [made])
    await db.close()
    assert check not in _odd(await examine(empty, SCOPE))


def _decision() -> DecisionMade:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    return DecisionMade(
        decision_id=OTHER,
        workflow_id=OTHER,
        version=1,
        decided_at=noon,
        cause=Cause(
            event_id=OTHER,
            type="IntentCreated",
            stream="intents",
            sequence=1,
            occurred_at=noon,
            topic="t",
            partition=0,
            offset=0,
        ),
        step=None,
        status_before=None,
        status="running",
        reason=None,
        ignored=None,
        commands=(),
        intent_id=OTHER,
        tenant="acme",
        customer_ref="c",
        correlation_id="corr",
        definition="fulfillment.v1",
        lines=(),
        amount_minor=1,
        currency="EUR",
        started_at=noon,
        steps=(),
    )


# --- the command ----------------------------------------------------------------------------------


async def _doctor(settings: Settings, **changed: str) -> tuple[int, Any, str]:
    env = {f"FULCRUM_{name.upper()}": str(value) for name, value in settings.model_dump().items() if value}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "fulcrum", "doctor", "--json"],
        env={**os.environ, **env, **changed},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, json.loads(done.stdout), done.stderr


async def test_what_it_cannot_see_is_no_success(empty: Settings) -> None:
    """Without Postgres and Redis: the other checks are made, the exit code is 7, and the reasons are told."""
    code, report, error = await _doctor(
        empty,
        FULCRUM_POSTGRES_DSN="postgresql://nobody@127.0.0.1:1/none",
        FULCRUM_RABBITMQ_URL="amqp://guest:guest@127.0.0.1:1/",
    )

    notes = {check["check"]: check["note"] for check in report["checks"] if check["state"] == "unknown"}
    assert "FULCRUM_POSTGRES_DSN" in notes["every accepted intent is started"]
    assert "somebody takes every command" in notes
    assert "no event is put aside" not in notes
    # An earlier test has left a record that nobody reads, which weighs more.
    assert code == (10 if report["broken"] else 7)
    assert "could not look" in error or "broken" in error


async def test_a_database_that_is_away_is_said_to_be() -> None:
    """The error names the setting to look at."""
    with pytest.raises(Unavailable, match="FULCRUM_POSTGRES_DSN"):
        connect("postgresql://nobody@127.0.0.1:1/none")
