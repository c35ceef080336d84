"""Queues of a test's own, and what it puts on them and finds there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Any, Protocol
from uuid import uuid4

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from fulcrum.commands.publisher import CommandPublisher
from fulcrum.commands.retry import LEVELS
from fulcrum.commands.topology import Topology, declare
from fulcrum.saga.messages import SERVICES, Line, ReserveStock
from fulcrum.settings import Settings
from fulcrum.wire.codec import offline_codec
from fulcrum.wire.headers import Envelope

# The tracebacks that structlog prints by default, with every variable, take seconds.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)

CODEC = offline_codec()
_number = count()


def settings_of(env: Mapping[str, str], **changes: Any) -> Settings:
    """Settings for ``env``, with a namespace that no other test has."""
    fields = {name.removeprefix("FULCRUM_").lower(): value for name, value in env.items()}
    known = {name: value for name, value in fields.items() if name in Settings.model_fields}
    known["namespace"] = f"{env['FULCRUM_NAMESPACE']}-{next(_number)}"
    return Settings.model_validate({**known, "retry_unit": 0.01, "retry_limit": 2, **changes})


@asynccontextmanager
async def broker(settings: Settings) -> AsyncIterator[AbstractChannel]:
    """A channel on which the topology of ``settings`` exists; it is removed at the end."""
    names = Topology(settings.namespace)
    async with await aio_pika.connect(settings.rabbitmq_url) as connection:
        channel = await connection.channel()
        await declare(channel, settings)
        try:
            yield channel
        finally:
            cleaner = await connection.channel()
            for service in SERVICES:
                await cleaner.queue_delete(names.queue(service))
                await cleaner.queue_delete(names.parked_queue(service))
            for level in LEVELS:
                await cleaner.queue_delete(names.retry(level.name))
                await cleaner.exchange_delete(names.retry(level.name))
            await cleaner.exchange_delete(names.commands)
            await cleaner.exchange_delete(names.parked)


def reserve(sku: str = "tea", command_id: str | None = None) -> ReserveStock:
    """A command for inventory."""
    return ReserveStock(
        command_id=command_id or str(uuid4()),
        workflow_id=str(uuid4()),
        step="ReserveStock",
        attempt=1,
        issued_at=datetime(2026, 3, 1, tzinfo=UTC),
        lines=(Line(sku, 1),),
    )


def headers_of(command: ReserveStock) -> dict[str, str]:
    """The envelope of ``command``."""
    return Envelope(
        message_id=command.command_id,
        type="ReserveStock",
        source="test",
        workflow_id=command.workflow_id,
        time=command.issued_at,
        correlation_id="order-7",
        causation_id=None,
        traceparent=None,
    ).to_amqp()


async def publish(settings: Settings, *commands: ReserveStock, **headers: str) -> None:
    """Put ``commands`` on inventory's queue, in this order."""
    publisher = await CommandPublisher.open(settings)
    try:
        for command in commands:
            body = CODEC.encode(command)
            envelope = {**headers_of(command), **headers}
            await publisher.publish("inventory", body, envelope, command.command_id, "ReserveStock")
    finally:
        await publisher.close()


async def depth(channel: AbstractChannel, queue: str) -> int:
    """Messages of ``queue`` that are ready, as the broker counts them now."""
    found = await channel.declare_queue(queue, passive=True)
    return int(found.declaration_result.message_count or 0)


async def take_all(channel: AbstractChannel, queue: str) -> list[AbstractIncomingMessage]:
    """Everything that is ready on ``queue``, taken off it."""
    source = await channel.get_queue(queue, ensure=False)
    found = []
    while message := await source.get(fail=False, no_ack=True):
        found.append(message)
    return found


class Running(Protocol):
    """Something that runs until it is told to stop."""

    async def run(self, stop: asyncio.Event) -> None: ...


@asynccontextmanager
async def running(part: Running) -> AsyncIterator[asyncio.Event]:
    """Run ``part``; the event stops it, as does leaving. What it raised is raised here."""
    stop = asyncio.Event()
    task = asyncio.create_task(part.run(stop))
    try:
        yield stop
    except BaseException:
        task.cancel()
        await asyncio.wait({task})
        raise
    stop.set()
    async with asyncio.timeout(15):
        await task
