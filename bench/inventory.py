"""How many reservations a second does the inventory make, by how many SKUs they are spread over?

Fed directly, as the consumer of the service feeds it; with so many commands in flight, to see that a hot SKU
gets faster with load; and through RabbitMQ, by one process and by two that compete.

Long, because the three ways share what they feed and what must hold afterwards.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import func, select

from bench.alone import Alone
from bench.conditions import conditions, strain
from fulcrum.commands.delivery import Delivery
from fulcrum.commands.publisher import CommandPublisher
from fulcrum.doctor import in_postgres
from fulcrum.doctor.violation import Violation
from fulcrum.saga import identity
from fulcrum.saga.messages import Command, Line, ReceiveStock, ReserveStock
from fulcrum.store.database import Database
from fulcrum.telemetry.trace import new_traceparent
from fulcrum.wire.codec import Codec, open_codec
from fulcrum.wire.headers import Envelope
from fulcrum.wire.topics import Topics
from fulcrum.workers.inventory import InventoryWorker
from fulcrum.workers.inventory_relations import INVENTORY, RESERVATIONS

#: Batches that the service has in hand at once: one in its transaction, one being decoded or acknowledged.
_AT_ONCE = 2
_WARMUP = 2_000
_DRAIN_WITHIN = 300.0
_LOOK_EVERY = 0.02
_PUBLISH_AT_ONCE = 200
_CHECKS = (
    "stock equals its ledger",
    "what is reserved is what runs hold",
    "received equals available, reserved and consumed",
)


@dataclass(frozen=True)
class Plan:
    """What to measure: so many ``commands`` a figure, each a reservation of one unit of one SKU."""

    skus: tuple[int, ...]
    in_flight: tuple[int, ...]
    processes: tuple[int, ...]
    commands: int
    batch_size: int


@dataclass(frozen=True)
class Figure:
    """One measured run. ``way``: direct, in flight, or queue; ``batch``: commands a transaction, on average.

    ``seconds`` for so many ``commands``.
    """

    way: str
    skus: int
    in_flight: int | None
    processes: int
    commands: int
    seconds: float
    per_second: float
    batch: float | None


class Feed:
    """Makes commands as the bridge sends them, and hands them to a worker as the consumer does."""

    def __init__(self, db: Database, codec: Codec, topics: Topics, batch_size: int) -> None:
        self._codec = codec
        self._worker = InventoryWorker(db, codec, topics)
        self._batch_size = batch_size
        self.made = 0

    async def stock(self, count: int, units: int) -> list[str]:
        """New SKUs with so many units each."""
        skus = [f"bench-{uuid4().hex[:12]}" for _ in range(count)]
        given = [
            ReceiveStock(
                command_id=identity.receipt_id(sku, "bench"),
                sku=sku,
                quantity=units,
                reference="bench",
                issued_at=datetime.now(UTC),
            )
            for sku in skus
        ]
        for start in range(0, count, self._batch_size):
            await self._worker.handle(
                [self.delivery(each) for each in given[start : start + self._batch_size]]
            )
        return skus

    def reservations(self, skus: Sequence[str], count: int) -> list[Delivery]:
        """One unit each, of the SKUs in turn."""
        self.made += count
        return [self.delivery(_reservation(skus[number % len(skus)])) for number in range(count)]

    def delivery(self, command: Command) -> Delivery:
        """``command`` as its queue hands it out."""
        envelope = Envelope(
            message_id=command.command_id,
            type=type(command).__name__,
            source="bench",
            workflow_id=getattr(command, "workflow_id", None),
            time=datetime.now(UTC),
            correlation_id="bench",
            causation_id=None,
            traceparent=new_traceparent(),
        )
        return Delivery(command, envelope.to_amqp(), command.command_id, 1, self._codec.encode(command))

    async def handle(self, batch: Sequence[Delivery]) -> None:
        """Decode and carry out ``batch``."""
        read = [
            Delivery(self._codec.decode(d.body), d.headers, d.message_id, d.attempt, d.body)  # type: ignore[arg-type]
            for d in batch
        ]
        await self._worker.handle(read)

    async def all_at_once(self, given: Sequence[Delivery]) -> tuple[float, float]:
        """Everything waits already: seconds, and commands a batch."""
        size = self._batch_size
        batches = [given[start : start + size] for start in range(0, len(given), size)]
        waiting = iter(batches)

        async def work() -> None:
            for batch in waiting:
                await self.handle(batch)

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(_AT_ONCE)))
        return time.perf_counter() - began, len(given) / len(batches)

    async def in_flight(self, given: Sequence[Delivery], most: int) -> tuple[float, float]:
        """At most ``most`` are sent and not answered: a batch is what has come meanwhile."""
        left = list(reversed(given))
        waiting = [left.pop() for _ in range(min(most, len(left)))]
        come = asyncio.Event()
        batches = 0

        async def work() -> None:
            nonlocal batches
            while waiting or left:
                if not waiting:
                    await come.wait()
                    continue
                batch, waiting[:] = waiting[: self._batch_size], waiting[self._batch_size :]
                if not waiting:
                    come.clear()
                batches += 1
                await self.handle(batch)
                waiting.extend(left.pop() for _ in range(min(len(batch), len(left))))
                come.set()

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(_AT_ONCE)))
        return time.perf_counter() - began, len(given) / batches


def _reservation(sku: str) -> ReserveStock:
    workflow = str(uuid4())
    return ReserveStock(
        command_id=identity.command_id(workflow, "reserve_stock", "ReserveStock", 1),
        workflow_id=workflow,
        step="reserve_stock",
        attempt=1,
        issued_at=datetime.now(UTC),
        lines=(Line(sku, 1),),
    )


async def measure(plan: Plan, own: Alone) -> dict[str, Any]:
    """Run ``plan`` on the names of ``own``, which are prepared."""
    settings = own.settings(batch_size=plan.batch_size)
    codec = await open_codec(settings)
    db = await Database.open(settings.postgres_dsn, size=_AT_ONCE + 1)
    feed = Feed(db, codec, Topics(settings.namespace), plan.batch_size)
    figures: list[Figure] = []
    try:
        under, before = await conditions(settings), strain()
        await feed.all_at_once(feed.reservations(await feed.stock(1, _WARMUP), _WARMUP))
        for skus in plan.skus:
            given = feed.reservations(await feed.stock(skus, plan.commands), plan.commands)
            figures.append(_figure("direct", skus, None, 1, len(given), *await feed.all_at_once(given)))
        for most in plan.in_flight:
            given = feed.reservations(await feed.stock(1, plan.commands), plan.commands // 4)
            figures.append(_figure("in flight", 1, most, 1, len(given), *await feed.in_flight(given, most)))
        for skus in plan.skus:
            for processes in plan.processes:
                given = feed.reservations(await feed.stock(skus, plan.commands), plan.commands)
                seconds, counted = await _drained(own, db, given, processes, plan)
                figures.append(_figure("queue", skus, None, processes, counted, seconds, None))
        violations = await _violations(own.env, db, feed.made)
    finally:
        await db.close()
    return {
        "plan": asdict(plan),
        "conditions": under,
        "before": before,
        "after": strain(),
        "figures": [asdict(figure) for figure in figures],
        "violations": [asdict(violation) for violation in violations],
    }


def _figure(
    way: str,
    skus: int,
    in_flight: int | None,
    processes: int,
    commands: int,
    seconds: float,
    batch: float | None,
) -> Figure:
    return Figure(
        way,
        skus,
        in_flight,
        processes,
        commands,
        round(seconds, 3),
        round(commands / seconds, 1),
        None if batch is None else round(batch, 1),
    )


# --- through the queue ----------------------------------------------------------------------------


async def _drained(
    own: Alone, db: Database, given: Sequence[Delivery], processes: int, plan: Plan
) -> tuple[float, int]:
    """Publish, start the processes, and see how the inbox grows: seconds, and commands in that time.

    The clock starts with the first commit, so that the start of the processes does not count.
    """
    publisher = await CommandPublisher.open(own.settings(), "bench")
    free = asyncio.Semaphore(_PUBLISH_AT_ONCE)

    async def publish(each: Delivery) -> None:
        async with free:
            await publisher.publish(
                "inventory", each.body, each.headers, each.message_id, type(each.command).__name__
            )

    already = await _taken(db)
    try:
        await asyncio.gather(*(publish(each) for each in given))
    finally:
        await publisher.close()
    names = [f"inventory-{number}" for number in range(processes)]
    env = {"FULCRUM_BATCH_SIZE": str(plan.batch_size)}
    for number, name in enumerate(names):
        mine = {**env, "FULCRUM_INSTANCE": str(number)}
        await asyncio.to_thread(own.start, "inventory", mine, name=name, within=None)
    try:
        return await _watch(db, already, len(given))
    finally:
        for name in names:
            await asyncio.to_thread(own.stop, name)


async def _watch(db: Database, already: int, count: int) -> tuple[float, int]:
    deadline = time.monotonic() + _DRAIN_WITHIN
    began: tuple[float, int] | None = None
    while True:
        taken, now = await _taken(db) - already, time.perf_counter()
        if began is None and taken:
            began = now, taken
        if began is not None and taken >= count:
            return now - began[0], count - began[1]
        if time.monotonic() > deadline:
            raise TimeoutError(f"{taken} of {count} commands took effect within {_DRAIN_WITHIN:g} s")
        await asyncio.sleep(_LOOK_EVERY)


async def _taken(db: Database) -> int:
    row = await db.one(select(func.count().label("count")).select_from(INVENTORY.inbox))
    return 0 if row is None else int(row["count"])


# --- afterwards -----------------------------------------------------------------------------------


async def _violations(env: Mapping[str, str], db: Database, made: int) -> list[Violation]:
    """Stock is what the ledger says, nothing is below zero, and every command has one outcome."""
    found = await asyncio.to_thread(in_postgres.violations, env, _CHECKS)
    held = await db.one(select(func.count().label("n")).where(RESERVATIONS.c.state == "held"))
    open_ones = await db.one(select(func.count().label("n")).where(INVENTORY.inbox.c.outcome.is_(None)))
    for what, seen, expected in (("reservations held", held, made), ("without an outcome", open_ones, 0)):
        if seen is None or seen["n"] != expected:
            found.append(Violation("one outcome per command", what, f"{seen}, not {expected}"))
    return found
