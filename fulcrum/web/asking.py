"""How is an operator's request put to a workflow, and what is told of it? What was observed.

A rehearsal asks the same rules about the workflow as it is shown, and stores nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import bindparam, select

from fulcrum.saga import identity
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.run import MAY_STAND, Status, StepStatus
from fulcrum.saga.verbs import unusable_result
from fulcrum.store.audit import Outcome
from fulcrum.web.answers import Requested
from fulcrum.web.auditing import end
from fulcrum.web.intents import REPLAYED
from fulcrum.web.operation import Answer, Call
from fulcrum.web.problem import FieldError, Problem
from fulcrum.web.rehearsal import rehearse
from fulcrum.web.relations import intents
from fulcrum.web.requests import Wish, await_decision, store_request, tenant_of
from fulcrum.web.services import Services
from fulcrum.web.workflows import find_view

_INTENT = select(intents).where(intents.c.workflow_id == bindparam("workflow_id"))
_AWAITED = (StepStatus.REQUESTED, StepStatus.UNDO_REQUESTED)


async def ask(
    services: Services, call: Call, workflow_id: str, wish: Wish, key: str, actor: str | None, *, dry: bool
) -> Answer:
    """Put ``wish`` to the workflow and wait a moment for its decision; ``dry``: tell what would follow."""
    call.workflow_id = workflow_id
    who = actor or await tenant_of(services, workflow_id)
    if call.act is not None:
        call.act = replace(call.act, actor=who)
    view, _ = await find_view(services, workflow_id, 0)
    shown = json.loads(view.run)
    _refuse_result(shown, wish)
    if dry:
        return await forecast(services, shown, wish, who)
    if _has_ended(shown):
        await end(services, call.act, "refused", detail="already_final", before=_state(shown))
        # Its state may be gone, so that nobody could decide; what is final stays final.
        return _answer(_told(shown, wish, decided=True, outcome="refused", refused="already_final"))
    event_id = identity.request_id(workflow_id, key)
    if call.act is not None:
        # One act per request, however often it is repeated.
        call.act = replace(call.act, id=event_id)
    stored = await store_request(services, call, wish, who, event_id)
    decision = await await_decision(services, workflow_id, event_id)
    if decision is None:
        return _answer(_told(shown, wish, request_id=event_id), stored.replayed)
    # Also brings the cache up to the decision, so that a read after this answer is not older than it.
    decided, _ = await find_view(services, workflow_id, decision.version)
    entry = json.loads(decided.entries[decision.version])
    named = ("version", "status_before", "status", "commands")
    seen = {name: entry[name] for name in named} | {"step": entry["step"] or wish.step}
    run = json.loads(decided.run)
    before, ignored = {"status": entry["status_before"]}, entry["ignored"]
    ended: Outcome = "refused" if ignored else "done"
    await end(services, call.act, ended, before=before, after=_state(entry), detail=ignored)
    return _answer(
        _told(run, wish, request_id=event_id, decided=True, **_outcome(entry["ignored"]), **seen),
        stored.replayed,
    )


async def forecast(services: Services, shown: Mapping[str, Any], wish: Wish, actor: str) -> Answer:
    """What the request would come to, if nothing happened meanwhile."""
    workflow_id = shown["workflow_id"]
    intent = await services.db.one(_INTENT, {"workflow_id": workflow_id})
    if intent is None:
        raise Problem("not-found", f"Intake has no intent of workflow {workflow_id}; check the id.")
    decision = rehearse(intent, shown, {**asdict(wish), "actor": actor}, datetime.now(UTC))
    run = decision.run
    commands = [
        {"type": type(each).__name__, "service": each.service, "step": each.step, "attempt": each.attempt}
        for each in decision.commands
    ]
    seen = {"version": run.version, "status": run.status, "steps": [asdict(step) for step in run.steps]}
    return _answer(
        _told(
            {**shown, **seen},
            wish,
            dry_run=True,
            status_before=decision.status_before,
            step=decision.step or wish.step,
            commands=commands,
            **_outcome(decision.ignored),
        )
    )


def _refuse_result(shown: Mapping[str, Any], wish: Wish) -> None:
    """Raise the problem of a result that the step could not have answered."""
    definition = DEFINITIONS.get(shown["definition"])
    waits = [step["name"] for step in shown["steps"] if step["status"] in _AWAITED]
    name = wish.step or next(reversed(waits), None)
    if wish.result is None or definition is None or name is None:
        return
    step = next((step for step in definition.steps if step.name == name), None)
    fault = None if step is None else unusable_result(step.done, wish.result)
    if fault is not None:
        detail = f"result cannot stand for {name}: {fault}."
        raise Problem("invalid-body", detail, [FieldError("pointer", "#/result", detail)])


def _has_ended(shown: Mapping[str, Any]) -> bool:
    """Whether nothing about the workflow can change any more."""
    undoing = any(step["status"] == StepStatus.UNDO_REQUESTED for step in shown["steps"])
    match shown["status"]:
        case Status.TERMINATED:
            return True
        case Status.COMPLETED | Status.CANCELLED:
            return not undoing
    return False


def _state(shown: Mapping[str, Any]) -> dict[str, Any]:
    """What the audit keeps of a workflow."""
    return {"status": shown["status"], "version": shown["version"]}


def _outcome(ignored: str | None) -> dict[str, Any]:
    return {"outcome": "refused" if ignored else "accepted", "refused": ignored}


def _told(shown: Mapping[str, Any], wish: Wish, **seen: Any) -> Requested:
    """The answer about the workflow as ``shown``; ``seen`` is what is known of the decision."""
    known = {
        "workflow_id": shown["workflow_id"],
        "request_id": None,
        "verb": wish.signal or wish.verb,
        "dry_run": False,
        "decided": False,
        "outcome": None,
        "refused": None,
        "version": shown["version"],
        "status_before": None,
        "status": shown["status"],
        "step": wish.step,
        "commands": (),
        "held": [step["name"] for step in shown["steps"] if step.get("held")],
        "standing": [step["name"] for step in shown["steps"] if step["status"] in MAY_STAND],
    }
    return Requested.model_validate(known | seen)


def _answer(told: Requested, replayed: bool = False) -> Answer:
    """200 when it is known what came of it, 202 while it is not."""
    location = {"Location": f"/v1/workflows/{told.workflow_id}"}
    status = 200 if told.decided or told.dry_run else 202
    return Answer(told, status, {**location, **({REPLAYED: "true"} if replayed else {})})
