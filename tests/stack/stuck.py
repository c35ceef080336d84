"""Workflows that do not move, on real servers: made by a test, looked for by a detector of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from decisions import decision, step
from orchestrated import project
from sqlalchemy import text, update

from fulcrum.attention import store
from fulcrum.attention.detector import Detector
from fulcrum.attention.relations import ATTENTION, LEASE
from fulcrum.saga.messages import DecisionMade
from fulcrum.settings import Settings
from fulcrum.store.database import Database, Row
from fulcrum.web.unstarted import find_unstarted

#: Every grace is over at once.
IMPATIENT = {f"stuck_{name}_grace": 0.0 for name in ("deadline", "queue", "answer", "outbox", "lag")}
SOON, LATE = timedelta(hours=1), timedelta(hours=-1)


def running(workflow_id: str, version: int = 1, **changes: Any) -> DecisionMade:
    """A workflow that waits for its stock; the answer is due in an hour, unless ``changes`` of the step say
    otherwise."""
    waits = {
        "status": "requested",
        "finished_at": None,
        "deadline_at": datetime.now(UTC) + SOON,
        **changes,
    }
    return decision(
        version,
        workflow_id=workflow_id,
        status="running",
        steps=(step("authorize_payment"), step("reserve_stock", **waits)),
    )


def overdue(workflow_id: str, version: int = 1) -> DecisionMade:
    """A workflow whose answer was due an hour ago."""
    return running(workflow_id, version, deadline_at=datetime.now(UTC) + LATE)


class Watched:
    """A detector without an intake, and what it has found."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self.db = db
        self.settings = settings
        self.detector = self.another("watched")

    def another(self, owner: str) -> Detector:
        """One more detector."""

        async def accepted(before: datetime) -> Sequence[Row]:
            return await find_unstarted(self.db, before)

        return Detector(self.db, self.settings, owner, accepted)

    async def brought(self, *decisions: DecisionMade) -> None:
        """Bring the read model up to ``decisions``."""
        await project(self.db, list(decisions))

    async def rules(self, workflow_id: str) -> list[str]:
        """The rules that the workflow matches after one more look."""
        await self.detector.look()
        return [row["rule"] for row in await self.found() if row["workflow_id"] == workflow_id]

    async def found(self) -> list[Row]:
        """All that is kept, by rule."""
        return sorted(await store.page(self.db, None, None, 10_000), key=lambda row: str(row["rule"]))


@asynccontextmanager
async def watched(settings: Settings, **changes: Any) -> AsyncIterator[Watched]:
    """A detector that finds nothing at first; the runs of other tests are gone."""
    mine = settings.model_copy(update={**IMPATIENT, **changes})
    db = await Database.open(mine.postgres_dsn, size=4)
    await forget(db)
    try:
        yield Watched(db, mine)
    finally:
        await db.close()


async def forget(db: Database) -> None:
    """No workflow is there, and nobody looks."""
    await db.execute(text("TRUNCATE read_model.workflow_runs, read_model.timeline, ops.attempts"))
    await db.execute(text("TRUNCATE ops.commands_published, ops.parked_messages CASCADE"))
    await db.execute(text("UPDATE intake.intents SET check_at = NULL"))
    for schema in ("intake", "payments", "inventory"):
        await db.execute(text(f"TRUNCATE {schema}.outbox, {schema}.outbox_parked"))
    await db.execute(ATTENTION.delete())
    await db.execute(update(LEASE).values(owner=None, expires_at=datetime(2026, 1, 1, tzinfo=UTC)))


def new_id() -> str:
    """A workflow that no other test knows."""
    return str(uuid4())
