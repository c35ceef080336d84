"""What must be fetched because nobody brings it? Updates that got lost, outcomes that a crash left open.

The poller asks the courier about live shipments that it has not heard of for ``courier_poll`` seconds. The
sweeper carries out once more what has asked the courier and has no recorded outcome: RabbitMQ may hold such a
command back for up to an hour, or have parked it.

What keeps both quiet: a look takes a bounded number, what stays open is due again only after the same time,
and nothing is asked while the courier is left alone. All times are the database's. Several processes may look
at once: a row goes to one of them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from fulcrum.commands.delivery import Delivery, log_context
from fulcrum.commands.retry import is_bug
from fulcrum.errors import Corrupt, Rejected, Retryable
from fulcrum.saga.messages import Command
from fulcrum.settings import Settings
from fulcrum.store.database import Database, Row
from fulcrum.telemetry.logs import bound
from fulcrum.telemetry.metrics import courier_polls, courier_swept
from fulcrum.wire.codec import Codec
from fulcrum.workers import courier_store
from fulcrum.workers.courier_news import POLL, CourierNews
from fulcrum.workers.courier_port import Courier
from fulcrum.workers.courier_worker import CourierWorker
from fulcrum.workers.tracking import Update, read_update

log = structlog.get_logger()

#: What one look takes up at most.
BATCH = 50


async def every(seconds: float, look: Callable[[], Awaitable[int]], name: str, stop: asyncio.Event) -> None:
    """Look after each interval until ``stop``, and again at once while there is as much as one look takes.

    Postgres and the courier may come and go.
    """
    pause = seconds
    while not stop.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await stop.wait()
                return
        pause = seconds
        try:
            if await look() == BATCH:
                pause = 0.0
        except Exception as error:
            trace = {} if isinstance(error, Retryable) else {"exc_info": error}
            log.warning(f"{name}.failed", error=str(error), retry_in=seconds, **trace)


class CourierPoller:
    """Fetches what the courier told and nobody heard."""

    def __init__(self, db: Database, news: CourierNews, courier: Courier, settings: Settings) -> None:
        self._db = db
        self._news = news
        self._courier = courier
        self._poll = settings.courier_poll
        self._interval = settings.courier_poll_interval

    async def run(self, stop: asyncio.Event) -> None:
        """Poll until ``stop``."""
        await every(self._interval, self.poll, "poller", stop)

    async def poll(self) -> int:
        """Ask about the shipments that are due, side by side; returns how many those were."""
        if self._courier.left_alone:
            return 0
        due = await courier_store.take_silent(self._db, BATCH, self._poll)
        await asyncio.gather(*(self._ask(shipment_id) for shipment_id in due))
        return len(due)

    async def _ask(self, shipment_id: str) -> None:
        """One that fails is due again; it must not keep the others from being asked."""
        outcome = "nothing_new"
        try:
            updates = self._readable(shipment_id, await self._courier.updates_of(shipment_id))
            if updates and await self._news.take(shipment_id, updates, POLL):
                outcome = "news"
        except Exception as error:
            outcome = "failed"
            trace = {"exc_info": error} if is_bug(error) else {}
            log.warning("poller.failed", shipment_id=shipment_id, error=str(error), **trace)
        courier_polls.labels(outcome).inc()

    def _readable(self, shipment_id: str, said: object) -> list[tuple[Update, bytes]]:
        """The updates that can be read; another is left out, for the shipment must not stand still for it."""
        assert isinstance(said, list)
        found = []
        for each in said:
            try:
                update = read_update(each)
            except Corrupt as error:
                log.warning("poller.unreadable", shipment_id=shipment_id, error=str(error))
                continue
            if update.shipment_id == shipment_id:
                found.append((update, json.dumps(each).encode()))
        return found


class CourierSweeper:
    """Finishes commands whose call of the courier has no recorded outcome."""

    def __init__(
        self, db: Database, codec: Codec, worker: CourierWorker, courier: Courier, settings: Settings
    ) -> None:
        self._db = db
        self._codec = codec
        self._worker = worker
        self._courier = courier
        self._after = settings.courier_sweep_after
        self._interval = settings.courier_sweep_interval

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep until ``stop``."""
        await every(self._interval, self.sweep, "sweeper", stop)

    async def sweep(self) -> int:
        """Take up what is due, side by side; returns how many those were."""
        if self._courier.left_alone:
            return 0
        due = await courier_store.take_due(self._db, BATCH, self._after)
        await asyncio.gather(
            *(self._finish(row) for row in due if not self._worker.in_hand(row["command_id"]))
        )
        return len(due)

    async def _finish(self, row: Row) -> None:
        failed: Exception | None = None
        outcome = "finished"
        try:
            await self._worker.handle([await self._delivery(row)])
        except Exception as error:
            failed, outcome = error, "put_off"
            if isinstance(error, Rejected | Corrupt):
                outcome = "given_up"
                await courier_store.forget(self._db, row["command_id"])
        courier_swept.labels(row["type"], outcome).inc()
        trace = {"exc_info": failed} if failed is not None and is_bug(failed) else {}
        with bound(**log_context(row["headers"], None)):
            log.warning(
                f"courier.{outcome}",
                type=row["type"],
                command_id=row["command_id"],
                begun_at=row["begun_at"].isoformat(),
                error=None if failed is None else str(failed),
                **trace,
            )

    async def _delivery(self, row: Row) -> Delivery:
        command = await self._codec.read(row["body"])
        if not isinstance(command, Command):
            raise Corrupt(f"open command {row['command_id']} holds a {type(command).__name__}")
        return Delivery(command, row["headers"], row["command_id"], 1, row["body"])
