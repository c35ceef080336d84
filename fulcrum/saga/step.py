"""What is a row of a definition? Its messages, its times, and what may be done about it when it fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from fulcrum.saga.messages import Answer, StepCommand
from fulcrum.saga.run import WorkflowRun


class Kind(StrEnum):
    """What may be done about a step that fails."""

    COMPENSATABLE = "compensatable"  # has an undo: earlier steps are undone in reverse order
    PIVOT = "pivot"  # the point of no return: silence from here on undoes nothing
    RETRIABLE = "retriable"  # after the pivot: asked for until somebody answers


#: Waiting longer than this for an answer would only hide that none comes.
LONGEST_WAIT = timedelta(minutes=10)
#: More doublings of a wait than this are of no account, and their number would grow out of every clock.
_MOST_DOUBLINGS = 16


@dataclass(frozen=True, slots=True)
class Fill:
    """A command's field that comes from what an earlier step yields: its ``field``, or ``of`` the run.

    ``of`` may be asked when the step has yielded nothing only if it is not ``needed``.
    """

    step: str
    field: str
    of: Callable[[WorkflowRun], Any] | None = None
    needed: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """One row: what to send, what answers it, and how to undo it.

    ``deadline`` is how long an answer may take before the step counts as late. What became of a late step is
    asked with ``query``; where there is none, or ``not_found`` is the answer, its command is sent again. Each
    wait is twice as long as the one before, up to ``LONGEST_WAIT``. After ``patience`` deadlines in a row the
    step counts as failed, unless it lies at the pivot or behind it: then it is asked for ever. ``progress``
    tells that the answer takes longer, maybe with a new time.

    ``lapsed`` says that what the step held is gone; where that is ``renewed`` by whoever needs it, a lapse is
    of no account. A step that ``keeps`` another one by name builds on that one's effect and makes it last; it
    has no undo, for undoing the other one undoes it.

    ``undo_refused`` says that the effect stays. A step that ``intercepts`` has an effect that goes on by
    itself: a cancellation sends its undo while the run goes on, and only ``undone`` turns the run round.

    ``yields`` are the fields of its answers that are kept for later steps, ``fills`` the fields of its
    commands that come from there; all others are the intent's of the same name. ``milestone`` is what a
    customer calls it when it is done.
    """

    name: str
    do: type[StepCommand]
    done: type[Answer]
    refused: type[Answer]
    undo: type[StepCommand] | None
    undone: type[Answer] | None
    deadline: timedelta
    kind: Kind = Kind.COMPENSATABLE
    query: type[StepCommand] | None = None
    not_found: type[Answer] | None = None
    patience: int = 10
    lapsed: type[Answer] | None = None
    keeps: str | None = None
    renewed: bool = False
    progress: type[Answer] | None = None
    undo_refused: type[Answer] | None = None
    intercepts: bool = False
    yields: tuple[str, ...] = ()
    fills: Mapping[str, Fill] = field(default_factory=dict)
    milestone: str | None = None

    def wait(self, late: int) -> timedelta:
        """How long the next answer may take after ``late`` deadlines have passed."""
        longer: timedelta = self.deadline * (1 << min(late, _MOST_DOUBLINGS))
        return min(longer, max(self.deadline, LONGEST_WAIT))

    def gives_up(self, late: int) -> bool:
        """Whether ``late`` deadlines without an answer make the step a failed one."""
        return self.kind is Kind.COMPENSATABLE and late >= self.patience


@dataclass(frozen=True, slots=True)
class Definition:
    """A named and versioned list of steps, carried out in order."""

    name: str
    steps: tuple[Step, ...]

    def step(self, name: str) -> Step:
        """The row called ``name``; KeyError when there is none."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)

    def needed_of(self, step: Step) -> frozenset[str]:
        """What ``step`` must yield, or commands of later steps cannot be built."""
        fills = [fill for each in self.steps for fill in each.fills.values()]
        return frozenset(fill.field for fill in fills if fill.step == step.name and fill.needed)
