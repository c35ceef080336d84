"""How a queue stays consumed while RabbitMQ, its connections and its queues come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aiormq.exceptions import ChannelInvalidStateError

from fulcrum.commands.connection import broker_errors, dial, hang_up, server_of
from fulcrum.commands.topology import declare
from fulcrum.errors import Unavailable
from fulcrum.settings import Settings
from fulcrum.telemetry.metrics import consumer_resets

log = structlog.get_logger()

_BACKOFF_FIRST, _BACKOFF_LAST = 0.2, 2.0
_OPEN_TIMEOUT = 10.0
_CANCEL_TIMEOUT = 2.0
#: Seconds between looks whether the broker still knows our consumer.
_PROBE_EVERY = 5.0
#: Seconds until the first look at a consumer whose queue was just deleted.
_TRIAL = 1.0
#: Looks at which an idle consumer had got nothing, before it is renewed.
_RENEW_AFTER = 3


def is_stale(message: AbstractIncomingMessage) -> bool:
    """Whether the channel of ``message`` is gone, so that it will be delivered again."""
    try:
        return message.channel.is_closed
    except ChannelInvalidStateError:  # so aio_pika says that it is closed
        return True


class Subscription:
    """Hands every message of ``queue`` to ``take``, which must return at once.

    After any loss everything is built anew: connection, topology, consumer. What was not acknowledged is
    then delivered again, and acknowledging a message of a lost channel has no effect.

    RabbitMQ may keep a consumer deaf when its queue was deleted and is declared again at once: it counts it,
    hands messages to it, and they do not arrive; AMQP does not tell, not even of the deletion. So a consumer
    that has nothing in hand and gets nothing is renewed: a new channel consumes, then the old one is closed,
    which gives back what it may have swallowed. ``held`` says how many messages are in hand; without it they
    are watched, which is for queues with little traffic.
    """

    def __init__(
        self,
        settings: Settings,
        queue: str,
        prefetch: int,
        take: Callable[[AbstractIncomingMessage], None],
        held: Callable[[], int] | None = None,
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._prefetch = prefetch
        self._take = take
        self._held = held or self._unprocessed
        self._given: list[AbstractIncomingMessage] | None = [] if held is None else None
        self._taken = 0
        self._deleted = False
        self._lost = asyncio.Event()
        self._channel: AbstractChannel | None = None
        self._cancel: Callable[[], Awaitable[None]] = _nothing
        self._unwatch: Callable[[], None] = lambda: None

    @property
    def ready(self) -> bool:
        """Whether the queue is being consumed."""
        return self._channel is not None and not self._channel.is_closed and not self._lost.is_set()

    def reset(self, cause: str) -> None:
        """Have everything that is not acknowledged delivered again, on a new connection."""
        consumer_resets.labels(self._queue, cause).inc()
        log.warning("queue.consumed_anew", queue=self._queue, cause=cause)
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
            on_trial, self._deleted, self._taken = self._deleted, False, 0
            if self._given is not None:
                self._given.clear()
            await self._open(connection, lost)
            log.info("queue.consumed", queue=self._queue, prefetch=self._prefetch)
            probing = asyncio.create_task(self._probe(connection, lost, on_trial))
            try:
                await _first(stop, lost)
            finally:
                probing.cancel()
            if stop.is_set():
                await self._cancel()
                await finish()
            else:
                log.warning("queue.lost", queue=self._queue)
        finally:
            self._channel = None
            await hang_up(connection)

    async def _open(self, connection: AbstractConnection, lost: asyncio.Event) -> None:
        """Begin to consume on a channel of its own, which takes the place of the one before."""
        with broker_errors(server_of(self._settings.rabbitmq_url)):
            async with asyncio.timeout(_OPEN_TIMEOUT):
                channel = await connection.channel(publisher_confirms=False)
                await declare(channel, self._settings)
                await channel.set_qos(prefetch_count=self._prefetch)
                queue = await channel.get_queue(self._queue, ensure=False)
                unwatch = await _watch(channel, lost, self._gone)
                tag = await queue.consume(self._receive)

        async def cancel() -> None:
            with suppress(Exception):
                await queue.cancel(tag, timeout=_CANCEL_TIMEOUT)

        self._channel, self._cancel, self._unwatch = channel, cancel, unwatch

    def _gone(self) -> None:
        self._deleted = True

    async def _probe(self, connection: AbstractConnection, lost: asyncio.Event, on_trial: bool) -> None:
        """Notice a consumer that is gone and was not told so, or is deaf, or a connection that is stuck."""
        idle = 0
        try:
            channel = await connection.channel()
            while True:
                before = self._taken
                await asyncio.sleep(_TRIAL if on_trial else _PROBE_EVERY)
                async with asyncio.timeout(_OPEN_TIMEOUT):
                    found = (await channel.declare_queue(self._queue, passive=True)).declaration_result
                if found.consumer_count == 0:
                    self._gone()
                    self.reset("forgotten")
                    return
                idle = idle + 1 if self._held() == 0 and self._taken == before else 0
                if idle and (on_trial or found.message_count or idle >= _RENEW_AFTER):
                    await self._renew(connection, lost)
                    idle = 0
                on_trial = False
        except Exception as error:
            log.warning("queue.unknown", queue=self._queue, error=str(error))
            lost.set()

    def _unprocessed(self) -> int:
        self._given = [message for message in self._given or () if not message.processed]
        return len(self._given)

    async def _renew(self, connection: AbstractConnection, lost: asyncio.Event) -> None:
        """Consume on a new channel, and leave the old one in good order, so that no reader misses a beat."""
        old, cancel, unwatch = self._channel, self._cancel, self._unwatch
        await self._open(connection, lost)
        unwatch()
        await cancel()
        if old is not None:
            async with asyncio.timeout(_CANCEL_TIMEOUT):
                await old.close()
        log.debug("queue.consumer_renewed", queue=self._queue)

    async def _receive(self, message: AbstractIncomingMessage) -> None:
        self._taken += 1
        if self._given is not None:
            self._given.append(message)
        self._take(message)


async def _nothing() -> None:
    """Nothing is consumed yet."""


async def _watch(
    channel: AbstractChannel, lost: asyncio.Event, gone: Callable[[], None]
) -> Callable[[], None]:
    """Notice a closed channel or connection and a queue deleted under its consumer, until called."""
    watching = True

    def closed(*_: Any) -> None:
        if watching:
            lost.set()

    def cancelled(*_: Any) -> None:
        if watching:
            gone()
            lost.set()

    def unwatch() -> None:
        nonlocal watching
        watching = False

    underlay = await channel.get_underlay_channel()
    underlay.closing.add_done_callback(closed)
    underlay.on_consumer_cancel_callbacks.add(cancelled)
    return unwatch


async def _first(*events: asyncio.Event, timeout: float | None = None) -> None:
    """Wait until one of ``events`` is set, or ``timeout`` seconds passed."""
    tasks = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
