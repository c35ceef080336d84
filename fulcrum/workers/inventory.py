"""A batch of inventory commands as one transaction of two round trips: read, decide in memory, write back.

Nothing is locked and no message claimed before the write: that all is as it was read is checked as it is
written. When somebody else was there in between, nothing happened, and the batch is decided again; from then
on, for a while, messages are claimed and rows locked as they are read (``docs/decisions/0010``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

from fulcrum.commands.delivery import Delivery
from fulcrum.store import inbox, outbox
from fulcrum.store.database import Database, Transaction
from fulcrum.store.outbox import OutboxRow
from fulcrum.telemetry.metrics import commands_duplicate
from fulcrum.wire.codec import Codec
from fulcrum.wire.topics import Topics
from fulcrum.workers import stockroom_store
from fulcrum.workers.answers import answer_row, inbox_key
from fulcrum.workers.handlers import INVENTORY_HANDLERS
from fulcrum.workers.inventory_relations import INVENTORY
from fulcrum.workers.stockroom import Stockroom
from fulcrum.workers.stockroom_store import MET, SERVICE
from fulcrum.workers.transact import transact

#: Batches that lock what they read after one that met another process.
_WARY = 50


class InventoryWorker:
    """Carries out inventory commands in batches, one transaction at a time.

    What a HoldStock holds lapses after ``ttl``; None: it does not.
    """

    def __init__(self, db: Database, codec: Codec, topics: Topics, ttl: timedelta | None = None) -> None:
        self._db = db
        self._codec = codec
        self._topics = topics
        self._ttl = ttl
        # A second transaction of this process would only meet the first at the same stock rows. Its batch is
        # read from the queue and the former one acknowledged meanwhile.
        self._turn = asyncio.Lock()
        self._wary = 0

    async def handle(self, batch: Sequence[Delivery]) -> None:
        """All of ``batch`` takes effect, or nothing: inbox, effects, answers; repeats get their first answer.

        Raises Rejected when a command makes no sense, Corrupt when an id was seen with another body.
        """
        bodies = inbox.bodies([inbox_key(delivery) for delivery in batch])

        async def work(tx: Transaction, tries: int) -> Collection[str]:
            if tries:
                self._wary = _WARY
            lock = self._wary > 0
            commands = [delivery.command for delivery in batch]
            found = await stockroom_store.read(tx, commands, bodies, self._ttl, lock=lock)
            repeated = inbox.repeated(found.seen, bodies)
            answers = self._decide(found.room, [d for d in batch if d.message_id not in repeated])
            told = {**repeated, **answers}
            rows = [row for delivery in batch for row in told[delivery.message_id]]
            await self._write(tx, found.room, bodies, answers, rows, claimed=lock)
            return repeated.keys()

        async with self._turn:
            repeated = await transact(self._db, work, MET)
            self._wary = max(0, self._wary - 1)
        for delivery in batch:
            if delivery.message_id in repeated:
                commands_duplicate.labels(SERVICE, type(delivery.command).__name__).inc()

    def _decide(self, room: Stockroom, batch: Sequence[Delivery]) -> dict[str, Sequence[OutboxRow]]:
        """The answers, by message; of copies in one batch the first one is carried out."""
        answers: dict[str, Sequence[OutboxRow]] = {}
        for delivery in batch:
            if delivery.message_id in answers:
                continue
            event = INVENTORY_HANDLERS[type(delivery.command)](room, delivery.command)
            answers[delivery.message_id] = (
                () if event is None else (answer_row(self._codec, self._topics, SERVICE, event, delivery),)
            )
        return answers

    async def _write(
        self,
        tx: Transaction,
        room: Stockroom,
        bodies: Mapping[str, bytes],
        answers: Mapping[str, Sequence[OutboxRow]],
        rows: Sequence[OutboxRow],
        *,
        claimed: bool,
    ) -> None:
        """All of it in the round trip of the COMMIT: the inbox first, the outbox last."""
        if claimed:
            await inbox.record(tx, INVENTORY, SERVICE, answers)
        else:
            inbox.add(tx, INVENTORY, SERVICE, bodies, answers)
        stockroom_store.write(tx, room)
        await outbox.add(tx, INVENTORY, rows)
