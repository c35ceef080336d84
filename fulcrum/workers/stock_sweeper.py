"""Who gives back what was held for a workflow and lapsed? The sweeper of the inventory process.

Only the reservation's row decides: the sweeper, a release and a confirmation each change it under its lock,
and whoever commits first wins. A sweeper that is late, or away, delays an expiry and contradicts nothing.
"""

from __future__ import annotations

import asyncio
import random

import structlog

from fulcrum.errors import Retryable, Unavailable
from fulcrum.store import outbox
from fulcrum.store.database import Database
from fulcrum.telemetry.metrics import reservations_expired
from fulcrum.wire.codec import Codec
from fulcrum.wire.topics import Topics
from fulcrum.workers import stockroom_store
from fulcrum.workers.answers import event_row
from fulcrum.workers.inventory_relations import INVENTORY
from fulcrum.workers.stockroom_store import SERVICE

log = structlog.get_logger()

#: Reservations in one transaction at most: its locks on hot stock are short.
_BATCH = 100
#: Seconds between looks when nothing is left to do, at least; made longer by chance so that two do not meet.
_IDLE = 1.0
_BACKOFF_LAST = 10.0


class StockSweeper:
    """Expires reservations. Several may be at work: each takes what the others do not hold."""

    def __init__(self, db: Database, codec: Codec, topics: Topics) -> None:
        self._db = db
        self._codec = codec
        self._topics = topics

    async def sweep(self) -> int:
        """Expire a batch of what has lapsed, with its events; how many reservations it was."""
        async with self._db.transaction() as tx:
            found = await stockroom_store.read_lapsed(tx, _BATCH)
            rows = []
            for workflow in sorted(found.room.reservations):
                event = found.room.expire(workflow)
                # The answer to the command that made the hold tells which trace and correlation it is of.
                made = found.seen.get(event.command_id)
                answer = made.outcome[0] if made is not None and made.outcome else None
                headers = answer.headers if answer is not None else {}
                rows.append(event_row(self._codec, self._topics, SERVICE, event, headers))
            stockroom_store.write(tx, found.room)
            await outbox.add(tx, INVENTORY, rows)
        if rows:
            reservations_expired.inc(len(rows))
            log.info("reservations.expired", count=len(rows))
        return len(rows)

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep until ``stop``; Postgres being away is waited out."""
        pause = _IDLE
        while not stop.is_set():
            try:
                if await self.sweep() == _BATCH:
                    continue
                pause = _IDLE
            except (Unavailable, Retryable) as error:
                log.warning("sweep.failed", error=str(error), retry_in=pause)
                pause = min(pause * 2, _BACKOFF_LAST)
            try:
                async with asyncio.timeout(pause * (1 + random.random() / 4)):  # noqa: S311
                    await stop.wait()
            except TimeoutError:
                continue
