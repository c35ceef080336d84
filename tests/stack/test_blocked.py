"""When there is no room, in RabbitMQ's memory or in the pool, a consumer takes no more, and it lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest
import pytest_asyncio
from aio_pika.abc import AbstractChannel
from commandbus import broker, running, settings_of, take_all
from eventually import eventually_async
from intake import free_port
from shop import Shop, rabbitmqctl
from sqlalchemy import text

from fulcrum.commands.consumer import CommandConsumer
from fulcrum.commands.publisher import CommandPublisher
from fulcrum.errors import Unavailable
from fulcrum.localstack import Stack
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.telemetry.health import HealthServer

_WATERMARK = "vm_memory_high_watermark"


@pytest.fixture
def settings(namespace: Mapping[str, str]) -> Settings:
    return settings_of(namespace, retry_limit=20, http_port=free_port())


@pytest_asyncio.fixture
async def channel(settings: Settings) -> AsyncIterator[AbstractChannel]:
    async with broker(settings) as found:
        yield found


async def opened(settings: Settings, channel: AbstractChannel, **limits: float) -> Shop:
    db = await Database.open(settings.postgres_dsn, size=2, **limits)  # type: ignore[arg-type]
    shop = Shop(settings, db, channel)
    await shop.open()
    return shop


@asynccontextmanager
async def memory_alarm(stack: Stack) -> AsyncIterator[None]:
    """RabbitMQ has no memory left for publishers, until the end."""
    await rabbitmqctl(stack, f"set_{_WATERMARK}", "0.000001")
    try:
        yield
    finally:
        await rabbitmqctl(stack, f"set_{_WATERMARK}", "0.4")


@asynccontextmanager
async def health(settings: Settings, consumer: CommandConsumer) -> AsyncIterator[str]:
    """The health pages of a service, at this address."""
    server = HealthServer(settings, 0, lambda: {"commands": consumer.ready})
    await server.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.stop()


async def status(url: str) -> int:
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        return answer.status


async def test_memory_alarm(settings: Settings, channel: AbstractChannel, stack: Stack) -> None:
    """A command that fails during an alarm cannot be put aside: its worker takes no more, /healthz answers,
    /readyz says no; after the alarm all is done, and each once."""
    shop = await opened(settings, channel)
    await shop.order(10)
    shop.mishaps = [Unavailable("away")] * 8
    consumer = shop.consumer(batch_size=1)
    async with memory_alarm(stack), health(settings, consumer) as url, AsyncExitStack() as until_the_end:
        await until_the_end.enter_async_context(running(consumer))

        async def blocked() -> bool:
            return consumer._settlement.blocked

        await eventually_async(blocked, within=15)
        tried = len(shop.batches)
        for _ in range(5):
            assert (await status(f"{url}/healthz"), await status(f"{url}/readyz")) == (200, 503)
        assert len(shop.batches) == tried == 1
        await rabbitmqctl(stack, f"set_{_WATERMARK}", "0.4")
        await shop.settled()
        assert await status(f"{url}/readyz") == 200
    failed = shop.batches[0][0].message_id
    assert [d.attempt for batch in shop.batches for d in batch if d.message_id == failed][:2] == [1, 2]
    await shop.db.close()


async def test_publisher_is_told_at_once(settings: Settings, channel: AbstractChannel, stack: Stack) -> None:
    """During an alarm a publish fails within a second and says why, and repeats do not add copies."""
    publisher = await CommandPublisher.open(settings)
    loop = asyncio.get_running_loop()
    sent = ["id-0"]

    async def publish(message_id: str) -> None:
        await publisher.publish("payment", b"b", {}, message_id, "T")

    async def refused() -> bool:
        try:
            await publish(sent[-1])
        except Unavailable:
            return True
        sent.append(f"id-{len(sent)}")
        return False

    async with memory_alarm(stack):
        # The alarm takes a moment to reach every connection; what it lets through is one copy each.
        await eventually_async(refused, within=10)
        began = loop.time()
        for message_id in (sent[-1], sent[-1], "another"):
            with pytest.raises(Unavailable, match="alarm"):
                await publish(message_id)
        assert loop.time() - began < 3
        assert publisher.blocked
        assert not publisher.ready

    async def taken() -> bool:
        await publish(sent[-1])
        return True

    await eventually_async(taken, within=10)
    assert publisher.ready
    await publisher.close()
    found = await take_all(channel, f"{settings.namespace}.commands.payment")
    assert [message.message_id for message in found] == sent


async def test_full_pool(settings: Settings, channel: AbstractChannel) -> None:
    """While every session is in use commands wait, unharmed and uncharged, and health answers at once."""
    shop = await opened(settings, channel, acquire_timeout=0.1)
    await shop.order(5)
    consumer = shop.consumer()
    async with AsyncExitStack() as taken, health(settings, consumer) as url:
        for _ in range(2):
            tx = await taken.enter_async_context(shop.db.transaction())
            await tx.one(text("SELECT 1"))
        async with running(consumer):

            async def tried() -> bool:
                return len(shop.batches) >= 1

            await eventually_async(tried, within=10)
            assert await status(f"{url}/healthz") == 200
            await taken.aclose()
            await shop.settled()
    assert {delivery.attempt for batch in shop.batches for delivery in batch} == {1}
    await shop.db.close()
