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

    @property
    def final(self) -> bool:
        """True when no event can change the status any more."""
        return self in (Status.COMPLETED, Status.CANCELLED)


class StepStatus(StrEnum):
    """Where one step stands, and who moves it on."""

    PENDING = "pending"  #: not begun; the step before it moves it
    REQUESTED = "requested"  #: its command is out; the answer moves it
    DONE = "done"  #: its effect stands; a compensation moves it
    REFUSED = "refused"  #: final: the service said no, so there is no effect
    UNDO_REQUESTED = "undo_requested"  #: its undo is out; the answer moves it
    UNDONE = "undone"  #: final: there is no effect any more


@dataclass(frozen=True, slots=True, kw_only=True)
class StepState:
    """What a run remembers of one step. ``late`` counts the deadlines that passed since it was asked.

    ``requested_at`` is when the command that is out, or was last, left for the first time.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsent:
    """A decision that is not yet proven to be in Kafka: its version and its encoded record."""

    version: int
    record: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRun:
    """One run. ``version`` counts its transitions; ``seen`` maps a stream to its last sequence.

    ``unsent`` is the rule that makes a crash harmless: a decision stays in the state until Kafka has
    acknowledged it, and a repeated event emits it again.
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
    def lines(self) -> tuple[Line, ...]:
        """What the intent ordered."""
        return self.intent.lines
