"""How are pack jobs read and locked, written back, and taken up when they are due?

What changed is written in the round trip of the COMMIT. A job that another transaction made in between
violates ``pack_jobs_pkey``, and all is decided again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Interval, bindparam, delete, func, insert, literal_column, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from fulcrum.commands.delivery import Delivery
from fulcrum.store.bulk import arrays, insert_rows, rows_of
from fulcrum.store.database import Database, Transaction
from fulcrum.store.relations import uuid_column
from fulcrum.workers.warehouse_jobs import Goal, PackJob, State
from fulcrum.workers.warehouse_policy import PackLine
from fulcrum.workers.warehouse_relations import OPEN_COMMAND, PACK_JOB, PACK_JOB_EVENT, PACK_LINE

#: What is violated because another transaction was first.
MET = frozenset({"pack_jobs_pkey"})

_FIELDS = tuple(name for name in PackJob.__dataclass_fields__ if name != "lines")
_IDS = bindparam("ids", type_=ARRAY(uuid_column()))
# The lock orders what happens to one workflow, across processes.
_LOCK = (
    select(*[PACK_JOB.c[name] for name in _FIELDS], func.clock_timestamp().label("now"))
    .where(PACK_JOB.c.workflow_id == _IDS.any_())
    .order_by(PACK_JOB.c.workflow_id)
    .with_for_update()
)
_LINES = select(PACK_LINE).where(PACK_LINE.c.workflow_id == _IDS.any_()).order_by(PACK_LINE.c.line)

_given = rows_of(PACK_JOB, _FIELDS, wait_ms=BigInteger())
_due = func.clock_timestamp() + _given.c.wait_ms * literal_column("interval '1 millisecond'")
_CHANGES = {"changed_at": func.clock_timestamp(), "due_at": _due}
_INSERT = insert(PACK_JOB).from_select(
    [*_FIELDS, *_CHANGES],
    select(*[_given.c[name] for name in _FIELDS], *_CHANGES.values()).order_by(_given.c.workflow_id),
)
_UPDATE = (
    update(PACK_JOB)
    .values({**{name: _given.c[name] for name in _FIELDS if name != "workflow_id"}, **_CHANGES})
    .where(PACK_JOB.c.workflow_id == _given.c.workflow_id)
)

_LINE_FIELDS = tuple(column.name for column in PACK_LINE.columns)
_NO_LINES = delete(PACK_LINE).where(PACK_LINE.c.workflow_id == _IDS.any_())
_INSERT_LINES = insert_rows(PACK_LINE, _LINE_FIELDS)
_COUNTED = ("workflow_id", "line", "picked")
_counted = rows_of(PACK_LINE, _COUNTED)
_COUNT = (
    update(PACK_LINE)
    .values(picked=_counted.c.picked)
    .where(PACK_LINE.c.workflow_id == _counted.c.workflow_id, PACK_LINE.c.line == _counted.c.line)
)

_EVENT_FIELDS = ("workflow_id", "attempt", "state", "goal", "reason")
_event = rows_of(PACK_JOB_EVENT, _EVENT_FIELDS)
_TELL = insert(PACK_JOB_EVENT).from_select(
    [*_EVENT_FIELDS, "at"], select(*[_event.c[name] for name in _EVENT_FIELDS], func.clock_timestamp())
)

_OPENED = ("command_id", "workflow_id", "type", "headers")
_opened = rows_of(OPEN_COMMAND, _OPENED)
_OPEN = insert(OPEN_COMMAND).from_select(
    [*_OPENED, "begun_at"],
    select(*[_opened.c[name] for name in _OPENED], func.clock_timestamp()).order_by(_opened.c.command_id),
)
_HEADERS = select(OPEN_COMMAND.c.command_id, OPEN_COMMAND.c.headers).where(
    OPEN_COMMAND.c.command_id == _IDS.any_()
)
_CLOSE = delete(OPEN_COMMAND).where(OPEN_COMMAND.c.command_id == _IDS.any_())

# Locked rows are those that another process takes, or that are changed just now.
_next = (
    select(PACK_JOB.c.workflow_id)
    .where(PACK_JOB.c.due_at <= func.clock_timestamp())
    .order_by(PACK_JOB.c.due_at)
    .limit(bindparam("most", type_=BigInteger))
    .with_for_update(skip_locked=True)
)
_TAKE = (
    update(PACK_JOB)
    .where(PACK_JOB.c.workflow_id.in_(_next))
    .values(due_at=func.clock_timestamp() + bindparam("sweep_after", type_=Interval))
    .returning(*[PACK_JOB.c[name] for name in _FIELDS])
)


@dataclass(frozen=True, slots=True)
class Changed:
    """A job as it was read, None when there was none, and as it must be stored.

    ``wait`` is when it is due again; None when it is left alone.
    """

    before: PackJob | None
    job: PackJob
    wait: timedelta | None


async def lock(tx: Transaction, workflows: Collection[str]) -> tuple[dict[str, PackJob], datetime | None]:
    """The jobs of ``workflows``, locked, and the database's time; None when there is no job."""
    ids = sorted(workflows)
    rows = await tx.all(_LOCK, {"ids": ids})
    lines = _by_workflow(await tx.all(_LINES, {"ids": ids})) if rows else {}
    jobs = {row["workflow_id"]: _job(row, lines) for row in rows}
    return jobs, rows[0]["now"] if rows else None


async def take_due(db: Database, most: int, sweep_after: float) -> list[PackJob]:
    """At most so many jobs that are due; each is due again after so many seconds."""
    rows = await db.all(_TAKE, {"most": most, "sweep_after": timedelta(seconds=sweep_after)})
    ids = sorted(row["workflow_id"] for row in rows)
    lines = _by_workflow(await db.all(_LINES, {"ids": ids})) if ids else {}
    return [_job(row, lines) for row in rows]


def save(tx: Transaction, changed: Sequence[Changed]) -> None:
    """Write jobs, lines and history when ``tx`` commits."""
    for statement, those in (
        (_INSERT, [each for each in changed if each.before is None]),
        (_UPDATE, [each for each in changed if each.before is not None]),
    ):
        if those:
            tx.at_commit(statement, arrays([*_FIELDS, "wait_ms"], [_row(each) for each in those]))
    # A new attempt has lines of its own.
    begun = [each.job for each in changed if each.job.lines and _attempt(each.before) != each.job.attempt]
    if begun:
        tx.at_commit(_NO_LINES, {"ids": sorted(job.workflow_id for job in begun)})
        tx.at_commit(_INSERT_LINES, arrays(_LINE_FIELDS, [row for job in begun for row in _lines(job)]))
    counted = [
        row
        for each in changed
        if each.before is not None and _attempt(each.before) == each.job.attempt
        for row, before, now in zip(_lines(each.job), each.before.lines, each.job.lines, strict=True)
        if before.picked != now.picked
    ]
    if counted:
        tx.at_commit(_COUNT, arrays(_COUNTED, counted))
    came = [each.job for each in changed if _stands(each.before) != _stands(each.job)]
    if came:
        told = [{name: getattr(job, name) for name in _EVENT_FIELDS} for job in came]
        tx.at_commit(_TELL, arrays(_EVENT_FIELDS, told))


def open_commands(tx: Transaction, deliveries: Mapping[str, Delivery]) -> None:
    """Keep what the answers of these commands, by workflow and id, will need."""
    rows = [
        {
            "command_id": key,
            "workflow_id": getattr(each.command, "workflow_id", None),
            "type": type(each.command).__name__,
            "headers": each.headers,
        }
        for key, each in deliveries.items()
    ]
    if rows:
        tx.at_commit(_OPEN, arrays(_OPENED, rows))


async def headers_of(tx: Transaction, command_ids: Collection[str]) -> dict[str, dict[str, str]]:
    """The headers of open commands, by id."""
    if not command_ids:
        return {}
    rows = await tx.all(_HEADERS, {"ids": sorted(command_ids)})
    return {row["command_id"]: row["headers"] for row in rows}


def close_commands(tx: Transaction, command_ids: Collection[str]) -> None:
    """Forget commands that are answered."""
    if command_ids:
        tx.at_commit(_CLOSE, {"ids": sorted(command_ids)})


def _attempt(job: PackJob | None) -> int:
    return 0 if job is None else job.attempt


def _stands(job: PackJob | None) -> tuple[object, ...]:
    return () if job is None else (job.attempt, job.state, job.goal)


def _row(changed: Changed) -> dict[str, Any]:
    wait = changed.wait
    return {
        **{name: getattr(changed.job, name) for name in _FIELDS},
        "wait_ms": None if wait is None else round(wait.total_seconds() * 1000),
    }


def _lines(job: PackJob) -> list[dict[str, Any]]:
    return [
        {
            "workflow_id": job.workflow_id,
            "line": number,
            "sku": line.sku,
            "requested": line.requested,
            "picked": line.picked,
            "unit_minor": line.unit_minor,
            "on_short": line.on_short,
        }
        for number, line in enumerate(job.lines)
    ]


def _by_workflow(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[PackLine]]:
    found: dict[str, list[PackLine]] = {}
    for row in rows:
        line = PackLine(row["sku"], row["requested"], row["picked"], row["unit_minor"], row["on_short"])
        found.setdefault(row["workflow_id"], []).append(line)
    return found


def _job(row: Mapping[str, Any], lines: Mapping[str, Sequence[PackLine]]) -> PackJob:
    fields = {name: row[name] for name in _FIELDS}
    return PackJob(
        **{
            **fields,
            "state": State(row["state"]),
            "goal": None if row["goal"] is None else Goal(row["goal"]),
            "lines": tuple(lines.get(row["workflow_id"], ())),
        }
    )
