"""How a command gets to RabbitMQ for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import DeliveryError, PublishError

from fulcrum.commands.connection import broker_errors, dial, hang_up, server_of
from fulcrum.commands.topology import Topology, declare
from fulcrum.errors import Unavailable
from fulcrum.settings import Settings
from fulcrum.telemetry.metrics import commands_published

#: Seconds until a publish without confirm is reported; whether it arrived is then unknown.
_CONFIRM_TIMEOUT = 10.0
#: Seconds after a failed connect in which nobody tries again: many publishes may be waiting.
_COOL_DOWN = 0.25


class Unroutable(Unavailable):
    """No queue took the message. The topology is declared anew before the next publish."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message as it leaves. ``headers`` that begin with ``x-`` belong to brokers and are dropped."""

    body: bytes
    headers: Mapping[str, str]
    message_id: str
    type: str


class CommandPublisher:
    """One connection and channel with confirms, opened when needed and again after a loss.

    The client library tells a returned message by its id alone, so two publishes of one id on one channel
    can get each other's answer. Here the second waits for the first, even for one that was given up.
    """

    def __init__(self, settings: Settings, purpose: str = "publisher") -> None:
        self._settings = settings
        self._purpose = purpose
        self._names = Topology(settings.namespace)
        self._server = server_of(settings.rabbitmq_url)
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._must_declare = False
        self._not_before = 0.0
        self._opening = asyncio.Lock()
        self._in_flight: dict[str, asyncio.Task[None]] = {}

    @classmethod
    async def open(cls, settings: Settings, purpose: str = "publisher") -> CommandPublisher:
        """Connect and declare the topology: Unavailable or Misconfigured when that cannot be done."""
        publisher = cls(settings, purpose)
        try:
            await publisher._open_channel()
        except BaseException:
            await publisher.close()
            raise
        return publisher

    @property
    def ready(self) -> bool:
        """Whether a channel is open and the topology there."""
        return self._channel is not None and not self._channel.is_closed and not self._must_declare

    async def publish(
        self,
        service: str,
        body: bytes,
        envelope_headers: Mapping[str, str],
        message_id: str,
        type: str,  # noqa: A002
    ) -> None:
        """Put a command on the queue of ``service``; returns once RabbitMQ has it safe.

        Raises Unavailable when that is not known in time, and Unroutable when the queue is missing. Both may
        be tried again with the same id.
        """
        outgoing = Outgoing(body, envelope_headers, message_id, type)
        await self.send(self._names.commands, service, outgoing)
        commands_published.labels(service, type).inc()

    async def send(self, exchange: str, routing_key: str, outgoing: Outgoing) -> None:
        """The same for any exchange of the topology."""
        deadline = asyncio.get_running_loop().time() + _CONFIRM_TIMEOUT
        key = outgoing.message_id
        while (earlier := self._in_flight.get(key)) is not None:
            await self._wait(earlier, deadline)
        task = asyncio.create_task(self._send(exchange, routing_key, outgoing))
        self._in_flight[key] = task
        task.add_done_callback(lambda done: self._forget(key, done))
        await self._wait(task, deadline)
        task.result()

    def _forget(self, key: str, task: asyncio.Task[None]) -> None:
        del self._in_flight[key]
        if not task.cancelled():
            task.exception()  # seen here in case nobody waits any more

    async def _wait(self, task: asyncio.Task[None], deadline: float) -> None:
        left = deadline - asyncio.get_running_loop().time()
        done, _ = await asyncio.wait({task}, timeout=max(left, 0))
        if not done:
            raise Unavailable(f"RabbitMQ at {self._server} did not confirm within {_CONFIRM_TIMEOUT:g} s")

    async def _send(self, exchange: str, routing_key: str, outgoing: Outgoing) -> None:
        with broker_errors(self._server):
            channel = await self._open_channel()
            target = await channel.get_exchange(exchange, ensure=False)
            try:
                await target.publish(_message(outgoing), routing_key, mandatory=True)
            except PublishError as error:
                self._must_declare = True
                raise Unroutable(
                    f"no queue takes {outgoing.type} with key {routing_key!r} on exchange {exchange}; "
                    "it is declared again at the next try, so look for who deletes it"
                ) from error
            except DeliveryError as error:
                raise Unavailable(
                    f"RabbitMQ refused {outgoing.type} on {exchange}: its queue is full or was just lost"
                ) from error

    async def _open_channel(self) -> AbstractChannel:
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                await self._drop()
                self._connection = await self._dial()
                self._must_declare = True
                with broker_errors(self._server):
                    self._channel = await self._connection.channel(on_return_raises=True)
            if self._must_declare:
                with broker_errors(self._server):
                    async with asyncio.timeout(_CONFIRM_TIMEOUT):
                        await declare(self._channel, self._settings)
                self._must_declare = False
            return self._channel

    async def _dial(self) -> AbstractConnection:
        now = asyncio.get_running_loop().time()
        if now < self._not_before:
            raise Unavailable(f"RabbitMQ at {self._server} did not answer a moment ago")
        try:
            return await dial(self._settings, self._purpose)
        except Unavailable:
            self._not_before = asyncio.get_running_loop().time() + _COOL_DOWN
            raise

    async def _drop(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            await hang_up(connection)

    async def close(self) -> None:
        """Give up what is in flight and close the connection."""
        for task in list(self._in_flight.values()):
            task.cancel()
        await self._drop()


def _message(outgoing: Outgoing) -> Message:
    """Always persistent: the library's default would be lost with the broker, quorum queue or not."""
    return Message(
        outgoing.body,
        headers={k: v for k, v in outgoing.headers.items() if not k.lower().startswith("x-")},
        content_type="application/octet-stream",
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=outgoing.message_id,
        timestamp=datetime.now(UTC),
        type=outgoing.type,
    )
