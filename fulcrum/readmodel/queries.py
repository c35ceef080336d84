"""Questions to the read model in Postgres."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import bindparam, select
from sqlalchemy.dialects.postgresql import ARRAY

from fulcrum.readmodel.projection import EntryRow, RunRow, timestamp, to_json
from fulcrum.readmodel.relations import stock, timeline, workflow_runs
from fulcrum.readmodel.store import EPOCH
from fulcrum.readmodel.view import View
from fulcrum.store.database import Database, Transaction
from fulcrum.store.relations import ATTEMPTS, uuid_column
from fulcrum.store.statements import lasting


@dataclass(frozen=True, slots=True)
class Answered:
    """The decision that one event caused; ``ignored`` says why it changed nothing."""

    version: int
    status: str
    ignored: str | None


@dataclass(frozen=True, slots=True)
class Told:
    """One entry of a timeline, as JSON text, and the status that it led to."""

    version: int
    status: str
    entry: str


async def find_run(db: Database, workflow_id: str) -> View | None:
    """The run with its whole timeline, or None when it is not projected.

    Read one after the other, so the timeline may already know more than the run; an answer leaves it out.
    """
    run = await db.one(_RUN, {"workflow_id": workflow_id})
    if run is None:
        return None
    epoch = run.pop("epoch") or 0
    entries = await db.all(_TIMELINE, {"workflow_id": workflow_id})
    return View(
        workflow_id=workflow_id,
        version=run["version"],
        status=run["status"],
        run=to_json(cast("RunRow", plain(run))),
        entries={row["version"]: to_json(cast("EntryRow", plain(row))) for row in entries},
        epoch=epoch,
    )


async def find_versions(db: Database, workflow_ids: Sequence[str]) -> dict[str, int]:
    """At which version each of the workflows is; one that is not projected is missing."""
    rows = await db.all(_VERSIONS, {"workflow_ids": list(workflow_ids)})
    return {row["workflow_id"]: row["version"] for row in rows}


async def find_entries(db: Database, workflow_id: str, after: int, limit: int) -> list[Told]:
    """At most ``limit`` entries of the timeline behind version ``after``, in order."""
    rows = await db.all(_ENTRIES, {"workflow_id": workflow_id, "after": after, "most": limit})
    return [Told(row["version"], row["status"], to_json(cast("EntryRow", plain(row)))) for row in rows]


async def find_attempts(db: Database, workflow_id: str) -> list[dict[str, Any]]:
    """The attempts of the workflow's commands that failed, and those that succeeded after that, in order."""
    return [plain(row) for row in await db.all(_ATTEMPTS, {"workflow_id": workflow_id})]


async def find_decision(db: Database, workflow_id: str, event_id: str) -> Answered | None:
    """What the workflow decided upon one event, or None when that is not projected."""
    row = await db.one(_DECISION, {"workflow_id": workflow_id, "event_id": event_id})
    return None if row is None else Answered(**row)


async def find_started(tx: Transaction, workflow_ids: Sequence[str]) -> set[str]:
    """Which of the workflows are projected."""
    return {row["workflow_id"] for row in await tx.all(_STARTED, {"workflow_ids": list(workflow_ids)})}


async def find_stock(db: Database, sku: str) -> dict[str, Any] | None:
    """How much of ``sku`` there is, or None when it was never received."""
    return await db.one(_STOCK, {"sku": sku})


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its times as the text that a projection writes."""
    return {name: timestamp(value) if isinstance(value, datetime) else value for name, value in row.items()}


_RUN = lasting(select(workflow_runs, EPOCH).where(workflow_runs.c.workflow_id == bindparam("workflow_id")))
_TIMELINE = lasting(
    select(*(c for c in timeline.columns if c.name != "workflow_id"))
    .where(timeline.c.workflow_id == bindparam("workflow_id"))
    .order_by(timeline.c.version)
)
_ENTRIES = lasting(
    select(*(c for c in timeline.columns if c.name != "workflow_id"))
    .where(timeline.c.workflow_id == bindparam("workflow_id"), timeline.c.version > bindparam("after"))
    .order_by(timeline.c.version)
    .limit(bindparam("most"))
)
_VERSIONS = select(workflow_runs.c.workflow_id, workflow_runs.c.version).where(
    workflow_runs.c.workflow_id == bindparam("workflow_ids", type_=ARRAY(uuid_column())).any_()
)
#: So many of one workflow are shown: the newest.
_MOST_ATTEMPTS = 500
_newest = (
    select(*(c for c in ATTEMPTS.columns if c.name != "workflow_id"))
    .where(ATTEMPTS.c.workflow_id == bindparam("workflow_id"))
    .order_by(ATTEMPTS.c.started_at.desc())
    .limit(_MOST_ATTEMPTS)
    .subquery()
)
_ATTEMPTS = lasting(select(_newest).order_by(_newest.c.started_at, _newest.c.attempt))
_DECISION = (
    select(timeline.c.version, timeline.c.status, timeline.c.ignored)
    .where(
        timeline.c.workflow_id == bindparam("workflow_id"),
        timeline.c.cause["event_id"].astext == bindparam("event_id"),
    )
    .order_by(timeline.c.version)
    .limit(1)
)
_STARTED = select(workflow_runs.c.workflow_id).where(
    workflow_runs.c.workflow_id == bindparam("workflow_ids", type_=ARRAY(uuid_column())).any_()
)
_STOCK = select(stock).where(stock.c.sku == bindparam("sku"))
