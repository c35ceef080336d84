"""The bridge: every command of every decision goes to its queue, at least once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fulcrum.saga.messages import StepCommand
from fulcrum.simulation.environment import Environment
from fulcrum.simulation.invariants import Invariants
from fulcrum.simulation.journal import Entry
from fulcrum.simulation.logs import Log, Place, Reader
from fulcrum.simulation.process import Process

_CONFIRM = 0.01  # seconds, on average


class Bridge:
    """Publishes side by side, so that commands of one workflow may overtake each other."""

    def __init__(
        self,
        env: Environment,
        process: Process,
        decisions: Sequence[Log],
        queues: Mapping[str, Callable[[StepCommand], None]],
        invariants: Invariants,
    ) -> None:
        self.reader = Reader(env, process, decisions, self._handle, invariants.decision_committed)
        self._env = env
        self._process = process
        self._queues = queues
        self._invariants = invariants

    def _handle(self, place: Place, offset: int, entry: Entry) -> None:
        if entry.commands:
            self._process.later(self._env.about(_CONFIRM), self._publish, place, offset, entry)
        else:
            self.reader.finish(place, offset)

    def _publish(self, place: Place, offset: int, entry: Entry) -> None:
        for command in entry.commands:
            if self._process.crashes("before a command is published"):
                return
            copies = 2 if self._env.strikes("duplicate") else 1
            for _ in range(copies):
                self._env.note(entry.workflow_id, "bridge", f"publishes {type(command).__name__}")
                self._queues[command.service](command)
            self._env.counts["commands"] += copies
            self._invariants.published(command)
            if self._process.crashes("after a command is published"):
                return
        self.reader.finish(place, offset)
