"""The clock: has a time come that a run of this process waits for? Its host's own time may jump."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from fulcrum.saga import timers
from fulcrum.saga.run import WorkflowRun
from fulcrum.simulation.environment import START, Environment
from fulcrum.simulation.logs import Log, Reader, partition_of
from fulcrum.simulation.process import Process

RETENTION = timedelta(days=1)
_LOOK = 0.25  # seconds from one look to the next
_AGAIN = 10.0  # how long a fired timer may stay without effect


class Clock:
    """Fires the timers of all runs, once the reader has finished what was there when it started."""

    def __init__(
        self,
        env: Environment,
        process: Process,
        reader: Reader,
        runs: Callable[[], Mapping[str, WorkflowRun]],
        timer_logs: Sequence[Log],
    ) -> None:
        self._env = env
        self._process = process
        self._reader = reader
        self._runs = runs
        self._logs = timer_logs
        self._ahead = 0.0
        self._planned: dict[str, int] = {}
        self._armed = True

    def lost(self) -> None:
        """The process died."""
        self._planned.clear()
        self._armed = False

    def started(self) -> None:
        """Note what lies in Kafka now; until that is finished no timer fires."""
        self._arm([len(place.log.records) for place in self._reader.places])

    def _arm(self, ends: Sequence[int]) -> None:
        self._armed = all(place.mark >= end for place, end in zip(self._reader.places, ends, strict=True))
        if self._armed:
            self._plan_all()
        else:
            self._process.later(_LOOK, self._arm, ends)

    def _plan_all(self) -> None:
        for key in self._runs():
            self.changed(key)

    def jump(self, ahead: float) -> None:
        """The host's clock is set."""
        self._ahead = ahead
        self._env.counts["clock.jumps"] += 1
        self._env.note(None, "clock", f"is {ahead:+.0f}s off from now on")
        self._plan_all()

    def changed(self, key: str) -> None:
        """The run has changed: what was planned for it no longer holds."""
        number = self._planned[key] = self._planned.get(key, 0) + 1
        run = self._runs().get(key)
        timer = timers.next_timer(run, RETENTION) if run is not None and self._armed else None
        if timer is not None:
            self._plan(key, number, self._until(timer.due))

    def _until(self, due: datetime) -> float:
        return max(0.0, (due - START).total_seconds() - self._env.now - self._ahead)

    def _plan(self, key: str, number: int, delay: float) -> None:
        lateness = 0.001 + self._env.random.random() * _LOOK
        self._process.later(delay + lateness, self._tick, key, number)

    def _tick(self, key: str, number: int) -> None:
        run = self._runs().get(key)
        if number != self._planned.get(key) or run is None:
            return
        timer = timers.next_timer(run, RETENTION)
        assert timer is not None
        if self._until(timer.due) > 0:
            self._plan(key, number, self._until(timer.due))
            return
        event = timers.fire(run, timer, self._env.moment(self._ahead))
        self._env.note(key, "clock", f"fires {type(event).__name__} {timer.step}")
        self._env.counts[f"timers.{type(event).__name__}"] += 1
        for _ in range(2 if self._env.strikes("duplicate") else 1):
            # Not waited for: what does not arrive is fired again.
            self._process.later(self._env.about(0.01), self._logs[partition_of(key)].append, event)
        self._plan(key, number, _AGAIN)
