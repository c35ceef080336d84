"""How a service's commands are taken, handled in batches, and settled.

A message is acknowledged after its batch took effect, or after RabbitMQ confirmed its copy on a retry
queue or in parking. Nothing is ever rejected: a process that stops or dies leaves its messages to be
delivered again.

Long, because taking, handling and settling share what is known of each message in hand.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import structlog
from aio_pika.abc import AbstractIncomingMessage
from aiormq.exceptions import ChannelInvalidStateError

from fulcrum import crashpoint
from fulcrum.commands.delivery import (
    Delivery,
    attempt_of,
    headers_after,
    headers_parked,
    log_context,
    plain_headers,
    redeliveries,
)
from fulcrum.commands.publisher import CommandPublisher, Outgoing
from fulcrum.commands.retry import Next, Park, after_failure, is_bug, pause_before_try, verdict
from fulcrum.commands.subscription import Subscription
from fulcrum.commands.topology import Topology
from fulcrum.errors import Corrupt, Unavailable
from fulcrum.saga.messages import Command
from fulcrum.settings import Settings
from fulcrum.telemetry.logs import bound
from fulcrum.telemetry.metrics import (
    command_seconds,
    commands_handled,
    commands_parked,
    commands_retried,
    consumer_errors,
)

log = structlog.get_logger()

#: Seconds that a batch waits for more, once there is more than one.
_LINGER = 0.005
#: Seconds that batches in progress may take to finish after the stop.
_GRACE = 8.0
#: Deliveries after which a message is handled alone: it may be the one that kills its consumer.
_SUSPECT_AFTER = 2


@dataclass(eq=False, slots=True)
class _Item:
    """A message and, once decoded, what it asks for."""

    message: AbstractIncomingMessage
    headers: dict[str, str]
    attempt: int
    delivery: Delivery | None = None

    @property
    def type(self) -> str:
        if self.delivery is not None:
            return type(self.delivery.command).__name__
        return self.headers.get("ce_type") or self.message.type or "unknown"

    @property
    def stale(self) -> bool:
        """Whether its channel is gone, so that it will be delivered again."""
        try:
            return self.message.channel.is_closed
        except ChannelInvalidStateError:  # so aio_pika says that it is closed
            return True


class CommandConsumer:
    """Consumes the queue of ``service`` until stopped.

    ``read`` decodes a body. ``handle`` takes a batch and returns when all of it took effect; what it may
    raise and what follows is told in ``fulcrum.commands.retry``. ``concurrency`` batches of at most
    ``batch_size`` commands are in progress at once; one batch never holds one command twice.
    """

    def __init__(
        self,
        settings: Settings,
        service: str,
        read: Callable[[bytes], Awaitable[object]],
        handle: Callable[[Sequence[Delivery]], Awaitable[None]],
        batch_size: int,
        concurrency: int = 1,
    ) -> None:
        self._settings = settings
        self._service = service
        self._read = read
        self._handle = handle
        self._batch_size = batch_size
        self._concurrency = concurrency
        self._names = Topology(settings.namespace)
        self._waiting: asyncio.Queue[_Item | None] = asyncio.Queue()
        self._stopping = asyncio.Event()
        self._publisher = CommandPublisher(settings, f"{service} retries")
        prefetch = min(2 * batch_size * concurrency, 65_535)
        self._subscription = Subscription(settings, self._names.queue(service), prefetch, self._take)

    @property
    def ready(self) -> bool:
        """Whether commands are being taken."""
        return self._subscription.ready

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until ``stop``, finish what is in progress, leave the rest to the next consumer."""
        self._stopping = stop
        workers = [asyncio.create_task(self._work()) for _ in range(self._concurrency)]

        async def finish() -> None:
            while not self._waiting.empty():
                self._waiting.get_nowait()
            for _ in workers:
                self._waiting.put_nowait(None)
            await asyncio.wait(workers, timeout=_GRACE)

        try:
            await self._subscription.run(stop, finish)
            await finish()  # when there was no connection to stop on
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await self._publisher.close()

    def _take(self, message: AbstractIncomingMessage) -> None:
        headers = plain_headers(message.headers)
        self._waiting.put_nowait(_Item(message, headers, attempt_of(headers)))

    # --- batches ----------------------------------------------------------------------------------

    async def _work(self) -> None:
        while (batch := await self._next_batch()) is not None:
            try:
                await self._process(batch)
            except Exception as error:
                # Nothing above us knows what to do with it, and these messages must not stay in limbo.
                consumer_errors.labels(self._service, type(error).__name__).inc()
                log.exception("consumer.failed", service=self._service)
                self._subscription.reset()

    async def _next_batch(self) -> list[_Item] | None:
        """What is waiting, up to a batch; a lone message does not wait for company."""
        first = await self._waiting.get()
        if first is None or self._stopping.is_set():
            return None
        batch = [first]
        deadline: float | None = None
        loop = asyncio.get_running_loop()
        while len(batch) < self._batch_size:
            if self._waiting.empty():
                deadline = deadline or loop.time() + _LINGER
                if len(batch) == 1 or loop.time() >= deadline:
                    break
                try:
                    async with asyncio.timeout_at(deadline):
                        item = await self._waiting.get()
                except TimeoutError:
                    break
            else:
                item = self._waiting.get_nowait()
            if item is None:
                self._waiting.put_nowait(None)
                break
            batch.append(item)
        return batch

    async def _process(self, batch: Sequence[_Item]) -> None:
        readable = [item for item in batch if await self._decode(item)]
        together: dict[str, _Item] = {}
        alone: list[_Item] = []
        for item in readable:
            assert item.delivery is not None
            key = item.delivery.message_id
            if redeliveries(item.message) >= _SUSPECT_AFTER or key in together:
                alone.append(item)
            else:
                together[key] = item
        await self._carry_out(list(together.values()))
        for item in alone:
            await self._carry_out([item])

    async def _decode(self, item: _Item) -> bool:
        """Whether ``item`` can be handled; otherwise it is settled here."""
        try:
            command = await self._read(item.message.body)
            if not isinstance(command, Command) or command.service != self._service:
                raise Corrupt(f"{type(command).__name__} is no command of service {self._service}")
        except Exception as error:
            await self._settle_failure(item, error)
            return False
        item.delivery = Delivery(
            command, item.headers, command.command_id, item.attempt, bytes(item.message.body)
        )
        return True

    async def _carry_out(self, batch: list[_Item]) -> None:
        """Handle ``batch``: as a whole, in halves, or until the one that fails stands alone."""
        tries = 0
        while True:
            batch = [item for item in batch if not item.stale]
            if not batch:
                return
            try:
                await self._handle_all(batch)
            except Exception as error:
                consumer_errors.labels(self._service, type(error).__name__).inc()
                step = after_failure(error, len(batch), tries)
                if step is Next.AGAIN:
                    tries += 1
                    if await self._pause(error, tries, len(batch)):
                        continue
                    return
                if step is Next.JUDGE:
                    await self._settle_failure(batch[0], error)
                    return
            else:
                return
            middle = len(batch) // 2
            await self._carry_out(batch[:middle])
            batch, tries = batch[middle:], 0

    async def _pause(self, error: Exception, tries: int, size: int) -> bool:
        """Wait before the next try in place; False when the consumer stops meanwhile."""
        pause = pause_before_try(tries, random.random())  # noqa: S311
        log.warning("batch.again", size=size, tries=tries, error=str(error), retry_in=round(pause, 3))
        try:
            async with asyncio.timeout(pause):
                await self._stopping.wait()
        except TimeoutError:
            return True
        return False

    async def _handle_all(self, batch: Sequence[_Item]) -> None:
        crashpoint.reached("command.received")
        deliveries = [item.delivery for item in batch if item.delivery is not None]
        contexts = [log_context(delivery.headers, delivery.command) for delivery in deliveries]
        began = time.perf_counter()
        with bound(**contexts[0]) if len(contexts) == 1 else nullcontext():
            await self._handle(deliveries)
        crashpoint.reached("command.committed")
        seconds = time.perf_counter() - began
        for item, context in zip(batch, contexts, strict=True):
            await self._acknowledge(item)
            commands_handled.labels(self._service, item.type).inc()
            command_seconds.labels(self._service, item.type).observe(seconds)
            with bound(**context):
                log.info(
                    "command.handled",
                    type=item.type,
                    attempt=item.attempt,
                    batch=len(batch),
                    seconds=round(seconds, 4),
                )

    # --- settling ---------------------------------------------------------------------------------

    async def _settle_failure(self, item: _Item, error: Exception) -> None:
        """Send ``item`` to a retry queue or to parking, and acknowledge it once its copy is safe."""
        decided = verdict(error, item.attempt, self._settings.retry_limit, random.random())  # noqa: S311
        command = item.delivery.command if item.delivery is not None else None
        facts = {"type": item.type, "attempt": item.attempt, "error_class": type(error).__name__}
        trace = {"exc_info": error} if is_bug(error) else {}
        with bound(**log_context(item.headers, command)):
            if isinstance(decided, Park):
                headers = headers_parked(item.headers, error, decided.reason)
                if await self._copy(item, self._names.parked, headers):
                    commands_parked.labels(self._service, item.type).inc()
                    log.error("command.parked", **facts, reason=decided.reason, error=str(error), **trace)
            elif await self._copy(item, self._names.retry(decided.name), headers_after(item.headers, error)):
                commands_retried.labels(self._service, item.type).inc()
                log.warning("command.retried", **facts, level=decided.name, error=str(error), **trace)

    async def _copy(self, item: _Item, exchange: str, headers: dict[str, str]) -> bool:
        """Publish ``item`` anew until confirmed, then acknowledge it; False when it was left as it is."""
        outgoing = Outgoing(bytes(item.message.body), headers, self._message_id(item), item.type)
        tries = 0
        while not item.stale:
            try:
                await self._publisher.send(exchange, self._service, outgoing)
            except Unavailable as error:
                tries += 1
                if await self._pause(error, tries, 1):
                    continue
                return False
            await self._acknowledge(item)
            return True
        return False

    def _message_id(self, item: _Item) -> str:
        if item.delivery is not None:
            return item.delivery.message_id
        return item.headers.get("ce_id") or item.message.message_id or "unknown"

    async def _acknowledge(self, item: _Item) -> None:
        try:
            await item.message.ack()
        except Exception as error:
            # The channel is gone: it is delivered again, and the inbox knows it.
            log.info("command.ack_lost", message_id=self._message_id(item), error=str(error))
