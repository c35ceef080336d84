"""What becomes of a cancellation once the goods may be on their way? It is a request, and may be refused.

The run goes on meanwhile: whatever is answered first counts. Only a ``yes`` turns it round.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from fulcrum.saga import identity
from fulcrum.saga.decision import Decision
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.messages import Answer, StepCommand
from fulcrum.saga.moves import compensate, end_step, issue
from fulcrum.saga.results import kept
from fulcrum.saga.run import Intercept, Status, StepStatus, WorkflowRun
from fulcrum.saga.step import Step


def under_way(run: WorkflowRun) -> Step | None:
    """The step whose effect may be going on by itself. A command that is held back has no effect yet."""
    for step in DEFINITIONS[run.definition].steps:
        state = run.step(step.name)
        asked = state.status == StepStatus.REQUESTED and not state.held
        if step.intercepts and (asked or state.holds):
            return step
    return None


def intercept(run: WorkflowRun, step: Step, now: datetime, reason: str) -> Decision:
    """Ask ``step`` to stop what it has under way; the run is cancelled because of ``reason`` if it can."""
    asked = Intercept(
        step=step.name,
        command_id=identity.intercept_id(run.workflow_id, step.name, run.version),
        reason=reason,
        requested_at=now,
    )
    return send_intercept(replace(run, intercept=asked), asked, step, now)


def send_intercept(run: WorkflowRun, asked: Intercept, step: Step, now: datetime) -> Decision:
    """Send ``asked``, also again under the same id, and wait for its answer."""
    waiting = replace(asked, deadline_at=now + step.wait(asked.late), held=False)
    command = _command_of(run, asked, step)
    return Decision(replace(run, intercept=waiting), run.status, step.name, (command,))


def _command_of(run: WorkflowRun, asked: Intercept, step: Step) -> StepCommand:
    """The command of ``asked``: the same one each time, to the last field."""
    assert step.undo is not None
    attempt = run.step(step.name).attempt
    return issue(run, step, step.undo, attempt, asked.requested_at, command_id=asked.command_id)


def intercepted(run: WorkflowRun, step: Step, event: Answer) -> Decision:
    """It is stopped: the step has no effect any more, and what came before is undone."""
    assert run.intercept is not None
    state = run.step(step.name)
    stopped = end_step(
        run, step, StepStatus.UNDONE, event.occurred_at, result=kept(step, state, event), reason="intercepted"
    )
    return compensate(stopped, step, event.occurred_at, run.intercept.reason)


def not_intercepted(run: WorkflowRun, step: Step, event: Answer) -> Decision:
    """It cannot be stopped: the run goes on, and the step says so."""
    reason = f"intercept_refused: {getattr(event, 'reason', 'refused')}"
    told = replace(run.step(step.name), reason=reason)
    return Decision(replace(run.with_step(told), intercept=None), run.status, step.name)


def without_moot_intercept(run: WorkflowRun) -> WorkflowRun:
    """The run as it is kept: one that does not go on any more waits for no intercept's answer."""
    going = (run.paused_from or run.status) == Status.RUNNING
    return run if going or run.intercept is None else replace(run, intercept=None)
