"""Questions to the read model in Postgres."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import bindparam, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY

from fulcrum.readmodel.projection import EntryRow, RunRow, timestamp, to_json
from fulcrum.readmodel.relations import stock, timeline, workflow_runs
from fulcrum.readmodel.view import View
from fulcrum.store.database import Database, Transaction
from fulcrum.store.relations import uuid_column


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the list of runs, newest first: the run that a page ended with."""

    started_at: datetime
    workflow_id: str


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
    entries = await db.all(_TIMELINE, {"workflow_id": workflow_id})
    return View(
        workflow_id=workflow_id,
        version=run["version"],
        status=run["status"],
        run=to_json(cast("RunRow", _plain(run))),
        entries={row["version"]: to_json(cast("EntryRow", _plain(row))) for row in entries},
    )


async def find_versions(db: Database, workflow_ids: Sequence[str]) -> dict[str, int]:
    """At which version each of the workflows is; one that is not projected is missing."""
    rows = await db.all(_VERSIONS, {"workflow_ids": list(workflow_ids)})
    return {row["workflow_id"]: row["version"] for row in rows}


async def find_entries(db: Database, workflow_id: str, after: int, limit: int) -> list[Told]:
    """At most ``limit`` entries of the timeline behind version ``after``, in order."""
    rows = await db.all(_ENTRIES, {"workflow_id": workflow_id, "after": after, "most": limit})
    return [Told(row["version"], row["status"], to_json(cast("EntryRow", _plain(row)))) for row in rows]


async def find_decision(db: Database, workflow_id: str, event_id: str) -> Answered | None:
    """What the workflow decided upon one event, or None when that is not projected."""
    row = await db.one(_DECISION, {"workflow_id": workflow_id, "event_id": event_id})
    return None if row is None else Answered(**row)


async def find_started(tx: Transaction, workflow_ids: Sequence[str]) -> set[str]:
    """Which of the workflows are projected."""
    return {row["workflow_id"] for row in await tx.all(_STARTED, {"workflow_ids": list(workflow_ids)})}


async def page_of_runs(
    db: Database, *, status: str | None, after: Position | None, limit: int
) -> list[dict[str, Any]]:
    """At most ``limit`` runs, newest first, without lines, steps and timeline."""
    started_at, workflow_id = workflow_runs.c.started_at, workflow_runs.c.workflow_id
    statement = select(*_SUMMARY).order_by(started_at.desc(), workflow_id.desc()).limit(limit)
    if status is not None:
        statement = statement.where(workflow_runs.c.status == status)
    if after is not None:
        statement = statement.where(tuple_(started_at, workflow_id) < (after.started_at, after.workflow_id))
    return [_plain(row) for row in await db.all(statement)]


async def find_stock(db: Database, sku: str) -> dict[str, Any] | None:
    """How much of ``sku`` there is, or None when it was never received."""
    return await db.one(_STOCK, {"sku": sku})


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its times as the text that a projection writes."""
    return {name: timestamp(value) if isinstance(value, datetime) else value for name, value in row.items()}


_RUN = select(workflow_runs).where(workflow_runs.c.workflow_id == bindparam("workflow_id"))
_TIMELINE = (
    select(*(c for c in timeline.columns if c.name != "workflow_id"))
    .where(timeline.c.workflow_id == bindparam("workflow_id"))
    .order_by(timeline.c.version)
)
_ENTRIES = (
    select(*(c for c in timeline.columns if c.name != "workflow_id"))
    .where(timeline.c.workflow_id == bindparam("workflow_id"), timeline.c.version > bindparam("after"))
    .order_by(timeline.c.version)
    .limit(bindparam("most"))
)
_VERSIONS = select(workflow_runs.c.workflow_id, workflow_runs.c.version).where(
    workflow_runs.c.workflow_id == bindparam("workflow_ids", type_=ARRAY(uuid_column())).any_()
)
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
_SUMMARY = tuple(c for c in workflow_runs.columns if c.name not in ("lines", "steps"))
_STOCK = select(stock).where(stock.c.sku == bindparam("sku"))
