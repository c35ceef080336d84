"""How much waits on each queue, and is anybody there to take it?"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
from aiormq.exceptions import ChannelNotFoundEntity
from yarl import URL

from fulcrum.commands.connection import broker_errors, dial, hang_up, server_of
from fulcrum.commands.retry import LEVELS
from fulcrum.commands.topology import Topology
from fulcrum.errors import Unavailable
from fulcrum.saga.messages import SERVICES
from fulcrum.settings import Settings

_WITHIN = 5.0


@dataclass(frozen=True, slots=True)
class Depth:
    """One queue. ``ready`` messages wait; ``unacked`` ones are with a consumer, None when nobody tells."""

    queue: str
    ready: int
    unacked: int | None
    consumers: int


async def depths(settings: Settings) -> list[Depth]:
    """Every queue of the topology that exists: commands, what is parked, retries.

    AMQP does not tell what is unacknowledged; the management API does, a few seconds late. Unavailable when
    one that is set does not answer.
    """
    names = Topology(settings.namespace)
    wanted = [names.queue(service) for service in SERVICES]
    wanted += [names.parked_queue(service) for service in SERVICES]
    wanted += [names.retry(level.name) for level in LEVELS]
    unacked = await _unacked(settings)
    found = []
    with broker_errors(server_of(settings.rabbitmq_url)):
        connection = await dial(settings, "depths")
        try:
            for name in wanted:
                # A queue that is missing closes the channel that asks for it.
                channel = await connection.channel()
                try:
                    async with asyncio.timeout(_WITHIN):
                        queue = await channel.declare_queue(name, passive=True)
                except ChannelNotFoundEntity:
                    continue
                told = queue.declaration_result
                found.append(
                    Depth(name, told.message_count or 0, unacked.get(name), told.consumer_count or 0)
                )
                await channel.close()
        finally:
            await hang_up(connection)
    return found


async def _unacked(settings: Settings) -> dict[str, int]:
    """What the management API says is unacknowledged, by queue; nothing when there is none to ask."""
    if not settings.rabbitmq_management_url:
        return {}
    broker = URL(settings.rabbitmq_url)
    vhost = quote(broker.path.removeprefix("/") or "/", safe="")
    url = URL(f"{settings.rabbitmq_management_url.rstrip('/')}/api/queues/{vhost}", encoded=True)
    login = b64encode(f"{broker.user or 'guest'}:{broker.password or 'guest'}".encode()).decode()
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_WITHIN)) as http,
            http.get(url, headers={"Authorization": f"Basic {login}"}, raise_for_status=True) as answer,
        ):
            rows = await answer.json()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise Unavailable(
            f"RabbitMQ's management API at {settings.rabbitmq_management_url} does not answer ({error}); "
            "check FULCRUM_RABBITMQ_MANAGEMENT_URL"
        ) from error
    return {row["name"]: int(row.get("messages_unacknowledged", 0)) for row in rows}
