"""What RabbitMQ does with commands by itself, given how it was told to."""

from __future__ import annotations

import re
from collections.abc import Mapping

import aio_pika
import pytest
from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.abc import AbstractChannel
from commandbus import broker, depth, settings_of, take_all
from eventually import eventually_async

from fulcrum.commands import topology
from fulcrum.commands.publisher import CommandPublisher
from fulcrum.commands.retry import LEVELS
from fulcrum.commands.topology import Topology, declare, retry_milliseconds
from fulcrum.errors import Misconfigured
from fulcrum.saga.messages import SERVICES


async def put(channel: AbstractChannel, exchange: str, key: str, message: Message) -> None:
    target = await channel.get_exchange(exchange, ensure=False)
    await target.publish(message, key, mandatory=True)


def persistent(message_id: str, **rest: object) -> Message:
    return Message(
        b"body", delivery_mode=DeliveryMode.PERSISTENT, message_id=message_id, headers={"h": "1"}, **rest
    )


async def test_declaring_again_changes_nothing(namespace: Mapping[str, str]) -> None:
    """Every process declares everything at its start; what lies on the queues stays."""
    settings = settings_of(namespace)
    names = Topology(settings.namespace)
    async with broker(settings) as channel:
        await put(channel, names.commands, "payment", persistent("m"))
        await declare(channel, settings)
        found = await take_all(channel, names.queue("payment"))
        assert [message.message_id for message in found] == ["m"]


async def test_whole_difference_is_explained(
    namespace: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every argument of every queue that exists otherwise is named with both values, and the remedy."""
    settings = settings_of(namespace, retry_unit=0.5)
    changed = settings.model_copy(update={"retry_unit": 2.0})
    async with broker(settings):
        monkeypatch.setattr(topology, "_MAX_LENGTH", 5)
        with pytest.raises(Misconfigured) as caught:
            await CommandPublisher.open(changed)
        monkeypatch.undo()
        await (await CommandPublisher.open(settings)).close()
    told = str(caught.value)
    for level in LEVELS:
        queue = f"queue {settings.namespace}.retry.{level.name}"
        has, wants = (retry_milliseconds(level.seconds, unit) for unit in (0.5, 2.0))
        assert f"{queue}: x-message-ttl has {has}, wants {wants}" in told
    assert told.count("x-max-length has 1000000, wants 5") == len(LEVELS) + 2 * len(SERVICES)
    assert "FULCRUM_RETRY_UNIT" in told
    assert "delete queue" in told


async def test_queue_of_another_type_is_explained(namespace: Mapping[str, str]) -> None:
    """A queue that somebody made as a classic one, or with more arguments, is named with all that differs."""
    settings = settings_of(namespace)
    names = Topology(settings.namespace)
    async with await aio_pika.connect(settings.rabbitmq_url) as connection:
        channel = await connection.channel()
        name = names.queue("payment")
        await channel.declare_queue(name, durable=True, arguments={"x-max-length-bytes": 4096})
        await channel.declare_exchange(names.parked, ExchangeType.TOPIC, durable=True)
        with pytest.raises(Misconfigured) as caught:
            await CommandPublisher.open(settings)
        told = str(caught.value)
        assert re.search(rf"queue {name}: x-queue-type has (none|classic), wants quorum", told)
        assert f"queue {name}: x-delivery-limit has none, wants 20" in told
        assert f"queue {name}: x-max-length-bytes has 4096, wants none" in told
        assert f"exchange {names.parked}: type has topic, wants direct" in told
        await channel.queue_delete(name)
        await channel.exchange_delete(names.parked)
        async with broker(settings):
            pass


async def test_each_service_gets_its_own(namespace: Mapping[str, str]) -> None:
    """The routing key, which is the service, decides on the queue, for commands and for parked ones."""
    settings = settings_of(namespace)
    names = Topology(settings.namespace)
    async with broker(settings) as channel:
        for service in SERVICES:
            await put(channel, names.commands, service, persistent(f"command for {service}"))
            await put(channel, names.parked, service, persistent(f"parked for {service}"))
        for service in SERVICES:
            commands = await take_all(channel, names.queue(service))
            parked = await take_all(channel, names.parked_queue(service))
            assert [m.message_id for m in commands] == [f"command for {service}"]
            assert [m.message_id for m in parked] == [f"parked for {service}"]


@pytest.mark.parametrize("level", LEVELS[:2])
async def test_delayed_command_comes_home(namespace: Mapping[str, str], level: object) -> None:
    """A command on a retry queue returns to its own service's queue, persistent and with its headers."""
    settings = settings_of(namespace)
    names = Topology(settings.namespace)
    async with broker(settings) as channel:
        await put(channel, names.retry(level.name), "inventory", persistent("m"))  # type: ignore[attr-defined]
        source = await channel.get_queue(names.queue("inventory"), ensure=False)
        message = await eventually_async(lambda: source.get(fail=False, no_ack=True), within=5)
        assert message is not None
        assert (message.message_id, message.body, message.headers["h"]) == ("m", b"body", "1")
        assert message.delivery_mode == DeliveryMode.PERSISTENT
        assert await depth(channel, names.queue("payment")) == 0


async def test_delays_overtake_each_other(namespace: Mapping[str, str]) -> None:
    """A command with a short delay is not held up by one with a long delay that was sent before."""
    settings = settings_of(namespace)
    names = Topology(settings.namespace)
    async with broker(settings) as channel:
        await put(channel, names.retry("1h"), "inventory", persistent("long"))
        await put(channel, names.retry("1s"), "inventory", persistent("short"))
        source = await channel.get_queue(names.queue("inventory"), ensure=False)
        message = await eventually_async(lambda: source.get(fail=False, no_ack=True), within=5)
        assert message is not None
        assert message.message_id == "short"


async def test_command_that_kills_its_consumers_is_parked(namespace: Mapping[str, str]) -> None:
    """A command that comes back unacknowledged again and again ends in parking, whole, and not in a loop."""
    settings = settings_of(namespace)
    names = Topology(settings.namespace)
    async with broker(settings) as channel:
        await put(channel, names.commands, "payment", persistent("m"))
        source = await channel.get_queue(names.queue("payment"), ensure=False)
        handed_out = 0

        async def hand_out() -> bool:
            nonlocal handed_out
            message = await source.get(fail=False)
            if message is None:
                return await depth(channel, names.parked_queue("payment")) == 1
            handed_out += 1
            assert handed_out < 30, "it is never given up"
            await message.reject(requeue=True)
            return False

        await eventually_async(hand_out, within=20)
        (parked,) = await take_all(channel, names.parked_queue("payment"))
        assert (parked.message_id, parked.body, parked.headers["h"]) == ("m", b"body", "1")
        assert handed_out > 5, "an innocent command would be parked after a few restarts"
        assert await depth(channel, names.queue("payment")) == 0
