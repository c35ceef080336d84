"""One process of a service: it takes commands, parks what cannot be done, and relays its answers to Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from typing import Any, TypeVar

import structlog
from aiohttp import web
from sqlalchemy import select

from fulcrum.commands.consumer import CommandConsumer
from fulcrum.commands.delivery import Delivery
from fulcrum.commands.parker import Parker
from fulcrum.errors import Unavailable
from fulcrum.saga.messages import COMMANDS, EVENTS
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.store.migrate import require_current
from fulcrum.store.outbox import OutboxRow
from fulcrum.store.relations import ServiceRelations
from fulcrum.store.relay import Relay
from fulcrum.telemetry.health import HealthServer
from fulcrum.telemetry.startup import patiently
from fulcrum.wire.codec import Codec, open_codec
from fulcrum.wire.producer import KafkaProducer, Record
from fulcrum.wire.topics import Topics
from fulcrum.workers.courier_loops import CourierPoller, CourierSweeper
from fulcrum.workers.courier_news import CourierNews
from fulcrum.workers.courier_port import Courier
from fulcrum.workers.courier_relations import COURIER
from fulcrum.workers.courier_simulator import CourierSimulator
from fulcrum.workers.courier_webhook import CourierWebhook
from fulcrum.workers.courier_worker import CourierWorker
from fulcrum.workers.inventory import InventoryWorker
from fulcrum.workers.inventory_relations import INVENTORY
from fulcrum.workers.payment_relations import PAYMENTS
from fulcrum.workers.payment_sweeper import PaymentSweeper
from fulcrum.workers.payment_worker import PaymentWorker
from fulcrum.workers.provider import Provider
from fulcrum.workers.psp_simulator import PspSimulator
from fulcrum.workers.stock_sweeper import StockSweeper
from fulcrum.workers.warehouse_floor import Floor
from fulcrum.workers.warehouse_relations import WAREHOUSE
from fulcrum.workers.warehouse_rounds import WarehouseRounds
from fulcrum.workers.warehouse_simulator import WarehouseSimulator
from fulcrum.workers.warehouse_worker import WarehouseWorker

log = structlog.get_logger()

PAYMENT_PORT, INVENTORY_PORT = 8082, 8083
WAREHOUSE_PORT, COURIER_PORT = 8084, 8085
#: Warehouse commands in one transaction at most, and such batches in hand at once: each is soon done.
_WAREHOUSE_BATCH, _WAREHOUSE_BATCHES = 50, 2
#: Connections beyond one a batch in progress: those of the relay, the parker, the sweeper, the log of
#: attempts, and what asks whether Postgres is back.
_SPARE_CONNECTIONS = 6
#: Seconds that the last answers may take to reach Kafka when the process stops; the next one sends the rest.
_FLUSH_WITHIN = 3.0
_FLUSH_LOOK = 0.02

_Result = TypeVar("_Result")

Handle = Callable[[Sequence[Delivery]], Awaitable[None]]
#: Finishes what its commands left open, until the service stops.
Sweep = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


async def serve_payment(settings: Settings, stop: asyncio.Event) -> None:
    """Carry out payment commands until ``stop`` is set."""
    async with AsyncExitStack() as opened:
        provider = Provider(settings)
        opened.push_async_callback(provider.close)

        def work(db: Database, codec: Codec) -> tuple[Handle, Sweep]:
            topics, sweep_after = Topics(settings.namespace), settings.payment_sweep_after
            worker = PaymentWorker(db, codec, topics, provider, sweep_after)
            return worker.handle, PaymentSweeper(db, codec, worker, provider, settings).run

        await _serve(settings, stop, "payment", PAYMENTS, PAYMENT_PORT, 1, settings.concurrency, work)


async def serve_inventory(settings: Settings, stop: asyncio.Event) -> None:
    """Carry out inventory commands until ``stop`` is set."""
    topics = Topics(settings.namespace)
    ttl = timedelta(seconds=settings.reservation_ttl) if settings.reservation_ttl else None

    def work(db: Database, codec: Codec) -> tuple[Handle, Sweep]:
        return InventoryWorker(db, codec, topics, ttl).handle, StockSweeper(db, codec, topics).run

    size, at_once = settings.batch_size, settings.inventory_batches
    await _serve(settings, stop, "inventory", INVENTORY, INVENTORY_PORT, size, at_once, work)


async def serve_warehouse(settings: Settings, stop: asyncio.Event) -> None:
    """Carry out warehouse commands until ``stop`` is set."""
    async with AsyncExitStack() as opened:
        floor = Floor(settings)
        opened.push_async_callback(floor.close)

        def work(db: Database, codec: Codec) -> tuple[Handle, Sweep]:
            topics = Topics(settings.namespace)
            worker = WarehouseWorker(db, codec, topics)
            return worker.handle, WarehouseRounds(db, codec, topics, floor, worker, settings).run

        size, at_once = _WAREHOUSE_BATCH, _WAREHOUSE_BATCHES
        await _serve(settings, stop, "warehouse", WAREHOUSE, WAREHOUSE_PORT, size, at_once, work)


async def serve_courier(settings: Settings, stop: asyncio.Event) -> None:
    """Carry out courier commands, and take the courier's webhooks, until ``stop`` is set."""
    async with AsyncExitStack() as opened:
        courier = Courier(settings)
        opened.push_async_callback(courier.close)
        webhook = CourierWebhook(settings)

        def work(db: Database, codec: Codec) -> tuple[Handle, Sweep]:
            topics = Topics(settings.namespace)
            worker = CourierWorker(db, codec, topics, courier, settings)
            webhook.news = CourierNews(db, codec, topics, settings.courier_poll)
            sweeper = CourierSweeper(db, codec, worker, courier, settings)
            poller = CourierPoller(db, webhook.news, courier, settings)

            async def loops(stop: asyncio.Event) -> None:
                async with asyncio.TaskGroup() as group:
                    group.create_task(sweeper.run(stop))
                    group.create_task(poller.run(stop))

            return worker.handle, loops

        at_once = settings.concurrency
        await _serve(settings, stop, "courier", COURIER, COURIER_PORT, 1, at_once, work, webhook.routes)


async def serve_courier_simulator(settings: Settings, stop: asyncio.Event) -> None:
    """Stand in for the courier until ``stop`` is set."""
    simulator = CourierSimulator(settings)
    await simulator.start()
    await stop.wait()
    await simulator.stop()


async def serve_psp_simulator(settings: Settings, stop: asyncio.Event) -> None:
    """Stand in for the payment provider until ``stop`` is set."""
    simulator = PspSimulator(settings)
    await simulator.start()
    await stop.wait()
    await simulator.stop()


async def serve_warehouse_simulator(settings: Settings, stop: asyncio.Event) -> None:
    """Stand in for the warehouse floor until ``stop`` is set."""
    simulator = WarehouseSimulator(settings)
    await simulator.start()
    await stop.wait()
    await simulator.stop()


async def _serve(
    settings: Settings,
    stop: asyncio.Event,
    service: str,
    relations: ServiceRelations,
    port: int,
    batch_size: int,
    concurrency: int,
    work: Callable[[Database, Codec], tuple[Handle, Sweep]],
    routes: Sequence[web.RouteDef] = (),
) -> None:
    parts: dict[str, CommandConsumer | Parker | Relay] = {}
    health = HealthServer(
        settings,
        port,
        lambda: {"started": bool(parts), **{name: part.ready for name, part in parts.items()}},
        routes,
    )
    async with AsyncExitStack() as opened:
        await health.start()
        opened.push_async_callback(health.stop)
        found = await _unless(stop, _open(settings, service, relations, concurrency, opened))
        if found is None:
            return
        db, codec = found
        producer = KafkaProducer(settings)
        opened.push_async_callback(producer.close)

        async def send(rows: Sequence[OutboxRow], may_send: Callable[[], bool]) -> int:
            return await producer.send_batch([_record(row) for row in rows], may_send)

        handle, sweep = work(db, codec)
        consumer = CommandConsumer(settings, service, codec.read, handle, batch_size, concurrency, db=db)
        parker = Parker(db, settings, service, codec.read)
        relay = Relay(db, relations, settings, owner=service, send=send)
        parts.update(commands=consumer, parking=parker, relay=relay)
        log.info("service.started", service=service)
        await _run(stop, consumer, (parker.run, sweep), relay, lambda: _flush(db, relations, relay))


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, _Result]) -> _Result | None:
    """The result of ``work``; None when ``stop`` came first, and then it is given up."""
    task = asyncio.create_task(work)
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, stopped):
            each.cancel()
        await asyncio.gather(task, stopped, return_exceptions=True)


async def _open(
    settings: Settings, service: str, relations: ServiceRelations, size: int, opened: AsyncExitStack
) -> tuple[Database, Codec]:
    """The database and the codec, as soon as Postgres and the registry answer."""
    db = await patiently("postgres", lambda: _open_database(settings, service, size))
    opened.push_async_callback(db.close)
    commands = [command for command in COMMANDS if command.service == service]
    answers = [event for event in EVENTS if event.stream == relations.schema]
    codec = await patiently("registry", lambda: open_codec(settings, (*commands, *answers)))
    return db, codec


async def _run(
    stop: asyncio.Event,
    consumer: CommandConsumer,
    beside: Sequence[Sweep],
    relay: Relay,
    flush: Callable[[], Awaitable[None]],
) -> None:
    """Run them all; the relay goes on until the last answers have left. One that fails ends all."""
    done = asyncio.Event()

    async def consume() -> None:
        await consumer.run(stop)
        await flush()
        done.set()

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(consume())
            group.create_task(relay.run(done))
            for each in beside:
                group.create_task(each(stop))
    except ExceptionGroup as failed:
        # Whoever reads the last line of the log should read the cause and not a tree.
        raise failed.exceptions[0] from None


async def _flush(db: Database, relations: ServiceRelations, relay: Relay) -> None:
    """Wait until the outbox is empty, as long as this process is the one that sends it."""
    waiting = select(relations.outbox.c.id).limit(1)
    with suppress(TimeoutError, Unavailable):
        async with asyncio.timeout(_FLUSH_WITHIN):
            # What is waited for is in a table, which nobody can tell an event about.
            while relay.leading and await db.one(waiting) is not None:  # noqa: ASYNC110
                await asyncio.sleep(_FLUSH_LOOK)


async def _open_database(settings: Settings, service: str, concurrency: int) -> Database:
    size = concurrency + _SPARE_CONNECTIONS
    db = await Database.open(settings.postgres_dsn, size, application_name=f"fulcrum-{service}", wait=0)
    try:
        await require_current(db)
    except BaseException:
        await db.close()
        raise
    return db


def _record(row: OutboxRow) -> Record:
    headers = [(name, value.encode()) for name, value in row.headers.items()]
    return Record(row.topic, row.key, row.value, headers)
