"""What an event means to a run. Everything a workflow does is decided here and nowhere else.

``decide`` is pure and total: no I/O, clock, randomness or logging; time enters only inside events.
What the tables do not foresee is ignored *with a reason*, never guessed.

Long, because the rules and the moves that they choose between are read together.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import cache
from typing import Any

from fulcrum.saga import identity
from fulcrum.saga.definitions import DEFINITIONS, Definition, Step
from fulcrum.saga.messages import (
    Answer,
    CancelRequested,
    DeadlinePassed,
    Event,
    HoldExpired,
    IntentCreated,
    RetentionPassed,
    StepCommand,
    TimerFired,
)
from fulcrum.saga.run import Status, StepState, StepStatus, WorkflowRun


@dataclass(frozen=True, slots=True)
class Decision:
    """A transition: the state after it, and what leaves because of it.

    ``ignored`` is the reason why the event changed nothing but the version.
    """

    run: WorkflowRun
    status_before: str | None
    step: str | None = None
    commands: tuple[StepCommand, ...] = ()
    ignored: str | None = None


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The run has seen this event: emit again what it decided and has not proven sent."""

    run: WorkflowRun


@dataclass(frozen=True, slots=True)
class Undeliverable:
    """No run can take this event: keep it aside with the reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Nobody needs the run any more, or it is forgotten already: drop its state."""


def decide(run: WorkflowRun | None, event: Event) -> Decision | Duplicate | Undeliverable | Forget:
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
    return Decision(run, run.status, ignored="already_started")


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
    return _request(run, definition.steps[0], event.occurred_at, status_before=None)


# --- answers --------------------------------------------------------------------------------------

_UNDOING = frozenset({Status.COMPENSATING, Status.NEEDS_ATTENTION})
_NO_EFFECT = frozenset({StepStatus.REFUSED, StepStatus.UNDONE})
#: A step that was asked and did not answer may have happened.
_MAY_STAND = frozenset({StepStatus.DONE, StepStatus.REQUESTED})


def _answer(run: WorkflowRun, event: Answer) -> Decision:
    found = _roles(run.definition).get(type(event))
    if found is None:
        return Decision(run, run.status, ignored="not_in_definition")
    step, role = found
    state = run.step(step.name)
    asked = {"undone": state.undo_command_id, "not_found": state.query_command_id}.get(role, state.command_id)
    if event.command_id != asked:
        return Decision(run, run.status, step.name, ignored="stale_command")
    match role, Status(run.status), StepStatus(state.status):
        case "done", Status.RUNNING, StepStatus.REQUESTED:
            return _step_done(run, step, event)
        case "refused", Status.RUNNING, StepStatus.REQUESTED:
            return _step_refused(run, step, event)
        case "not_found", Status.RUNNING, StepStatus.REQUESTED:
            return _send_again(run, step, event.occurred_at)
        case "undone", status, StepStatus.UNDO_REQUESTED:
            undone = _ended(run, step, StepStatus.UNDONE, event.occurred_at)
            if status in _UNDOING:
                return _undo_next(undone, step, event.occurred_at, run.status)
            return Decision(undone, run.status, step.name)
        case "lapsed", Status.RUNNING, StepStatus.DONE:
            lapsed = _ended(run, step, StepStatus.UNDONE, event.occurred_at, reason="hold_expired")
            return _compensate(lapsed, step, event.occurred_at, f"{step.name}: hold_expired")
        case "done", status, before if step.undo and status is not Status.RUNNING and before in _NO_EFFECT:
            return _undo(run, step, event.occurred_at, run.status, state.attempt + 1)
    return Decision(run, run.status, step.name, ignored=f"{role}_while_{run.status}_{state.status}")


def _step_done(run: WorkflowRun, step: Step, event: Answer) -> Decision:
    before = run.status
    run = _ended(run, step, StepStatus.DONE, event.occurred_at, expires_at=getattr(event, "expires_at", None))
    if step.keeps is not None:
        run = run.with_step(replace(run.step(step.keeps), expires_at=None))
    now = event.occurred_at
    steps = DEFINITIONS[run.definition].steps
    lapsed = next((each for each in steps if _has_lapsed(run.step(each.name), now)), None)
    if lapsed is not None:  # its timer is on its way, and would come too late
        return _compensate(run, lapsed, now, f"{lapsed.name}: hold_expired")
    following = steps[steps.index(step) + 1 :]
    if following:
        return _request(run, following[0], now, status_before=before)
    return _finish(run, Status.COMPLETED, now, step, before)


def _has_lapsed(state: StepState, now: datetime) -> bool:
    return state.status == StepStatus.DONE and state.expires_at is not None and state.expires_at <= now


def _step_refused(run: WorkflowRun, step: Step, event: Answer) -> Decision:
    """A refusal leaves nothing behind, so undoing starts one step earlier."""
    reason = str(getattr(event, "reason", "refused"))
    refused = _ended(run, step, StepStatus.REFUSED, event.occurred_at, reason=reason)
    return _compensate(refused, step, event.occurred_at, f"{step.name}: {reason}")


def _ended(run: WorkflowRun, step: Step, status: StepStatus, now: datetime, **own: Any) -> WorkflowRun:
    """The run with its step ended: nothing is awaited of it any more, nor of one that made its hold last."""
    run = run.with_step(
        replace(run.step(step.name), status=status, deadline_at=None, finished_at=now, late=0, **own)
    )
    if status == StepStatus.UNDONE:
        for each in DEFINITIONS[run.definition].steps:
            if each.keeps == step.name and run.step(each.name).status in _MAY_STAND:
                run = _ended(run, each, StepStatus.UNDONE, now)
    return run


@cache
def _roles(definition: str) -> dict[type[Answer], tuple[Step, str]]:
    """Which step each answer belongs to, and what it says of it: done, refused, undone, lapsed, not found."""
    return {
        answer: (step, role)
        for step in DEFINITIONS[definition].steps
        for role in ("done", "refused", "undone", "lapsed", "not_found")
        if (answer := getattr(step, role)) is not None
    }


# --- times and people -----------------------------------------------------------------------------


def _deadline_passed(run: WorkflowRun, event: DeadlinePassed) -> Decision:
    """A timeout is not a no: what became of the command is asked before it is sent again or undone."""
    step = _find(run, event.step)
    if step is None:
        return Decision(run, run.status, ignored="not_in_definition")
    state, now = run.step(step.name), event.occurred_at
    undoing = step.undo is not None and state.status == StepStatus.UNDO_REQUESTED
    asking = (run.status, state.status) == (Status.RUNNING, StepStatus.REQUESTED)
    if state.deadline_at != event.deadline_at or not (asking or undoing):
        return Decision(run, run.status, step.name, ignored="stale_deadline")
    late = replace(state, late=state.late + 1)
    run = run.with_step(late)
    if late.late < step.patience:
        return _send_undo_again(run, step, now) if undoing else _ask(run, step, now)
    if not undoing:
        return _compensate(run, step, now, f"{step.name}: no_answer")
    waiting = run.with_step(replace(late, deadline_at=None, reason="undo_not_answered"))
    if run.status == Status.COMPENSATING:
        waiting = replace(waiting, status=Status.NEEDS_ATTENTION)
    return Decision(waiting, run.status, step.name)


def _hold_expired(run: WorkflowRun, event: HoldExpired) -> Decision:
    step = _find(run, event.step)
    if step is None:
        return Decision(run, run.status, ignored="not_in_definition")
    state = run.step(step.name)
    if (run.status, state.status) != (
        Status.RUNNING,
        StepStatus.DONE,
    ) or state.expires_at != event.expires_at:
        return Decision(run, run.status, step.name, ignored="hold_not_needed")
    return _compensate(run, step, event.occurred_at, f"{step.name}: hold_expired")


def _cancel_requested(run: WorkflowRun, event: CancelRequested) -> Decision:
    if Status(run.status).final:
        return Decision(run, run.status, ignored="already_final")
    if run.status != Status.RUNNING:
        return Decision(run, run.status, ignored="already_compensating")
    last = max((n for n, step in enumerate(run.steps) if step.status != StepStatus.PENDING), default=0)
    step = DEFINITIONS[run.definition].steps[last]
    return _compensate(run, step, event.occurred_at, f"cancelled: {event.reason}")


def _find(run: WorkflowRun, name: str) -> Step | None:
    steps = DEFINITIONS[run.definition].steps
    return next((step for step in steps if step.name == name), None)


def _retention_passed(run: WorkflowRun, event: RetentionPassed) -> Decision | Forget:
    awaited = any(step.status == StepStatus.UNDO_REQUESTED for step in run.steps)
    if run.finished_at != event.finished_at or awaited:
        return Decision(run, run.status, ignored="still_needed")
    return Forget()


# --- moves ----------------------------------------------------------------------------------------


def _request(run: WorkflowRun, step: Step, now: datetime, status_before: str | None) -> Decision:
    attempt = run.step(step.name).attempt + 1
    command = _issue(run, step.name, step.do, attempt, now)
    requested = replace(
        run.step(step.name),
        status=StepStatus.REQUESTED,
        attempt=attempt,
        command_id=command.command_id,
        requested_at=now,
        deadline_at=now + step.wait(0),
    )
    return Decision(run.with_step(requested), status_before, step.name, (command,))


def _ask(run: WorkflowRun, step: Step, now: datetime) -> Decision:
    """Ask what became of the command; where nobody can be asked, the repeated command is the question."""
    state = run.step(step.name)
    if step.query is None:
        return _send_again(run, step, now)
    assert state.command_id is not None
    query = _issue(
        run,
        step.name,
        step.query,
        state.attempt,
        now,
        # Each query is a new one: the answer to an earlier one says nothing of now.
        command_id=identity.query_id(state.command_id, state.late),
        asked_command_id=state.command_id,
    )
    asked = replace(state, query_command_id=query.command_id, deadline_at=now + step.wait(state.late))
    return Decision(run.with_step(asked), run.status, step.name, (query,))


def _send_again(run: WorkflowRun, step: Step, now: datetime) -> Decision:
    """The same command under the same id: whoever has carried it out answers as before.

    It is the same to the last field, for a worker takes an id with another body for a forgery.
    """
    state = run.step(step.name)
    command = _issue(run, step.name, step.do, state.attempt, state.requested_at or now)
    waiting = replace(state, deadline_at=now + step.wait(state.late))
    return Decision(run.with_step(waiting), run.status, step.name, (command,))


def _send_undo_again(run: WorkflowRun, step: Step, now: datetime) -> Decision:
    return _undo(run, step, now, run.status, run.step(step.name).attempt)


def _compensate(run: WorkflowRun, step: Step, now: datetime, reason: str) -> Decision:
    """Undo what may have happened, because of ``reason`` in ``step``."""
    before = run.status
    for each in DEFINITIONS[run.definition].steps:
        if each.undo is None and run.step(each.name).status == StepStatus.REQUESTED:
            run = run.with_step(replace(run.step(each.name), deadline_at=None))  # its answer changes nothing
    return _undo_next(replace(run, reason=reason), step, now, before)


def _undo_next(run: WorkflowRun, after: Step, now: datetime, status_before: str) -> Decision:
    """Undo the last step whose effect may stand, or end the run when there is none."""
    definition: Definition = DEFINITIONS[run.definition]
    if any(step.status == StepStatus.UNDO_REQUESTED for step in run.steps):
        return Decision(run, status_before, after.name)  # an effect that came late is being undone first
    for step in reversed(definition.steps):
        state = run.step(step.name)
        if step.undo is not None and state.status in _MAY_STAND:
            run = replace(run.with_step(replace(state, late=0)), status=Status.COMPENSATING)
            return _undo(run, step, now, status_before, state.attempt)
    return _finish(run, Status.CANCELLED, now, after, status_before)


def _undo(run: WorkflowRun, step: Step, now: datetime, status_before: str, attempt: int) -> Decision:
    assert step.undo is not None
    state = run.step(step.name)
    again = (state.status, state.attempt) == (StepStatus.UNDO_REQUESTED, attempt)
    issued_at = state.requested_at if again and state.requested_at else now
    command = _issue(run, step.name, step.undo, attempt, issued_at)
    undoing = replace(
        state,
        status=StepStatus.UNDO_REQUESTED,
        attempt=attempt,
        undo_command_id=command.command_id,
        requested_at=issued_at,
        deadline_at=now + step.wait(state.late),
    )
    return Decision(run.with_step(undoing), status_before, step.name, (command,))


def _finish(run: WorkflowRun, status: Status, now: datetime, step: Step, status_before: str) -> Decision:
    return Decision(replace(run, status=status, finished_at=now), status_before, step.name)


def _issue(
    run: WorkflowRun, step: str, command: type[StepCommand], attempt: int, now: datetime, **own: Any
) -> StepCommand:
    """Build ``command``; fields beyond the common and its own ones are the intent's of the same name."""
    given: dict[str, Any] = {
        "command_id": identity.command_id(run.workflow_id, step, command.__name__, attempt),
        "workflow_id": run.workflow_id,
        "step": step,
        "attempt": attempt,
        "issued_at": now,
        **own,
    }
    ordered = {f.name: getattr(run.intent, f.name) for f in fields(command) if f.name not in given}
    return command(**given, **ordered)
