"""What does Postgres know of many workflows at once? Each question uses an index and has a limit."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Text, bindparam, func, literal, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY

from fulcrum.attention.situation import Parked, Unsent
from fulcrum.commands.accounts import PUBLISHED
from fulcrum.readmodel.relations import workflow_runs
from fulcrum.store.database import Database, Row
from fulcrum.store.relations import (
    ATTEMPTS,
    PARKED_MESSAGES,
    SCHEMA_OF,
    SERVICE_SCHEMAS,
    messaging,
    uuid_column,
)
from fulcrum.store.statements import lasting

#: Workflows on a page, and rows of an outbox that are looked at: the oldest.
PAGE, _MOST_UNSENT = 200, 1000
#: Others beyond so many are not counted.
MOST_OTHERS = 1000
_WAITS = ("parked", "replaying")

_IDS = bindparam("workflow_ids", type_=ARRAY(uuid_column()))
_COMMANDS = bindparam("command_ids", type_=ARRAY(uuid_column()))

Place = tuple[datetime, str]


@dataclass(frozen=True, slots=True)
class Details:
    """What is kept of some workflows, by the id of each, and the commands that were answered and when."""

    commands: Mapping[str, Sequence[Row]]
    attempts: Mapping[str, Sequence[Row]]
    parked: Mapping[str, Sequence[Row]]
    answered: Mapping[str, datetime]


async def page_of_open(db: Database, status: str, after: Place | None) -> list[Row]:
    """At most ``PAGE`` runs with ``status``, the one that started first first."""
    if after is None:
        return await db.all(_FIRST, {"wanted": status})
    return await db.all(_NEXT, {"wanted": status, "since": after[0], "behind": after[1]})


async def details(db: Database, workflow_ids: Sequence[str], awaited: Sequence[str]) -> Details:
    """What belongs to the workflows; ``awaited`` are further commands whose answers are asked for."""
    given = {"workflow_ids": list(workflow_ids)}
    commands = await db.all(_OPEN, given)
    attempts = await db.all(_ATTEMPTS, given)
    parked = await db.all(_PARKED, given)
    ids = sorted({*awaited, *(row["command_id"] for row in commands)})
    answers = await asyncio.gather(
        *(db.all(_answers(service), {"command_ids": ids}) for service in SCHEMA_OF if ids)
    )
    return Details(
        _by_workflow(commands),
        _by_workflow(sorted(attempts, key=lambda row: (row["started_at"], row["attempt"]))),
        _by_workflow(parked),
        {row["message_id"]: row["received_at"] for rows in answers for row in rows},
    )


async def parked_of(db: Database, workflow_id: str) -> list[Row]:
    """The messages of one workflow that wait for a person, oldest first."""
    return await db.all(_PARKED, {"workflow_ids": [workflow_id]})


async def count_others(db: Database, command: str, workflow_id: str) -> int:
    """How many other commands of this type are out; ``MOST_OTHERS`` when there are more."""
    row = await db.one(_OTHERS, {"command": command, "workflow_id": workflow_id})
    return 0 if row is None else int(row["others"])


async def unsent(db: Database) -> dict[str, tuple[Unsent, ...]]:
    """By workflow: the oldest events that wait in an outbox or were refused by Kafka."""
    found: dict[str, list[Unsent]] = defaultdict(list)
    for schema in SERVICE_SCHEMAS:
        refused = {row["key"]: row for row in reversed(await db.all(_refused(schema)))}
        waiting = {row["key"]: row for row in reversed(await db.all(_waiting(schema)))}
        for key, row in {**waiting, **refused}.items():
            if (workflow_id := _workflow(key)) is not None:
                found[workflow_id].append(Unsent(schema, row["since"], row["error"]))
    return {workflow_id: tuple(rows) for workflow_id, rows in found.items()}


def parked(row: Row) -> Parked:
    """A row of ``Details.parked``."""
    error = f"{row['error_class']}: {row['error']}"
    return Parked(row["id"], row["service"], row["type"], error, row["parked_at"])


def _by_workflow(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["workflow_id"]].append(row)
    return found


def _workflow(key: bytes) -> str | None:
    """The workflow whose key this is; other events have other keys."""
    try:
        return str(UUID(key.decode()))
    except ValueError:
        return None


# --- statements ---------------------------------------------------------------------------------------

_place = (workflow_runs.c.started_at, workflow_runs.c.workflow_id)
_FIRST = (
    select(*(c for c in workflow_runs.c if c.name != "lines"))
    .where(workflow_runs.c.status == bindparam("wanted"))
    .order_by(*_place)
    .limit(PAGE)
)
_NEXT = _FIRST.where(
    tuple_(*_place)
    > tuple_(
        bindparam("since", type_=workflow_runs.c.started_at.type), bindparam("behind", type_=uuid_column())
    )
)
_OPEN = select(PUBLISHED).where(PUBLISHED.c.workflow_id == _IDS.any_())
_newest_first = func.row_number().over(
    partition_by=ATTEMPTS.c.command_id, order_by=ATTEMPTS.c.started_at.desc()
)
_numbered = (
    select(ATTEMPTS, _newest_first.label("place")).where(ATTEMPTS.c.workflow_id == _IDS.any_()).subquery()
)
_ATTEMPTS = select(*(_numbered.c[column.name] for column in ATTEMPTS.c)).where(_numbered.c.place == 1)
_PARKED = lasting(
    select(
        *(
            PARKED_MESSAGES.c[name]
            for name in (
                "id",
                "workflow_id",
                "service",
                "message_id",
                "type",
                "reason",
                "error_class",
                "error",
                "parked_at",
            )
        )
    )
    .where(PARKED_MESSAGES.c.workflow_id == _IDS.any_(), PARKED_MESSAGES.c.status.in_(_WAITS))
    .order_by(PARKED_MESSAGES.c.parked_at)
)
_others = (
    select(literal(1))
    .where(PUBLISHED.c.type == bindparam("command"), PUBLISHED.c.workflow_id != bindparam("workflow_id"))
    .limit(MOST_OTHERS)
    .subquery()
)
_OTHERS = lasting(select(func.count().label("others")).select_from(_others))


@cache
def _answers(service: str) -> Select[Any]:
    inbox = messaging(SCHEMA_OF[service]).inbox
    return select(inbox.c.message_id, inbox.c.received_at).where(
        inbox.c.consumer == service, inbox.c.message_id == _COMMANDS.any_(), inbox.c.outcome.is_not(None)
    )


@cache
def _waiting(schema: str) -> Select[Any]:
    outbox = messaging(schema).outbox
    return (
        select(outbox.c.key, outbox.c.created_at.label("since"), literal(None, Text).label("error"))
        .where(outbox.c.shard == 0)
        .order_by(outbox.c.shard, outbox.c.id)
        .limit(_MOST_UNSENT)
    )


@cache
def _refused(schema: str) -> Select[Any]:
    parked = messaging(schema).outbox_parked
    return (
        select(parked.c.key, parked.c.parked_at.label("since"), parked.c.error)
        .where(parked.c.shard == 0)
        .order_by(parked.c.shard, parked.c.id)
        .limit(_MOST_UNSENT)
    )
