"""The state of a workflow run: all that ``decide`` knows of the past."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from fulcrum.saga.messages import IntentCreated, Line


class Status(StrEnum):
    """What a run is doing, and who moves it on."""

    RUNNING = "running"  #: a step's command is out; its answer moves the run
    COMPENSATING = "compensating"  #: undoing, last step first; each answer moves the run
    NEEDS_ATTENTION = (
        "needs_attention"  #: an undo is not answered; only an operator or the late answer moves it
    )
    COMPLETED = "completed"  #: final: every step is done
    CANCELLED = "cancelled"  #: final: nothing this run did still stands
    PAUSED = "paused"  #: answers are taken and nothing leaves; only an operator moves it
    TERMINATED = "terminated"  #: final: an operator gave it up, and what it did may stand

    @property
    def final(self) -> bool:
        """True when no event can change the status any more."""
        return self in (Status.COMPLETED, Status.CANCELLED, Status.TERMINATED)


class StepStatus(StrEnum):
    """Where one step stands, and who moves it on."""

    PENDING = "pending"  #: not begun; the step before it moves it
    REQUESTED = "requested"  #: its command is out; the answer moves it
    DONE = "done"  #: its effect stands; a compensation moves it
    REFUSED = "refused"  #: final: the service said no, so there is no effect
    UNDO_REQUESTED = "undo_requested"  #: its undo is out; the answer moves it
    UNDONE = "undone"  #: final: there is no effect any more
    SKIPPED = "skipped"  #: an operator gave its result; its effect may stand, its late answer moves it


#: The hold of an operator who pauses a run.
OPERATOR = "operator"

#: How the reason of a step begins whose undo was refused; what the service said follows.
UNDO_REFUSED = "undo_refused"

#: A step that is at one of these has an effect, or may have one.
MAY_STAND = frozenset({StepStatus.REQUESTED, StepStatus.DONE, StepStatus.UNDO_REQUESTED, StepStatus.SKIPPED})


@dataclass(frozen=True, slots=True, kw_only=True)
class StepState:
    """What a run remembers of one step. ``late`` counts the deadlines that passed since it was asked.

    ``requested_at`` is when the command that is out, or was last, left for the first time. ``held``: it was
    decided on while the run was paused, and has not left. ``skipped_by`` is the operator who ended the step
    without its answer. ``result`` is what the answer yields to later steps, or what an operator gave in its
    place, as JSON.
    """

    name: str
    status: str = StepStatus.PENDING
    attempt: int = 0
    command_id: str | None = None
    requested_at: datetime | None = None
    deadline_at: datetime | None = None
    finished_at: datetime | None = None
    reason: str | None = None
    undo_command_id: str | None = None
    late: int = 0
    query_command_id: str | None = None
    expires_at: datetime | None = None
    held: bool = False
    skipped_by: str | None = None
    result: str | None = None

    @property
    def holds(self) -> bool:
        """True when later steps count on what this one holds."""
        return self.status in (StepStatus.DONE, StepStatus.SKIPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intercept:
    """A cancellation that came when the goods could be on their way: ``step`` is asked to stop them.

    The run goes on until it is answered. ``reason`` is the run's once they are stopped; the other fields are
    those of a step's command.
    """

    step: str
    command_id: str
    reason: str
    requested_at: datetime
    deadline_at: datetime | None = None
    late: int = 0
    held: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsent:
    """A decision that is not yet proven to be in Kafka: its version and its encoded record."""

    version: int
    record: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRun:
    """One run. ``version`` counts its transitions; ``seen`` maps a stream to its last sequence.

    ``unsent`` is the rule that makes a crash harmless: a decision stays in the state until Kafka has
    acknowledged it, and a repeated event emits it again. ``paused_from`` is the status that a paused run goes
    on with, ``holds`` are the reasons for which it waits. Only steps up to ``undo_from`` are undone; None:
    all.
    """

    workflow_id: str
    version: int
    status: str
    definition: str
    intent: IntentCreated
    steps: tuple[StepState, ...]
    seen: Mapping[str, int]
    started_at: datetime
    updated_at: datetime
    finished_at: datetime | None = None
    reason: str | None = None
    unsent: tuple[Unsent, ...] = field(default=())
    paused_from: str | None = None
    undo_from: str | None = None
    holds: tuple[str, ...] = ()
    intercept: Intercept | None = None

    def step(self, name: str) -> StepState:
        """The step called ``name``; KeyError when there is none."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)

    def with_step(self, changed: StepState) -> WorkflowRun:
        """The same run with one step replaced."""
        return replace(self, steps=tuple(changed if s.name == changed.name else s for s in self.steps))

    def with_unsent(self, decision: Unsent, sent_through: int) -> WorkflowRun:
        """Remember ``decision`` and forget those that are proven sent."""
        kept = tuple(u for u in self.unsent if u.version > sent_through)
        return replace(self, unsent=(*kept, decision))

    @property
    def awaits_undo(self) -> bool:
        """True while an undo is out that somebody will answer; a terminated run waits for nothing."""
        undoing = any(step.status == StepStatus.UNDO_REQUESTED for step in self.steps)
        return undoing and self.status != Status.TERMINATED

    @property
    def held_by(self) -> tuple[str, ...]:
        """Why a paused run waits. A state from before there were holds has none: an operator paused it."""
        return (self.holds or (OPERATOR,)) if self.status == Status.PAUSED else ()

    @property
    def passed_over(self) -> tuple[str, ...]:
        """The steps behind the one from which the run is undone."""
        names = [step.name for step in self.steps]
        return () if self.undo_from is None else tuple(names[names.index(self.undo_from) + 1 :])

    @property
    def lines(self) -> tuple[Line, ...]:
        """What the intent ordered."""
        return self.intent.lines
