"""How long are the bodies of messages kept that nobody waits for any more?

The row stays, with what it was, who decided what, and why; what it said is deleted. Until then a discarded
message can be restored.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

import structlog
from sqlalchemy import Interval, bindparam, func, null, select, update

from fulcrum.errors import Retryable
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.store.relations import PARKED_MESSAGES as PARKED

log = structlog.get_logger()

_EVERY = 60.0
_BATCH = 500

_OLD = (
    select(PARKED.c.id)
    .where(
        PARKED.c.body_deleted_at.is_(None),
        PARKED.c.status.in_(("replayed", "edited", "discarded")),
        PARKED.c.status_at < func.clock_timestamp() - bindparam("kept", type_=Interval),
    )
    .order_by(PARKED.c.status_at)
    .limit(_BATCH)
    .with_for_update(skip_locked=True)
)
_DELETE = (
    update(PARKED)
    .where(PARKED.c.id.in_(_OLD))
    .values(body=b"", decoded=null(), body_deleted_at=func.clock_timestamp())
)


class Retention:
    """Deletes bodies whose time is over, once a minute. Two at once do not meet: rows are locked."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db = db
        self._kept = timedelta(seconds=settings.parked_retention)

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep until ``stop``. Postgres may come and go."""
        while not stop.is_set():
            try:
                while await self.sweep() == _BATCH:
                    pass
            except Exception as error:
                trace = {} if isinstance(error, Retryable) else {"exc_info": error}
                log.warning("retention.failed", error=str(error), retry_in=_EVERY, **trace)
            with suppress(TimeoutError):
                async with asyncio.timeout(_EVERY):
                    await stop.wait()

    async def sweep(self) -> int:
        """Delete some; returns how many."""
        deleted = await self._db.execute(_DELETE, {"kept": self._kept})
        if deleted:
            log.info("parked.bodies_deleted", messages=deleted)
        return deleted
