"""Which workflows does an id belong to, and what is it: of a workflow, a message, a customer, a SKU?

Each kind is asked for by itself, from its own index, newest first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Select, bindparam, func, literal, null, select, union_all
from sqlalchemy.dialects.postgresql import ARRAY, array
from sqlalchemy.types import Text

from fulcrum.readmodel.lists import SUMMARY
from fulcrum.readmodel.queries import plain
from fulcrum.readmodel.relations import KEY_KINDS, run_keys, timeline, workflow_runs
from fulcrum.saga import identity
from fulcrum.store.database import Database
from fulcrum.store.relations import uuid_column

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class Found:
    """A workflow (as in a list) and what the id is to it; ``version`` is the transition that names it."""

    what: str
    version: int | None
    workflow: Mapping[str, Any]


async def find(db: Database, text: str, *, limit: int, within: float) -> list[Found]:
    """At most ``limit`` workflows of each kind, newest first.

    StatementTimeout when one of the questions takes longer than ``within`` seconds.
    """
    async with db.transaction() as tx:
        tx.within(within)
        rows = await tx.all(_by_key(limit), {"text": text})
        if _UUID.fullmatch(text):
            named = text.lower()
            own = {"workflow_id": named, "of_intent": workflow_of(named)}
            rows += await tx.all(_BY_WORKFLOW, own)
            rows += await tx.all(_BY_MESSAGE, {"text": named, "limit": limit})
    return sorted(_found(rows), key=lambda each: str(each.workflow["started_at"]), reverse=True)


def workflow_of(intent_id: str) -> str:
    """The workflow of an intent: its id is computed, so nothing needs to be looked up."""
    return identity.workflow_id(str(UUID(intent_id)))


def _found(rows: list[dict[str, Any]]) -> Iterator[Found]:
    seen = set()
    for row in rows:
        workflow = plain(row)
        what, version = workflow.pop("what"), workflow.pop("at_version")
        if (what, workflow["workflow_id"]) not in seen:
            seen.add((what, workflow["workflow_id"]))
            yield Found(what, version, workflow)


def _by_key(limit: int) -> Select[Any]:
    """Workflows by what they were given: one range of the index a kind."""
    key = run_keys.c
    ranges = []
    for kind in KEY_KINDS:
        newest = (
            select(key.kind, key.started_at, key.workflow_id)
            .where(key.key == bindparam("text", type_=Text), key.kind == kind)
            .order_by(key.started_at.desc(), key.workflow_id.desc())
            .limit(limit)
        )
        ranges.append(select(newest.subquery()))
    keys = union_all(*ranges).subquery()
    return select(*SUMMARY, keys.c.kind.label("what"), null().label("at_version")).join(
        keys, keys.c.workflow_id == workflow_runs.c.workflow_id
    )


_run_id = workflow_runs.c.workflow_id
_BY_WORKFLOW = union_all(
    *(
        select(*SUMMARY, literal(what).label("what"), null().label("at_version")).where(
            _run_id == bindparam(name, type_=uuid_column())
        )
        for what, name in (("workflow_id", "workflow_id"), ("intent_id", "of_intent"))
    )
)


def _by_message() -> Select[Any]:
    """Workflows by the events that they answered and the commands that they sent."""
    text, commands = bindparam("text", type_=Text), timeline.c.commands
    several = func.read_model.command_ids(commands, type_=ARRAY(Text))
    matches = (
        ("event_id", timeline.c.cause["event_id"].astext == text),
        ("command_id", commands[0]["command_id"].astext == text),
        (
            "command_id",
            (func.json_array_length(commands) > 1) & several.contains(array([text])),
        ),
    )
    entries = union_all(
        *(
            select(timeline.c.workflow_id, timeline.c.version, literal(what).label("what")).where(match)
            for what, match in matches
        )
    ).subquery()
    found = select(*SUMMARY, entries.c.what, entries.c.version.label("at_version"))
    return (
        found.join(entries, entries.c.workflow_id == _run_id)
        .order_by(entries.c.version)
        .limit(bindparam("limit"))
    )


_BY_MESSAGE = _by_message()
