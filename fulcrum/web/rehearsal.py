"""What would a request come to? The rules are asked about the workflow as the read model shows it. Pure.

The orchestrator's own state is not here: it is made again from the intent and the run that people see, which
have all that the rules look at. Meanwhile the workflow may move on, so this is a forecast and no promise.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fulcrum.saga import identity
from fulcrum.saga.decide import Decision, decide
from fulcrum.saga.definitions import DEFINITIONS, Step
from fulcrum.saga.messages import IntentCreated
from fulcrum.saga.run import Intercept, Status, StepState, StepStatus, WorkflowRun
from fulcrum.web.stream import intent_created, request_event


def rehearse(
    intent: Mapping[str, Any], shown: Mapping[str, Any], wish: Mapping[str, Any], now: datetime
) -> Decision:
    """What the rules say to ``wish`` (the fields of a request), asked ``now``.

    ``intent`` is intake's row, ``shown`` the run as readers see it.
    """
    run = run_of(intent, shown)
    event = request_event(
        {
            **wish,
            "event_id": run.workflow_id,
            "workflow_id": run.workflow_id,
            "sequence": run.seen[IntentCreated.stream] + 1,
            "requested_at": now,
        }
    )
    decision = decide(run, event)
    assert isinstance(decision, Decision), decision
    return decision


def run_of(intent: Mapping[str, Any], shown: Mapping[str, Any]) -> WorkflowRun:
    """The state in which the orchestrator has the run, as far as the rules look at it."""
    created = intent_created(intent)
    if not shown["version"]:
        return _started(created)
    definition = DEFINITIONS[shown["definition"]]
    steps = {step["name"]: step for step in shown["steps"]}
    passed_over = [name for name, step in steps.items() if step.get("passed_over")]
    return WorkflowRun(
        workflow_id=shown["workflow_id"],
        version=shown["version"],
        status=shown["status"],
        definition=shown["definition"],
        intent=created,
        steps=tuple(_step(shown["workflow_id"], step, steps[step.name]) for step in definition.steps),
        seen={IntentCreated.stream: created.sequence},
        started_at=datetime.fromisoformat(shown["started_at"]),
        updated_at=datetime.fromisoformat(shown["updated_at"]),
        finished_at=_moment(shown["finished_at"]),
        reason=shown["reason"],
        paused_from=_paused_from(shown, definition.steps) if shown["status"] == Status.PAUSED else None,
        undo_from=_before(passed_over[0], definition.steps) if passed_over else None,
        holds=tuple(shown.get("holds") or ()),
        intercept=_intercept(shown, definition.steps),
    )


def _started(intent: IntentCreated) -> WorkflowRun:
    """Nothing is decided yet, but the first decision is certain and comes before any request."""
    first = decide(None, intent)
    assert isinstance(first, Decision), first
    return first.run


def _step(workflow_id: str, step: Step, shown: Mapping[str, Any]) -> StepState:
    undoing = shown["status"] in (StepStatus.UNDO_REQUESTED, StepStatus.UNDONE)
    undo = step.undo.__name__ if undoing and step.undo is not None else ""
    return StepState(
        name=step.name,
        status=shown["status"],
        attempt=shown["attempt"],
        command_id=shown["command_id"],
        deadline_at=_moment(shown["deadline_at"]),
        finished_at=_moment(shown["finished_at"]),
        reason=shown["reason"],
        undo_command_id=identity.command_id(workflow_id, step.name, undo, shown["attempt"]) if undo else None,
        late=shown.get("late", 0),
        expires_at=_moment(shown.get("expires_at")),
        held=shown.get("held", False),
        skipped_by=shown.get("skipped_by"),
        result=shown.get("result"),
    )


def _intercept(shown: Mapping[str, Any], steps: tuple[Step, ...]) -> Intercept | None:
    """Readers see why it was asked for; the rules look at whether it was, and at whom."""
    asked = next((step.name for step in steps if step.intercepts), None)
    if shown.get("intercept") is None or asked is None:
        return None
    return Intercept(
        step=asked,
        command_id=identity.intercept_id(shown["workflow_id"], asked, shown["version"]),
        reason=shown["intercept"],
        requested_at=datetime.fromisoformat(shown["updated_at"]),
    )


def _paused_from(shown: Mapping[str, Any], steps: tuple[Step, ...]) -> Status:
    """A run has a reason once it is being undone; it needs attention when no undo has time left."""
    if shown["reason"] is None:
        return Status.RUNNING
    patience = {step.name: step.patience for step in steps}
    undoing = [step for step in shown["steps"] if step["status"] == StepStatus.UNDO_REQUESTED]
    alive = [step for step in undoing if step.get("late", 0) < patience[step["name"]]]
    return Status.COMPENSATING if alive else Status.NEEDS_ATTENTION


def _before(name: str, steps: tuple[Step, ...]) -> str:
    """The step in front of the one called ``name``."""
    names = [step.name for step in steps]
    return names[names.index(name) - 1]


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
