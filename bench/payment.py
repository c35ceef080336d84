"""How near does the payment worker come to what the provider's latency allows?

One worker process takes commands from RabbitMQ, asks a provider of a fixed latency, stores in Postgres and
answers on Kafka, all of them real. With so many calls in progress the ceiling is calls / latency, whatever
the worker does. The backlog is published before the worker starts, so that it is never without work; what
counts is what it has answered between two looks at its database, so neither its start nor its end does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import func, select

from bench.alone import Alone
from bench.conditions import conditions, strain
from fulcrum.commands.publisher import CommandPublisher
from fulcrum.localstack.home import Say
from fulcrum.saga import identity
from fulcrum.saga.messages import AuthorizePayment
from fulcrum.store.database import Database
from fulcrum.wire.codec import Codec, open_codec
from fulcrum.wire.headers import Envelope
from fulcrum.workers.payment_relations import OPEN_COMMAND, PAYMENT, PAYMENTS

_COUNT = select(func.count().label("n"))
_LOOK = 0.1
#: Seconds without any progress after which a run is given up.
_STANDSTILL = 60.0
#: Publishes under way at once.
_TOGETHER = 200


@dataclass(frozen=True)
class Plan:
    """``calls`` in progress, one run each, and ``commands`` times as many commands.

    ``latency`` of the provider, ``warmup`` and ``duration`` of a run are in seconds.
    """

    calls: Sequence[int]
    latency: float
    duration: float
    warmup: float
    commands: int


async def measure(plan: Plan, own: Alone, say: Say) -> dict[str, Any]:
    """Every run, its conditions, and what was found wrong."""
    provider = own.start("psp-simulator")
    settings = own.settings()
    codec = await open_codec(settings)
    db = await Database.open(settings.postgres_dsn, size=2)
    before = strain()
    runs, violations = [], []
    try:
        for calls in plan.calls:
            runs.append(await _run(plan, calls, own, codec, db, provider.url))
            say(_line(runs[-1]))
        violations = await _violations(db, sum(run["published"] for run in runs))
        return {
            "what": "payment worker: authorizations, one process",
            "latency_ms": plan.latency * 1000,
            "seconds": plan.duration,
            "commands_per_call": plan.commands,
            "runs": runs,
            "violations": violations,
            "strain": {"before": before, "after": strain()},
            "conditions": await conditions(settings),
        }
    finally:
        await db.close()


async def _run(
    plan: Plan, calls: int, own: Alone, codec: Codec, db: Database, psp_url: str
) -> dict[str, Any]:
    ceiling = calls / plan.latency
    # Enough for a worker that reaches the ceiling from its first moment, and then some.
    count = int(ceiling * (plan.warmup + plan.duration) * 1.15) + 2 * calls * plan.commands
    already = await _answered(db)
    await _publish(own, codec, count, f"pay_slow_{round(plan.latency * 1000)}")
    env = {
        "FULCRUM_PSP_URL": psp_url,
        "FULCRUM_PSP_CONCURRENCY": str(calls),
        "FULCRUM_CONCURRENCY": str(calls * plan.commands),
        "FULCRUM_PSP_TIMEOUT": "10",
    }
    own.start("payment", env, within=None)
    try:
        await _until(db, already + 1)
        await asyncio.sleep(plan.warmup)
        first, began = await _answered(db), time.monotonic()
        await asyncio.sleep(plan.duration)
        last, seconds = await _answered(db), time.monotonic() - began
        await _until(db, already + count)
    finally:
        own.stop("payment")
    rate = (last - first) / seconds
    return {
        "calls": calls,
        "commands": calls * plan.commands,
        "published": count,
        "rate": round(rate, 1),
        "ceiling": round(ceiling, 1),
        "share": round(rate / ceiling, 4),
        "strain": strain(),
    }


async def _publish(own: Alone, codec: Codec, count: int, token: str) -> None:
    publisher = await CommandPublisher.open(own.settings())
    try:
        for begin in range(0, count, _TOGETHER):
            await asyncio.gather(
                *(_send(publisher, codec, token) for _ in range(min(_TOGETHER, count - begin)))
            )
    finally:
        await publisher.close()


async def _send(publisher: CommandPublisher, codec: Codec, token: str) -> None:
    workflow, now = str(uuid4()), datetime.now(UTC)
    command = AuthorizePayment(
        command_id=identity.command_id(workflow, "authorize_payment", "AuthorizePayment", 1),
        workflow_id=workflow,
        step="authorize_payment",
        attempt=1,
        issued_at=now,
        tenant="bench",
        amount_minor=1250,
        currency="EUR",
        payment_method=token,
    )
    envelope = Envelope(
        message_id=command.command_id,
        type="AuthorizePayment",
        source="bench",
        workflow_id=workflow,
        time=now,
        correlation_id=workflow,
        causation_id=None,
        traceparent=None,
    )
    body = codec.encode(command)
    await publisher.publish("payment", body, envelope.to_amqp(), command.command_id, "AuthorizePayment")


async def _answered(db: Database) -> int:
    """How many payments have an outcome."""
    row = await db.one(_COUNT.where(PAYMENT.c.state == "authorized"))
    return int((row or {"n": 0})["n"])


async def _until(db: Database, count: int) -> None:
    """Wait until so many have one."""
    last, moved = -1, time.monotonic()
    while (now := await _answered(db)) < count:
        if now != last:
            last, moved = now, time.monotonic()
        if time.monotonic() - moved > _STANDSTILL:
            raise RuntimeError(f"the payment worker stands still at {now} of {count}")
        await asyncio.sleep(_LOOK)


async def _violations(db: Database, published: int) -> list[str]:
    """Whether each command was answered once, and nothing is left."""
    looks: Mapping[str, Any] = {
        "authorized payments": (
            select(func.count().label("n")).where(PAYMENT.c.state == "authorized"),
            published,
        ),
        "payments": (select(func.count().label("n")).select_from(PAYMENT), published),
        "open commands": (select(func.count().label("n")).select_from(OPEN_COMMAND), 0),
        "rows in the outbox": (select(func.count().label("n")).select_from(PAYMENTS.outbox), 0),
    }
    found = []
    for what, (statement, wanted) in looks.items():
        row = await db.one(statement)
        if row is None or row["n"] != wanted:
            found.append(f"{what}: {row and row['n']}, not {wanted}")
    return found


def _line(run: Mapping[str, Any]) -> str:
    return (
        f"{run['calls']:>3} calls, {run['commands']:>3} commands: {run['rate']:>7.1f}/s of "
        f"{run['ceiling']:>7.1f}/s, {run['share']:.1%}"
    )
