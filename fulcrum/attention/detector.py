"""Who looks, again and again, for workflows that do not move? One process at a time.

A look reads the unfinished workflows page by page, a bounded number of them; with more, the next look goes on
where this one ended. Postgres is asked always, Kafka and RabbitMQ when something has not moved for a while.
Two at once would do no harm: both write what they see.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime

import structlog

from fulcrum.attention import reading, stalls, store
from fulcrum.attention.assembling import awaited_command, situation
from fulcrum.attention.reading import PAGE, Place
from fulcrum.attention.rules import RULES, Match, matches
from fulcrum.attention.situation import Limits, Unsent
from fulcrum.commands.depth import depths
from fulcrum.commands.policy import tries
from fulcrum.commands.topology import Topology
from fulcrum.errors import Misconfigured, Retryable
from fulcrum.saga.run import Status
from fulcrum.settings import Settings
from fulcrum.store.database import Database, Row
from fulcrum.telemetry import metrics

log = structlog.get_logger()

_OPEN = tuple(str(status) for status in Status if not status.final)
#: Pages of one look.
_PAGES = 25
#: Workflows between two breaths: this process answers requests as well, and a workflow takes some 0.2 ms.
_BREATH = 5
#: A process that has not looked for so many intervals has lost its turn.
_LEASE_INTERVALS = 3

#: Accepted intents without a workflow run, in the shape of a run with the status ``accepted``.
ReadAccepted = Callable[[datetime], Awaitable[Sequence[Row]]]


class Detector:
    """Looks for workflows that match a rule. ``accepted`` reads the intents that wait since before a time."""

    def __init__(self, db: Database, settings: Settings, owner: str, accepted: ReadAccepted) -> None:
        self._db = db
        self._settings = settings
        self._owner = owner
        self._accepted = accepted
        self._limits = Limits.of(settings)
        self._tries = tries(settings.retry_limit)
        self._stalls = stalls.Stalls()
        # Where the next look begins: a status, and the last run of it that was seen.
        self._status = 0
        self._after: Place | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Look until ``stop``. Every server may come and go."""
        while not stop.is_set():
            try:
                await self.look()
            except Exception as error:
                trace = {} if isinstance(error, Retryable) else {"exc_info": error}
                log.warning("attention.not_seen", error=str(error), **trace)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.stuck_interval):
                    await stop.wait()
        with suppress(Retryable):
            await store.release_lease(self._db, self._owner)

    async def look(self) -> dict[str, int]:
        """Look once, if it is this process's turn; returns how many workflows match each rule."""
        ttl = _LEASE_INTERVALS * self._settings.stuck_interval
        now = await store.take_lease(self._db, self._owner, ttl)
        if now is not None:
            await self._look(now)
        found = await store.counts(self._db)
        for rule in RULES:
            if rule.alarms:
                metrics.workflows_stuck.labels(rule.name).set(found.get(rule.name, 0))
        metrics.workflows_stuck_seen.set_to_current_time()
        return found

    async def _look(self, now: datetime) -> None:
        unsent = await reading.unsent(self._db)
        accepted = await self._accepted(now - min(self._limits.outbox, self._limits.lag))
        pages = [list(accepted), *[page async for page in self._pages()]]
        await self._look_at_kafka(now, pages)
        consumers: Mapping[str, int] | None = None
        for page in pages:
            if not page:
                continue
            ids = [row["workflow_id"] for row in page]
            awaited = [command for row in page if (command := awaited_command(row)) is not None]
            known = await reading.details(self._db, ids, awaited)
            if consumers is None and _older(known, now - self._limits.queue):
                consumers = await self._consumers()
            found: dict[str, list[Match]] = {}
            for number, row in enumerate(page):
                if number % _BREATH == 0:
                    await asyncio.sleep(0)
                found[row["workflow_id"]] = self._matches(row, now, known, unsent, consumers)
            await store.keep(self._db, now, ids, found)
        await store.sweep(self._db, [row["workflow_id"] for row in accepted])

    def _matches(
        self,
        row: Row,
        now: datetime,
        known: reading.Details,
        unsent: Mapping[str, tuple[Unsent, ...]],
        consumers: Mapping[str, int] | None,
    ) -> list[Match]:
        workflow_id = row["workflow_id"]
        seen = situation(
            row,
            now,
            known,
            unsent=unsent.get(workflow_id, ()),
            stalls=self._stalls.of(workflow_id),
            consumers=consumers,
            tries=self._tries,
        )
        return list(matches(seen, self._limits))

    async def _pages(self) -> AsyncIterator[list[Row]]:
        """The unfinished runs from where the last look ended, until all were seen or it is enough."""
        for _ in range(_PAGES):
            rows = await reading.page_of_open(self._db, _OPEN[self._status], self._after)
            yield rows
            if len(rows) == PAGE:
                self._after = (rows[-1]["started_at"], rows[-1]["workflow_id"])
                continue
            self._status, self._after = (self._status + 1) % len(_OPEN), None
            if not self._status:
                return

    async def _look_at_kafka(self, now: datetime, pages: Sequence[Sequence[Row]]) -> None:
        """See where the groups stand, when something has not moved for half the time that they may rest."""
        before = now - self._limits.lag / 2
        if not any(row["updated_at"] < before for page in pages for row in page):
            self._stalls.note(now, {})
            return
        try:
            self._stalls.note(now, await stalls.look(self._settings))
        except Retryable as error:
            log.warning("attention.kafka_not_seen", error=str(error))

    async def _consumers(self) -> Mapping[str, int] | None:
        """How many take commands, by service; None when RabbitMQ does not tell."""
        try:
            found = await depths(self._settings)
        except (Retryable, Misconfigured) as error:
            log.warning("attention.queues_not_seen", error=str(error))
            return None
        names = Topology(self._settings.namespace)
        return {
            each.service: each.consumers
            for each in found
            if each.service is not None and each.queue == names.queue(each.service)
        }


def _older(known: reading.Details, before: datetime) -> bool:
    """Whether a command has been out since then."""
    rows = (row for rows in known.commands.values() for row in rows)
    return any((row["published_at"] or row["decided_at"]) < before for row in rows)
