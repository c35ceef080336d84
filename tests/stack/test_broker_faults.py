"""What RabbitMQ and Postgres do to a working service: nothing is lost, and nothing was done twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from aio_pika.abc import AbstractChannel
from commandbus import broker, running, settings_of
from eventually import eventually_async
from shop import Shop, close_connections
from sqlalchemy import select, text

from fulcrum.commands import subscription, topology
from fulcrum.commands.topology import declare
from fulcrum.errors import Unavailable
from fulcrum.settings import Settings
from fulcrum.store.database import Database, DatabaseDown
from fulcrum.store.relations import ATTEMPTS
from fulcrum.workers.inventory_relations import STOCK


@pytest.fixture
def settings(namespace: Mapping[str, str]) -> Settings:
    return settings_of(namespace, retry_limit=20)


@asynccontextmanager
async def shop_on(settings: Settings, statement_timeout: float = 5.0) -> AsyncIterator[Shop]:
    """A shop whose queues exist and are removed at the end."""
    db = await Database.open(
        settings.postgres_dsn, size=4, application_name="shaken", statement_timeout=statement_timeout
    )
    async with broker(settings) as channel:
        shop = Shop(settings, db, channel)
        await shop.open()
        yield shop
    await db.close()


@pytest_asyncio.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with shop_on(settings) as found:
        yield found


@pytest_asyncio.fixture
async def onlooker(settings: Settings) -> AsyncIterator[Database]:
    """Postgres, as somebody else reaches it."""
    opened = await Database.open(settings.postgres_dsn, size=2, application_name="onlooker")
    yield opened
    await opened.close()


async def begun(shop: Shop) -> None:
    """Wait until the consumer is at work."""

    async def some() -> bool:
        return await shop.answered() > 0

    await eventually_async(some, within=15)


async def test_connections_closed_by_the_server(shop: Shop, namespace: Mapping[str, str]) -> None:
    """The broker closes the consumer's connection in the middle of its work, and again when more comes in."""
    management = namespace["FULCRUM_RABBITMQ_MANAGEMENT_URL"]
    queue = shop.names.queue("inventory")

    async def closed() -> int:
        return await close_connections(management, queue)

    async with running(shop.consumer(batch_size=2)):
        await shop.order(100)
        await begun(shop)
        # The management API lists a connection some seconds after it was made.
        await eventually_async(closed, within=15)
        await shop.order(100)
        await eventually_async(closed, within=15)
        await shop.order(100)
        await shop.settled()


async def test_queue_deleted_and_declared_again_at_once(
    shop: Shop, channel_of: AbstractChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody deletes the queue, and somebody else makes it anew before the consumer does: it hears all."""
    monkeypatch.setattr(subscription, "_PROBE_EVERY", 0.5)
    async with running(shop.consumer()):
        await shop.order(5)
        await shop.settled()
        for _ in range(5):
            await channel_of.queue_delete(shop.names.queue("inventory"))
            await declare(channel_of, shop.settings)
            await shop.order(3)
            await shop.settled(within=20)


@pytest_asyncio.fixture
async def channel_of(shop: Shop) -> AbstractChannel:
    """A channel of somebody else."""
    return shop._channel


async def attempts_of(db: Database, shop: Shop) -> list[dict[str, object]]:
    """The attempts of the shop's commands, in the order in which they were made."""
    ids = [command.command_id for command in shop.commands]
    chosen = select(ATTEMPTS).where(ATTEMPTS.c.command_id.in_(ids))
    return await db.all(chosen.order_by(ATTEMPTS.c.attempt, ATTEMPTS.c.started_at))


async def test_full_retry_queue(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, onlooker: Database
) -> None:
    """While a retry queue is full its copies are refused: the commands stay in hand until there is room."""
    monkeypatch.setattr(topology, "_MAX_LENGTH", 2)
    monkeypatch.setattr(random, "random", lambda: 0.5)  # all failures go to one level
    slower = settings.model_copy(update={"retry_unit": 0.3})
    async with shop_on(slower) as shop:
        shop.mishaps = [Unavailable("away")] * 6
        async with running(shop.consumer(batch_size=1, concurrency=4)):
            await shop.order(8)
            await shop.settled()
        rows = await attempts_of(onlooker, shop)
        assert [row["outcome"] for row in rows].count("retried") == 6


async def test_every_session_is_killed_again_and_again(shop: Shop, onlooker: Database) -> None:
    """Who loses its session in a transaction goes on with another one, and no attempt is charged."""
    kill = text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'shaken'"
    )

    async def killing() -> None:
        for _ in range(20):
            await onlooker.one(kill)
            await asyncio.sleep(0.05)

    async with running(shop.consumer(batch_size=4, concurrency=2)):
        _, _ = await asyncio.gather(shop.order(200), killing())
        await shop.settled()
    assert {delivery.attempt for batch in shop.batches for delivery in batch} == {1}


async def test_outage_of_any_length_charges_nobody(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Postgres answers nobody a batch waits, however often that is seen, and then goes as it was."""
    pings = 0
    ping = shop.db.ping

    async def away() -> None:
        nonlocal pings
        pings += 1
        if pings < 30:
            raise DatabaseDown("away")
        await ping()

    monkeypatch.setattr(shop.db, "ping", away)
    monkeypatch.setattr("fulcrum.commands.consumer.pause_before_try", lambda tries, chance: 0.01)
    shop.mishaps = [DatabaseDown("gone")]
    await shop.order(5)
    async with running(shop.consumer()):
        await shop.settled()
    assert pings == 30
    assert [len(batch) for batch in shop.batches] == [5, 5]
    assert {delivery.attempt for batch in shop.batches for delivery in batch} == {1}


async def test_command_that_kills_its_session_stands_alone(
    shop: Shop, onlooker: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command whose statement ends its own backend is found although that looks like an outage."""
    monkeypatch.setattr("fulcrum.commands.consumer.pause_before_try", lambda tries, chance: 0.01)
    handle, poison = shop.handle, 0

    async def deadly(batch: list[object]) -> None:
        nonlocal poison
        if any(getattr(delivery, "message_id") == fatal for delivery in batch):  # noqa: B009
            poison += 1
            if poison < 40:
                await shop.db.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        await handle(batch)  # type: ignore[arg-type]

    monkeypatch.setattr(shop, "handle", deadly)
    await shop.order(4)
    fatal = shop.commands[2].command_id
    async with running(shop.consumer()):
        await shop.settled()
    assert {row["command_id"] for row in await attempts_of(onlooker, shop)} == {fatal}


async def test_statements_that_run_into_their_limit(settings: Settings, onlooker: Database) -> None:
    """While somebody holds the stock row, statements time out; the consumer lives on and then does it all."""
    async with shop_on(settings, statement_timeout=0.3) as shop, running(shop.consumer()):
        async with onlooker.transaction() as tx:
            await tx.one(select(STOCK).where(STOCK.c.sku == shop.sku).with_for_update())
            await shop.order(6)

            async def timed_out() -> bool:
                return len(shop.batches) > 4

            await eventually_async(timed_out, within=15)
            assert await shop.answered() == 0
        await shop.settled()
