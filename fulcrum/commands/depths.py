"""How many messages lie on the queues?"""

from __future__ import annotations

from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelNotFoundEntity

from fulcrum.commands.balance import Depths
from fulcrum.commands.connection import broker_errors, dial, hang_up, server_of
from fulcrum.commands.retry import LEVELS
from fulcrum.commands.topology import Topology
from fulcrum.saga.messages import SERVICES
from fulcrum.settings import Settings


async def depths(settings: Settings) -> Depths:
    """Messages that no consumer has in hand. A queue that does not exist holds none.

    In the order in which a message may move: from a service's queue to a retry queue or to parking.
    Unavailable or Misconfigured when RabbitMQ cannot be asked.
    """
    names = Topology(settings.namespace)
    connection = await dial(settings, "accounts")
    try:
        with broker_errors(server_of(settings.rabbitmq_url)):
            own = {service: await _depth(connection, names.queue(service)) for service in SERVICES}
            retry = sum([await _depth(connection, names.retry(level.name)) for level in LEVELS])
            for service in SERVICES:
                own[service] += await _depth(connection, names.parked_queue(service))
    finally:
        await hang_up(connection)
    return Depths(own, retry)


async def _depth(connection: AbstractConnection, queue: str) -> int:
    # A question about a queue that does not exist costs the channel.
    channel = await connection.channel(publisher_confirms=False)
    try:
        declared = await channel.declare_queue(queue, passive=True)
        await channel.close()
    except ChannelNotFoundEntity:
        return 0
    return int(declared.declaration_result.message_count or 0)
