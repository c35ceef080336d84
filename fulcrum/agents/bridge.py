"""A decision was recorded: put its commands on RabbitMQ, and only then count it as done."""

from __future__ import annotations

import asyncio
from typing import Any

import faust
import structlog
from faust.types import EventT

from fulcrum import crashpoint
from fulcrum.agents.app import bytes_topic
from fulcrum.agents.safety import crash_on_error, feed, read_decision
from fulcrum.commands.publisher import CommandPublisher
from fulcrum.errors import Unavailable
from fulcrum.saga.messages import DecisionMade, IssuedCommand
from fulcrum.settings import Settings
from fulcrum.telemetry.logs import bound
from fulcrum.telemetry.trace import child_of
from fulcrum.wire.codec import Codec
from fulcrum.wire.headers import Envelope
from fulcrum.wire.topics import Topics

log = structlog.get_logger()

_CONSUMER = "bridge"
#: Decisions whose commands wait for RabbitMQ's confirm at one time.
_IN_FLIGHT = 64
_BACKOFF_FIRST, _BACKOFF_LAST = 0.1, 5.0


class Bridge:
    """Publishes every command of every decision, with its own computed id, at least once."""

    def __init__(self, app: faust.App, settings: Settings, codec: Codec) -> None:
        self._app = app
        self._codec = codec
        self._topics = Topics(settings.namespace)
        self._publisher = CommandPublisher(settings, "bridge")
        self._free = asyncio.Semaphore(_IN_FLIGHT)
        self._tasks: set[asyncio.Task[None]] = set()

    async def handle(self, event: EventT[Any]) -> None:
        """Take one decision; its commands are confirmed in the background."""
        decision = await read_decision(self._app, self._topics, self._codec, event, _CONSUMER)
        if decision is None:
            return
        if not decision.commands:
            event.ack()
            return
        await self._free.acquire()
        task = asyncio.create_task(crash_on_error(self._app, self._publish_all(event, decision)))
        self._tasks.add(task)
        task.add_done_callback(self._published)

    def _published(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._free.release()
        if not task.cancelled():
            task.exception()  # crash_on_error has logged it and stops the worker

    async def _publish_all(self, event: EventT[Any], decision: DecisionMade) -> None:
        traceparent = Envelope.from_kafka(event.message.headers).traceparent
        for command in decision.commands:
            await self._publish_until_confirmed(decision, command, traceparent)
        event.ack()

    async def _publish_until_confirmed(
        self, decision: DecisionMade, command: IssuedCommand, traceparent: str | None
    ) -> None:
        headers = Envelope(
            message_id=command.command_id,
            type=command.type,
            source=_CONSUMER,
            workflow_id=decision.workflow_id,
            time=decision.decided_at,
            correlation_id=decision.correlation_id,
            causation_id=decision.decision_id,
            traceparent=child_of(traceparent),
        ).to_amqp()
        backoff = _BACKOFF_FIRST
        with bound(
            workflow_id=decision.workflow_id,
            step=command.step,
            message_id=command.command_id,
            correlation_id=decision.correlation_id,
            traceparent=traceparent,
        ):
            while True:
                try:
                    await self._publisher.publish(
                        command.service, command.body, headers, command.command_id, command.type
                    )
                except Unavailable as error:
                    log.warning("command.not_published", error=str(error), retry_in=backoff)
                    await asyncio.sleep(backoff)
                    backoff = min(backoff * 2, _BACKOFF_LAST)
                else:
                    crashpoint.reached("command.published")
                    log.info("command.published", type=command.type, service=command.service)
                    return

    async def close(self) -> None:
        """Stop publishing; what is unconfirmed is read again after the next start."""
        for task in self._tasks:
            task.cancel()
        await self._publisher.close()


def add_bridge(app: faust.App, settings: Settings, codec: Codec) -> None:
    """Let an agent feed the bridge from the decisions topic."""
    bridge = Bridge(app, settings, codec)
    decisions = bytes_topic(app, Topics(settings.namespace).stream("decisions"))

    @app.agent(decisions, name="bridge", concurrency=1)
    async def publish(stream: faust.StreamT[bytes]) -> None:
        await feed(app, stream, bridge.handle)

    @app.on_before_shutdown.connect
    async def close(*_: Any, **__: Any) -> None:
        await bridge.close()
