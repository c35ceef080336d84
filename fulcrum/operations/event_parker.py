"""How does an event that no agent could take get from its dead-letter topic into Postgres?

At least once, under an id computed from the place in the dead-letter topic: reading a record twice makes one
row. The offsets are committed behind the rows. The topic keeps the record, whatever becomes of the row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaException, Message
from sqlalchemy import func, select

from fulcrum.commands.parker import jsonable
from fulcrum.errors import Retryable
from fulcrum.operations.dead_letters import parked_event
from fulcrum.operations.moves import EVENTS
from fulcrum.settings import Settings
from fulcrum.store.bulk import arrays, insert_rows
from fulcrum.store.database import Database
from fulcrum.store.relations import PARKED_MESSAGES
from fulcrum.telemetry.metrics import messages_parked
from fulcrum.wire.topics import STREAMS, Topics

log = structlog.get_logger()

_BATCH = 50
#: Seconds for which a fetch may find nothing, and between tries while something is away.
_POLL = 0.5
_RETRY = 1.0
#: Seconds between counts of what waits for an operator, who may be served by another process.
_COUNT_EVERY = 15.0
_COLUMNS = (
    "id", "parked_at", "service", "message_id", "type", "workflow_id", "queue", "reason", "error_class",
    "error", "fingerprint", "attempts", "headers", "body", "decoded", "origin",
)  # fmt: skip
_INSERT = insert_rows(PARKED_MESSAGES, _COLUMNS).on_conflict_do_nothing()


class EventParker:
    """Moves dead-lettered events into ``ops.parked_messages`` as those of service ``events``.

    ``read`` decodes a body for the people who look at it. One in a group of its own does the work.
    """

    def __init__(
        self, db: Database, settings: Settings, read: Callable[[bytes], Awaitable[object]] | None = None
    ) -> None:
        self._db = db
        self._settings = settings
        self._read = read
        topics = Topics(settings.namespace)
        self._topics = [topics.dlq(topics.stream(stream)) for stream in STREAMS]
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="event-parker")
        self._consumer: Consumer | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Park until ``stop``. Kafka and Postgres may come and go."""
        loop = asyncio.get_running_loop()
        counted = -_COUNT_EVERY
        try:
            while not stop.is_set():
                if loop.time() - counted >= _COUNT_EVERY:
                    counted = loop.time()
                    await self._count()
                try:
                    records = await loop.run_in_executor(self._thread, self._fetch)
                    if records:
                        await self._store_patiently(records, stop)
                except Exception as error:
                    # What was not committed is read again by the next consumer.
                    log.warning("event_parking.failed", error=str(error), retry_in=_RETRY)
                    await loop.run_in_executor(self._thread, self._close)
                    await self._wait(stop)
        finally:
            await loop.run_in_executor(self._thread, self._close)
            self._thread.shutdown(wait=False)

    async def _store_patiently(self, records: Sequence[Message], stop: asyncio.Event) -> None:
        """Store and commit ``records``; at the end of the process what is not stored stays unread."""
        while not stop.is_set():
            try:
                await self._store(records)
            except Retryable as error:
                log.warning("event_parking.waits", error=str(error), retry_in=_RETRY)
                await self._wait(stop)
            else:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._commit)
                return

    async def _store(self, records: Sequence[Message]) -> None:
        now = datetime.now(UTC)
        rows = [parked_event(record, await self._decode(record), now) for record in records]
        await self._db.execute(_INSERT, arrays(_COLUMNS, rows))
        for row in rows:
            log.info("event.kept", parked_id=row["id"], topic=row["queue"], fingerprint=row["fingerprint"])

    async def _decode(self, record: Message) -> dict[str, Any] | None:
        body = record.value()
        if self._read is None or body is None:
            return None
        try:
            decoded: dict[str, Any] = jsonable(await self._read(body))
        except Exception:
            return None  # that it cannot be read may be the very reason why it is here
        return decoded

    async def _count(self) -> None:
        waiting = select(func.count().label("n")).where(
            PARKED_MESSAGES.c.service == EVENTS, PARKED_MESSAGES.c.status == "parked"
        )
        with suppress(Retryable):
            row = await self._db.one(waiting)
            messages_parked.labels(EVENTS).set(row["n"] if row else 0)

    async def _wait(self, stop: asyncio.Event) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_RETRY):
                await stop.wait()

    # --- in the consumer's thread -----------------------------------------------------------------

    def _fetch(self) -> list[Message]:
        if self._consumer is None:
            self._consumer = Consumer(
                {
                    "bootstrap.servers": self._settings.kafka_bootstrap,
                    "group.id": f"{self._settings.namespace}-event-parker",
                    "client.id": f"fulcrum-event-parker-{self._settings.instance}",
                    "enable.auto.commit": False,
                    "auto.offset.reset": "earliest",
                    "log_level": 2,
                }
            )
            self._consumer.subscribe(self._topics)
        records = self._consumer.consume(_BATCH, _POLL)
        for record in records:
            if record.error() is not None:
                raise KafkaException(record.error())
        return records

    def _commit(self) -> None:
        if self._consumer is not None:
            self._consumer.commit(asynchronous=False)

    def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()
