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

import re
from dataclasses import dataclass
from typing import Any

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ChannelPreconditionFailed

from fulcrum.commands.retry import LEVELS
from fulcrum.errors import Misconfigured
from fulcrum.saga.messages import SERVICES
from fulcrum.settings import Settings

#: Deliveries before the broker takes a message for one that kills its consumer. A prefetched innocent is
#: counted too whenever its consumer stops, so the limit is far above what a poisonous message needs.
_DELIVERY_LIMIT = 20
#: Parked messages are never dropped, however often the parker dies; 4.x would limit them by default.
_NO_DELIVERY_LIMIT = 1_000_000
#: Beyond this a publisher is refused, which is better than a broker that stops for lack of disk.
_MAX_LENGTH = 1_000_000

_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<arg>[^']+)' for (?P<kind>queue|exchange) '(?P<name>[^']+)'.*?"
    r"received (?:the value )?'?(?P<ours>[^' ]+)'?.*?but current is (?:the value )?'?(?P<theirs>[^' ]+)'?"
)


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


def _quorum(**arguments: Any) -> dict[str, Any]:
    named = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
    return {"x-queue-type": "quorum", "x-max-length": _MAX_LENGTH, "x-overflow": "reject-publish", **named}


def retry_milliseconds(seconds: float, unit: float) -> int:
    """How long a level of ``seconds`` holds a command when one second of it takes ``unit`` seconds."""
    return max(1, round(seconds * unit * 1000))


async def declare(channel: AbstractChannel, settings: Settings) -> None:
    """Make everything exist. Misconfigured when something exists with other arguments (RabbitMQ's 406)."""
    names = Topology(settings.namespace)
    try:
        await _declare_exchanges(channel, names)
        await _declare_queues(channel, names, settings.retry_unit)
    except ChannelPreconditionFailed as error:
        raise Misconfigured(_explain(str(error))) from error


async def _declare_exchanges(channel: AbstractChannel, names: Topology) -> None:
    for name in (names.commands, names.parked):
        await channel.declare_exchange(name, ExchangeType.DIRECT, durable=True)
    for level in LEVELS:
        await channel.declare_exchange(names.retry(level.name), ExchangeType.FANOUT, durable=True)


async def _declare_queues(channel: AbstractChannel, names: Topology, unit: float) -> None:
    for service in SERVICES:
        arguments = _quorum(
            delivery_limit=_DELIVERY_LIMIT,
            dead_letter_exchange=names.parked,
            dead_letter_strategy="at-least-once",
        )
        await _declare_queue(channel, names.queue(service), arguments, names.commands, service)
        arguments = _quorum(delivery_limit=_NO_DELIVERY_LIMIT)
        await _declare_queue(channel, names.parked_queue(service), arguments, names.parked, service)
    for level in LEVELS:
        name = names.retry(level.name)
        arguments = _quorum(
            delivery_limit=_NO_DELIVERY_LIMIT,
            message_ttl=retry_milliseconds(level.seconds, unit),
            # No dead-letter routing key: the original one, the service, leads the command home.
            dead_letter_exchange=names.commands,
            dead_letter_strategy="at-least-once",
        )
        await _declare_queue(channel, name, arguments, name, "")


async def _declare_queue(
    channel: AbstractChannel, name: str, arguments: dict[str, Any], exchange: str, key: str
) -> None:
    queue = await channel.declare_queue(name, durable=True, arguments=arguments)
    await queue.bind(exchange, key)


def _explain(text: str) -> str:
    found = _INEQUIVALENT.search(text)
    if found is None:
        return f"RabbitMQ refuses the topology: {text}"
    hint = " Its delay comes from FULCRUM_RETRY_UNIT." if found["arg"] == "x-message-ttl" else ""
    return (
        f"RabbitMQ has the {found['kind']} {found['name']} with {found['arg']} {found['theirs']}, and this "
        f"process wants {found['ours']}.{hint} Use the old setting, another FULCRUM_NAMESPACE, or delete the "
        f"{found['kind']} once it is empty; it is declared again at the next start."
    )
