"""What becomes of a command in hand once it was tried: acknowledged, kept for a later attempt, or parked.

A message is acknowledged after its batch took effect, or after RabbitMQ confirmed its copy on a retry queue
or in parking. What cannot be copied stays in hand, and so keeps its worker from taking more.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog
from aio_pika.abc import AbstractIncomingMessage

from fulcrum.commands.attempts import Attempt, AttemptLog, attempt_row
from fulcrum.commands.delivery import (
    ALONE,
    Delivery,
    attempt_of,
    headers_after,
    headers_parked,
    log_context,
    round_of,
)
from fulcrum.commands.dialect import redeliveries
from fulcrum.commands.policy import policy_of
from fulcrum.commands.publisher import CommandPublisher, Outgoing
from fulcrum.commands.retry import Park, is_bug, kind_of, verdict
from fulcrum.commands.subscription import is_stale
from fulcrum.commands.topology import Topology
from fulcrum.errors import Unavailable
from fulcrum.saga.messages import Command
from fulcrum.settings import Settings
from fulcrum.telemetry.logs import bound
from fulcrum.telemetry.metrics import attempts_failed, commands_parked, commands_retried

log = structlog.get_logger()

#: Deliveries after which a message is handled alone: it may be the one that kills its consumer.
_SUSPECT_AFTER = 2

#: Waits before another try at something that failed so often; False when it is time to leave.
Pause = Callable[[Exception, int], Awaitable[bool]]


@dataclass(eq=False, slots=True)
class InHand:
    """A message and, once decoded, what it asks for. ``started_at``: when it was last tried."""

    message: AbstractIncomingMessage
    headers: dict[str, str]
    delivery: Delivery | None = None
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return attempt_of(self.headers)

    @property
    def type(self) -> str:
        if self.delivery is not None:
            return type(self.delivery.command).__name__
        return self.headers.get("ce_type") or self.message.type or "unknown"

    @property
    def message_id(self) -> str:
        if self.delivery is not None:
            return self.delivery.message_id
        return self.headers.get("ce_id") or self.message.message_id or "unknown"

    @property
    def alone(self) -> bool:
        """Whether it spoiled a batch before, or may be what kills its consumers."""
        seen = redeliveries(self.message.headers, self.message.redelivered)
        return ALONE in self.headers or seen >= _SUSPECT_AFTER

    @property
    def stale(self) -> bool:
        """Whether its channel is gone, so that it will be delivered again."""
        return is_stale(self.message)


class Settlement:
    """Settles the messages of one service. ``pause`` is asked before another try at a copy."""

    def __init__(self, settings: Settings, service: str, attempts: AttemptLog, pause: Pause) -> None:
        self._service = service
        self._limit = settings.retry_limit
        self._unit = settings.retry_unit
        self._worker = f"{service}-{settings.instance}"
        self._names = Topology(settings.namespace)
        self._attempts = attempts
        self._pause = pause
        self._publisher = CommandPublisher(settings, f"{service} retries")

    @property
    def blocked(self) -> bool:
        """Whether RabbitMQ takes no copies at present."""
        return self._publisher.blocked

    async def close(self) -> None:
        """Close the connection for copies, and write the attempts that wait."""
        await self._attempts.close()
        await self._publisher.close()

    async def succeeded(self, batch: Sequence[InHand]) -> None:
        """Acknowledge ``batch``, which took effect."""
        again = [item for item in batch if item.attempt > 1 or round_of(item.headers) > 1]
        if again:
            await self._attempts.keep([self._row(item, outcome="succeeded") for item in again])
        for item in batch:
            await self._acknowledge(item)

    async def failed(self, item: InHand, error: Exception, spoiled: bool = False) -> None:
        """Send ``item`` to a retry queue or to parking, and acknowledge it once its copy is safe.

        ``spoiled``: it was found in a batch whose other commands took effect.
        """
        command = _command(item)
        policy = policy_of(command)
        kind = kind_of(error, policy.permanent)
        decided = verdict(error, item.attempt, policy, random.random(), self._limit)  # noqa: S311
        attempts_failed.labels(self._service, item.type, kind.value).inc()
        facts = {
            "type": item.type,
            "attempt": item.attempt,
            "kind": kind.value,
            "error_class": type(error).__name__,
            "error": str(error),
        }
        trace = {"exc_info": error} if is_bug(error) else {}
        with bound(**log_context(item.headers, command)):
            if isinstance(decided, Park):
                row = self._row(item, outcome="parked", error=error, kind=kind)
                headers = headers_parked(item.headers, error, decided.reason)
                if await self._move(item, self._names.parked, headers, row):
                    commands_parked.labels(self._service, item.type).inc()
                    log.error("command.parked", **facts, reason=decided.reason, **trace)
            else:
                due_in = decided.seconds * self._unit
                row = self._row(item, outcome="retried", error=error, kind=kind, due_in=due_in)
                headers = headers_after(item.headers, error, spoiled)
                if await self._move(item, self._names.retry(decided.name), headers, row):
                    commands_retried.labels(self._service, item.type).inc()
                    log.warning("command.retried", **facts, level=decided.name, **trace)

    def _row(self, item: InHand, **ending: Any) -> Attempt:
        command = _command(item)
        return attempt_row(
            item.headers,
            command_id=item.message_id,
            workflow_id=log_context(item.headers, command)["workflow_id"],
            service=self._service,
            type=item.type,
            step=getattr(command, "step", None),
            worker=self._worker,
            started_at=item.started_at,
            **ending,
        )

    async def _move(self, item: InHand, exchange: str, headers: dict[str, str], attempt: Attempt) -> bool:
        """Publish ``item`` anew until confirmed, then acknowledge it; False when it was left as it is.

        The attempt is kept before, so that a crash in between repeats it and does not lose it.
        """
        if item.stale:
            return False
        await self._attempts.keep([attempt])
        outgoing = Outgoing(bytes(item.message.body), headers, item.message_id, item.type)
        tries = 0
        while not item.stale:
            try:
                await self._publisher.send(exchange, self._service, outgoing)
            except Unavailable as error:
                tries += 1
                if await self._pause(error, tries):
                    continue
                return False
            await self._acknowledge(item)
            return True
        return False

    async def _acknowledge(self, item: InHand) -> None:
        try:
            await item.message.ack()
        except Exception as error:
            # The channel is gone: it is delivered again, and the inbox knows it.
            log.info("command.ack_lost", message_id=item.message_id, error=str(error))


def _command(item: InHand) -> Command | None:
    return None if item.delivery is None else item.delivery.command
