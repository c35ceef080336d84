"""An intake of a test's own, and how the test talks to it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import IO, Any
from uuid import uuid4

import aiohttp
from confluent_kafka import Consumer, TopicPartition
from eventually import eventually, eventually_async
from intents import intent_body
from sqlalchemy import func, select

from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.web.app import serve_intake
from fulcrum.web.relations import INTAKE
from fulcrum.wire.topics import Topics

STOPS_WITHIN = 10.0


@dataclass(frozen=True)
class Seen:
    """An answer as a client sees it."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> Any:
        """The JSON of the answer."""
        return json.loads(self.text)


class Api:
    """A client of one intake."""

    def __init__(self, http: aiohttp.ClientSession, address: str) -> None:
        self._http = http
        self.address = address

    async def send(
        self, method: str, path: str, data: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Seen:
        """Any request."""
        async with self._http.request(
            method, self.address + path, data=data, headers=headers, allow_redirects=False
        ) as response:
            return Seen(response.status, response.headers.copy(), await response.text())

    async def get(self, path: str) -> Seen:
        """GET."""
        return await self.send("GET", path)

    async def post(
        self, path: str, body: object, key: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Seen:
        """POST of JSON, under an idempotency key when one is given."""
        given = {"Content-Type": "application/json", **(headers or {})}
        if key is not None:
            given["Idempotency-Key"] = key
        return await self.send("POST", path, json.dumps(body).encode(), given)

    async def accept(self, **changes: Any) -> str:
        """Post an intent that is accepted; returns its workflow's id."""
        seen = await self.post("/v1/intents", intent_body(**changes), str(uuid4()))
        assert seen.status == 202, seen.text
        return str(seen.body["workflow_id"])


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def listening_intake(settings: Settings) -> AsyncIterator[Api]:
    """An intake that listens, whether or not it is ready; it has stopped cleanly afterwards."""
    port = free_port()
    stop = asyncio.Event()
    role = asyncio.create_task(serve_intake(settings.model_copy(update={"http_port": port}), stop))
    try:
        async with aiohttp.ClientSession() as http:
            api = Api(http, f"http://127.0.0.1:{port}")
            await eventually_async(lambda: api.get("/healthz"), within=10, state=lambda: role)
            yield api
    finally:
        stop.set()
        async with asyncio.timeout(STOPS_WITHIN):
            await role


@asynccontextmanager
async def running_intake(settings: Settings) -> AsyncIterator[Api]:
    """An intake that is ready."""
    async with listening_intake(settings) as api:
        await ready(api)
        yield api


async def ready(api: Api, within: float = 20.0) -> None:
    """Wait until the intake says that it is ready."""

    async def is_ready() -> bool:
        return (await api.get("/readyz")).status == 200

    await eventually_async(is_ready, within=within, state=lambda: api.get("/readyz"))


@contextmanager
def intake_process(settings: Settings, port: int | None = None) -> Iterator[str]:
    """The address of a ready intake in a process of its own, which ends well when it is told to stop."""
    port = port or free_port()
    given = settings.model_copy(update={"http_port": port}).model_dump(mode="json", exclude_none=True)
    env = {**os.environ, **{f"FULCRUM_{name.upper()}": str(value) for name, value in given.items()}}
    role = "from fulcrum.cli.roles import run_role; from fulcrum.settings import load_settings; "
    role += "run_role('intake', load_settings())"
    with tempfile.TemporaryFile("a+") as log:
        process = subprocess.Popen([sys.executable, "-c", role], env=env, stderr=log)
        url = f"http://127.0.0.1:{port}"
        try:
            eventually(
                lambda: urllib.request.urlopen(f"{url}/readyz", timeout=5).status == 200,
                within=20,
                state=lambda: _tail(log),
            )
            yield url
        finally:
            process.terminate()
            code = process.wait(STOPS_WITHIN)
        assert code == 0, _tail(log)


def _tail(log: IO[str]) -> str:
    log.seek(0)
    return log.read()[-2000:]


async def unsent(settings: Settings) -> int:
    """How many rows the outbox holds."""
    db = await Database.open(settings.postgres_dsn, size=1)
    row = await db.one(select(func.count().label("n")).select_from(INTAKE.outbox))
    await db.close()
    assert row is not None
    return int(row["n"])


def records_of(settings: Settings, workflow_id: str) -> list[Any]:
    """Every record of the intents topic with the workflow's key."""
    topic = Topics(settings.namespace).stream("intents")
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap, "group.id": "test", "log_level": 2})
    found = []
    try:
        for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
            place = TopicPartition(topic, partition, 0)
            _, end = consumer.get_watermark_offsets(place, timeout=10)
            if not end:
                continue
            consumer.assign([place])
            while True:
                message = consumer.poll(10)
                assert message is not None, f"{topic}[{partition}] ends at {end} and gives nothing"
                assert message.error() is None, message.error()
                if message.key() == workflow_id.encode():
                    found.append(message)
                if message.offset() + 1 >= end:
                    break
    finally:
        consumer.close()
    return found


async def sent(settings: Settings, workflow_id: str) -> list[Any]:
    """The workflow's records once the outbox is empty."""

    async def drained() -> bool:
        return await unsent(settings) == 0

    await eventually_async(drained, within=15)
    return await asyncio.to_thread(records_of, settings, workflow_id)
