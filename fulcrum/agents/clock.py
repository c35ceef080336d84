"""Has a time come that a run of this process waits for? Then send the event that says so.

The clock changes no state. It sends to the run's own partition, and the orchestrator decides there, in order
with everything else that happens to the run. An event may be sent twice: the run takes it once.

After a start or a rebalance the answer to a late command may already lie in Kafka. So the clock stays
disarmed until everything that was there at that moment is finished; else a timeout would beat the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import cast

import faust
import structlog
from faust.types import TP

from fulcrum.agents.agenda import Agenda
from fulcrum.agents.app import bytes_topic, guarded_consumer
from fulcrum.saga import timers
from fulcrum.saga.messages import EVENT_STREAMS, TimerFired
from fulcrum.saga.run import WorkflowRun
from fulcrum.settings import Settings
from fulcrum.tables.runs import RunsTable
from fulcrum.telemetry import metrics
from fulcrum.wire.codec import Codec
from fulcrum.wire.headers import Envelope
from fulcrum.wire.partitioning import partition_of
from fulcrum.wire.topics import Topics

log = structlog.get_logger()

#: Seconds between two looks; the most by which a timer is late on a process that keeps up.
_TICK = 0.25
#: Timers fired per look, so that those of a long outage do not come all at once.
_MOST = 500
#: How long a fired timer may stay without effect before it is fired again.
_AGAIN = timedelta(seconds=10)
#: Runs read from the table between two breaths.
_CHUNK = 500


class Clock:
    """The times of the runs in this process's partitions."""

    def __init__(self, app: faust.App, settings: Settings, codec: Codec, runs: RunsTable) -> None:
        self._app = app
        self._codec = codec
        self._runs = runs
        self._partitions = settings.partitions
        self._retention = timedelta(seconds=settings.run_retention)
        self._on = settings.clock
        topics = Topics(settings.namespace)
        self._streams = frozenset(topics.stream(name) for name in EVENT_STREAMS)
        self._timers = bytes_topic(app, topics.stream(TimerFired.stream))
        self._agenda = Agenda()

    def note(self, key: bytes, run: WorkflowRun) -> None:
        """The run has changed."""
        timer = timers.next_timer(run, self._retention)
        self._agenda.set(key, timer.due if timer else None)

    def forget(self, key: bytes) -> None:
        """There is no such run any more."""
        self._agenda.set(key, None)

    async def run(self) -> None:
        """Fire what is due, as long as the app lives."""
        armed: object = None
        while self._on and not self._app.should_stop:
            await asyncio.sleep(_TICK)
            if self._app.rebalancing or not self._app.tables.actives_ready:
                armed = None
                continue
            generation = self._app.consumer_generation_id
            if armed != generation:
                armed = generation if await self._arm() else None
                continue
            await self._fire_due(datetime.now(UTC))

    async def _arm(self) -> bool:
        """Wait until all that is in Kafka now is finished, then read the times of the runs that are ours.

        False when the partitions are being dealt out anew meanwhile.
        """
        consumer = guarded_consumer(self._app)
        streams = {tp for tp in consumer.assignment() if tp.topic in self._streams}
        ends: Mapping[TP, int] = await consumer.highwaters(*streams)
        while not consumer.finished_through(ends):
            if self._app.rebalancing or self._app.should_stop:
                return False
            await asyncio.sleep(_TICK)
        mine = {tp.partition for tp in streams}
        self._agenda.clear()
        for number, key in enumerate(list(self._runs.keys())):
            if number % _CHUNK == 0:
                await asyncio.sleep(0)
            if partition_of(key, self._partitions) in mine and (run := self._load(key)) is not None:
                self.note(key, run)
        log.info("clock.armed", runs=len(self._agenda), partitions=sorted(mine))
        return True

    async def _fire_due(self, now: datetime) -> None:
        for key in self._agenda.take(now, _MOST):
            run = self._load(key)
            timer = timers.next_timer(run, self._retention) if run is not None else None
            if run is None or timer is None:
                continue
            if timer.due > now:
                self._agenda.set(key, timer.due)
                continue
            await self._send(key, run, timers.fire(run, timer, now))
            metrics.timer_lateness.labels(timer=timer.event.__name__).observe(
                (now - timer.due).total_seconds()
            )
            self._agenda.set(key, now + _AGAIN)

    async def _send(self, key: bytes, run: WorkflowRun, event: TimerFired) -> None:
        headers = Envelope(
            message_id=event.event_id,
            type=type(event).__name__,
            source="clock",
            workflow_id=run.workflow_id,
            time=event.occurred_at,
            correlation_id=run.intent.correlation_id,
            causation_id=None,
            traceparent=None,
        ).to_kafka()
        # Not waited for: what does not arrive leaves the state as it is, and is fired again.
        await self._timers.send(
            key=key,
            value=self._codec.encode(event),
            partition=partition_of(key, self._partitions),
            headers=headers,
        )
        log.info("timer.fired", workflow_id=run.workflow_id, timer=type(event).__name__)

    def _load(self, key: bytes) -> WorkflowRun | None:
        stored = self._runs.get(key)
        return None if stored is None else cast(WorkflowRun, self._codec.decode(stored))


def add_clock(app: faust.App, clock: Clock) -> None:
    """Let the clock run in every worker; an error stops the worker, because a run would wait for ever."""

    async def tick() -> None:
        try:
            await clock.run()
        except Exception as error:
            log.exception("clock.failed")
            await app.crash(error)

    app.task(tick)
