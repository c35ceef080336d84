"""What can come of an event: a transition, a repeat, an event that nobody can take, a run that may go."""

from __future__ import annotations

from dataclasses import dataclass

from fulcrum.saga.messages import StepCommand
from fulcrum.saga.run import WorkflowRun


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


Outcome = Decision | Duplicate | Undeliverable | Forget
