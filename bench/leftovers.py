"""How does a benchmark leave the servers as it found them? It removes the names that it made up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import quote, urlsplit

import aio_pika
import aiohttp
import psycopg2
import redis
from confluent_kafka.admin import AdminClient

from fulcrum.commands.retry import LEVELS
from fulcrum.commands.topology import Topology
from fulcrum.doctor.violation import Env
from fulcrum.saga.messages import SERVICES
from fulcrum.wire.schemas import MESSAGE_TYPES, subject

_WITHIN = 15.0


async def remove(env: Env) -> list[str]:
    """Drop the database and everything named after the namespace of ``env``, once no role uses them.

    Returns what could not be removed and why.
    """
    acts: dict[str, Callable[[Env], Awaitable[None]]] = {
        "database": _in_thread(_database),
        "topics": _in_thread(remove_topics),
        "cache": _in_thread(_cache),
        "queues": remove_queues,
        "subjects": _subjects,
    }
    results = await asyncio.gather(*(act(env) for act in acts.values()), return_exceptions=True)
    return [
        f"{name}: {result!r}"
        for name, result in zip(acts, results, strict=True)
        if isinstance(result, BaseException)
    ]


def _in_thread(act: Callable[[Env], None]) -> Callable[[Env], Awaitable[None]]:
    return lambda env: asyncio.to_thread(act, env)


def _database(env: Env) -> None:
    parts = urlsplit(env["FULCRUM_POSTGRES_DSN"])
    connection = psycopg2.connect(parts._replace(path="/postgres").geturl())
    try:
        connection.autocommit = True  # as DROP DATABASE wants it
        with connection.cursor() as cursor:
            cursor.execute(f'DROP DATABASE IF EXISTS "{parts.path.removeprefix("/")}" WITH (FORCE)')
    finally:
        connection.close()


def remove_topics(env: Env) -> None:
    """Delete every topic of the namespace."""
    namespace = env["FULCRUM_NAMESPACE"]
    admin = AdminClient({"bootstrap.servers": env["FULCRUM_KAFKA_BOOTSTRAP"], "log_level": 0})
    names = admin.list_topics(timeout=_WITHIN).topics
    mine = [name for name in names if name.startswith((f"{namespace}.", f"{namespace}-"))]
    for future in admin.delete_topics(mine, operation_timeout=_WITHIN).values() if mine else ():
        future.result(_WITHIN)


def _cache(env: Env) -> None:
    with redis.Redis.from_url(env["FULCRUM_REDIS_URL"]) as client:
        keys = list(client.scan_iter(f"{env['FULCRUM_NAMESPACE']}:*", count=1000))
        for start in range(0, len(keys), 1000):
            client.unlink(*keys[start : start + 1000])


async def remove_queues(env: Env) -> None:
    """Delete every queue and exchange of the namespace."""
    names = Topology(env["FULCRUM_NAMESPACE"])
    levels = [names.retry(level.name) for level in LEVELS]
    served = [name(service) for service in SERVICES for name in (names.queue, names.parked_queue)]
    async with await aio_pika.connect(env["FULCRUM_RABBITMQ_URL"], timeout=_WITHIN) as connection:
        channel = await connection.channel()
        for queue in (*served, *levels):
            await channel.queue_delete(queue)
        for exchange in (names.commands, names.parked, *levels):
            await channel.exchange_delete(exchange)


async def _subjects(env: Env) -> None:
    timeout = aiohttp.ClientTimeout(total=_WITHIN)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for type_ in MESSAGE_TYPES:
            name = quote(subject(env["FULCRUM_NAMESPACE"], type_), safe="")
            url = f"{env['FULCRUM_REGISTRY_URL']}/subjects/{name}"
            # A subject must be put away before it can be forgotten.
            for query in ({}, {"permanent": "true"}):
                async with session.delete(url, params=query) as answer:
                    if answer.status not in (200, 404):
                        answer.raise_for_status()
