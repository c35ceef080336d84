"""Did every accepted intent start? What was lost on the way to the orchestrator is sent again.

An accepted intent is looked for in the read model once its grace is over. One that is there is never looked
at again. For one that is not there, all its events leave anew, as they were, in their order: a lost topic
costs time and not an order, and a slow projector costs some duplicates, which the orchestrator recognises.

What keeps it quiet: intents wait in an index only until they are confirmed, a round sends a bounded number
again, an intent's waits double, and nothing is taken for lost while the outbox is behind.

Two processes may do this at once: a row that one of them looks at is locked, and the other passes it by.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import timedelta

import structlog
from sqlalchemy import BigInteger, Integer, Interval, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA

from fulcrum.errors import Retryable
from fulcrum.readmodel import queries
from fulcrum.settings import Settings
from fulcrum.store import outbox
from fulcrum.store.database import Database, Row, Transaction
from fulcrum.store.relations import uuid_column
from fulcrum.telemetry import metrics
from fulcrum.web.relations import INTAKE, intents, requests
from fulcrum.web.stream import IntakeStream

log = structlog.get_logger()

#: Intents that one transaction looks at, and that one round sends again at most.
BATCH = 500
LONGEST_WAIT = timedelta(hours=1)
#: By then the longest wait is reached from a millisecond.
_DOUBLED_MOST = 22

_IDS = bindparam("workflow_ids", type_=ARRAY(uuid_column()))
_DUE = (
    select(intents)
    .where(intents.c.check_at <= func.clock_timestamp())
    .order_by(intents.c.check_at)
    .limit(bindparam("most", type_=BigInteger))
    .with_for_update(skip_locked=True)
)
_CONFIRM = update(intents).where(intents.c.workflow_id == _IDS.any_()).values(check_at=None)
_LOOK_AGAIN = (
    update(intents)
    .where(intents.c.workflow_id == _IDS.any_())
    .values(
        check_at=func.clock_timestamp() + bindparam("wait", type_=Interval),
        repairs=bindparam("looks", type_=Integer),
    )
)
_REQUESTS = (
    select(requests)
    .where(requests.c.workflow_id == _IDS.any_())
    .order_by(requests.c.workflow_id, requests.c.sequence)
)
_UNSENT_FOR = (
    select((func.clock_timestamp() - INTAKE.outbox.c.created_at).label("age"))
    .where(INTAKE.outbox.c.shard == 0)
    .order_by(INTAKE.outbox.c.id)
    .limit(1)
)
_PARKED = select(INTAKE.outbox_parked.c.key).where(
    INTAKE.outbox_parked.c.key == bindparam("keys", type_=ARRAY(BYTEA)).any_()
)


def wait_before(look: int, grace: timedelta) -> timedelta:
    """How long an intent gets before look number ``look``, from 0: twice as long each time, up to an hour."""
    if grace >= LONGEST_WAIT:
        return grace
    return min(grace * (1 << min(look, _DOUBLED_MOST)), LONGEST_WAIT)


class Reconciler:
    """Compares accepted intents with the read model, every ``reconcile_interval`` seconds."""

    def __init__(self, db: Database, settings: Settings, stream: IntakeStream) -> None:
        self._db = db
        self._stream = stream
        self._interval = settings.reconcile_interval
        self._grace = timedelta(seconds=settings.reconcile_grace)
        self._not_before = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Do a round after each interval until ``stop``. Postgres may come and go."""
        while not stop.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await stop.wait()
                    return
            try:
                await self.round()
            except Exception as error:
                trace = {} if isinstance(error, Retryable) else {"exc_info": error}
                log.warning("reconciler.failed", error=str(error), retry_in=self._interval, **trace)

    async def round(self) -> int:
        """Look at every intent that is due; returns how many were sent again."""
        if await self._outbox_is_behind():
            return 0
        repaired = 0
        while True:
            most = BATCH - repaired
            async with self._db.transaction() as tx:
                due = await tx.all(_DUE, {"most": most})
                lost = await self._confirm(tx, due) if due else []
                repaired += await self._send_again(tx, lost) if lost else 0
            if len(due) < most or repaired >= BATCH:
                return repaired

    async def _outbox_is_behind(self) -> bool:
        """True while an intent that is due may still wait in the outbox, or has only just left it."""
        oldest = await self._db.one(_UNSENT_FOR)
        if oldest is not None and oldest["age"] >= self._grace:
            self._not_before = time.monotonic() + self._grace.total_seconds()
        return time.monotonic() < self._not_before

    async def _confirm(self, tx: Transaction, due: Sequence[Row]) -> list[Row]:
        """Forget those that have started; returns the others."""
        started = await queries.find_started(tx, _ids(due))
        if started:
            await tx.execute(_CONFIRM, {"workflow_ids": list(started)})
        return [intent for intent in due if intent["workflow_id"] not in started]

    async def _send_again(self, tx: Transaction, lost: Sequence[Row]) -> int:
        """Put all events of the intents into the outbox again, and plan the next look at each."""
        parked = await self._parked(tx, lost)
        repaired = [intent for intent in lost if intent["workflow_id"] not in parked]
        for looks in sorted({intent["repairs"] + 1 for intent in lost}):
            alike = _ids(intent for intent in lost if intent["repairs"] + 1 == looks)
            again = {"workflow_ids": alike, "looks": looks, "wait": wait_before(looks, self._grace)}
            await tx.execute(_LOOK_AGAIN, again)
        asked = await tx.all(_REQUESTS, {"workflow_ids": _ids(repaired)})
        rows = [self._stream.created(intent) for intent in repaired]
        rows += [self._stream.requested(each) for each in asked]
        await outbox.add(tx, INTAKE, rows)
        tx.after_commit(lambda: _tell(repaired))
        return len(repaired)

    async def _parked(self, tx: Transaction, lost: Sequence[Row]) -> set[str]:
        """Intents that Kafka will not take: they are not lost, but kept in ``intake.outbox_parked``."""
        keys = [intent["workflow_id"].encode() for intent in lost]
        return {row["key"].decode() for row in await tx.all(_PARKED, {"keys": keys})}


def _ids(rows: Iterable[Row]) -> list[str]:
    return [row["workflow_id"] for row in rows]


def _tell(repaired: Iterable[Row]) -> None:
    """Say and count it, once it is certain."""
    for intent in repaired:
        metrics.intents_reconciled.inc()
        log.warning(
            "intent.sent_again",
            workflow_id=intent["workflow_id"],
            accepted_at=intent["accepted_at"].isoformat(),
            times=intent["repairs"] + 1,
            correlation_id=intent["correlation_id"],
        )
