"""A command is on its queue for certain, or the publisher says that it may not be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractChannel
from commandbus import broker, settings_of, take_all
from eventually import eventually_async
from link import linked

from fulcrum.commands import publisher as publishing
from fulcrum.commands.publisher import CommandPublisher, Outgoing, Unroutable
from fulcrum.commands.topology import Topology
from fulcrum.errors import Misconfigured, Unavailable
from fulcrum.settings import Settings


@pytest.fixture
def settings(namespace: Mapping[str, str]) -> Settings:
    return settings_of(namespace)


@pytest_asyncio.fixture
async def channel(settings: Settings) -> AsyncIterator[AbstractChannel]:
    async with broker(settings) as found:
        yield found


@pytest_asyncio.fixture
async def publisher(settings: Settings, channel: AbstractChannel) -> AsyncIterator[CommandPublisher]:
    found = await CommandPublisher.open(settings)
    yield found
    await found.close()


async def ids(settings: Settings, channel: AbstractChannel, service: str = "payment") -> list[str | None]:
    return [m.message_id for m in await take_all(channel, Topology(settings.namespace).queue(service))]


async def test_command_lies_there_as_given(
    settings: Settings, channel: AbstractChannel, publisher: CommandPublisher
) -> None:
    """Body, id, type and headers arrive, persistent, and headers that belong to brokers are left out."""
    headers = {"ce_id": "1", "traceparent": "00-ü", "x-death": "forged", "X-Delivery-Count": "9"}
    await publisher.publish("payment", b"\x00body", headers, "id-1", "AuthorizePayment")
    (message,) = await take_all(channel, Topology(settings.namespace).queue("payment"))
    assert (message.body, message.message_id, message.type) == (b"\x00body", "id-1", "AuthorizePayment")
    # The broker's own count, not the forged one, is there besides.
    assert message.headers == {"ce_id": "1", "traceparent": "00-ü", "x-delivery-count": 0}
    assert message.delivery_mode == DeliveryMode.PERSISTENT


async def test_many_at_once(
    settings: Settings, channel: AbstractChannel, publisher: CommandPublisher
) -> None:
    """Concurrent publishes all arrive, each once."""
    expected = [f"id-{n}" for n in range(300)]
    await asyncio.gather(*(publisher.publish("payment", b"b", {}, each, "T") for each in expected))
    assert sorted(map(str, await ids(settings, channel))) == sorted(expected)


async def test_unroutable_command_is_told_and_mended(
    settings: Settings, channel: AbstractChannel, publisher: CommandPublisher
) -> None:
    """When the queue is gone the publish fails and says which; the next one makes it anew."""
    await channel.queue_delete(Topology(settings.namespace).queue("payment"))
    with pytest.raises(Unroutable, match=f"payment.*{settings.namespace}.commands"):
        await publisher.publish("payment", b"b", {}, "id-1", "AuthorizePayment")
    await publisher.publish("payment", b"b", {}, "id-1", "AuthorizePayment")
    assert await ids(settings, channel) == ["id-1"]


async def test_deleted_exchange_is_mended(
    settings: Settings, channel: AbstractChannel, publisher: CommandPublisher
) -> None:
    """When the exchange is gone, which ends the channel, publishing recovers by itself."""
    await channel.exchange_delete(Topology(settings.namespace).commands)
    with pytest.raises(Unavailable):
        await publisher.publish("payment", b"b", {}, "id-1", "AuthorizePayment")
    await publisher.publish("payment", b"b", {}, "id-1", "AuthorizePayment")
    assert await ids(settings, channel) == ["id-1"]


async def test_two_publishes_of_one_id_keep_their_answers(
    settings: Settings, channel: AbstractChannel, publisher: CommandPublisher
) -> None:
    """Of two publishes of one id at once, the one that cannot be routed fails, and only that one."""
    names = Topology(settings.namespace)
    message = Outgoing(b"b", {}, "same", "T")
    for _ in range(10):
        ends = await asyncio.gather(
            publisher.send(names.commands, "payment", message),
            publisher.send(names.commands, "nobody", message),
            publisher.send(names.commands, "payment", message),
            return_exceptions=True,
        )
        assert [type(end) for end in ends] == [type(None), Unroutable, type(None)]
    assert await ids(settings, channel) == ["same"] * 20


async def test_silent_broker_is_waited_for_boundedly(
    settings: Settings, channel: AbstractChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a confirm in time the publish fails and its connection is given up: no repeat waits for it."""
    monkeypatch.setattr(publishing, "_CONFIRM_TIMEOUT", 0.5)
    async with linked(settings.rabbitmq_url) as (link, through):
        publisher = await CommandPublisher.open(settings.model_copy(update={"rabbitmq_url": through}))
        link.freeze()
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(Unavailable, match="confirm"):
                await publisher.publish("payment", b"b", {}, "id-1", "T")
            assert time.monotonic() - began < 2
            assert not publisher.ready

        async def nothing_in_flight() -> bool:
            return not publisher._in_flight

        await eventually_async(nothing_in_flight, within=2)
        await link.mend()
        await publisher.publish("payment", b"b", {}, "id-1", "T")
        # Whether the one that was given up arrived is not known, which is what its error said.
        assert await ids(settings, channel) in (["id-1"], ["id-1", "id-1"])
        await publisher.close()


async def test_lost_connection_is_told_and_replaced(settings: Settings, channel: AbstractChannel) -> None:
    """A publish while RabbitMQ is away fails at once; when it is back, publishing goes on."""
    async with linked(settings.rabbitmq_url) as (link, through):
        publisher = await CommandPublisher.open(settings.model_copy(update={"rabbitmq_url": through}))
        assert publisher.ready
        await link.cut()
        ends = await asyncio.gather(
            *(publisher.publish("payment", b"b", {}, f"lost-{n}", "T") for n in range(20)),
            return_exceptions=True,
        )
        assert {type(end) for end in ends} == {Unavailable}
        assert not publisher.ready
        await link.mend()

        async def publish() -> bool:
            await publisher.publish("payment", b"b", {}, "id-1", "T")
            return True

        await eventually_async(publish, within=5)
        assert publisher.ready
        assert "id-1" in await ids(settings, channel)
        await publisher.close()


async def test_absent_broker_is_named_without_the_password(settings: Settings) -> None:
    """Opening where nobody answers raises Unavailable with the address and nothing secret."""
    nowhere = settings.model_copy(update={"rabbitmq_url": "amqp://me:geheim@127.0.0.1:1/v"})
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1/v") as caught:
        await CommandPublisher.open(nowhere)
    assert "geheim" not in str(caught.value)


async def test_wrong_password_is_misconfigured(settings: Settings) -> None:
    """A wrong password will not come right by waiting, so the start is refused and the setting named."""
    parts = urlsplit(settings.rabbitmq_url)
    url = parts._replace(netloc=f"guest:geheim@{parts.hostname}:{parts.port}").geturl()
    with pytest.raises(Misconfigured, match=r"password.*FULCRUM_RABBITMQ_URL") as caught:
        await CommandPublisher.open(settings.model_copy(update={"rabbitmq_url": url}))
    assert "geheim" not in str(caught.value)


async def test_missing_vhost_is_explained(settings: Settings) -> None:
    """A vhost that does not open is named with what may be the matter; after a restart it may yet come."""
    url = urlsplit(settings.rabbitmq_url)._replace(path="/no-such-vhost").geturl()
    with pytest.raises(Unavailable, match=r"no-such-vhost.*does not exist.*FULCRUM_RABBITMQ_URL"):
        await CommandPublisher.open(settings.model_copy(update={"rabbitmq_url": url}))
