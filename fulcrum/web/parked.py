"""Messages that no worker could handle: seen, grouped by cause, sent again, edited, given up or taken back.

Every act is an operation of one message; the answer comes when it has its outcome.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from fulcrum.commands import parking
from fulcrum.commands.parking import Filter
from fulcrum.errors import Conflict, Rejected, Unavailable
from fulcrum.operations import groups
from fulcrum.operations.accounting import FAILED, PENDING, SKIPPED
from fulcrum.operations.relations import ITEMS, OPERATIONS
from fulcrum.operations.requests import Request
from fulcrum.operations.store import create
from fulcrum.store.database import Row
from fulcrum.web.auditing import end
from fulcrum.web.bodies import OperatorBody
from fulcrum.web.operation import Answer, Call
from fulcrum.web.parked_answers import ParkedGroup, ParkedGroups, ParkedMessage, ParkedPage, ParkedSummary
from fulcrum.web.parked_bodies import EditBody, GroupPath, GroupsQuery, NoteBody, ParkedPath, ParkedQuery
from fulcrum.web.problem import FieldError, Problem
from fulcrum.web.services import Services
from fulcrum.web.waiting import look_until


async def list_parked(services: Services, call: Call, *, query: ParkedQuery) -> Answer:
    """List parked messages, newest first."""
    wanted = Filter(**query.model_dump(exclude={"cursor", "limit"}))
    try:
        rows, cursor = await parking.list_parked(services.db, wanted, query.cursor, query.limit)
    except Rejected as error:
        raise Problem(
            "invalid-parameter", str(error), [FieldError("parameter", "cursor", str(error))]
        ) from error
    return Answer(ParkedPage(items=[ParkedSummary(**row) for row in rows], next_cursor=cursor))


async def list_groups(services: Services, call: Call, *, query: GroupsQuery) -> Answer:
    """List the causes for which messages were parked, those with the most that wait first.

    Shown are causes with messages that wait, or that were parked within the last seven days.
    """
    rows = await groups.list_groups(services.db, query.service, query.limit)
    return Answer(ParkedGroups(items=[ParkedGroup(**row) for row in rows]))


async def note_group(services: Services, call: Call, *, path: GroupPath, body: NoteBody) -> Answer:
    """Note what is known about a cause, and who looks after it, in place of what was noted before."""
    row = await groups.note_group(services.db, path.group, body.note, body.owner, body.actor, call.act)
    return Answer(ParkedGroup(**row))


async def show_parked(services: Services, call: Call, *, path: ParkedPath) -> Answer:
    """Show a parked message with its bytes, headers and error."""
    return _whole(await parking.get_parked(services.db, path.parked_id), call)


async def replay_parked(services: Services, call: Call, *, path: ParkedPath, body: OperatorBody) -> Answer:
    """Send a parked message again, a command to its service and an event to its topic.

    It keeps its id, so that what it did already is not done twice; its attempts are counted anew.
    """
    return _whole(await _act(services, call, "replay", path.parked_id, body), call)


async def discard_parked(services: Services, call: Call, *, path: ParkedPath, body: OperatorBody) -> Answer:
    """Decide that a parked message is not needed. It can be restored until its body is deleted."""
    return _whole(await _act(services, call, "discard", path.parked_id, body), call)


async def restore_parked(services: Services, call: Call, *, path: ParkedPath, body: OperatorBody) -> Answer:
    """Take back that a message is not needed: it waits again."""
    return _whole(await _act(services, call, "restore", path.parked_id, body), call)


async def edit_parked(services: Services, call: Call, *, path: ParkedPath, body: EditBody) -> Answer:
    """Send a parked message changed, under a new id, in place of the old one.

    Both stay and name each other. Nothing that waits for the answer to the old id hears of the new one.
    """
    if not services.settings.parked_edit:
        raise Problem(
            "switched-off", "Editing is off; FULCRUM_PARKED_EDIT=true in intake's environment allows it."
        )
    patch = [step.model_dump() for step in body.patch]
    message = await parking.get_parked(services.db, path.parked_id)
    if message["status"] == "parked":
        # Refused now and not by an operation that can only fail.
        await services.editor.edited(message, patch, message["id"])
    return _whole(await _act(services, call, "edit", path.parked_id, body, {"patch": patch}), call)


async def _act(
    services: Services,
    call: Call,
    kind: str,
    parked_id: str,
    body: OperatorBody,
    arguments: Mapping[str, Any] | None = None,
) -> Row:
    """Do one thing to one message, and wait for its outcome. The row afterwards."""
    request = Request(kind, body.actor, body.reason, ids=[parked_id], arguments=arguments or {})
    before = _standing(await parking.get_parked(services.db, parked_id))
    try:
        made, _ = await create(services.db, request, audited=call.act, outcome="began")
        operation = str(made["id"])
    except Conflict as error:
        operation = await _joined(services, kind, parked_id, error)
    services.wake()
    item = await look_until(
        lambda: _item(services, operation, parked_id), lambda row: row["state"] != PENDING
    )
    if item["state"] == PENDING:
        raise Unavailable(
            f"What this needs does not answer. Operation {operation} is stored and goes on by itself: see "
            f"/v1/operations/{operation}, or repeat the request to wait for it."
        )
    if item["state"] in (FAILED, SKIPPED) and item["begun_at"] is None:
        raise await _refusal(services, parked_id)
    if item["state"] == FAILED and item["outcome"] != "parked again":
        raise Conflict(f"parked message {parked_id} was not sent: {item['outcome']}")
    row = await parking.get_parked(services.db, parked_id)
    after = {**_standing(row), "operation": operation}
    await end(services, call.act, "done", before=before, after=after)
    return row


def _standing(row: Row) -> dict[str, Any]:
    """What the audit keeps of a parked message."""
    return {"status": row["status"]}


async def _joined(services: Services, kind: str, parked_id: str, error: Conflict) -> str:
    """The operation that is doing the same to this message alone; otherwise why it cannot be done."""
    same = (
        select(OPERATIONS.c.id)
        .join(ITEMS, ITEMS.c.operation_id == OPERATIONS.c.id)
        .where(
            ITEMS.c.parked_id == parked_id,
            ITEMS.c.state == PENDING,
            OPERATIONS.c.kind == kind,
            OPERATIONS.c.total == 1,
        )
    )
    found = await services.db.one(same)
    if found is None:
        raise await _refusal(services, parked_id) from error
    return str(found["id"])


async def _refusal(services: Services, parked_id: str) -> Conflict:
    row = await parking.get_parked(services.db, parked_id)
    if row["body_deleted_at"] is not None:
        return Conflict(f"the body of parked message {parked_id} was deleted at {row['body_deleted_at']}")
    told = f" by {row['actor']}: {row['note']}" if row["actor"] else ", and another operation has it"
    return Conflict(f"parked message {parked_id} is {row['status']}{told}")


async def _item(services: Services, operation: str, parked_id: str) -> Row:
    wanted = select(ITEMS).where(ITEMS.c.operation_id == operation, ITEMS.c.parked_id == parked_id)
    row = await services.db.one(wanted)
    assert row is not None
    return row


def _whole(row: Row, call: Call) -> Answer:
    call.workflow_id = row["workflow_id"]
    return Answer(ParkedMessage(**{**row, "body": base64.b64encode(row["body"]).decode()}))
