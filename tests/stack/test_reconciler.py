"""The reconciler: what never started is sent again as it was; whatever started is left alone.

Long, because everything that may be lost, and everything that only looks so, is told apart by one look.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from confluent_kafka.admin import AdminClient
from decisions import history
from eventually import eventually, eventually_async
from intake import records_of, running_intake, sent
from intents import intent_body
from link import linked
from prometheus_client import REGISTRY
from sqlalchemy import delete, func, insert, select, text, update
from structlog.testing import capture_logs

from fulcrum.readmodel import store
from fulcrum.readmodel.relations import timeline, workflow_runs
from fulcrum.saga import identity
from fulcrum.saga.messages import CancelRequested, IntentCreated, OperatorRequested
from fulcrum.settings import Settings
from fulcrum.store import outbox
from fulcrum.store.database import Database
from fulcrum.store.statements import compiled
from fulcrum.web import reconciler, waiting
from fulcrum.web.reconciler import Reconciler
from fulcrum.web.relations import INTAKE, intents, requests
from fulcrum.web.stream import IntakeStream
from fulcrum.wire.codec import open_codec
from fulcrum.wire.topic_admin import ensure_topics
from fulcrum.wire.topics import Topics

pytestmark = pytest.mark.asyncio(loop_scope="module")

GRACE = 60.0
LONG_AGO = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest_asyncio.fixture(loop_scope="module")
async def db(settings: Settings) -> AsyncIterator[Database]:
    """The database of the module, with no intent in it."""
    opened = await Database.open(settings.postgres_dsn, size=4)
    for table in (INTAKE.outbox, INTAKE.outbox_parked, requests, intents, timeline, workflow_runs):
        await opened.execute(delete(table))
    yield opened
    await opened.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stream(settings: Settings) -> IntakeStream:
    """Makes intake's events."""
    return IntakeStream(
        Topics(settings.namespace),
        await open_codec(settings, (IntentCreated, CancelRequested, OperatorRequested)),
    )


@pytest.fixture
def rounds(db: Database, settings: Settings, stream: IntakeStream) -> Reconciler:
    """A reconciler whose rounds the test does itself."""
    return Reconciler(db, settings.model_copy(update={"reconcile_grace": GRACE}), stream)


def row_of(check_at: datetime | None = LONG_AGO, **changes: Any) -> dict[str, Any]:
    """An intent as intake stores it, due long ago."""
    intent_id = identity.intent_id("acme", str(uuid4()))
    return {
        **intent_body(),
        "workflow_id": identity.workflow_id(intent_id),
        "intent_id": intent_id,
        "idempotency_key": "k",
        "fingerprint": b"f" * 32,
        "definition": "fulfillment.v1",
        "correlation_id": "order-1",
        "accepted_at": LONG_AGO,
        "last_sequence": 1,
        "check_at": check_at,
        "repairs": 0,
        **dict.fromkeys(("terms", "promised_at", "holds")),
        **changes,
    }


async def accepted(db: Database, count: int = 1, **changes: Any) -> list[str]:
    """Store so many intents whose events have left the outbox; returns their workflows."""
    rows = [row_of(**changes) for _ in range(count)]
    for row in rows:
        await db.execute(insert(intents), row)
    return [row["workflow_id"] for row in rows]


async def start(db: Database, *workflow_ids: str) -> None:
    """Let the read model know the workflows."""
    async with db.transaction() as tx:
        await store.apply(tx, [made for each in workflow_ids for made in history(each)[:1]])


async def emitted(db: Database) -> list[tuple[str, str]]:
    """What the outbox holds, in its order: workflow and type."""
    rows = await db.all(select(INTAKE.outbox).order_by(INTAKE.outbox.c.id))
    return [(row["key"].decode(), row["headers"]["ce_type"]) for row in rows]


async def state(db: Database, workflow_id: str) -> tuple[int, float | None]:
    """How often the intent was sent again, and the seconds to the next look at it; None for no look."""
    left = (intents.c.check_at - func.clock_timestamp()).label("left")
    row = await db.one(select(intents.c.repairs, left).where(intents.c.workflow_id == workflow_id))
    assert row is not None
    return row["repairs"], None if row["left"] is None else row["left"].total_seconds()


def counted() -> float:
    """How many intents this process has sent again."""
    return REGISTRY.get_sample_value("fulcrum_intents_reconciled_total") or 0.0


async def make_due(db: Database) -> None:
    """Let the time of every look that is planned have come."""
    await db.execute(update(intents).where(intents.c.check_at.is_not(None)).values(check_at=LONG_AGO))


async def test_what_never_started_is_sent_again_counted_and_told(db: Database, rounds: Reconciler) -> None:
    """Its event is in the outbox again; a warning names the workflow; the metric counts it."""
    (lost,) = await accepted(db)
    before = counted()
    with capture_logs() as lines:
        assert await rounds.round() == 1
    assert await emitted(db) == [(lost, "IntentCreated")]
    (line,) = lines
    assert (line["log_level"], line["event"], line["workflow_id"]) == ("warning", "intent.sent_again", lost)
    assert (line["times"], line["correlation_id"]) == (1, "order-1")
    assert counted() == before + 1


async def test_what_started_is_never_looked_at_again(db: Database, rounds: Reconciler) -> None:
    """A workflow that the read model knows is confirmed for good, whatever becomes of the read model."""
    (started,) = await accepted(db)
    await start(db, started)
    assert await rounds.round() == 0
    assert await state(db, started) == (0, None)
    await db.execute(delete(workflow_runs))
    assert await rounds.round() == 0
    assert await emitted(db) == []


async def test_intent_within_its_grace_is_left_alone(db: Database, rounds: Reconciler) -> None:
    """It may just be on its way."""
    (young,) = await accepted(db, check_at=datetime.now(UTC) + timedelta(seconds=30))
    assert await rounds.round() == 0
    repairs, left = await state(db, young)
    assert repairs == 0
    assert left is not None
    assert 0 < left <= 30


async def test_each_wait_is_twice_the_one_before(db: Database, rounds: Reconciler) -> None:
    """An orchestrator that is away for a day gets few copies of an intent, not one a round."""
    (lost,) = await accepted(db)
    for times in (1, 2, 3):
        await make_due(db)
        assert await rounds.round() == 1
        assert await rounds.round() == 0
        repairs, left = await state(db, lost)
        assert repairs == times
        assert left == pytest.approx(GRACE * 2**times, abs=10)
    assert len(await emitted(db)) == 3


async def test_late_start_ends_the_looking(db: Database, rounds: Reconciler) -> None:
    """Once it has started it is confirmed, also when it was sent again before."""
    (slow,) = await accepted(db)
    assert await rounds.round() == 1
    await start(db, slow)
    await make_due(db)
    assert await rounds.round() == 0
    assert await state(db, slow) == (1, None)


async def test_requests_go_along_in_their_order(
    db: Database, rounds: Reconciler, stream: IntakeStream
) -> None:
    """The whole stream of the workflow leaves anew: a later event alone would be a gap."""
    (lost,) = await accepted(db, last_sequence=3)
    asked = [
        {
            "workflow_id": lost,
            "sequence": sequence,
            "event_id": identity.request_id(lost, str(sequence)),
            "verb": verb,
            "step": None,
            "result": None,
            "seconds": None,
            "signal": None,
            "payload": None,
            "reason": "x",
            "actor": "ana",
            "correlation_id": "call",
            "requested_at": LONG_AGO,
        }
        for sequence, verb in ((2, "pause"), (3, "cancel"))
    ]
    for row in reversed(asked):
        await db.execute(insert(requests), row)
    assert await rounds.round() == 1
    rows = await db.all(select(INTAKE.outbox).order_by(INTAKE.outbox.c.id))
    assert [row["headers"]["ce_type"] for row in rows] == [
        "IntentCreated",
        "OperatorRequested",
        "CancelRequested",
    ]
    assert [row["value"] for row in rows[1:]] == [stream.requested(row).value for row in asked]
    assert [row["event_id"] for row in rows[1:]] == [row["event_id"] for row in asked]


async def test_round_is_bounded_and_gets_to_everything(
    db: Database, rounds: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most so many leave in one round; those that have started cost nothing of it."""
    monkeypatch.setattr(reconciler, "BATCH", 3)
    mixed = [(await accepted(db, check_at=LONG_AGO + timedelta(seconds=n)))[0] for n in range(11)]
    started, lost = mixed[::3], [each for n, each in enumerate(mixed) if n % 3]
    await start(db, *started)
    assert [await rounds.round() for _ in range(4)] == [3, 3, 1, 0]
    assert sorted(key for key, _ in await emitted(db)) == sorted(lost)
    assert {await state(db, each) for each in started} == {(0, None)}


async def test_two_at_once_send_each_intent_once(
    db: Database, settings: Settings, stream: IntakeStream
) -> None:
    """Two intake processes share the work without a word between them."""
    lost = await accepted(db, 40)
    done = await asyncio.gather(*(Reconciler(db, settings, stream).round() for _ in range(4)))
    assert sum(done) == 40
    assert sorted(key for key, _ in await emitted(db)) == sorted(lost)


async def test_nothing_is_taken_for_lost_while_the_outbox_is_behind(
    db: Database, settings: Settings, stream: IntakeStream
) -> None:
    """With Kafka away every intent waits in the outbox; once it is back they get their grace."""
    quick = Reconciler(db, settings.model_copy(update={"reconcile_grace": 0.3}), stream)
    (held_back,) = await accepted(db)
    async with db.transaction() as tx:
        await outbox.add(tx, INTAKE, [stream.created(row_of())])
    await db.execute(update(INTAKE.outbox).values(created_at=LONG_AGO))
    assert await quick.round() == 0
    await db.execute(delete(INTAKE.outbox))
    assert await quick.round() == 0
    assert (await state(db, held_back))[0] == 0

    async def sent_again() -> bool:
        return await quick.round() == 1

    await eventually_async(sent_again, within=5, state=lambda: state(db, held_back))


async def test_what_kafka_refuses_is_not_sent_again(
    db: Database, rounds: Reconciler, stream: IntakeStream
) -> None:
    """It is kept aside with its error already; it is looked at again later, in case it was released."""
    refused, lost = await accepted(db, 2)
    parked = text(
        "INSERT INTO intake.outbox_parked (shard, id, event_id, topic, key, headers, value, created_at,"
        " error) VALUES (0, 1, :event, 't', :key, '{}', 'v', now(), 'too large')"
    )
    await db.execute(parked, {"event": str(uuid4()), "key": refused.encode()})
    assert await rounds.round() == 1
    assert await emitted(db) == [(lost, "IntentCreated")]
    left = (await state(db, refused))[1]
    assert left is not None
    assert left > 0


async def test_look_reads_only_what_is_not_confirmed(db: Database) -> None:
    """Among many intents that have started, the few that have not are found by their index."""
    many = text(
        "INSERT INTO intake.intents SELECT gen_random_uuid(), gen_random_uuid(), 'acme', 'k', sha256('k'),"
        " 'c', '[]', 1, 'EUR', 'p', 's', 'd', 'c', now(), 1, NULL, 0 FROM generate_series(1, 5000)"
    )
    await db.execute(many)
    await accepted(db, 2)
    await db.execute(text("ANALYZE intake.intents"))
    sql, bound = compiled(reconciler._DUE, {"most": 500})
    plan = await db.all(text(f"EXPLAIN {sql % bound}"))
    shown = "\n".join(row["QUERY PLAN"] for row in plan)
    assert "intents_unconfirmed" in shown, shown
    assert "Seq Scan" not in shown, shown


async def test_same_bytes_travel_again(
    db: Database, settings: Settings, stream: IntakeStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From HTTP to Kafka and, made of the rows alone, to Kafka again: value, key and ids are equal."""
    monkeypatch.setattr(waiting, "WAIT_MOST", 0.05)
    async with running_intake(settings) as api:
        workflow_id = await api.accept(lines=[{"sku": "z", "quantity": 1}, {"sku": "a", "quantity": 2}])
        await api.post(f"/v1/workflows/{workflow_id}/cancel", {"reason": "über"}, headers={"X-Actor": "ana"})
        await sent(settings, workflow_id)
        await make_due(db)
        assert await Reconciler(db, settings, stream).round() == 1
        records = await sent(settings, workflow_id)
    assert len(records) == 4
    told = [
        (record.key(), record.value(), {k: v for k, v in record.headers() if k != "traceparent"})
        for record in records
    ]
    assert told[:2] == told[2:]
    assert told[0] != told[1]


async def test_running_intake_looks_by_itself_also_after_an_outage(db: Database, settings: Settings) -> None:
    """The role does its rounds from the start, and goes on when Postgres is back."""
    quick = {"reconcile_interval": 0.1, "reconcile_grace": 0.5}
    async with linked(settings.postgres_dsn) as (link, dsn):
        tuned = settings.model_copy(update={**quick, "postgres_dsn": dsn})
        with capture_logs() as lines:
            async with running_intake(tuned):
                await link.cut()
                (lost,) = await accepted(db)

                async def failed() -> bool:
                    return any(line["event"] == "reconciler.failed" for line in lines)

                await eventually_async(failed, within=20)
                await link.mend()

                async def back() -> bool:
                    return len(await asyncio.to_thread(records_of, settings, lost)) >= 1

                await eventually_async(back, within=20, state=lambda: lines[-5:])


async def test_lost_topic_costs_time_and_not_an_intent(db: Database, settings: Settings) -> None:
    """The topic of the intents is deleted and made anew: what had not started is there again by itself."""
    tuned = settings.model_copy(update={"reconcile_interval": 0.2, "reconcile_grace": 1.0})
    async with running_intake(tuned) as api:
        started = await api.accept()
        await start(db, started)
        lost = await api.accept()
        await sent(settings, lost)
        await asyncio.to_thread(_lose_topic, settings)

        async def back() -> bool:
            return bool(await asyncio.to_thread(records_of, settings, lost))

        await eventually_async(back, within=40, state=lambda: state(db, lost))
        assert await asyncio.to_thread(records_of, settings, started) == []
        assert (await state(db, started))[0] == 0


def _lose_topic(settings: Settings) -> None:
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    topic = Topics(settings.namespace).stream("intents")
    admin.delete_topics([topic])[topic].result(15)
    eventually(lambda: topic not in admin.list_topics(timeout=5).topics, within=10)
    ensure_topics(settings)
