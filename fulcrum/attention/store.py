"""How is kept which workflows need somebody, who may look for them, and how are they listed?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Interval, bindparam, delete, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import ARRAY

from fulcrum.attention.relations import ATTENTION, LEASE
from fulcrum.attention.rules import Match
from fulcrum.readmodel.projection import FINAL
from fulcrum.readmodel.relations import workflow_runs
from fulcrum.store.bulk import arrays, insert_rows, rows_of
from fulcrum.store.database import Database, Row
from fulcrum.store.relations import uuid_column

_COLUMNS = tuple(column.name for column in ATTENTION.c)
_KEY = ("workflow_id", "rule")
_IDS = bindparam("workflow_ids", type_=ARRAY(uuid_column()))

Position = tuple[datetime, str, str]


async def take_lease(db: Database, owner: str, ttl: float) -> datetime | None:
    """The time by the database's clock, if ``owner`` may look for the next ``ttl`` seconds; None if not."""
    row = await db.one(_TAKE, {"taker": owner, "ttl": timedelta(seconds=ttl)})
    return None if row is None else row["now"]


async def release_lease(db: Database, owner: str) -> None:
    """Let another process look at once."""
    await db.execute(_RELEASE, {"holder": owner})


async def keep(
    db: Database, now: datetime, looked_at: Sequence[str], found: Mapping[str, Sequence[Match]]
) -> None:
    """Write what was ``found`` by workflow; whatever else is there of those ``looked_at`` goes.

    A match that goes on keeps the earliest time since when it was seen.
    """
    rows = [
        {
            "workflow_id": workflow_id,
            "rule": match.rule,
            "since": match.finding.since,
            "seen_at": now,
            "detail": match.finding.detail,
            "suggestion": match.finding.suggestion,
        }
        for workflow_id, matched in sorted(found.items())
        for match in matched
    ]
    async with db.transaction() as tx:
        if looked_at:
            given = {"workflow_ids": list(looked_at)}
            await tx.execute(_CLEAR, {**given, **arrays(_KEY, rows)})
        if rows:
            await tx.execute(_upsert(), arrays(_COLUMNS, rows))


async def sweep(db: Database, started: Sequence[str]) -> int:
    """Delete what is kept of workflows that are finished, and of those without a run that are not among the
    accepted ones in ``started``; returns how many rows."""
    return await db.execute(_SWEEP, {"workflow_ids": list(started)})


async def counts(db: Database) -> dict[str, int]:
    """How many workflows match each rule; without those that none matches."""
    return {row["rule"]: row["count"] for row in await db.all(_COUNTS)}


async def page(db: Database, rule: str | None, after: Position | None, limit: int) -> list[Row]:
    """At most ``limit`` rows, the longest-standing first."""
    place = (ATTENTION.c.since, ATTENTION.c.workflow_id, ATTENTION.c.rule)
    statement = select(ATTENTION).order_by(*place).limit(limit)
    if rule is not None:
        statement = statement.where(ATTENTION.c.rule == rule)
    if after is not None:
        statement = statement.where(tuple_(*place) > after)
    return await db.all(statement)


# --- statements ---------------------------------------------------------------------------------------

_TAKE = (
    update(LEASE)
    .where(
        LEASE.c.id == 1, or_(LEASE.c.expires_at < func.clock_timestamp(), LEASE.c.owner == bindparam("taker"))
    )
    .values(owner=bindparam("taker"), expires_at=func.clock_timestamp() + bindparam("ttl", type_=Interval))
    .returning(func.clock_timestamp().label("now"))
)
_RELEASE = (
    update(LEASE)
    .where(LEASE.c.owner == bindparam("holder"))
    .values(owner=None, expires_at=func.clock_timestamp())
)
_given = rows_of(ATTENTION, _KEY)
_CLEAR = delete(ATTENTION).where(
    ATTENTION.c.workflow_id == _IDS.any_(),
    tuple_(ATTENTION.c.workflow_id, ATTENTION.c.rule).not_in(select(_given.c.workflow_id, _given.c.rule)),
)
_over = (
    select(ATTENTION.c.workflow_id)
    .outerjoin(workflow_runs, workflow_runs.c.workflow_id == ATTENTION.c.workflow_id)
    .where(
        or_(
            workflow_runs.c.status.in_(sorted(FINAL)),
            workflow_runs.c.workflow_id.is_(None) & (ATTENTION.c.workflow_id != _IDS.all_()),
        )
    )
)
_SWEEP = delete(ATTENTION).where(ATTENTION.c.workflow_id.in_(_over))
_COUNTS = select(ATTENTION.c.rule, func.count().label("count")).group_by(ATTENTION.c.rule)


def _upsert() -> Any:
    statement = insert_rows(ATTENTION, _COLUMNS, order_by=_KEY)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=[ATTENTION.c.workflow_id, ATTENTION.c.rule],
        set_={
            "since": func.least(ATTENTION.c.since, new.since),
            **{name: new[name] for name in ("seen_at", "detail", "suggestion")},
        },
    )
