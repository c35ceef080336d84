"""How this process reaches RabbitMQ, and in whose words it hears that it cannot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import Context

import aio_pika
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import AMQPError, InvalidFrameError, ProbableAuthenticationError
from yarl import URL

from fulcrum.errors import Misconfigured, Unavailable
from fulcrum.settings import Settings

#: Seconds. A half-open connection is noticed after two missed heartbeats.
_HEARTBEAT = 15
_CONNECT_TIMEOUT = 5.0
_CLOSE_TIMEOUT = 2.0

# Each loss is told once, in our words, by whoever holds the connection.
logging.getLogger("aiormq.connection").setLevel(logging.CRITICAL)


def server_of(url: str) -> str:
    """host:port/vhost of ``url``, without user or password."""
    parsed = URL(url)
    return f"{parsed.host}:{parsed.port or 5672}{parsed.path or '/'}"


@contextmanager
def broker_errors(server: str) -> Iterator[None]:
    """Turn what the client library raises into Unavailable, or Misconfigured when it is refused."""
    try:
        yield
    except ProbableAuthenticationError as error:
        raise Misconfigured(
            f"RabbitMQ at {server} refuses user or password. Check FULCRUM_RABBITMQ_URL."
        ) from error
    except (AMQPError, OSError, TimeoutError, RuntimeError) as error:
        # RuntimeError: the library's way to say that a connection or channel was closed meanwhile.
        raise Unavailable(f"RabbitMQ at {server}: {str(error) or type(error).__name__}") from error


async def dial(settings: Settings, purpose: str) -> AbstractConnection:
    """Open one connection, shown as ``purpose`` in RabbitMQ's list. Unavailable or Misconfigured.

    It does not come back by itself: who holds it builds its channels anew, with all that belongs to them.
    """
    server = server_of(settings.rabbitmq_url)
    name = f"{settings.namespace} {purpose} {settings.instance}"
    with broker_errors(server):
        try:
            connecting = aio_pika.connect(
                settings.rabbitmq_url,
                timeout=_CONNECT_TIMEOUT,
                heartbeat=_HEARTBEAT,
                client_properties={"connection_name": name},
            )
            # The tasks of a connection outlive the message at hand, so they must not log in its name.
            return await asyncio.create_task(connecting, context=Context())
        except InvalidFrameError as error:
            # All that the library tells of a vhost that is refused. After a restart of the broker it may
            # also just not be up yet, so it is worth waiting for.
            raise Unavailable(
                f"RabbitMQ at {server} does not open that vhost: it is not up yet, does not exist, or is "
                "not for this user. Check FULCRUM_RABBITMQ_URL."
            ) from error


async def hang_up(connection: AbstractConnection) -> None:
    """Close ``connection``, whatever state it is in, in bounded time."""
    with suppress(Exception):
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await connection.close()


async def unblocked(connection: AbstractConnection) -> None:
    """Return once RabbitMQ takes messages from ``connection``: at once, unless it said that it does not."""
    if connection.transport is not None:
        await connection.transport.ready()


def is_blocked(connection: AbstractConnection) -> bool:
    """Whether RabbitMQ said that it takes no messages from ``connection`` (``connection.blocked``).

    The client library tells only by making those wait who ask, so one step of asking is taken.
    """
    asking = unblocked(connection)
    try:
        asking.send(None)
    except StopIteration:
        return False
    finally:
        asking.close()
    return True
