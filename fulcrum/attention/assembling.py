"""How does what was read of a workflow become the situation that the rules look at? Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from fulcrum.attention.reading import Details, parked
from fulcrum.attention.situation import Open, Situation, Stall, Unsent
from fulcrum.readmodel.awaited import Awaited, awaited
from fulcrum.readmodel.projection import timestamp
from fulcrum.readmodel.why import Facts, why
from fulcrum.saga import identity
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.store.database import Row


def awaited_command(run: Mapping[str, Any]) -> str | None:
    """The id of the command whose answer moves the run on."""
    waiting = awaited(run)
    if waiting is None:
        return None
    if not waiting.undoing:
        command_id: str | None = waiting.state["command_id"]
        return command_id
    undo, attempt = waiting.commands[0], waiting.state["attempt"]
    return identity.command_id(run["workflow_id"], waiting.row.name, undo, attempt)


def situation(
    run: Row,
    now: datetime,
    known: Details,
    *,
    unsent: tuple[Unsent, ...] = (),
    stalls: tuple[Stall, ...] = (),
    consumers: Mapping[str, int] | None = None,
    tries: Mapping[str, int] | None = None,
) -> Situation:
    """The situation of ``run``; ``consumers`` by service, None when RabbitMQ was not asked."""
    workflow_id = run["workflow_id"]
    attempts = known.attempts.get(workflow_id, ())
    held = known.parked.get(workflow_id, ())
    waiting = awaited(run)
    told = why(
        Facts(
            now=now,
            run=_told(run),
            attempts=[_told(row) for row in attempts],
            parked=[_told(row) for row in held],
            tries=tries or {},
        )
    )
    last = {row["command_id"]: row for row in attempts}
    return Situation(
        now=now,
        workflow_id=workflow_id,
        status=run["status"],
        updated_at=run["updated_at"],
        why=told,
        awaited=waiting,
        open=tuple(_open(run, now, known, last, consumers)),
        parked=tuple(map(parked, held)),
        unsent=unsent,
        stalls=stalls,
        retry_due=_retry_due(attempts, waiting),
        answered_at=_answered_at(run, known, last),
    )


def _open(
    run: Row,
    now: datetime,
    known: Details,
    last: Mapping[str, Row],
    consumers: Mapping[str, int] | None,
) -> Iterator[Open]:
    """The commands that lie on a queue, as far as can be told: not answered, not parked, and not delayed."""
    workflow_id = run["workflow_id"]
    held = {row["message_id"] for row in known.parked.get(workflow_id, ())}
    for row in known.commands.get(workflow_id, ()):
        command_id, since = row["command_id"], row["published_at"] or row["decided_at"]
        if command_id in held or command_id in known.answered:
            continue
        due = last[command_id]["next_due"] if command_id in last else None
        if due is not None and due > now:
            continue
        yield Open(
            row["type"],
            row["service"],
            max(since, due or since),
            None if consumers is None else consumers.get(row["service"], 0),
            _deadline(run["definition"], row["type"]),
        )


def _deadline(definition: str, command: str) -> timedelta | None:
    known = DEFINITIONS.get(definition)
    for step in known.steps if known else ():
        if command in {kind.__name__ for kind in (step.do, step.undo, step.query) if kind is not None}:
            return step.deadline
    return None


def _retry_due(attempts: Sequence[Row], waiting: Awaited | None) -> datetime | None:
    """When the awaited step is tried again."""
    if waiting is None:
        return None
    mine = [row for row in attempts if row["step"] == waiting.row.name and row["type"] in waiting.commands]
    due: datetime | None = mine[-1]["next_due"] if mine else None
    return due


def _answered_at(run: Row, known: Details, last: Mapping[str, Row]) -> datetime | None:
    """When the awaited command was finished: the inbox tells when it was claimed, attempts may be later."""
    command_id = awaited_command(run)
    if command_id is None:
        return None
    received = known.answered.get(command_id)
    if received is None or command_id not in last:
        return received
    tried: datetime = last[command_id]["started_at"]
    return max(received, tried)


def _told(row: Row) -> dict[str, Any]:
    """The row with its times as text, as the API shows them."""
    return {name: timestamp(value) if isinstance(value, datetime) else value for name, value in row.items()}
