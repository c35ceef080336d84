"""How a service's commands are taken and handled in batches, each until it took effect or is found to fail.

Nothing is ever rejected: a process that stops or dies leaves its messages to be delivered again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime

import structlog
from aio_pika.abc import AbstractIncomingMessage

from fulcrum import crashpoint
from fulcrum.commands.attempts import AttemptLog
from fulcrum.commands.delivery import Delivery, log_context, plain_headers
from fulcrum.commands.retry import Next, after_failure, pause_before_try
from fulcrum.commands.settlement import InHand, Settlement
from fulcrum.commands.subscription import Subscription
from fulcrum.commands.topology import Topology
from fulcrum.errors import Corrupt, Unavailable
from fulcrum.saga.messages import Command
from fulcrum.settings import Settings
from fulcrum.store.database import Database, DatabaseDown, NoSessionFree
from fulcrum.telemetry.logs import bound
from fulcrum.telemetry.metrics import command_seconds, commands_handled, consumer_errors

log = structlog.get_logger()

#: Seconds that a batch waits for more, once there is more than one.
_LINGER = 0.005
#: Seconds that batches in progress may take to finish after the stop.
_GRACE = 8.0


class CommandConsumer:
    """Consumes the queue of ``service`` until stopped.

    ``read`` decodes a body. ``handle`` takes a batch and returns when all of it took effect; what it may
    raise and what follows is told in ``fulcrum.commands.retry``. ``concurrency`` batches of at most
    ``batch_size`` commands are in progress at once; one batch never holds one command twice. ``db`` is where
    attempts are kept, and which is asked whether an outage is over; without it neither is done.
    """

    def __init__(
        self,
        settings: Settings,
        service: str,
        read: Callable[[bytes], Awaitable[object]],
        handle: Callable[[Sequence[Delivery]], Awaitable[None]],
        batch_size: int,
        concurrency: int = 1,
        db: Database | None = None,
    ) -> None:
        self._service = service
        self._read = read
        self._handle = handle
        self._batch_size = batch_size
        self._concurrency = concurrency
        self._db = db
        self._waiting: asyncio.Queue[InHand | None] = asyncio.Queue()
        self._in_progress = 0
        self._stopping = asyncio.Event()
        self._settlement = Settlement(settings, service, AttemptLog(db, service), self._pause)
        self._subscription = Subscription(
            settings,
            Topology(settings.namespace).queue(service),
            min(2 * batch_size * concurrency, 65_535),
            self._take,
            held=lambda: self._waiting.qsize() + self._in_progress,
        )

    @property
    def ready(self) -> bool:
        """Whether commands are being taken, and those that fail can be kept for later."""
        return self._subscription.ready and not self._settlement.blocked

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
            await self._settlement.close()

    def _take(self, message: AbstractIncomingMessage) -> None:
        self._waiting.put_nowait(InHand(message, plain_headers(message.headers)))

    # --- batches ----------------------------------------------------------------------------------

    async def _work(self) -> None:
        while (batch := await self._next_batch()) is not None:
            self._in_progress += len(batch)
            try:
                await self._process(batch)
            except Exception as error:
                # Nothing above us knows what to do with it, and these messages must not stay in limbo.
                consumer_errors.labels(self._service, type(error).__name__).inc()
                log.exception("consumer.failed", service=self._service)
                self._subscription.reset("failed")
            finally:
                self._in_progress -= len(batch)

    async def _next_batch(self) -> list[InHand] | None:
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

    async def _process(self, batch: Sequence[InHand]) -> None:
        readable = [item for item in batch if await self._decode(item)]
        together: dict[str, InHand] = {}
        alone: list[InHand] = []
        for item in readable:
            if item.alone or item.message_id in together:
                alone.append(item)
            else:
                together[item.message_id] = item
        for group in (list(together.values()), *([item] for item in alone)):
            failures: list[tuple[InHand, Exception]] = []
            await self._carry_out(group, failures)
            for item, error in failures:
                await self._settlement.failed(item, error, spoiled=len(failures) < len(group))
            if self._stopping.is_set():
                return

    async def _decode(self, item: InHand) -> bool:
        """Whether ``item`` can be handled; otherwise it is settled here."""
        try:
            command = await self._read(item.message.body)
            if not isinstance(command, Command) or command.service != self._service:
                raise Corrupt(f"{type(command).__name__} is no command of service {self._service}")
        except Exception as error:
            await self._settlement.failed(item, error)
            return False
        item.delivery = Delivery(
            command, item.headers, command.command_id, item.attempt, bytes(item.message.body)
        )
        return True

    async def _carry_out(self, batch: list[InHand], failures: list[tuple[InHand, Exception]]) -> None:
        """Handle ``batch``: as a whole, in halves, or until those that fail stand alone, in ``failures``."""
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
                    # Whoever waits for a session has not been tried.
                    tries += not isinstance(error, NoSessionFree)
                    if await self._pause(error, tries) and await self._database_is_back(error):
                        continue
                    return
                if step is Next.JUDGE:
                    failures.append((batch[0], error))
                    return
            else:
                return
            middle = len(batch) // 2
            await self._carry_out(batch[:middle], failures)
            batch, tries = batch[middle:], 0

    async def _pause(self, error: Exception, tries: int) -> bool:
        """Wait before the next try in place; False when the consumer stops meanwhile."""
        pause = pause_before_try(max(tries, 1), random.random())  # noqa: S311
        log.warning("batch.again", tries=tries, error=str(error), retry_in=round(pause, 3))
        try:
            async with asyncio.timeout(pause):
                await self._stopping.wait()
        except TimeoutError:
            return True
        return False

    async def _database_is_back(self, error: Exception) -> bool:
        """Wait as long as the outage lasts that ``error`` tells of; False when the consumer stops first."""
        if self._db is None or not isinstance(error, DatabaseDown):
            return True
        tries = 0
        while True:
            try:
                await self._db.ping()
            except Unavailable as away:
                tries += 1
                if not await self._pause(away, tries):
                    return False
            else:
                return True

    async def _handle_all(self, batch: Sequence[InHand]) -> None:
        crashpoint.reached("command.received")
        deliveries = [item.delivery for item in batch if item.delivery is not None]
        contexts = [log_context(delivery.headers, delivery.command) for delivery in deliveries]
        began, now = time.perf_counter(), datetime.now(UTC)
        for item in batch:
            item.started_at = now
        with bound(**contexts[0]) if len(contexts) == 1 else nullcontext():
            await self._handle(deliveries)
        crashpoint.reached("command.committed")
        seconds = time.perf_counter() - began
        await self._settlement.succeeded(batch)
        for item, context in zip(batch, contexts, strict=True):
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
