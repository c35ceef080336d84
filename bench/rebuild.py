"""How fast is the read model rebuilt from the journal, and does it stay that fast as the journal grows?

Each size gets a namespace and a database of its own. Workflows of the demonstration's shape are recorded as
an orchestrator would, many at a time; the rebuild is timed from its start to a generation with indexes that
is ready to be swapped in, and is then compared with what was recorded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import psycopg2
from confluent_kafka import Producer

from bench.cost import look, spent
from fulcrum.readmodel import rebuild
from fulcrum.readmodel.folding import Reader
from fulcrum.readmodel.generations import Generation
from fulcrum.saga.messages import Cause, DecisionMade, IssuedCommand, Line, StepView
from fulcrum.settings import Settings
from fulcrum.wire.topics import Topics

#: Decisions of one workflow, and how many workflows are under way at once.
_DECISIONS, _AT_ONCE = 3, 500
_NAMES = UUID("6c1f7f0e-52a3-4c61-9d6a-3f2f6d1b7a10")
_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_WITHIN = 60.0


def measure(settings: Settings, events: int, pids: Mapping[str, int]) -> dict[str, Any]:
    """Record ``events`` decisions, rebuild from them, and look whether all of them are there.

    ``pids`` are the servers whose CPU time is told beside that of the rebuild (``bench``).
    """
    recorded = record(settings, events)
    before = look(pids)
    seconds, generation = timed(settings)
    costs = spent(before, look(pids))
    return {
        "events": recorded["events"],
        "workflows": recorded["workflows"],
        "bytes_per_event": recorded["bytes_per_event"],
        "recorded_s": round(recorded["seconds"], 2),
        "rebuild_s": round(seconds, 3),
        "events_per_s": round(recorded["events"] / seconds, 1),
        "cpu_us_per_event": {
            name: round(cost.cpu / recorded["events"] * 1e6, 1) for name, cost in costs.items()
        },
        "faults": faults(settings, generation, recorded),
    }


def record(settings: Settings, events: int) -> dict[str, Any]:
    """Append at least ``events`` decisions to the journal, whole workflows only."""
    reader = Reader(settings)
    producer = Producer(
        {
            "bootstrap.servers": settings.kafka_bootstrap,
            "partitioner": "murmur2_random",
            "compression.type": "lz4",
            "linger.ms": 20,
        }
    )
    topic, size, began = Topics(settings.namespace).stream("decisions"), 0, time.monotonic()
    workflows = -(-events // _DECISIONS)
    for made in decisions(workflows):
        value = reader.encoded(made)
        size += len(value)
        while True:
            try:
                producer.produce(topic, value, made.workflow_id.encode())
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(_WITHIN) == 0
    reader.close()
    total = workflows * _DECISIONS
    return {
        "events": total,
        "workflows": workflows,
        "bytes_per_event": round(size / total),
        "seconds": time.monotonic() - began,
    }


def decisions(workflows: int) -> Iterator[DecisionMade]:
    """Workflows that complete; those under way take turns."""
    for start in range(0, workflows, _AT_ONCE):
        numbers = range(start, min(start + _AT_ONCE, workflows))
        stories = [_story(number) for number in numbers]
        for version in range(_DECISIONS):
            for story in stories:
                yield story[version]


def timed(settings: Settings) -> tuple[float, Generation]:
    """Seconds that a rebuild takes, and the generation."""
    began = time.monotonic()
    generation = rebuild.rebuild(settings, None, lambda _: None, threading.Event())
    return time.monotonic() - began, generation


def faults(settings: Settings, generation: Generation, recorded: Mapping[str, Any]) -> list[str]:
    """What is not as it was recorded: workflows or entries too few, or workflows not at their end."""
    connection = psycopg2.connect(settings.postgres_dsn)
    try:
        with connection.cursor() as cursor:
            ended = f"SELECT count(*) FROM {generation.schema}.workflow_runs WHERE status = 'completed'"
            entries = f"SELECT count(*) FROM {generation.schema}.timeline"
            cursor.execute(f"SELECT ({ended} AND version = %s), ({entries})", (_DECISIONS,))
            found: Sequence[int] = cursor.fetchone() or (0, 0)
    finally:
        connection.close()
    wanted = (recorded["workflows"], recorded["events"])
    named = zip(("workflows at their end", "timeline entries"), wanted, found, strict=True)
    wrong = [f"{name}: {seen}, recorded {told}" for name, told, seen in named if told != seen]
    return wrong if generation.status == "ready" else [f"generation is {generation.status}", *wrong]


def _story(number: int) -> list[DecisionMade]:
    workflow_id = str(uuid5(_NAMES, str(number)))
    moment = _BEGAN + timedelta(milliseconds=number)
    asked = [uuid5(_NAMES, f"{number} {step}") for step in ("authorize_payment", "reserve_stock")]
    pending = [
        StepView(
            name=name,
            status="pending",
            attempt=0,
            command_id=None,
            deadline_at=None,
            finished_at=None,
            reason=None,
        )
        for name in ("authorize_payment", "reserve_stock")
    ]
    running = [
        replace(step, status="running", attempt=1, command_id=str(command), deadline_at=moment + _WAIT)
        for step, command in zip(pending, asked, strict=True)
    ]
    done = [replace(step, status="done", finished_at=moment + _STEP) for step in running]
    causes = ("IntentCreated", "PaymentAuthorized", "StockReserved")
    steps = ((running[0], pending[1]), (done[0], running[1]), (done[0], done[1]))
    made = []
    for version in range(1, _DECISIONS + 1):
        at = moment + version * _STEP
        last = version == _DECISIONS
        step = running[min(version, 2) - 1]
        made.append(
            DecisionMade(
                decision_id=str(uuid5(_NAMES, f"{number} decision {version}")),
                workflow_id=workflow_id,
                version=version,
                decided_at=at,
                cause=Cause(
                    event_id=str(uuid5(_NAMES, f"{number} event {version}")),
                    type=causes[version - 1],
                    stream="intents",
                    sequence=1,
                    occurred_at=at,
                    topic="intents",
                    partition=number % 8,
                    offset=number,
                ),
                step=step.name,
                status_before=None if version == 1 else "running",
                status="completed" if last else "running",
                reason=None,
                ignored=None,
                commands=() if last else (_command(step),),
                intent_id=str(uuid5(_NAMES, f"{number} intent")),
                tenant="acme",
                customer_ref=f"customer-{number}",
                correlation_id=f"order-{number}",
                definition="fulfillment.v1",
                lines=(Line(f"sku-{number % 100}", 1), Line("cup", 2)),
                amount_minor=1250,
                currency="EUR",
                started_at=moment,
                steps=steps[version - 1],
            )
        )
    return made


_STEP, _WAIT = timedelta(milliseconds=20), timedelta(seconds=30)


def _command(step: StepView) -> IssuedCommand:
    return IssuedCommand(
        command_id=step.command_id or "",
        type="AuthorizePayment",
        service="payment",
        step=step.name,
        attempt=1,
        deadline_at=step.deadline_at,
        body=bytes(120),
    )
