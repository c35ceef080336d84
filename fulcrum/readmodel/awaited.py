"""Which step of a workflow is waited for, and what would answer it? Pure, from what the read model shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fulcrum.saga.definitions import DEFINITIONS, Step
from fulcrum.saga.run import Status, StepStatus


@dataclass(frozen=True, slots=True)
class Awaited:
    """The step whose answer is awaited: its row, where it stands, and whether it is being undone."""

    row: Step
    state: Mapping[str, Any]
    undoing: bool

    @property
    def event(self) -> str:
        """The type of the answer that moves the run on."""
        answer = self.row.undone if self.undoing else self.row.done
        return "" if answer is None else answer.__name__

    @property
    def commands(self) -> tuple[str, ...]:
        """The types of the commands that may be out: the one that acts first."""
        types = (self.row.undo,) if self.undoing else (self.row.do, self.row.query)
        return tuple(each.__name__ for each in types if each is not None)

    @property
    def given_up(self) -> bool:
        """Whether an undo has had all its time."""
        return self.undoing and int(self.state.get("late") or 0) >= self.row.patience


def awaited(run: Mapping[str, Any]) -> Awaited | None:
    """The step that ``run`` waits for; while it is undone, the undo and not what is passed over."""
    definition = DEFINITIONS.get(run["definition"])
    if definition is None or run["status"] == Status.TERMINATED:
        return None
    rows = {step.name: step for step in definition.steps}
    known = [(rows[state["name"]], state) for state in run["steps"] if state["name"] in rows]
    for row, state in reversed(known):
        if state["status"] == StepStatus.UNDO_REQUESTED and row.undo is not None:
            return Awaited(row, state, undoing=True)
    if run["status"] not in (Status.RUNNING, Status.PAUSED):
        return None
    for row, state in reversed(known):
        if state["status"] == StepStatus.REQUESTED:
            return Awaited(row, state, undoing=False)
    return None
