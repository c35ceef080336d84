"""The outbox and its relay: what a transaction leaves behind reaches Kafka, in order, at least once."""

from __future__ import annotations

from collections.abc import Sequence

from fulcrum.saga.messages import Event
from fulcrum.simulation.environment import Environment
from fulcrum.simulation.logs import Log, partition_of
from fulcrum.simulation.process import Process

_RELAY = 0.01  # seconds, on average, until the relay looks
_BATCH = 20  # rows that it sends before it deletes them


class Sender(Process):
    """A process with an outbox. Its relay sends the rows in order and deletes them afterwards."""

    def __init__(self, env: Environment, name: str, logs: Sequence[Log]) -> None:
        super().__init__(env, name)
        self._logs = logs
        self._outbox: list[Event] = []
        self._relaying = False

    def send(self, event: Event) -> None:
        """Leave ``event`` for the relay, in the transaction that is running."""
        self._outbox.append(event)
        self._wake_relay()

    def _wake_relay(self) -> None:
        if self._outbox and self.up and not self._relaying:
            self._relaying = True
            self.later(self.env.about(_RELAY), self._relay)

    def _relay(self) -> None:
        rows = self._outbox[:_BATCH]
        for event in rows:
            if self.crashes("before it sends an event"):
                return
            log = self._logs[partition_of(event.workflow_id)]
            for _ in range(2 if self.env.strikes("duplicate") else 1):
                log.append(event)
        if self.crashes("before it deletes the sent rows"):
            return
        del self._outbox[: len(rows)]
        self._relaying = False
        self._wake_relay()

    def _lost(self) -> None:
        self._relaying = False

    def _started(self) -> None:
        self._wake_relay()
