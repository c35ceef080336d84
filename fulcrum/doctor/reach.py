"""Which servers and roles answer, and are they ready? Asked side by side, each within seconds."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import redis
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from sqlalchemy import text

from fulcrum.commands.connection import dial, hang_up
from fulcrum.errors import Unavailable
from fulcrum.settings import Settings
from fulcrum.store.plain import connected

_WITHIN = 3.0

#: The default port of each role that has no address in the settings; the modules of the roles have them too,
#: but loading all of those only to ask is slow.
ROLE_PORTS: Mapping[str, int] = {
    "intake": 8080,
    "agents": 6066,
    "projector": 6067,
    "payment": 8082,
    "inventory": 8083,
    "warehouse": 8084,
    "courier": 8085,
}
PROVIDER = "psp-simulator"
FLOOR = "warehouse-simulator"
CARRIER = "courier-simulator"
SERVERS = ("kafka", "rabbitmq", "postgres", "redis", "registry")


@dataclass(frozen=True, slots=True)
class Reached:
    """How one server or role answered. ``told`` is what it said of itself, or why it is not well."""

    name: str
    kind: str
    ok: bool
    address: str
    took_ms: int
    told: str

    def as_dict(self) -> dict[str, Any]:
        """The answer as JSON-ready data."""
        return asdict(self)


def role_addresses(settings: Settings, api: str | None) -> dict[str, str]:
    """Where the roles are unless somebody says otherwise: on this machine, on their default ports."""
    found = {role: f"http://{settings.http_host}:{settings.port(port)}" for role, port in ROLE_PORTS.items()}
    outside = {PROVIDER: settings.psp_url, FLOOR: settings.warehouse_url, CARRIER: settings.courier_url}
    return {**found, **({"intake": api} if api else {}), **outside}


async def reach(
    settings: Settings, roles: Mapping[str, str], live: bool, only: Collection[str] = ()
) -> list[Reached]:
    """Every server, then every role, or those named in ``only``; no failure is raised.

    ``live`` asks only whether something is there, not whether it is ready.
    """
    questions: list[tuple[str, str, str, Callable[[], str]]] = [
        (name, "server", _place(address), _connect(address) if live else ask)
        for name, (address, ask) in _servers(settings).items()
    ]
    page = "healthz" if live else "readyz"
    questions += [(name, "role", url, _page(f"{url.rstrip('/')}/{page}")) for name, url in roles.items()]
    wanted = [each for each in questions if not only or each[0] in only]
    return list(await asyncio.gather(*(asyncio.to_thread(_asked, *each) for each in wanted)))


def _asked(name: str, kind: str, address: str, ask: Callable[[], str]) -> Reached:
    began = time.perf_counter()
    try:
        ok, told = True, ask()
    except Exception as error:
        ok, told = False, (str(error).strip() or type(error).__name__).splitlines()[0]
    return Reached(name, kind, ok, address, round((time.perf_counter() - began) * 1000), told)


def _servers(settings: Settings) -> dict[str, tuple[str, Callable[[], str]]]:
    """The address of each server, and how it is asked."""
    asks = (_kafka, _rabbitmq, _postgres, _redis, _registry)
    addresses = (
        f"kafka://{settings.kafka_bootstrap.split(',')[0]}",
        settings.rabbitmq_url,
        settings.postgres_dsn,
        settings.redis_url,
        settings.registry_url,
    )
    return {
        name: (address, partial(ask, settings))
        for name, address, ask in zip(SERVERS, addresses, asks, strict=True)
    }


def _place(address: str) -> str:
    """host:port of an address, without user, password and path."""
    parts = urlsplit(address)
    ports = {"amqp": 5672, "amqps": 5671, "postgresql": 5432, "redis": 6379, "https": 443, "http": 80}
    return f"{parts.hostname or address}:{parts.port or ports.get(parts.scheme, 0)}"


def _connect(address: str) -> Callable[[], str]:
    async def open_once() -> None:
        host, _, port = _place(address).rpartition(":")
        async with asyncio.timeout(_WITHIN):
            _, writer = await asyncio.open_connection(host, int(port))
        writer.close()

    def ask() -> str:
        try:
            asyncio.run(open_once())
        except TimeoutError as error:
            raise Unavailable(f"no connection within {_WITHIN:g} s") from error
        return "takes connections"

    return ask


def _page(url: str) -> Callable[[], str]:
    """Ask a role's own page. One that is not ready answers 503 and says which of its checks fails."""

    def ask() -> str:
        try:
            with urllib.request.urlopen(url, timeout=_WITHIN) as answer:  # noqa: S310 - an address of ours
                answer.read()
        except urllib.error.HTTPError as error:
            raise Unavailable(_not_ready(error.code, error.read())) from error
        except urllib.error.URLError as error:
            raise Unavailable(str(error.reason)) from error
        return "lives" if url.endswith("/healthz") else "ready"

    return ask


def _not_ready(status: int, body: bytes) -> str:
    try:
        checks = json.loads(body)["checks"]
        return f"not ready: {', '.join(name for name, holds in checks.items() if not holds)}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"answers {status}"


def _kafka(settings: Settings) -> str:
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 0})
    try:
        brokers = len(admin.list_topics(timeout=_WITHIN).brokers)
    except KafkaException as error:
        raise Unavailable(error.args[0].str()) from error
    return f"{brokers} broker{'s' if brokers != 1 else ''}"


def _rabbitmq(settings: Settings) -> str:
    async def ask() -> str:
        connection = await dial(settings, "health")
        try:
            transport = connection.transport
            told = transport.connection.server_properties if transport is not None else {}
        finally:
            await hang_up(connection)
        version = told.get("version", b"")
        return f"RabbitMQ {version.decode() if isinstance(version, bytes) else version}"

    return asyncio.run(ask())


def _postgres(settings: Settings) -> str:
    with connected(settings.postgres_dsn, "fulcrum-health", {"statement_timeout": "3000"}) as connection:
        return f"Postgres {connection.execute(text('SHOW server_version')).scalar_one()}"


def _redis(settings: Settings) -> str:
    with redis.Redis.from_url(
        settings.redis_url, socket_timeout=_WITHIN, socket_connect_timeout=_WITHIN
    ) as client:
        info: Any = client.info("server")
    return f"Redis {info['redis_version']}"


def _registry(settings: Settings) -> str:
    url = f"{settings.registry_url.rstrip('/')}/subjects"
    with urllib.request.urlopen(url, timeout=_WITHIN) as answer:  # noqa: S310 - an address of ours
        return f"{len(json.load(answer))} subjects"
