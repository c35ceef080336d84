"""How a queue stays consumed while RabbitMQ, its connections and its queues come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

from fulcrum.commands.connection import broker_errors, dial, hang_up, server_of
from fulcrum.commands.topology import declare
from fulcrum.errors import Unavailable
from fulcrum.settings import Settings

log = structlog.get_logger()

_BACKOFF_FIRST, _BACKOFF_LAST = 0.2, 2.0
_OPEN_TIMEOUT = 10.0
_CANCEL_TIMEOUT = 2.0
#: Seconds between looks whether the broker still knows our consumer.
_PROBE_EVERY = 5.0


class Subscription:
    """Hands every message of ``queue`` to ``take``, which must return at once.

    After any loss everything is built anew: connection, topology, consumer. What was not acknowledged is
    then delivered again, and acknowledging a message of a lost channel has no effect.
    """

    def __init__(
        self, settings: Settings, queue: str, prefetch: int, take: Callable[[AbstractIncomingMessage], None]
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._prefetch = prefetch
        self._take = take
        self._lost = asyncio.Event()
        self._channel: AbstractChannel | None = None

    @property
    def ready(self) -> bool:
        """Whether the queue is being consumed."""
        return self._channel is not None and not self._channel.is_closed and not self._lost.is_set()

    def reset(self) -> None:
        """Have everything that is not acknowledged delivered again, on a new connection."""
        self._lost.set()

    async def run(self, stop: asyncio.Event, finish: Callable[[], Awaitable[None]]) -> None:
        """Consume until ``stop``; then take no more, call ``finish`` while acknowledging still works, leave.

        Raises Misconfigured only: RabbitMQ being away is waited out.
        """
        backoff = _BACKOFF_FIRST
        while not stop.is_set():
            try:
                await self._consume(stop, finish)
                backoff = _BACKOFF_FIRST
            except Unavailable as error:
                log.warning("queue.not_consumed", queue=self._queue, error=str(error), retry_in=backoff)
                await _first(stop, timeout=backoff)
                backoff = min(backoff * 2, _BACKOFF_LAST)

    async def _consume(self, stop: asyncio.Event, finish: Callable[[], Awaitable[None]]) -> None:
        connection = await dial(self._settings, self._queue)
        try:
            lost = self._lost = asyncio.Event()
            cancel = await self._open(connection, lost)
            log.info("queue.consumed", queue=self._queue, prefetch=self._prefetch)
            probing = asyncio.create_task(self._probe(connection, lost))
            try:
                await _first(stop, lost)
            finally:
                probing.cancel()
            if stop.is_set():
                await cancel()
                await finish()
            else:
                log.warning("queue.lost", queue=self._queue)
        finally:
            self._channel = None
            await hang_up(connection)

    async def _open(
        self, connection: AbstractConnection, lost: asyncio.Event
    ) -> Callable[[], Awaitable[None]]:
        """Begin to consume; returns how to stop."""
        with broker_errors(server_of(self._settings.rabbitmq_url)):
            async with asyncio.timeout(_OPEN_TIMEOUT):
                channel = await connection.channel(publisher_confirms=False)
                await declare(channel, self._settings)
                await channel.set_qos(prefetch_count=self._prefetch)
                queue = await channel.get_queue(self._queue, ensure=False)
                await _watch(channel, lost)
                tag = await queue.consume(self._receive)
        self._channel = channel

        async def cancel() -> None:
            with suppress(Exception):
                await queue.cancel(tag, timeout=_CANCEL_TIMEOUT)

        return cancel

    async def _probe(self, connection: AbstractConnection, lost: asyncio.Event) -> None:
        """Notice a consumer that is gone and was not told so, or a connection that is stuck."""
        try:
            channel = await connection.channel()
            while True:
                await asyncio.sleep(_PROBE_EVERY)
                async with asyncio.timeout(_OPEN_TIMEOUT):
                    queue = await channel.declare_queue(self._queue, passive=True)
                if queue.declaration_result.consumer_count == 0:
                    log.warning("queue.forgot_us", queue=self._queue)
                    lost.set()
        except Exception as error:
            log.warning("queue.unknown", queue=self._queue, error=str(error))
            lost.set()

    async def _receive(self, message: AbstractIncomingMessage) -> None:
        self._take(message)


async def _watch(channel: AbstractChannel, lost: asyncio.Event) -> None:
    """Notice a closed channel or connection, and a queue that was deleted under its consumer."""

    def closed(*_: Any) -> None:
        lost.set()

    underlay = await channel.get_underlay_channel()
    underlay.closing.add_done_callback(closed)
    underlay.on_consumer_cancel_callbacks.add(closed)


async def _first(*events: asyncio.Event, timeout: float | None = None) -> None:
    """Wait until one of ``events`` is set, or ``timeout`` seconds passed."""
    tasks = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
