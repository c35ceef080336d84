"""Somebody wants a workflow undone: a request that is a success whenever nothing will be left of it."""

from __future__ import annotations

import json
from dataclasses import replace

from fulcrum.readmodel.view import View
from fulcrum.saga import identity
from fulcrum.saga.run import Status
from fulcrum.store.audit import Outcome
from fulcrum.web import answers
from fulcrum.web.asking import forecast
from fulcrum.web.auditing import end
from fulcrum.web.bodies import CancelBody, WorkflowPath
from fulcrum.web.intents import REPLAYED
from fulcrum.web.operation import Answer, Call
from fulcrum.web.problem import Problem
from fulcrum.web.requests import Wish, await_decision, store_request, tenant_of
from fulcrum.web.services import Services
from fulcrum.web.stream import CANCEL
from fulcrum.web.workflows import find_view

#: The wish is fulfilled, or being fulfilled: there is nothing to ask for.
_UNDONE = frozenset({Status.COMPENSATING, Status.NEEDS_ATTENTION, Status.CANCELLED})


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

    It may be asked from the moment the intent is accepted, and is refused once the workflow is completed or
    terminated. One that is being undone already, whatever the reason, is a success, so a repeat is harmless.
    """
    call.workflow_id = path.workflow_id
    view, _ = await find_view(services, path.workflow_id, 0)
    wish = Wish(verb=CANCEL, reason=body.reason)
    if body.dry_run:
        who = actor or await tenant_of(services, path.workflow_id)
        return await forecast(services, json.loads(view.run), wish, who)
    _refuse_ended(view)
    if view.status in _UNDONE:
        return _answer(view, None, decided=True)
    who = actor or await tenant_of(services, path.workflow_id)
    event_id = identity.cancel_id(path.workflow_id, key, who, body.reason)
    if call.act is not None:
        call.act = replace(call.act, actor=who, id=event_id)
    before = {"status": view.status, "version": view.version}
    stored = await store_request(services, call, wish, who, event_id)
    decision = await await_decision(services, path.workflow_id, event_id)
    view, _ = await find_view(services, path.workflow_id, decision.version if decision else 0)
    if decision is not None:
        after = {"status": decision.status, "version": decision.version}
        ended: Outcome = "refused" if decision.ignored else "done"
        await end(services, call.act, ended, before=before, after=after, detail=decision.ignored)
    _refuse_ended(view)
    decided = view.status in _UNDONE or (decision is not None and decision.status == Status.PAUSED)
    return _answer(view, event_id, decided=decided, replayed=stored.replayed)


def _refuse_ended(view: View) -> None:
    """Raise the problem of a workflow that has ended, and not because it was undone."""
    if view.status not in (Status.COMPLETED, Status.TERMINATED):
        return
    ended = json.loads(view.run)["finished_at"]
    told = f"Workflow {view.workflow_id} was {view.status} at {ended} and cannot be cancelled any more."
    raise Problem("already-completed" if view.status == Status.COMPLETED else "already-terminated", told)


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
