"""How a command gets to RabbitMQ for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import DeliveryError, PublishError

from fulcrum.commands.connection import broker_errors, dial, hang_up, is_blocked, server_of, unblocked
from fulcrum.commands.topology import Topology, declare
from fulcrum.errors import Unavailable
from fulcrum.settings import Settings
from fulcrum.telemetry.metrics import broker_blocked, commands_published

log = structlog.get_logger()

#: Seconds until a publish without confirm is reported; whether it arrived is then unknown.
_CONFIRM_TIMEOUT = 10.0
#: Seconds after a failed connect in which nobody tries again: many publishes may be waiting.
_COOL_DOWN = 0.25
#: Seconds without confirm after which is looked whether RabbitMQ holds this connection up.
_LOOK = 0.25
#: Seconds for which a confirm that nobody waited for any more answers a repeat, and how many of them.
_REMEMBERED, _MOST_REMEMBERED = 60.0, 10_000


class Unroutable(Unavailable):
    """No queue took the message. The topology is declared anew before the next publish."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message as it leaves. ``headers`` that begin with ``x-`` belong to brokers and are dropped."""

    body: bytes
    headers: Mapping[str, str]
    message_id: str
    type: str


@dataclass(eq=False, slots=True)
class _InFlight:
    """A publish that is not answered yet. ``given_up``: nobody waits for it any more."""

    wanted: tuple[str, str, Outgoing]
    task: asyncio.Task[None] | None = None
    channel: AbstractChannel | None = None
    given_up: bool = False


class CommandPublisher:
    """One connection and channel with confirms, opened when needed and again after a loss.

    The client library tells a returned message by its id alone, so two publishes of one id on one channel
    can get each other's answer. Here the second waits for the first, and a repeat of one that was given up
    takes its answer, even when that came in between. A publish that is not confirmed in time ends its
    connection, so none waits for ever. One that RabbitMQ holds up (a memory or disk alarm) stays, and its
    caller is told at once.
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
        self._in_flight: dict[str, _InFlight] = {}
        self._late: dict[str, tuple[tuple[str, str, Outgoing], float]] = {}
        self._blockade: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()

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
        """Whether a channel is open and the topology there, and RabbitMQ takes messages."""
        return (
            self._channel is not None
            and not self._channel.is_closed
            and not self._must_declare
            and not self.blocked
        )

    @property
    def blocked(self) -> bool:
        """Whether RabbitMQ said that it takes no messages, and has not said since that it does."""
        return self._blockade is not None and not self._blockade.done()

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
        key, wanted = outgoing.message_id, (exchange, routing_key, outgoing)
        while (earlier := self._in_flight.get(key)) is not None:
            adopted = earlier.given_up and earlier.wanted == wanted
            task = await self._wait(earlier, deadline)
            if adopted and not task.cancelled():
                task.result()
                return
        if self._confirmed_late(key, wanted):
            return
        if self.blocked:
            raise self._held_up()
        mine = self._in_flight[key] = _InFlight(wanted)
        mine.task = asyncio.create_task(self._send(mine))
        mine.task.add_done_callback(lambda done: self._ended(key, mine, done))
        task = await self._wait(mine, deadline)
        if task.cancelled():  # its connection was given up for another's sake
            raise self._unconfirmed()
        task.result()

    def _ended(self, key: str, publish: _InFlight, task: asyncio.Task[None]) -> None:
        del self._in_flight[key]
        # An exception is seen here in case nobody waits any more.
        if not task.cancelled() and task.exception() is None and publish.given_up:
            until = asyncio.get_running_loop().time() + _REMEMBERED
            self._late[key] = (publish.wanted, until)
            if len(self._late) > _MOST_REMEMBERED:
                del self._late[next(iter(self._late))]

    def _confirmed_late(self, key: str, wanted: tuple[str, str, Outgoing]) -> bool:
        """Whether this very publish was given up and confirmed after that; told once."""
        remembered, until = self._late.pop(key, (None, 0.0))
        return remembered == wanted and asyncio.get_running_loop().time() < until

    async def _wait(self, publish: _InFlight, deadline: float) -> asyncio.Task[None]:
        """The task of ``publish`` once it has ended; Unavailable when that takes too long."""
        loop, task = asyncio.get_running_loop(), publish.task
        assert task is not None
        try:
            while True:
                left = deadline - loop.time()
                done, _ = await asyncio.wait({task}, timeout=max(min(left, _LOOK), 0))
                if done:
                    return task
                if self._look_for_blockade(publish):
                    raise self._held_up()
                if left <= 0:
                    self._abandon(publish)
                    raise self._unconfirmed()
        except BaseException:
            publish.given_up = True
            raise

    def _unconfirmed(self) -> Unavailable:
        return Unavailable(f"RabbitMQ at {self._server} did not confirm within {_CONFIRM_TIMEOUT:g} s")

    def _held_up(self) -> Unavailable:
        return Unavailable(
            f"RabbitMQ at {self._server} takes no messages until its memory or disk alarm is over"
        )

    def _look_for_blockade(self, publish: _InFlight) -> bool:
        connection = self._connection
        if publish.channel is None or publish.channel is not self._channel or connection is None:
            return False
        if not self.blocked and is_blocked(connection):
            self._blockade = asyncio.create_task(self._until_unblocked(connection))
        return self.blocked

    async def _until_unblocked(self, connection: AbstractConnection) -> None:
        gauge = broker_blocked.labels(self._purpose)
        log.warning("broker.blocked", purpose=self._purpose, server=self._server)
        gauge.set(1)
        try:
            await unblocked(connection)
            log.info("broker.unblocked", purpose=self._purpose, server=self._server)
        finally:
            gauge.set(0)

    def _abandon(self, publish: _InFlight) -> None:
        """End ``publish``, and the connection that does not confirm it: nothing may wait for it for ever."""
        assert publish.task is not None
        publish.task.cancel()
        if publish.channel is not None and publish.channel is self._channel:
            self._drop()

    async def _send(self, publish: _InFlight) -> None:
        exchange, routing_key, outgoing = publish.wanted
        with broker_errors(self._server):
            channel = publish.channel = await self._open_channel()
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
                self._drop()
                self._connection = await self._dial()
                self._must_declare = True
                with broker_errors(self._server):
                    async with asyncio.timeout(_CONFIRM_TIMEOUT):
                        self._channel = await self._connection.channel(on_return_raises=True)
            channel = self._channel
            if self._must_declare:
                with broker_errors(self._server):
                    async with asyncio.timeout(_CONFIRM_TIMEOUT):
                        await declare(channel, self._settings)
                self._must_declare = False
            return channel

    async def _dial(self) -> AbstractConnection:
        now = asyncio.get_running_loop().time()
        if now < self._not_before:
            raise Unavailable(f"RabbitMQ at {self._server} did not answer a moment ago")
        try:
            return await dial(self._settings, self._purpose)
        except Unavailable:
            self._not_before = asyncio.get_running_loop().time() + _COOL_DOWN
            raise

    def _drop(self) -> None:
        """Leave the connection; closing it takes its own time."""
        connection, self._connection, self._channel = self._connection, None, None
        if self._blockade is not None:
            self._blockade.cancel()
        if connection is not None:
            leaving = asyncio.create_task(hang_up(connection))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Give up what is in flight and close the connection."""
        for publish in list(self._in_flight.values()):
            if publish.task is not None:
                publish.task.cancel()
        self._drop()
        await asyncio.gather(*self._leaving, return_exceptions=True)


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
