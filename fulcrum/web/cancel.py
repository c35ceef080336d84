"""Somebody wants a workflow undone: the wish goes behind the intent on its stream, the orchestrator decides.

Between what is read here and what the orchestrator decides the workflow moves on, so the answer is the
decision itself whenever the read model shows it soon enough.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import bindparam, select, update
from sqlalchemy.dialects.postgresql import insert

from fulcrum.readmodel import queries
from fulcrum.readmodel.queries import Answered
from fulcrum.readmodel.view import View
from fulcrum.saga import identity
from fulcrum.saga.run import Status
from fulcrum.store import outbox
from fulcrum.web import answers
from fulcrum.web.bodies import CancelBody, WorkflowPath
from fulcrum.web.intents import REPLAYED
from fulcrum.web.operation import KEY_HEADER, Answer, Call
from fulcrum.web.problem import FieldError, Problem
from fulcrum.web.relations import INTAKE, cancellations, intents
from fulcrum.web.services import Services
from fulcrum.web.waiting import look_until
from fulcrum.web.workflows import find_view

log = structlog.get_logger()

#: The wish is fulfilled, or being fulfilled: there is nothing to ask for.
_UNDONE = frozenset({Status.COMPENSATING, Status.NEEDS_ATTENTION, Status.CANCELLED})

# The lock is held to the commit, and the outbox row is written with the commit: the numbers of one workflow
# leave in their order.
_LOCK = (
    select(intents.c.tenant, intents.c.last_sequence)
    .where(intents.c.workflow_id == bindparam("workflow_id"))
    .with_for_update()
)
_FIRST = select(cancellations).where(
    cancellations.c.workflow_id == bindparam("workflow_id"),
    cancellations.c.event_id == bindparam("event_id"),
)
_INSERT = insert(cancellations)
_COUNT = (
    update(intents)
    .where(intents.c.workflow_id == bindparam("workflow"))
    .values(last_sequence=bindparam("sequence"))
)


async def cancel_workflow(
    services: Services,
    call: Call,
    *,
    path: WorkflowPath,
    body: CancelBody,
    key: str | None,
    actor: str | None,
) -> Answer:
    """Undo a workflow: what was done is compensated in reverse order.

    It may be asked from the moment the intent is accepted, and is refused once the workflow is completed.
    One that is being undone already, whatever the reason, is a success, so a repeat is harmless.
    """
    call.workflow_id = path.workflow_id
    view, _ = await find_view(services, path.workflow_id, 0)
    if view.status == Status.COMPLETED:
        raise _completed(view)
    if view.status in _UNDONE:
        return _answer(view, None, decided=True)
    event_id, replayed = await _ask(services, call, body.reason, key, actor)
    decision = await _decision(services, path.workflow_id, event_id)
    view, _ = await find_view(services, path.workflow_id, decision.version if decision else 0)
    if view.status == Status.COMPLETED:
        raise _completed(view)
    return _answer(view, event_id, decided=view.status in _UNDONE, replayed=replayed)


async def _ask(
    services: Services, call: Call, reason: str, key: str | None, actor: str | None
) -> tuple[str, bool]:
    """Store the request with its event, or recognise it: the event's id, and whether it came before."""
    workflow = {"workflow_id": call.workflow_id}
    stream = services.stream
    async with services.db.transaction() as tx:
        intent = await tx.one(_LOCK, workflow)
        if intent is None:
            raise Problem("not-found", f"Intake has no intent of workflow {call.workflow_id}; check the id.")
        asked = _columns(call, reason, key, actor or intent["tenant"], intent["last_sequence"] + 1)
        first = await tx.one(_FIRST, {**workflow, "event_id": asked["event_id"]})
        if first is None:
            await tx.execute(_INSERT, asked)
            await tx.execute(_COUNT, {"workflow": call.workflow_id, "sequence": asked["sequence"]})
            await outbox.add(tx, INTAKE, [stream.cancelled(asked, call.traceparent)])
    if first is None:
        log.info("workflow.cancel_requested", workflow_id=call.workflow_id, actor=asked["actor"])
    elif first["reason"] != reason:
        detail = f"This {KEY_HEADER} came before with another reason; repeat that one, or use a new key."
        raise Problem("key-reused", detail, [FieldError("header", KEY_HEADER, detail)])
    return asked["event_id"], first is not None


def _columns(call: Call, reason: str, key: str | None, actor: str, sequence: int) -> dict[str, Any]:
    """The row of a new cancellation."""
    assert call.workflow_id is not None
    return {
        "workflow_id": call.workflow_id,
        "sequence": sequence,
        "event_id": identity.cancel_id(call.workflow_id, key, actor, reason),
        "reason": reason,
        "actor": actor,
        "correlation_id": call.correlation_id,
        "requested_at": datetime.now(UTC),
    }


async def _decision(services: Services, workflow_id: str, event_id: str) -> Answered | None:
    """What was decided upon the event, when that can be seen soon enough."""
    return await look_until(
        lambda: queries.find_decision(services.db, workflow_id, event_id), lambda found: found is not None
    )


def _completed(view: View) -> Problem:
    ended = json.loads(view.run)["finished_at"]
    return Problem(
        "already-completed",
        f"Workflow {view.workflow_id} was completed at {ended} and cannot be cancelled any more.",
    )


def _answer(view: View, event_id: str | None, *, decided: bool, replayed: bool = False) -> Answer:
    known = answers.Cancellation(
        workflow_id=view.workflow_id,
        event_id=event_id,
        status=view.status,
        version=view.version,
        reason=json.loads(view.run)["reason"],
        decided=decided,
    )
    location = {"Location": f"/v1/workflows/{view.workflow_id}"}
    return Answer(known, 202, {**location, **({REPLAYED: "true"} if replayed else {})})
