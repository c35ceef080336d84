"""How fast does the outbox relay empty an outbox, with nothing behind what it sends and with a long backlog?

One relay as a role runs it, in this process, on the real Postgres and Kafka. For each size of the backlog the
outbox is filled by the server, vacuumed and checkpointed; then it is measured how many messages a second are
acknowledged by Kafka and deleted while that backlog is there. Without one, rows are committed in small
batches as fast as they are taken. The topic is read back: each key's messages must be in order.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

import psycopg2
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from prometheus_client import REGISTRY
from sqlalchemy import insert, text

from bench.conditions import conditions, strain
from bench.figures import milliseconds
from fulcrum.settings import Settings
from fulcrum.store import outbox
from fulcrum.store.database import Database
from fulcrum.store.outbox import OutboxRow
from fulcrum.store.relations import messaging
from fulcrum.store.relay import Relay
from fulcrum.telemetry.logs import configure_logging
from fulcrum.wire.producer import KafkaProducer, Record

_R = messaging("intake")
_WARM_UP = 5_000
_BATCH, _AHEAD = 250, 4_000
_LOOK = 0.002
_WITHIN = 60.0
#: Rows as an event makes them: about 200 bytes of value, and headers of CloudEvents. 5,000 keys.
_FILL = text(
    "INSERT INTO intake.outbox (event_id, topic, key, headers, value) "
    "SELECT gen_random_uuid(), :topic, convert_to('key-' || n % 5000, 'UTF8'), jsonb_build_object("
    "'ce_id', gen_random_uuid(), 'ce_type', 'PaymentAuthorized', 'ce_source', 'fulcrum/payment', "
    "'ce_specversion', '1.0', 'traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'), "
    "convert_to(rpad(n::text || ' ', 200, 'x'), 'UTF8') "
    "FROM generate_series(CAST(:first AS bigint), CAST(:first AS bigint) + :count - 1) n ORDER BY n"
)


@dataclass(frozen=True)
class Plan:
    """For each of ``backlogs`` (rows), ``rounds`` times ``messages`` are measured.

    Then ``probes`` single rows, one every ``pause`` seconds, for the time that one takes.
    """

    backlogs: tuple[int, ...]
    messages: int = 20_000
    rounds: int = 3
    probes: int = 300
    pause: float = 0.02


class _Sender:
    """The relay's producer; knows when Kafka had each event."""

    def __init__(self, producer: KafkaProducer) -> None:
        self._producer = producer
        self.noted: dict[str, float] | None = None

    async def send(self, rows: Sequence[OutboxRow], may_send: Callable[[], bool]) -> int:
        records = [
            Record(
                row.topic, row.key, row.value, [(name, text.encode()) for name, text in row.headers.items()]
            )
            for row in rows
        ]
        acknowledged = await self._producer.send_batch(records, may_send)
        if self.noted is not None:
            self.noted |= dict.fromkeys((row.event_id for row in rows[:acknowledged]), time.perf_counter())
        return acknowledged


async def measure(plan: Plan, settings: Settings) -> dict[str, Any]:
    """Run ``plan`` on the outbox of intake, which is emptied, and on topics of its own."""
    configure_logging(settings, "bench")
    under, before = await conditions(settings), strain()
    db = await Database.open(settings.postgres_dsn, size=6, statement_timeout=300)
    sender = _Sender(producer := KafkaProducer(settings))
    try:
        sizes = [await _size(plan, settings, db, sender, backlog) for backlog in plan.backlogs]
        latency = await _latency(plan, settings, db, sender)
    finally:
        await producer.close()
        await db.close()
    rates = [size["messages_per_s"] for size in sizes]
    return {
        "plan": asdict(plan),
        "conditions": under,
        "before": before,
        "after": strain(),
        "sizes": sizes,
        "spread_percent": round(100 * (max(rates) - min(rates)) / max(rates), 1),
        "commit_to_kafka_ms": latency,
    }


def failed(result: dict[str, Any]) -> list[str]:
    """Why the run does not count."""
    return [
        f"with {size['backlog']} rows behind them, {size['faults']} messages were lost or out of order"
        for size in result["sizes"]
        if size["faults"]
    ]


async def _size(
    plan: Plan, settings: Settings, db: Database, sender: _Sender, backlog: int
) -> dict[str, Any]:
    topic = await _topic(settings)
    waiting = backlog + _WARM_UP + plan.rounds * plan.messages if backlog else 0
    await asyncio.to_thread(_fill, settings.postgres_dsn, topic, waiting)
    rates, busy = [], 0.0
    fed = asyncio.Event()
    feeding = None
    async with _relaying(db, settings, sender) as relay:
        warm = _sent() + _WARM_UP
        if not backlog:
            feeding = asyncio.create_task(_feed(db, topic, relay, fed))
        try:
            await _until_sent(warm)
            for _ in range(plan.rounds):
                first, began, cpu = _sent(), time.perf_counter(), _cpu()
                await _until_sent(first + plan.messages)
                rates.append((_sent() - first) / (time.perf_counter() - began))
                busy += _cpu() - cpu
        finally:
            fed.set()
            if feeding is not None:
                await feeding
    messages, repeated, faults = await asyncio.to_thread(_check, settings, topic)
    return {
        "backlog": backlog,
        "messages_per_s": round(statistics.median(rates)),
        "rounds_per_s": [round(rate) for rate in rates],
        "cpu_us_a_message": round(1e6 * busy / (plan.rounds * plan.messages)),
        "read_back": messages,
        "repeated": repeated,
        "faults": faults,
    }


async def _latency(plan: Plan, settings: Settings, db: Database, sender: _Sender) -> dict[str, Any]:
    """From the end of a commit to Kafka's acknowledgement, one row at a time, in milliseconds: a row of this
    process, which wakes the relay, and a row of another one, which it has to find."""
    topic = await _topic(settings)
    await asyncio.to_thread(_fill, settings.postgres_dsn, topic, 0)
    found = {}
    async with _relaying(db, settings, sender):
        for name, commit in (("same process", _add), ("another process", _insert)):
            before = _sent()
            committed: dict[str, float] = {}
            noted: dict[str, float] = {}
            sender.noted = noted
            for number in range(plan.probes):
                event_id = str(uuid4())
                await commit(
                    db, OutboxRow(event_id, topic, b"key-%d" % (number % 10), b"1", {"ce_id": event_id})
                )
                committed[event_id] = time.perf_counter()
                await asyncio.sleep(plan.pause)
            await _until_sent(before + plan.probes)
            taken = [max(0.0, noted[event_id] - at) for event_id, at in committed.items()]
            found[name] = milliseconds(taken, 0.5, 0.9, 0.99)
    return found


async def _add(db: Database, row: OutboxRow) -> None:
    async with db.transaction() as tx:
        await outbox.add(tx, _R, [row])


async def _insert(db: Database, row: OutboxRow) -> None:
    await db.execute(insert(_R.outbox).values(asdict(row)))


@asynccontextmanager
async def _relaying(db: Database, settings: Settings, sender: _Sender) -> AsyncIterator[Relay]:
    stop = asyncio.Event()
    relay = Relay(db, _R, settings, "bench", sender.send)
    task = asyncio.create_task(relay.run(stop))
    try:
        yield relay
    finally:
        stop.set()
        await task


async def _feed(db: Database, topic: str, relay: Relay, fed: asyncio.Event) -> None:
    """Commit small batches, a little ahead of the relay."""
    given, began = 0, _sent()
    while not fed.is_set():
        if given - (_sent() - began) >= _AHEAD:
            await asyncio.sleep(_LOOK)
            continue
        await db.execute(_FILL, {"topic": topic, "first": given, "count": _BATCH})
        given += _BATCH
        relay.wake()


async def _until_sent(goal: int) -> None:
    async with asyncio.timeout(_WITHIN):
        while _sent() < goal:  # noqa: ASYNC110  # a counter tells nobody
            await asyncio.sleep(_LOOK)


def _sent() -> int:
    """How many rows were acknowledged and deleted in this process."""
    return int(REGISTRY.get_sample_value("fulcrum_outbox_sent_total", {"service": _R.schema}) or 0)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _fill(dsn: str, topic: str, rows: int) -> None:
    """An outbox of ``rows`` rows and nothing else, as it looks after a quiet while."""
    connection = psycopg2.connect(dsn)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE intake.outbox, intake.outbox_parked")
            if rows:
                fill = str(_FILL).replace(":topic", "%(topic)s").replace(":first", "%(first)s")
                fill = fill.replace(":count", "%(count)s")
                cursor.execute(
                    fill.replace("n % 5000", "n %% 5000"), {"topic": topic, "first": 0, "count": rows}
                )
            cursor.execute("VACUUM ANALYZE intake.outbox")
            cursor.execute("CHECKPOINT")
    finally:
        connection.close()


async def _topic(settings: Settings) -> str:
    name = f"{settings.namespace}.bench-relay-{uuid4().hex[:6]}"
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 0})
    new = NewTopic(name, settings.partitions, settings.replication)
    await asyncio.to_thread(admin.create_topics([new])[name].result, 15)
    return name


def _check(settings: Settings, topic: str) -> tuple[int, int, int]:
    """Messages in the topic, how many of them are repeats, and how many are missing or come too early."""
    consumer = Consumer(
        {"bootstrap.servers": settings.kafka_bootstrap, "group.id": topic, "enable.auto.commit": False}
    )
    newest: dict[bytes, int] = defaultdict(lambda: -1)
    seen: set[int] = set()
    messages = early = 0
    for partition in range(settings.partitions):
        at = TopicPartition(topic, partition, 0)
        _, end = consumer.get_watermark_offsets(at, timeout=15)
        consumer.assign([at])
        position = 0
        while position < end:
            for message in consumer.consume(min(5_000, end - position), 15.0):
                position = (message.offset() or 0) + 1
                number = int((message.value() or b"").split(b" ", 1)[0])
                key = message.key() or b""
                messages += 1
                early += number < newest[key] and number not in seen
                newest[key] = max(newest[key], number)
                seen.add(number)
    consumer.close()
    return messages, messages - len(seen), early + (max(seen) + 1 - len(seen))
