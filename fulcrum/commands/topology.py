"""Which exchanges and queues carry commands, and with which arguments.

::

    <ns>.commands  (direct, key = service) ──▶ <ns>.commands.<service> ──▶ consumer
         ▲                                          │ delivered too often
         │ after the delay, same key                ▼
    <ns>.retry.<level> (queue) ◀── <ns>.retry.<level> (fanout) ◀── consumer: failed, try later
                                   <ns>.parked (direct, key = service) ──▶ <ns>.parked.<service> ──▶ parker

A delay is one fixed time to live per queue, because a queue expires only what stands at its head.
Everything here means the same on RabbitMQ 3.10 and 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ChannelPreconditionFailed

from fulcrum.commands.mismatch import explain
from fulcrum.commands.retry import LEVELS
from fulcrum.saga.messages import SERVICES
from fulcrum.settings import Settings

#: Deliveries before the broker takes a message for one that kills its consumer. A prefetched innocent is
#: counted too whenever its consumer stops, so the limit is far above what a poisonous message needs.
_DELIVERY_LIMIT = 20
#: Parked messages are never dropped, however often the parker dies; 4.x would limit them by default.
_NO_DELIVERY_LIMIT = 1_000_000
#: Beyond this a publisher is refused, which is better than a broker that stops for lack of disk.
_MAX_LENGTH = 1_000_000


@dataclass(frozen=True)
class Topology:
    """Every name, from the namespace."""

    namespace: str

    @property
    def commands(self) -> str:
        """The exchange commands are published to."""
        return f"{self.namespace}.commands"

    def queue(self, service: str) -> str:
        """The queue a service consumes."""
        return f"{self.namespace}.commands.{service}"

    def retry(self, level: str) -> str:
        """The exchange, and the queue behind it, that holds a command for ``level``."""
        return f"{self.namespace}.retry.{level}"

    @property
    def parked(self) -> str:
        """The exchange for what cannot be handled."""
        return f"{self.namespace}.parked"

    def parked_queue(self, service: str) -> str:
        """The queue a service's parker consumes."""
        return f"{self.namespace}.parked.{service}"


@dataclass(frozen=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: ExchangeType

    async def declare(self, channel: AbstractChannel) -> None:
        """Make it exist; ChannelPreconditionFailed when it does with another type."""
        await channel.declare_exchange(self.name, self.type, durable=True)


@dataclass(frozen=True)
class Queue:
    """A durable quorum queue, bound to ``exchange`` under ``key``."""

    name: str
    exchange: str
    key: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    async def declare(self, channel: AbstractChannel) -> None:
        """Make it exist; ChannelPreconditionFailed when it does with other arguments."""
        queue = await channel.declare_queue(self.name, durable=True, arguments=dict(self.arguments))
        await queue.bind(self.exchange, self.key)


def _quorum(**arguments: Any) -> dict[str, Any]:
    named = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
    return {"x-queue-type": "quorum", "x-max-length": _MAX_LENGTH, "x-overflow": "reject-publish", **named}


def retry_milliseconds(seconds: float, unit: float) -> int:
    """How long a level of ``seconds`` holds a command when one second of it takes ``unit`` seconds."""
    return max(1, round(seconds * unit * 1000))


def exchanges(names: Topology) -> Iterator[Exchange]:
    """Every exchange."""
    yield Exchange(names.commands, ExchangeType.DIRECT)
    yield Exchange(names.parked, ExchangeType.DIRECT)
    for level in LEVELS:
        yield Exchange(names.retry(level.name), ExchangeType.FANOUT)


def queues(names: Topology, unit: float) -> Iterator[Queue]:
    """Every queue, when a second of retry delay takes ``unit`` seconds."""
    for service in SERVICES:
        arguments = _quorum(
            delivery_limit=_DELIVERY_LIMIT,
            dead_letter_exchange=names.parked,
            dead_letter_strategy="at-least-once",
        )
        yield Queue(names.queue(service), names.commands, service, arguments)
        arguments = _quorum(delivery_limit=_NO_DELIVERY_LIMIT)
        yield Queue(names.parked_queue(service), names.parked, service, arguments)
    for level in LEVELS:
        name = names.retry(level.name)
        arguments = _quorum(
            delivery_limit=_NO_DELIVERY_LIMIT,
            message_ttl=retry_milliseconds(level.seconds, unit),
            # No dead-letter routing key: the original one, the service, leads the command home.
            dead_letter_exchange=names.commands,
            dead_letter_strategy="at-least-once",
        )
        yield Queue(name, name, "", arguments)


async def declare(channel: AbstractChannel, settings: Settings) -> None:
    """Make everything exist.

    Misconfigured with the whole difference when something exists with other arguments (RabbitMQ's 406).
    """
    names = Topology(settings.namespace)
    wanted: list[Exchange | Queue] = [*exchanges(names), *queues(names, settings.retry_unit)]
    try:
        for each in wanted:
            await each.declare(channel)
    except ChannelPreconditionFailed as error:
        raise await explain(settings, wanted, str(error)) from error
