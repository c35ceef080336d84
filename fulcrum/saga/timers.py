"""Which times stand in a run's state, and which event says that one has come? Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fulcrum.saga import identity
from fulcrum.saga.messages import DeadlinePassed, HoldExpired, RetentionPassed, TimerFired
from fulcrum.saga.run import Status, StepStatus, WorkflowRun


@dataclass(frozen=True, slots=True)
class Timer:
    """A time in a run's state: ``due`` and the event's own fields."""

    due: datetime
    event: type[TimerFired]
    step: str
    fields: dict[str, Any]


def next_timer(run: WorkflowRun, retention: timedelta) -> Timer | None:
    """The earliest time that ``run`` waits for; None when only an answer or a person can move it.

    A finished run is kept for ``retention``, so that a late event still finds it.
    """
    return min(_timers(run, retention), key=lambda timer: timer.due, default=None)


def fire(run: WorkflowRun, timer: Timer, now: datetime) -> TimerFired:
    """The event of ``timer``. A repeat before the run has seen it is the same event."""
    return timer.event(
        event_id=identity.timer_id(run.workflow_id, timer.event.__name__, timer.step, timer.due),
        workflow_id=run.workflow_id,
        sequence=run.seen.get(TimerFired.stream, 0) + 1,
        occurred_at=now,
        **timer.fields,
    )


def _timers(run: WorkflowRun, retention: timedelta) -> Iterator[Timer]:
    for step in run.steps:
        if step.deadline_at is not None:
            awaited = step.undo_command_id if step.status == StepStatus.UNDO_REQUESTED else step.command_id
            yield Timer(
                step.deadline_at,
                DeadlinePassed,
                step.name,
                {"step": step.name, "command_id": awaited, "deadline_at": step.deadline_at},
            )
        if _counts_on(run) and step.holds and step.expires_at is not None:
            yield Timer(
                step.expires_at, HoldExpired, step.name, {"step": step.name, "expires_at": step.expires_at}
            )
    asked = run.intercept
    if asked is not None and asked.deadline_at is not None:
        named = {"step": asked.step, "command_id": asked.command_id, "deadline_at": asked.deadline_at}
        yield Timer(asked.deadline_at, DeadlinePassed, f"{asked.step}/intercept", named)
    if run.finished_at is not None and not run.awaits_undo:
        yield Timer(run.finished_at + retention, RetentionPassed, "", {"finished_at": run.finished_at})


def _counts_on(run: WorkflowRun) -> bool:
    """Whether the run still needs what its steps hold. A pause stops commands and deadlines, no facts."""
    return (run.paused_from or run.status) == Status.RUNNING
