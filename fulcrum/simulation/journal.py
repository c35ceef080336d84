"""What leaves the orchestrator, and in which form is it kept until it has left?"""

from __future__ import annotations

from dataclasses import dataclass

from fulcrum.saga.decide import Decision
from fulcrum.saga.messages import Event, StepCommand
from fulcrum.saga.run import StepState, Unsent


@dataclass(frozen=True, slots=True)
class Entry:
    """A decision as it stands in the decisions topic."""

    workflow_id: str
    version: int
    cause: Event
    status_before: str | None
    status: str
    step: str | None
    reason: str | None
    ignored: str | None
    commands: tuple[StepCommand, ...]
    steps: tuple[StepState, ...]
    definition: str
    intercept: bool

    def __str__(self) -> str:
        left = ", ".join(type(command).__name__ for command in self.commands)
        told = f"ignored: {self.ignored}" if self.ignored else left or "nothing leaves"
        return f"version {self.version}: {self.status_before} -> {self.status}, {told}"


class Journal:
    """Entries by number. The number is what a run's state keeps as the encoded record."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def encode(self, decision: Decision, cause: Event) -> Unsent:
        """Keep the entry of ``decision``."""
        run = decision.run
        self._entries.append(
            Entry(
                run.workflow_id,
                run.version,
                cause,
                decision.status_before,
                run.status,
                decision.step,
                run.reason,
                decision.ignored,
                decision.commands,
                run.steps,
                run.definition,
                run.intercept is not None,
            )
        )
        return Unsent(version=run.version, record=b"%d" % (len(self._entries) - 1))

    def decode(self, unsent: Unsent) -> Entry:
        """The entry that was kept."""
        return self._entries[int(unsent.record)]
