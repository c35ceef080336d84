"""An event came in: load the run, ask the saga, store the run, record the decision."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import faust
import structlog
from faust.types import EventT

from fulcrum import crashpoint
from fulcrum.agents import journal
from fulcrum.agents.app import bytes_topic
from fulcrum.agents.clock import Clock
from fulcrum.agents.safety import dead_letter, feed, finish_when_safe, read_patiently
from fulcrum.errors import Corrupt
from fulcrum.saga.decide import Decision, Duplicate, Forget, Undeliverable, decide
from fulcrum.saga.messages import EVENT_STREAMS, DecisionMade, Event
from fulcrum.saga.run import Unsent, WorkflowRun
from fulcrum.saga.sent import Sent
from fulcrum.settings import Settings
from fulcrum.tables.runs import RunsTable
from fulcrum.telemetry import metrics
from fulcrum.telemetry.logs import bound
from fulcrum.telemetry.trace import child_of
from fulcrum.wire.codec import Codec
from fulcrum.wire.headers import Envelope
from fulcrum.wire.topics import Topics

log = structlog.get_logger()

_CONSUMER = "orchestrator"


@dataclass(frozen=True, slots=True)
class _Transition:
    """A decision ready to leave: the state and the journal's record, decoded and encoded."""

    run: WorkflowRun
    state: bytes
    made: DecisionMade


class Orchestrator:
    """Performs what ``decide`` says. It holds no rule of its own."""

    def __init__(
        self, app: faust.App, settings: Settings, codec: Codec, runs: RunsTable, clock: Clock
    ) -> None:
        self._app = app
        self._codec = codec
        self._runs = runs
        self._clock = clock
        self._topics = Topics(settings.namespace)
        self._decisions = bytes_topic(app, self._topics.stream("decisions"))
        self._sent = Sent()
        #: What the broker has yet to acknowledge of a run: its last state and decisions.
        self._in_flight: dict[str, Sequence[asyncio.Future[Any]]] = {}
        #: Who may send to a partition of the journal. States are acknowledged in order, and so are turns.
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def handle(self, event: EventT[Any]) -> None:
        """Take one event; returns before the broker has acknowledged what it caused."""
        crashpoint.reached("event.received")
        try:
            message = await self._read(event)
            outcome = decide(self._load(message.workflow_id.encode()), message)
            transition = self._encode(event, message, outcome) if isinstance(outcome, Decision) else None
        except Exception as error:
            # Whatever cannot be decided would fail again on every read: keep it aside, go on.
            if not isinstance(error, Corrupt):
                log.exception("event.failed", topic=event.message.topic, offset=event.message.offset)
            await dead_letter(self._app, self._topics, event, f"{type(error).__name__}: {error}", _CONSUMER)
            return
        envelope = Envelope.from_kafka(event.message.headers)
        with bound(
            workflow_id=message.workflow_id,
            message_id=message.event_id,
            correlation_id=envelope.correlation_id,
            traceparent=envelope.traceparent,
        ):
            if transition is not None:
                await self._perform(event, message, transition)
            elif isinstance(outcome, Duplicate):
                await self._repeat(event, message, outcome.run)
            elif isinstance(outcome, Forget):
                self._forget(event, message)
            elif isinstance(outcome, Undeliverable):
                await dead_letter(self._app, self._topics, event, outcome.reason, _CONSUMER)

    async def _read(self, event: EventT[Any]) -> Event:
        message = await read_patiently(self._codec, event)
        if not isinstance(message, Event):
            raise Corrupt(f"{type(message).__name__} is no event of this topic")
        if event.message.key != message.workflow_id.encode():
            raise Corrupt(f"key {event.message.key!r} is not the workflow id {message.workflow_id}")
        return message

    def _load(self, key: bytes) -> WorkflowRun | None:
        stored = self._runs.get(key)
        if stored is None:
            return None
        run = self._codec.decode(stored)
        assert isinstance(run, WorkflowRun)
        return run

    def _encode(self, event: EventT[Any], message: Event, decision: Decision) -> _Transition:
        made = journal.record(
            decision,
            message,
            self._codec.encode,
            topic=event.message.topic,
            partition=event.message.partition,
            offset=event.message.offset,
            traceparent=Envelope.from_kafka(event.message.headers).traceparent,
        )
        unsent = Unsent(version=made.version, record=self._codec.encode(made))
        run = decision.run.with_unsent(unsent, self._sent.proven(message.workflow_id))
        return _Transition(run, self._codec.encode(run), made)

    async def _perform(self, event: EventT[Any], message: Event, transition: _Transition) -> None:
        run, made = transition.run, transition.made
        stored = self._runs.store(run.workflow_id.encode(), transition.state)
        self._clock.note(run.workflow_id.encode(), run)
        sent = self._send_after(stored, event, message, run, self._sent.due(run))
        self._finish(event, run, (stored, asyncio.ensure_future(sent)))
        metrics.decisions.labels(status=run.status, kind="ignored" if made.ignored else "made").inc()
        log.info(
            "decision.made",
            version=run.version,
            cause=made.cause.type,
            step=made.step,
            status=run.status,
            commands=[command.type for command in made.commands],
            ignored=made.ignored,
        )

    async def _repeat(self, event: EventT[Any], message: Event, run: WorkflowRun) -> None:
        """A duplicate is never just skipped: what it decided may not have been sent."""
        in_flight, due = self._in_flight.get(run.workflow_id, ()), self._sent.due(run)
        metrics.decisions.labels(status=run.status, kind="duplicate").inc()
        log.info("event.duplicate", cause=type(message).__name__, emitted=len(due))
        sent = [asyncio.ensure_future(self._send_all(event, message, run, due))] if due else []
        self._finish(event, run, (*in_flight, *sent))

    def _finish(self, event: EventT[Any], run: WorkflowRun, writes: Sequence[asyncio.Future[Any]]) -> None:
        """The event is finished with the last writes of its run: the broker takes those before them first."""
        if not writes:
            event.ack()
            return
        self._in_flight[run.workflow_id] = writes
        finish_when_safe(self._app, event, writes, partial(self._prove, run.workflow_id, run.version, writes))

    def _prove(self, workflow_id: str, version: int, writes: Sequence[asyncio.Future[Any]]) -> None:
        self._sent.prove(workflow_id, version)
        if self._in_flight.get(workflow_id) is writes:
            del self._in_flight[workflow_id]

    def _forget(self, event: EventT[Any], message: Event) -> None:
        """The run leaves the table; the journal and the read model keep its story."""
        key = message.workflow_id.encode()
        gone = self._runs.drop(key)
        self._clock.forget(key)
        self._sent.forget(message.workflow_id)
        self._in_flight.pop(message.workflow_id, None)
        metrics.decisions.labels(status="forgotten", kind="made").inc()
        log.info("run.forgotten")
        finish_when_safe(self._app, event, () if gone is None else (gone,))

    async def _send_after(
        self,
        stored: asyncio.Future[Any],
        event: EventT[Any],
        cause: Event,
        run: WorkflowRun,
        due: Sequence[Unsent],
    ) -> None:
        """Send once Kafka has the state that names these decisions.

        A decision whose state is lost with this process could be taken otherwise by the next one, because
        events of different topics may then come in another order.
        """
        await stored
        await self._send_all(event, cause, run, due)

    async def _send_all(
        self, event: EventT[Any], cause: Event, run: WorkflowRun, due: Sequence[Unsent]
    ) -> None:
        """Send decisions in order, one partition's one after another, and wait until Kafka has them."""
        async with self._turns[event.message.partition]:
            sent = [await self._send(event, cause, run, unsent) for unsent in due]
        crashpoint.reached("decision.sent")
        await asyncio.gather(*sent)

    async def _send(
        self, event: EventT[Any], cause: Event, run: WorkflowRun, unsent: Unsent
    ) -> asyncio.Future[Any]:
        envelope = Envelope.from_kafka(event.message.headers)
        headers = Envelope(
            message_id=f"{run.workflow_id}/{unsent.version}",
            type="DecisionMade",
            source=_CONSUMER,
            workflow_id=run.workflow_id,
            time=cause.occurred_at,
            correlation_id=run.intent.correlation_id,
            causation_id=cause.event_id,
            traceparent=child_of(envelope.traceparent),
        ).to_kafka()
        future = await self._decisions.send(
            key=event.message.key, value=unsent.record, partition=event.message.partition, headers=headers
        )
        assert isinstance(future, asyncio.Future)
        return future


def add_orchestrator(app: faust.App, settings: Settings, codec: Codec, runs: RunsTable, clock: Clock) -> None:
    """Let an agent feed the orchestrator from every event stream."""
    topics = Topics(settings.namespace)
    orchestrator = Orchestrator(app, settings, codec, runs, clock)
    streams = bytes_topic(app, *(topics.stream(name) for name in EVENT_STREAMS))

    @app.agent(streams, name="orchestrator", concurrency=1)
    async def orchestrate(stream: faust.StreamT[bytes]) -> None:
        await feed(app, stream, orchestrator.handle)
