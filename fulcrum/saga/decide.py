"""What an event means to a run. Everything a workflow does is decided here and nowhere else.

``decide`` is pure and total: no I/O, clock, randomness or logging; time enters only inside events.
What the tables do not foresee is ignored *with a reason*, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import cache
from typing import Any

from fulcrum.saga import identity
from fulcrum.saga.definitions import DEFINITIONS, Definition, Step
from fulcrum.saga.messages import Answer, Event, IntentCreated, StepCommand
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


def decide(run: WorkflowRun | None, event: Event) -> Decision | Duplicate | Undeliverable:
    """What ``event`` means to ``run`` (None: no such run yet)."""
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
    if not isinstance(event, Answer):
        return Decision(run, run.status, ignored="already_started")
    return _answer(run, event)


def _start(event: Event) -> Decision | Undeliverable:
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


def _answer(run: WorkflowRun, event: Answer) -> Decision:
    found = _roles(run.definition).get(type(event))
    if found is None:
        return Decision(run, run.status, ignored="not_in_definition")
    step, role = found
    state = run.step(step.name)
    asked = state.undo_command_id if role == "undone" else state.command_id
    if event.command_id != asked:
        return Decision(run, run.status, step.name, ignored="stale_command")
    expected, act = _TRANSITIONS[role]
    if (run.status, state.status) not in expected:
        return Decision(run, run.status, step.name, ignored=f"{role}_while_{run.status}_{state.status}")
    return act(run, step, event)


def _step_done(run: WorkflowRun, step: Step, event: Answer) -> Decision:
    before = run.status
    run = run.with_step(
        replace(run.step(step.name), status=StepStatus.DONE, deadline_at=None, finished_at=event.occurred_at)
    )
    steps = DEFINITIONS[run.definition].steps
    following = steps[steps.index(step) + 1 :]
    if following:
        return _request(run, following[0], event.occurred_at, status_before=before)
    return _finish(run, Status.COMPLETED, event.occurred_at, step, before)


def _step_refused(run: WorkflowRun, step: Step, event: Answer) -> Decision:
    """A refusal leaves nothing behind, so undoing starts one step earlier."""
    reason = str(getattr(event, "reason", "refused"))
    refused = replace(
        run.step(step.name),
        status=StepStatus.REFUSED,
        deadline_at=None,
        finished_at=event.occurred_at,
        reason=reason,
    )
    before = run.status
    run = replace(run.with_step(refused), reason=f"{step.name}: {reason}")
    return _undo_next(run, step, event.occurred_at, before)


def _step_undone(run: WorkflowRun, step: Step, event: Answer) -> Decision:
    undone = replace(
        run.step(step.name), status=StepStatus.UNDONE, deadline_at=None, finished_at=event.occurred_at
    )
    return _undo_next(run.with_step(undone), step, event.occurred_at, run.status)


_Act = Callable[[WorkflowRun, Step, Answer], Decision]

#: What an answer does, and the (run status, step status) pairs in which it does it.
_TRANSITIONS: dict[str, tuple[frozenset[tuple[str, str]], _Act]] = {
    "done": (frozenset({(Status.RUNNING, StepStatus.REQUESTED)}), _step_done),
    "refused": (frozenset({(Status.RUNNING, StepStatus.REQUESTED)}), _step_refused),
    "undone": (frozenset({(Status.COMPENSATING, StepStatus.UNDO_REQUESTED)}), _step_undone),
}


@cache
def _roles(definition: str) -> dict[type[Answer], tuple[Step, str]]:
    """Which step each answer belongs to, and whether it says done, refused or undone."""
    roles: dict[type[Answer], tuple[Step, str]] = {}
    for step in DEFINITIONS[definition].steps:
        roles[step.done] = (step, "done")
        roles[step.refused] = (step, "refused")
        if step.undone is not None:
            roles[step.undone] = (step, "undone")
    return roles


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
        deadline_at=now + step.deadline,
    )
    return Decision(run.with_step(requested), status_before, step.name, (command,))


def _undo_next(run: WorkflowRun, after: Step, now: datetime, status_before: str) -> Decision:
    """Undo the last step whose effect may stand, or end the run when there is none."""
    definition: Definition = DEFINITIONS[run.definition]
    for step in reversed(definition.steps):
        state = run.step(step.name)
        # A step that was asked and did not answer may have happened, so it is undone too.
        if step.undo is None or state.status not in (StepStatus.DONE, StepStatus.REQUESTED):
            continue
        command = _issue(run, step.name, step.undo, state.attempt, now)
        undoing = replace(
            state,
            status=StepStatus.UNDO_REQUESTED,
            undo_command_id=command.command_id,
            deadline_at=now + step.deadline,
        )
        run = replace(run.with_step(undoing), status=Status.COMPENSATING)
        return Decision(run, status_before, step.name, (command,))
    return _finish(run, Status.CANCELLED, now, after, status_before)


def _finish(run: WorkflowRun, status: Status, now: datetime, step: Step, status_before: str) -> Decision:
    return Decision(replace(run, status=status, finished_at=now), status_before, step.name)


def _issue(
    run: WorkflowRun, step: str, command: type[StepCommand], attempt: int, now: datetime
) -> StepCommand:
    """Build ``command``; fields beyond the common ones are the intent's fields of the same name."""
    common: dict[str, Any] = {
        "command_id": identity.command_id(run.workflow_id, step, command.__name__, attempt),
        "workflow_id": run.workflow_id,
        "step": step,
        "attempt": attempt,
        "issued_at": now,
    }
    own = {f.name: getattr(run.intent, f.name) for f in fields(command) if f.name not in common}
    return command(**common, **own)
