"""A decision was recorded: bring the read model up to it.

An app and a consumer group of its own, so that a slow database never holds up the orchestrator.
Decisions are collected while the database is busy with the last ones, so a batch is as large as the
load makes it and nothing waits for a timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import faust
import structlog
from faust.types import EventT

from fulcrum import crashpoint
from fulcrum.agents.accountant import add_accountant
from fulcrum.agents.app import GuardedApp, bytes_topic, create_app
from fulcrum.agents.safety import crash_on_error, dead_letter, feed, read_decision
from fulcrum.commands import accounts
from fulcrum.errors import Retryable
from fulcrum.readmodel import store
from fulcrum.readmodel.cache import Cache
from fulcrum.saga.messages import DecisionMade
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.telemetry import metrics
from fulcrum.wire.codec import Codec
from fulcrum.wire.topics import Topics

log = structlog.get_logger()

_CONSUMER = "projector"
_BATCH = 200
_WAITING_MOST = 2000
_BACKOFF_FIRST, _BACKOFF_LAST = 0.1, 5.0
DEFAULT_PORT = 6067
#: Seconds between two fetches: a batch costs Postgres much more than a decision in it, and nobody who reads
#: notices.
_PACE = 0.05

_Item = tuple[EventT[Any], DecisionMade]


class Projector:
    """Collects decisions and writes them in batches: Postgres first, then the cache."""

    def __init__(self, app: faust.App, settings: Settings, codec: Codec) -> None:
        self._app = app
        self._settings = settings
        self._codec = codec
        self._topics = Topics(settings.namespace)
        self._waiting: asyncio.Queue[_Item] = asyncio.Queue(_WAITING_MOST)
        self._db: Database | None = None
        self._cache: Cache | None = None

    async def handle(self, event: EventT[Any]) -> None:
        """Take one decision."""
        decision = await read_decision(self._app, self._topics, self._codec, event, _CONSUMER)
        if decision is None:
            return
        await self._waiting.put((event, decision))

    async def run(self) -> None:
        """Write what waits, for ever."""
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < _BATCH and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            await self._write(batch)

    async def _write(self, batch: list[_Item]) -> None:
        backoff, doubted = _BACKOFF_FIRST, False
        while True:
            try:
                await self._apply(batch)
            except Retryable as error:
                log.warning("projection.retried", batch=len(batch), error=str(error), retry_in=backoff)
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, _BACKOFF_LAST)
            except Exception as error:
                if len(batch) == 1 and not doubted:
                    # A dying server answers strangely too: a decision is put aside when it fails once more.
                    log.warning("projection.doubted", error=f"{type(error).__name__}: {error}")
                    await asyncio.sleep(backoff)
                    doubted = True
                    continue
                await self._isolate(batch, error)
                return
            else:
                break
        for event, _ in batch:
            event.ack()
        metrics.decisions_projected.inc(len(batch))
        newest = max(decision.decided_at for _, decision in batch)
        metrics.projection_lag_seconds.set((datetime.now(UTC) - newest).total_seconds())

    async def _isolate(self, batch: list[_Item], error: Exception) -> None:
        """Halve a batch that the database refuses until the culprit stands alone."""
        if len(batch) == 1:
            reason = f"{type(error).__name__}: {error}"
            await dead_letter(self._app, self._topics, batch[0][0], reason, _CONSUMER)
            return
        middle = len(batch) // 2
        await self._write(batch[:middle])
        await self._write(batch[middle:])

    async def _apply(self, batch: list[_Item]) -> None:
        if self._db is None:
            self._db = await Database.open(self._settings.postgres_dsn, size=2)
        if self._cache is None:
            self._cache = Cache.open(self._settings)
        async with self._db.transaction() as tx:
            views = await store.apply(tx, [decision for _, decision in batch], _offsets(batch))
            accounts.enter(tx, (issued for item in batch for issued in _issued(*item)))
        crashpoint.reached("decisions.stored")
        await self._cache.put_many(views)

    async def close(self) -> None:
        """Close the connections; what was not written is read again after the next start."""
        if self._cache is not None:
            await self._cache.close()
        if self._db is not None:
            await self._db.close()


def _issued(event: EventT[Any], decision: DecisionMade) -> Iterator[accounts.Issued]:
    """The commands of a decision, with the place that the bridge has passed once they are published."""
    for command in decision.commands:
        yield accounts.Issued(
            command_id=command.command_id,
            service=command.service,
            type=command.type,
            workflow_id=decision.workflow_id,
            decided_at=decision.decided_at,
            journal_partition=event.message.partition,
            journal_offset=event.message.offset,
        )


def _offsets(batch: list[_Item]) -> dict[tuple[str, int], int]:
    """The first offset that is not read yet, by topic and partition.

    A partition's events come in order, and the next batch waits for this one: all before it is written, or
    lies in the dead-letter topic.
    """
    messages = [event.message for event, _ in batch]
    return {(message.topic, message.partition): message.offset + 1 for message in messages}


def build_projector(settings: Settings, codec: Codec) -> GuardedApp:
    """The app of the projector's process."""
    app = create_app(settings, "projector", DEFAULT_PORT, _PACE)
    projector = Projector(app, settings, codec)
    decisions = bytes_topic(app, Topics(settings.namespace).stream("decisions"))

    @app.agent(decisions, name="projector", concurrency=1)
    async def project(stream: faust.StreamT[bytes]) -> None:
        await feed(app, stream, projector.handle)

    async def write() -> None:
        await crash_on_error(app, projector.run())

    app.task(write)
    add_accountant(app, settings)

    @app.on_before_shutdown.connect
    async def close(*_: Any, **__: Any) -> None:
        await projector.close()

    return app
