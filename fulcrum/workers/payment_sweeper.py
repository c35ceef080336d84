"""Which payment commands did a crash or a silence leave without an outcome? They are finished here.

The provider may have acted, and RabbitMQ may hold the command back for up to an hour, or have parked it. So
an open command that is due is carried out once more, as a copy of its delivery: it is looked up by its key
first, and its answer leaves by the outbox. Whoever comes second, sweeper or delivery, repeats that answer.

What keeps it quiet: a command in hand here is passed by, a sweep takes a bounded number, a command that stays
open is due again only after the same time, and nothing is asked while the provider is left alone. Two
processes may sweep at once: a row goes to one of them.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from fulcrum.commands.delivery import Delivery, log_context
from fulcrum.commands.retry import is_bug
from fulcrum.errors import Corrupt, Rejected, Retryable
from fulcrum.saga.messages import Command
from fulcrum.settings import Settings
from fulcrum.store.database import Database, Row
from fulcrum.telemetry.logs import bound
from fulcrum.telemetry.metrics import payments_swept
from fulcrum.wire.codec import Codec
from fulcrum.workers import open_commands
from fulcrum.workers.payment_worker import PaymentWorker
from fulcrum.workers.provider import Provider

log = structlog.get_logger()

#: Commands that one sweep takes up at most.
BATCH = 50


class PaymentSweeper:
    """Finishes open payment commands, every ``payment_sweep_interval`` seconds."""

    def __init__(
        self, db: Database, codec: Codec, worker: PaymentWorker, provider: Provider, settings: Settings
    ) -> None:
        self._db = db
        self._codec = codec
        self._worker = worker
        self._provider = provider
        self._after = settings.payment_sweep_after
        self._interval = settings.payment_sweep_interval

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep after each interval until ``stop``. Postgres and the provider may come and go."""
        while not stop.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await stop.wait()
                    return
            try:
                await self.sweep()
            except Exception as error:
                trace = {} if isinstance(error, Retryable) else {"exc_info": error}
                log.warning("sweeper.failed", error=str(error), retry_in=self._interval, **trace)

    async def sweep(self) -> int:
        """Take up what is due, side by side; returns how many were finished."""
        if self._provider.left_alone:
            return 0
        due = await open_commands.take_due(self._db, BATCH, self._after)
        free = [row for row in due if not self._worker.in_hand(row["command_id"])]
        return sum(await asyncio.gather(*(self._finish(row) for row in free)))

    async def _finish(self, row: Row) -> bool:
        """Whether the command is answered now."""
        failed: Exception | None = None
        outcome = "finished"
        try:
            await self._worker.handle([await self._delivery(row)])
        except Exception as error:
            failed, outcome = error, "put_off"
            if isinstance(error, Rejected | Corrupt):
                outcome = "given_up"
                await open_commands.forget(self._db, row["command_id"])
        payments_swept.labels(row["type"], outcome).inc()
        trace = {"exc_info": failed} if failed is not None and is_bug(failed) else {}
        with bound(**log_context(row["headers"], None)):
            log.warning(
                f"payment.{outcome}",
                type=row["type"],
                command_id=row["command_id"],
                begun_at=row["begun_at"].isoformat(),
                error=None if failed is None else str(failed),
                **trace,
            )
        return failed is None

    async def _delivery(self, row: Row) -> Delivery:
        command = await self._codec.read(row["body"])
        if not isinstance(command, Command):
            raise Corrupt(f"open command {row['command_id']} holds a {type(command).__name__}")
        return Delivery(command, row["headers"], row["command_id"], 1, row["body"])
