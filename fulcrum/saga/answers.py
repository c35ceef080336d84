"""What does an answer of a service mean to a run? It depends on what was asked, and on where the run stands.

A step's answer moves the run on. What comes when nobody waits for it any more is noted, undone, or ignored
with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from fulcrum.saga.decision import Decision
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.intercept import intercepted, not_intercepted
from fulcrum.saga.messages import Answer
from fulcrum.saga.moves import (
    UNDOING,
    compensate,
    due,
    end_step,
    give_up,
    go_on,
    send_again,
    undo,
    undo_next,
    undone,
)
from fulcrum.saga.results import kept
from fulcrum.saga.run import UNDO_REFUSED, Status, StepStatus, WorkflowRun
from fulcrum.saga.step import Step

_NO_EFFECT = frozenset({StepStatus.REFUSED, StepStatus.UNDONE})
#: Where what is told late of an effect is only noted: nothing is sent any more, or not for this step.
_NOTED = {
    **dict.fromkeys(UNDOING, frozenset({StepStatus.REQUESTED})),
    Status.TERMINATED: frozenset({StepStatus.REQUESTED, *_NO_EFFECT}),
}


def answer(run: WorkflowRun, event: Answer) -> Decision:
    found = _roles(run.definition).get(type(event))
    if found is None:
        return Decision(run, run.status, ignored="not_in_definition")
    asked = run.intercept
    if asked is not None and event.command_id == asked.command_id:
        return _intercept_answered(run, event, {role: step for step, role in found})
    # One type may answer several steps: the command that it answers tells which.
    step, role = next((each for each in found if _asked(run, *each) == event.command_id), found[0])
    state, now = run.step(step.name), event.occurred_at
    if event.command_id != _asked(run, step, role):
        return Decision(run, run.status, step.name, ignored="stale_command")
    match role, Status(run.status), StepStatus(state.status):
        case "done", Status.RUNNING, StepStatus.REQUESTED:
            return go_on(_done(run, step, event), step, now)
        case "refused", Status.RUNNING, StepStatus.REQUESTED:
            return _step_refused(run, step, event)
        case "not_found", Status.RUNNING, StepStatus.REQUESTED:
            return send_again(run, step, now)
        case "progress", Status.RUNNING, StepStatus.REQUESTED:
            return _progress(run, step, event)
        case "undone", _, StepStatus.UNDO_REQUESTED:
            return undone(run, step, now)
        case "undo_refused", _, StepStatus.UNDO_REQUESTED:
            return _undo_refused(run, step, event)
        case "undone", Status.TERMINATED, StepStatus.DONE:  # its undo was skipped, and came after all
            return undone(run, step, now)
        case "lapsed", Status.RUNNING, StepStatus.DONE:
            lapsed = end_step(run, step, StepStatus.UNDONE, now, reason="hold_expired")
            return compensate(lapsed, step, now, f"{step.name}: hold_expired")
        case "lapsed", status, StepStatus.DONE if status in _NOTED:
            return undone(run, step, now, reason="hold_expired")
        case "done", _, StepStatus.SKIPPED:
            return Decision(_done(run, step, event), run.status, step.name)
        case "done", status, before if before in _NOTED.get(status, ()):
            return Decision(_done(run, step, event), run.status, step.name)
        case "refused", status, StepStatus.REQUESTED if status in _NOTED:
            return _refused_after_all(run, step, event)
        case "done", status, before if step.undo and status is not Status.RUNNING and before in _NO_EFFECT:
            return undo(run, step, now, run.status, state.attempt + 1)
    return Decision(run, run.status, step.name, ignored=f"{role}_while_{run.status}_{state.status}")


def _asked(run: WorkflowRun, step: Step, role: str) -> str | None:
    """The command of ``step`` that an answer in this ``role`` belongs to."""
    state = run.step(step.name)
    match role:
        case "undone" | "undo_refused":
            return state.undo_command_id
        case "not_found":
            return state.query_command_id
    return state.command_id


def _done(run: WorkflowRun, step: Step, event: Answer) -> WorkflowRun:
    """Only the answer itself makes the hold of a kept step last; whoever skips a keeper confirms nothing."""
    state = run.step(step.name)
    expires_at = None if step.renewed else getattr(event, "expires_at", None)
    own = {"reason": None} if step.progress is not None else {}
    run = end_step(
        run,
        step,
        StepStatus.DONE,
        event.occurred_at,
        expires_at=expires_at,
        result=kept(step, state, event),
        **own,
    )
    if step.keeps is not None:
        run = run.with_step(replace(run.step(step.keeps), expires_at=None))
    return run


def _refused(run: WorkflowRun, step: Step, event: Answer) -> WorkflowRun:
    """What a refusal yields counts only where it turns the run round: undos may have been made without it."""
    state, reason = run.step(step.name), str(getattr(event, "reason", "refused"))
    own = {"result": kept(step, state, event)} if run.status == Status.RUNNING else {}
    return end_step(run, step, StepStatus.REFUSED, event.occurred_at, reason=reason, **own)


def _progress(run: WorkflowRun, step: Step, event: Answer) -> Decision:
    """The answer takes longer than was thought: its deadline moves, from the time that is told if one is."""
    state, reason = run.step(step.name), str(getattr(event, "reason", "short"))
    told = replace(state, late=0, reason=reason, result=kept(step, state, event))
    waiting = replace(told, deadline_at=due(told, step, event.occurred_at))
    return Decision(run.with_step(waiting), run.status, step.name)


def _undo_refused(run: WorkflowRun, step: Step, event: Answer) -> Decision:
    """A no is the end of all patience: the effect stays until a person has settled it, or tries again."""
    reason = f"{UNDO_REFUSED}: {getattr(event, 'reason', 'refused')}"
    return give_up(run, step, replace(run.step(step.name), late=step.patience, reason=reason))


def _intercept_answered(run: WorkflowRun, event: Answer, found: Mapping[str, Step]) -> Decision:
    if (step := found.get("undone")) is not None:
        return intercepted(run, step, event)
    if (step := found.get("undo_refused")) is not None:
        return not_intercepted(run, step, event)
    return Decision(run, run.status, ignored="stale_command")


def _step_refused(run: WorkflowRun, step: Step, event: Answer) -> Decision:
    """A refusal leaves nothing behind, so undoing starts one step earlier."""
    refused = _refused(run, step, event)
    return compensate(refused, step, event.occurred_at, f"{step.name}: {refused.step(step.name).reason}")


def _refused_after_all(run: WorkflowRun, step: Step, event: Answer) -> Decision:
    """A step that undoing has passed over turns out to have no effect."""
    refused = _refused(run, step, event)
    if run.status in UNDOING:
        return undo_next(refused, step, event.occurred_at, run.status)
    return Decision(refused, run.status, step.name)


@cache
def _roles(definition: str) -> dict[type[Answer], tuple[tuple[Step, str], ...]]:
    """The steps that each answer may belong to, and what it says of them: done, refused, undone, ..."""
    roles: dict[type[Answer], tuple[tuple[Step, str], ...]] = {}
    for step in DEFINITIONS[definition].steps:
        for role in ("done", "refused", "progress", "undone", "undo_refused", "lapsed", "not_found"):
            if (answer := getattr(step, role)) is not None:
                roles[answer] = (*roles.get(answer, ()), (step, role))
    return roles
