"""What an event means to a run. Everything a workflow does is decided here and nowhere else.

``decide`` is pure and total: no I/O, clock, randomness or logging; time enters only inside events.
What the tables do not foresee is ignored *with a reason*, never guessed. The rules are here; the moves that
they choose between are in ``moves``, what operators ask for in ``verbs``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from fulcrum.saga.decision import Decision, Duplicate, Forget, Outcome, Undeliverable
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.intercept import (
    intercept,
    intercepted,
    not_intercepted,
    send_intercept,
    under_way,
    without_moot_intercept,
)
from fulcrum.saga.messages import (
    Answer,
    CancelRequested,
    DeadlinePassed,
    Event,
    HoldExpired,
    IntentCreated,
    OperatorRequested,
    RetentionPassed,
    SignalReceived,
    TimerFired,
)
from fulcrum.saga.moves import (
    UNDOING,
    ask,
    awaits_undo,
    compensate,
    due,
    end_step,
    find_step,
    go_on,
    request,
    send_again,
    send_undo_again,
    undo,
    undo_next,
    undone,
)
from fulcrum.saga.pause import hold_back, unpaused
from fulcrum.saga.results import kept
from fulcrum.saga.run import UNDO_REFUSED, Status, StepState, StepStatus, WorkflowRun
from fulcrum.saga.signals import signal_received
from fulcrum.saga.step import Step
from fulcrum.saga.verbs import operator_requested, requested_of_paused

__all__ = ["Decision", "Duplicate", "Forget", "Undeliverable", "decide"]


def decide(run: WorkflowRun | None, event: Event) -> Outcome:
    """What ``event`` means to ``run`` (None: no such run yet, or not any more)."""
    if run is None:
        return _start(event)
    expected = run.seen.get(event.stream, 0) + 1
    if event.sequence < expected:
        return Duplicate(run)
    if event.sequence > expected:
        return Undeliverable(f"gap in stream {event.stream}: expected {expected}, got {event.sequence}")
    run = replace(
        run,
        version=run.version + 1,
        seen={**run.seen, event.stream: event.sequence},
        updated_at=event.occurred_at,
    )
    outcome = _decide_paused(run, event) if run.status == Status.PAUSED else _decide(run, event)
    if isinstance(outcome, Decision) and outcome.run.intercept is not None:
        return replace(outcome, run=without_moot_intercept(outcome.run))
    return outcome


def _decide(run: WorkflowRun, event: Event) -> Decision | Forget:
    match event:
        case Answer():
            return _answer(run, event)
        case DeadlinePassed():
            return _deadline_passed(run, event)
        case HoldExpired():
            return _hold_expired(run, event)
        case CancelRequested():
            return _cancel_requested(run, event)
        case RetentionPassed():
            return _retention_passed(run, event)
        case OperatorRequested():
            return operator_requested(run, event)
        case SignalReceived():
            return signal_received(run, event)
    return Decision(run, run.status, ignored="already_started")


def _decide_paused(run: WorkflowRun, event: Event) -> Decision | Forget:
    if isinstance(event, SignalReceived):
        return signal_received(run, event)
    if isinstance(event, OperatorRequested) and (decision := requested_of_paused(run, event)) is not None:
        return decision
    outcome = _decide(unpaused(run), event)
    if isinstance(outcome, Decision):
        return replace(hold_back(outcome, run.holds), status_before=Status.PAUSED)
    return outcome


def _start(event: Event) -> Decision | Undeliverable | Forget:
    if isinstance(event, TimerFired):
        return Forget()  # a repeat of a timer that the run did not outlive
    if not isinstance(event, IntentCreated):
        return Undeliverable("no such workflow run")
    definition = DEFINITIONS.get(event.definition)
    if definition is None:
        return Undeliverable(f"unknown definition {event.definition!r}")
    run = WorkflowRun(
        workflow_id=event.workflow_id,
        version=1,
        status=Status.RUNNING,
        definition=definition.name,
        intent=event,
        steps=tuple(StepState(name=step.name) for step in definition.steps),
        seen={event.stream: event.sequence},
        started_at=event.occurred_at,
        updated_at=event.occurred_at,
    )
    started = request(run, definition.steps[0], event.occurred_at, status_before=None)
    return hold_back(started, tuple(sorted({*event.holds}))) if event.holds else started


# --- answers --------------------------------------------------------------------------------------

_NO_EFFECT = frozenset({StepStatus.REFUSED, StepStatus.UNDONE})
#: Where what is told late of an effect is only noted: nothing is sent any more, or not for this step.
_NOTED = {
    **dict.fromkeys(UNDOING, frozenset({StepStatus.REQUESTED})),
    Status.TERMINATED: frozenset({StepStatus.REQUESTED, *_NO_EFFECT}),
}


def _answer(run: WorkflowRun, event: Answer) -> Decision:
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
    return _given_up(run, step, replace(run.step(step.name), late=step.patience, reason=reason))


def _given_up(run: WorkflowRun, step: Step, state: StepState) -> Decision:
    waiting = run.with_step(replace(state, deadline_at=None, held=False))
    if run.status == Status.COMPENSATING:
        waiting = replace(waiting, status=Status.NEEDS_ATTENTION)
    return Decision(waiting, run.status, step.name)


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


# --- times and people -----------------------------------------------------------------------------


def _deadline_passed(run: WorkflowRun, event: DeadlinePassed) -> Decision:
    """A timeout is not a no: what became of the command is asked before it is sent again or undone."""
    step = find_step(run, event.step)
    if step is None:
        return Decision(run, run.status, ignored="not_in_definition")
    state, now = run.step(step.name), event.occurred_at
    asked = run.intercept
    if asked is not None and event.command_id == asked.command_id:
        if event.deadline_at != asked.deadline_at:
            return Decision(run, run.status, step.name, ignored="stale_deadline")
        return send_intercept(run, replace(asked, late=asked.late + 1), step, now)
    undoing = awaits_undo(state, step) and run.status != Status.TERMINATED
    asking = (run.status, state.status) == (Status.RUNNING, StepStatus.REQUESTED)
    if state.deadline_at != event.deadline_at or not (asking or undoing):
        return Decision(run, run.status, step.name, ignored="stale_deadline")
    late = replace(state, late=state.late + 1)
    run = run.with_step(late)
    if asking:
        if step.gives_up(late.late):
            return compensate(run, step, now, f"{step.name}: no_answer")
        return ask(run, step, now)
    if late.late < step.patience:
        return send_undo_again(run, step, now)
    return _given_up(run, step, replace(late, reason="undo_not_answered"))


def _hold_expired(run: WorkflowRun, event: HoldExpired) -> Decision:
    step = find_step(run, event.step)
    if step is None:
        return Decision(run, run.status, ignored="not_in_definition")
    state = run.step(step.name)
    needed = run.status == Status.RUNNING and state.holds
    if not needed or state.expires_at != event.expires_at:
        return Decision(run, run.status, step.name, ignored="hold_not_needed")
    return compensate(run, step, event.occurred_at, f"{step.name}: hold_expired")


def _cancel_requested(run: WorkflowRun, event: CancelRequested) -> Decision:
    if Status(run.status).final:
        return Decision(run, run.status, ignored="already_final")
    if run.status != Status.RUNNING:
        return Decision(run, run.status, ignored="already_compensating")
    if run.intercept is not None:
        return Decision(run, run.status, run.intercept.step, ignored="already_intercepting")
    reason, now = f"cancelled: {event.reason}", event.occurred_at
    if (going := under_way(run)) is not None:
        return intercept(run, going, now, reason)
    last = max((n for n, step in enumerate(run.steps) if step.status != StepStatus.PENDING), default=0)
    step = DEFINITIONS[run.definition].steps[last]
    return compensate(run, step, now, reason)


def _retention_passed(run: WorkflowRun, event: RetentionPassed) -> Decision | Forget:
    if run.finished_at != event.finished_at or run.awaits_undo:
        return Decision(run, run.status, ignored="still_needed")
    return Forget()
