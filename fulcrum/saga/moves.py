"""What can a run do next: ask for a step, ask again, undo, end? A move is a decision that others choose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from fulcrum.saga import identity
from fulcrum.saga.decision import Decision
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.messages import StepCommand
from fulcrum.saga.results import filled, result_of
from fulcrum.saga.run import MAY_STAND, Status, StepState, StepStatus, WorkflowRun
from fulcrum.saga.step import Step

#: The statuses in which what was done is being undone.
UNDOING = frozenset({Status.COMPENSATING, Status.NEEDS_ATTENTION})


def find_step(run: WorkflowRun, name: str) -> Step | None:
    """The row of the run's definition, if it has one of that name."""
    steps = DEFINITIONS[run.definition].steps
    return next((step for step in steps if step.name == name), None)


# --- forward --------------------------------------------------------------------------------------


def request(run: WorkflowRun, step: Step, now: datetime, status_before: str | None) -> Decision:
    """Send the step's command for the first time."""
    attempt = run.step(step.name).attempt + 1
    command = issue(run, step, step.do, attempt, now)
    requested = replace(
        run.step(step.name),
        status=StepStatus.REQUESTED,
        attempt=attempt,
        command_id=command.command_id,
        requested_at=now,
        deadline_at=now + step.wait(0),
    )
    return Decision(run.with_step(requested), status_before, step.name, (command,))


def ask(run: WorkflowRun, step: Step, now: datetime, query_id: str | None = None) -> Decision:
    """Ask what became of the command; where nobody can be asked, the repeated command is the question.

    Each query is a new one, for the answer to an earlier one says nothing of now: without ``query_id`` it is
    named by the number of the deadline that has passed.
    """
    state = run.step(step.name)
    if step.query is None:
        return send_again(run, step, now)
    assert state.command_id is not None
    query = issue(
        run,
        step,
        step.query,
        state.attempt,
        now,
        command_id=query_id or identity.query_id(state.command_id, state.late),
        asked_command_id=state.command_id,
    )
    asked = replace(state, query_command_id=query.command_id, deadline_at=due(state, step, now))
    return Decision(run.with_step(asked), run.status, step.name, (query,))


def send_again(run: WorkflowRun, step: Step, now: datetime) -> Decision:
    """The same command under the same id: whoever has carried it out answers as before.

    It is the same to the last field, for a worker takes an id with another body for a forgery.
    """
    state = run.step(step.name)
    command = issue(run, step, step.do, state.attempt, state.requested_at or now)
    waiting = replace(state, deadline_at=due(state, step, now), held=False)
    return Decision(run.with_step(waiting), run.status, step.name, (command,))


def due(state: StepState, step: Step, now: datetime) -> datetime:
    """When the next answer of a step counts as late: what the step has said of its wait is not cut short."""
    until = result_of(state).get("waits_until") if step.progress is not None else None
    begin = now if until is None else max(now, datetime.fromisoformat(until))
    return begin + step.wait(state.late)


def end_step(run: WorkflowRun, step: Step, status: StepStatus, now: datetime, **own: Any) -> WorkflowRun:
    """The run with its step ended: nothing is awaited of it any more, nor of one that made its hold last."""
    state = run.step(step.name)
    run = run.with_step(
        replace(state, status=status, deadline_at=None, finished_at=now, late=0, held=False, **own)
    )
    if status == StepStatus.UNDONE:
        for each in DEFINITIONS[run.definition].steps:
            if each.keeps == step.name and run.step(each.name).status in MAY_STAND:
                run = end_step(run, each, StepStatus.UNDONE, now)
    return run


def go_on(run: WorkflowRun, step: Step, now: datetime) -> Decision:
    """Ask for the step behind ``step``, which has ended well, or complete the run."""
    steps = DEFINITIONS[run.definition].steps
    lapsed = next((each for each in steps if _has_lapsed(run.step(each.name), now)), None)
    if lapsed is not None:  # its timer is on its way, and would come too late
        return compensate(run, lapsed, now, f"{lapsed.name}: hold_expired")
    following = steps[steps.index(step) + 1 :]
    if following:
        return request(run, following[0], now, status_before=run.status)
    return _finish(run, Status.COMPLETED, now, step, run.status)


def _has_lapsed(state: StepState, now: datetime) -> bool:
    return state.holds and state.expires_at is not None and state.expires_at <= now


# --- backward -------------------------------------------------------------------------------------


def compensate(run: WorkflowRun, step: Step, now: datetime, reason: str) -> Decision:
    """Undo what may have happened, because of ``reason`` in ``step``."""
    return undo_next(replace(run, reason=reason), step, now, run.status)


def undo_next(run: WorkflowRun, after: Step, now: datetime, status_before: str) -> Decision:
    """Undo the last step whose effect may stand, or end the run when there is none.

    Only steps up to ``undo_from`` are undone. While one behind it may stand, the run is not cancelled: it
    needs attention.
    """
    steps = DEFINITIONS[run.definition].steps
    run = await_no_more(run, [step for step in steps if step.undo is None])
    passed_over = [step for step in steps if step.name in run.passed_over]
    reached = steps[: len(steps) - len(passed_over)]
    waiting = [step for step in reached if awaits_undo(run.step(step.name), step)]
    if waiting:  # an effect that came late is being undone first
        if all(is_given_up(run.step(step.name), step) for step in waiting):
            run = replace(run, status=Status.NEEDS_ATTENTION)
        return Decision(run, status_before, after.name)
    for step in reversed(reached):
        state = run.step(step.name)
        # A step that was asked and did not answer may have happened, so it is undone too.
        if step.undo is not None and state.status in MAY_STAND:
            run = replace(run.with_step(replace(state, late=0)), status=Status.COMPENSATING)
            return undo(run, step, now, status_before, state.attempt)
    if any(step.undo is not None and run.step(step.name).status in MAY_STAND for step in passed_over):
        return Decision(replace(run, status=Status.NEEDS_ATTENTION), status_before, after.name)
    return _finish(run, Status.CANCELLED, now, after, status_before)


def await_no_more(run: WorkflowRun, steps: Iterable[Step]) -> WorkflowRun:
    """The run that waits for no answer of ``steps``: what was asked of them may have happened, or not."""
    for step in steps:
        state = run.step(step.name)
        if state.status == StepStatus.REQUESTED:
            run = run.with_step(replace(state, deadline_at=None, held=False))
    return run


def awaits_undo(state: StepState, step: Step) -> bool:
    """Whether the step's undo is out."""
    return step.undo is not None and state.status == StepStatus.UNDO_REQUESTED


def is_given_up(state: StepState, step: Step) -> bool:
    """Whether the step's undo has had all its time."""
    return awaits_undo(state, step) and state.late >= step.patience


def undo(run: WorkflowRun, step: Step, now: datetime, status_before: str, attempt: int) -> Decision:
    """Send the step's undo; a higher ``attempt`` than before is another command."""
    assert step.undo is not None
    state = run.step(step.name)
    again = (state.status, state.attempt) == (StepStatus.UNDO_REQUESTED, attempt)
    issued_at = state.requested_at if again and state.requested_at else now
    command = issue(run, step, step.undo, attempt, issued_at)
    undoing = replace(
        state,
        status=StepStatus.UNDO_REQUESTED,
        attempt=attempt,
        undo_command_id=command.command_id,
        requested_at=issued_at,
        deadline_at=now + step.wait(state.late),
        held=False,
    )
    return Decision(run.with_step(undoing), status_before, step.name, (command,))


def give_up(run: WorkflowRun, step: Step, state: StepState) -> Decision:
    """Wait for the step's undo no more: only its late answer or a person moves the run."""
    waiting = run.with_step(replace(state, deadline_at=None, held=False))
    if run.status == Status.COMPENSATING:
        waiting = replace(waiting, status=Status.NEEDS_ATTENTION)
    return Decision(waiting, run.status, step.name)


def send_undo_again(run: WorkflowRun, step: Step, now: datetime) -> Decision:
    """The same undo under the same id."""
    return undo(run, step, now, run.status, run.step(step.name).attempt)


def undo_anew(run: WorkflowRun, step: Step, now: datetime) -> Decision:
    """Another undo under another id, with its full patience; a run that needed attention moves again."""
    state = replace(run.step(step.name), late=0, reason=None)
    moving = run.with_step(state)
    if run.status == Status.NEEDS_ATTENTION:
        moving = replace(moving, status=Status.COMPENSATING)
    return undo(moving, step, now, run.status, state.attempt + 1)


def undone(run: WorkflowRun, step: Step, now: datetime, **own: Any) -> Decision:
    """The step's effect is gone: undo the one before it."""
    ended = end_step(run, step, StepStatus.UNDONE, now, **own)
    if run.status in UNDOING:
        return undo_next(ended, step, now, run.status)
    return Decision(ended, run.status, step.name)


# --- both -----------------------------------------------------------------------------------------


def _finish(run: WorkflowRun, status: Status, now: datetime, step: Step, status_before: str) -> Decision:
    return Decision(replace(run, status=status, finished_at=now), status_before, step.name)


def issue(
    run: WorkflowRun, step: Step, command: type[StepCommand], attempt: int, now: datetime, **own: Any
) -> StepCommand:
    """Build ``command``; a field that is not its ``own`` is filled by the row, or else the intent's."""
    given: dict[str, Any] = {
        "command_id": identity.command_id(run.workflow_id, step.name, command.__name__, attempt),
        "workflow_id": run.workflow_id,
        "step": step.name,
        "attempt": attempt,
        "issued_at": now,
        **own,
    }
    for each in fields(command):
        if each.name not in given:
            fill = step.fills.get(each.name)
            given[each.name] = filled(run, fill) if fill is not None else getattr(run.intent, each.name)
    return command(**given)
