"""The agents' process: orchestrator, bridge and clock live and die together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fulcrum.saga.messages import EVENT_STREAMS, StepCommand
from fulcrum.simulation.bridge import Bridge
from fulcrum.simulation.clock import Clock
from fulcrum.simulation.environment import Environment
from fulcrum.simulation.invariants import Invariants
from fulcrum.simulation.logs import Log
from fulcrum.simulation.orchestrator import Orchestrator
from fulcrum.simulation.process import Process


class Agents(Process):
    """One worker that owns every partition."""

    def __init__(
        self,
        env: Environment,
        topics: Mapping[str, Sequence[Log]],
        queues: Mapping[str, Callable[[StepCommand], None]],
        invariants: Invariants,
    ) -> None:
        super().__init__(env, "agents")
        streams = [log for name in EVENT_STREAMS for log in topics[name]]
        self.orchestrator = Orchestrator(
            env, self, streams, topics["decisions"], invariants, lambda key: self.clock.changed(key)
        )
        reader, runs = self.orchestrator.reader, lambda: self.orchestrator.runs
        self.clock = Clock(env, self, reader, runs, topics["timers"])
        self.bridge = Bridge(env, self, topics["decisions"], queues, invariants)

    def _lost(self) -> None:
        self.orchestrator.lost()
        self.clock.lost()

    def _started(self) -> None:
        self.orchestrator.started()
        self.bridge.reader.restart()
        self.clock.started()
