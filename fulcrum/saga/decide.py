"""What an event means to a run. Everything a workflow does is decided here and nowhere else.

``decide`` is pure and total: no I/O, clock, randomness or logging; time enters only inside events.
What the tables do not foresee is ignored *with a reason*, never guessed. The rules for times and
people are here, those for answers in ``answers``; the moves that they choose between are in ``moves``, what
operators ask for in ``verbs``.
"""

from __future__ import annotations

from dataclasses import replace

from fulcrum.saga.answers import answer
from fulcrum.saga.decision import Decision, Duplicate, Forget, Outcome, Undeliverable
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.intercept import intercept, send_intercept, under_way, without_moot_intercept
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
    ask,
    awaits_undo,
    compensate,
    find_step,
    give_up,
    request,
    send_undo_again,
)
from fulcrum.saga.pause import hold_back, unpaused
from fulcrum.saga.run import Status, StepState, StepStatus, WorkflowRun
from fulcrum.saga.signals import signal_received
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
            return answer(run, event)
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
    return give_up(run, step, replace(late, reason="undo_not_answered"))


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
