"""Post intents at a rate or by a number of users, and see when each workflow ends.

An end is the arrival of the workflow's final decision, read off the decisions topic by a thread of this
process: no polling of the API stands between the system and the clock.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import uuid4

import aiohttp
from confluent_kafka import Consumer, TopicPartition

from bench.figures import schedule
from fulcrum.readmodel.projection import FINAL
from fulcrum.saga.messages import DecisionMade
from fulcrum.wire.codec import Codec
from fulcrum.wire.topics import Topics

_DRAIN_WITHIN = 120.0
_STOCK_WITHIN = 30.0
_CONNECTIONS = 256


@dataclass
class Sent:
    """One intent: when it was due, when it was answered, when its workflow ended (perf_counter seconds)."""

    due: float
    sent: float
    accepted: float | None = None
    ended: float | None = None


@dataclass
class Load:
    """All that was sent in one run."""

    began: float
    until: float
    sent: list[Sent] = field(default_factory=list)
    refused: int = 0


class Ends:
    """Watches the decisions topic in a thread and wakes whoever waits for a workflow's end."""

    def __init__(self, env: Mapping[str, str], codec: Codec, loop: asyncio.AbstractEventLoop) -> None:
        self._codec = codec
        self._loop = loop
        self._stop = threading.Event()
        self._at: dict[str, float] = {}
        self._waiting: dict[str, asyncio.Future[float]] = {}
        self._consumer = Consumer(
            {
                "bootstrap.servers": env["FULCRUM_KAFKA_BOOTSTRAP"],
                "group.id": "bench",
                "fetch.wait.max.ms": 20,
            }
        )
        topic = Topics(env["FULCRUM_NAMESPACE"]).stream("decisions")
        places = [
            TopicPartition(topic, n) for n in self._consumer.list_topics(topic).topics[topic].partitions
        ]
        for place in places:
            place.offset = self._consumer.get_watermark_offsets(place)[1]
        self._consumer.assign(places)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def of(self, workflow_id: str) -> asyncio.Future[float]:
        """A future of the moment at which the workflow's final decision arrived."""
        future = self._waiting.setdefault(workflow_id, self._loop.create_future())
        if workflow_id in self._at and not future.done():
            future.set_result(self._at[workflow_id])
        return future

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            for message in self._consumer.consume(100, 0.02):
                now, value = time.perf_counter(), message.value()
                if message.error() or value is None:
                    continue
                decision = self._codec.decode(value)
                if isinstance(decision, DecisionMade) and decision.status in FINAL:
                    self._loop.call_soon_threadsafe(self._ended, decision.workflow_id, now)

    def _ended(self, workflow_id: str, at: float) -> None:
        self._at.setdefault(workflow_id, at)
        future = self._waiting.get(workflow_id)
        if future is not None and not future.done():
            future.set_result(at)


class Generator:
    """Posts intents for ``skus`` SKUs of its own through the HTTP API."""

    def __init__(self, api: str, ends: Ends, skus: int, definition: str) -> None:
        self._api = api
        self._ends = ends
        self._run = uuid4().hex[:8]
        self._skus = [f"bench-{self._run}-{number}" for number in range(skus)]
        self._definition = definition
        self._count = 0
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS), timeout=aiohttp.ClientTimeout(total=30)
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def stock(self, units: int) -> None:
        """Receive ``units`` of every SKU, and wait until they are there."""
        for sku in self._skus:
            url = f"{self._api}/v1/stock/{sku}/receipts"
            body = {"quantity": units, "reference": "bench"}
            async with self._session.post(url, json=body, headers={"Idempotency-Key": sku}) as answer:
                answer.raise_for_status()
        deadline = time.perf_counter() + _STOCK_WITHIN
        for sku in self._skus:
            while not await self._in_stock(sku):
                if time.perf_counter() > deadline:
                    raise TimeoutError(f"no stock of {sku} after {_STOCK_WITHIN:g} s")
                await asyncio.sleep(0.1)

    async def _in_stock(self, sku: str) -> bool:
        async with self._session.get(f"{self._api}/v1/stock/{sku}") as answer:
            return answer.status == 200

    async def open_loop(self, rate: float, duration: float) -> Load:
        """Send at ``rate`` a second for ``duration`` seconds, whatever the answers do."""
        began = time.perf_counter()
        load = Load(began, began + duration)
        tasks = []
        for offset in schedule(rate, duration):
            due = began + offset
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(self._one(load, due)))
        await self._drain(load, tasks)
        return load

    async def closed_loop(self, users: int, duration: float) -> Load:
        """``users`` send for ``duration`` seconds, each its next intent when its last workflow has ended."""
        began = time.perf_counter()
        load = Load(began, began + duration)

        async def user() -> None:
            while time.perf_counter() < load.until:
                await self._one(load, time.perf_counter())

        await self._drain(load, [asyncio.create_task(user()) for _ in range(users)])
        return load

    async def _drain(self, load: Load, tasks: list[asyncio.Task[None]]) -> None:
        left = max(0.0, load.until - time.perf_counter()) + _DRAIN_WITHIN
        _, pending = await asyncio.wait(tasks, timeout=left)
        for task in pending:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, load: Load, due: float) -> None:
        number, self._count = self._count, self._count + 1
        record = Sent(due, time.perf_counter())
        load.sent.append(record)
        body = {
            "tenant": "bench",
            "customer_ref": f"customer-{number % 1000}",
            "lines": [{"sku": self._skus[number % len(self._skus)], "quantity": 1}],
            "amount_minor": 1999,
            "currency": "EUR",
            "payment_method": "pay_ok",
            "ship_to": "address-1",
            "definition": self._definition,
        }
        headers = {"Idempotency-Key": f"{self._run}-{number}"}
        try:
            async with self._session.post(f"{self._api}/v1/intents", json=body, headers=headers) as answer:
                if answer.status != 202:
                    load.refused += 1
                    return
                workflow_id = (await answer.json())["workflow_id"]
        except (aiohttp.ClientError, TimeoutError):
            load.refused += 1
            return
        record.accepted = time.perf_counter()
        record.ended = await self._ends.of(workflow_id)
