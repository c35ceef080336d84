"""RabbitMQ is killed while commands wait on a retry queue: they come back, and as what they were."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import aio_pika
import pytest
from commandbus import broker, running, settings_of
from eventually import eventually_async
from shop import Shop
from sqlalchemy import select

from fulcrum.commands.topology import declare
from fulcrum.errors import Unavailable
from fulcrum.localstack import Stack
from fulcrum.settings import Settings
from fulcrum.store.database import Database, Row
from fulcrum.store.relations import ATTEMPTS

_COUNT = 20


@pytest.fixture
def settings(namespace: Mapping[str, str]) -> Settings:
    return settings_of(namespace, retry_unit=1.0)


async def attempts_of(db: Database, shop: Shop) -> list[Row]:
    """The attempts of the shop's commands, in the order in which they were made."""
    chosen = select(ATTEMPTS).where(ATTEMPTS.c.command_id.in_([each.command_id for each in shop.commands]))
    return await db.all(chosen.order_by(ATTEMPTS.c.attempt, ATTEMPTS.c.started_at))


async def test_waiting_commands_survive_a_killed_broker(settings: Settings, stack: Stack) -> None:
    """Each has its second attempt, and only that."""
    server = stack.server("rabbitmq")
    db = await Database.open(settings.postgres_dsn, size=4)
    async with await aio_pika.connect(settings.rabbitmq_url) as connection:
        channel = await connection.channel()
        await declare(channel, settings)
        shop = Shop(settings, db, channel)
        await shop.open()
        shop.mishaps = [Unavailable("away")] * _COUNT
        async with running(shop.consumer(batch_size=1)):
            await shop.order(_COUNT)

            async def all_failed_once() -> bool:
                return len(await attempts_of(db, shop)) >= _COUNT

            await eventually_async(all_failed_once, within=10)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            async with broker(settings) as channel:
                shop._channel = channel
                # Where a retry queue began before its exchange was bound, it tries again after 5 s.
                await shop.settled(within=60)

    async def all_kept() -> bool:
        return len(await attempts_of(db, shop)) >= 2 * _COUNT

    await eventually_async(all_kept, within=10)
    made = [(row["attempt"], row["outcome"]) for row in await attempts_of(db, shop)]
    assert made == [(1, "retried")] * _COUNT + [(2, "succeeded")] * _COUNT
    await db.close()
