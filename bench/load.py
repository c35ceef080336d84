"""Post intents at a rate or by a number of users, and see when each workflow ends.

An end is the arrival of the workflow's final decision, read off the decisions topic by a thread of this
process: neither polling of the API nor the broker's idea of the time stands between the system and the clock.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar
from uuid import uuid4

import aiohttp
from confluent_kafka import Consumer, TopicPartition

from bench.figures import schedule
from fulcrum.doctor.violation import Violation
from fulcrum.errors import FulcrumError, Unavailable
from fulcrum.readmodel.projection import FINAL
from fulcrum.saga.messages import DecisionMade
from fulcrum.wire.codec import Codec
from fulcrum.wire.topics import Topics

_DRAIN_WITHIN = 120.0
_STOCK_WITHIN = 30.0
_CONNECTIONS = 256
_POLL_SECONDS = 0.1
_AT_ONCE = 16
_ASKED = 500

_T = TypeVar("_T")


async def each_of(items: Iterable[_T], act: Callable[[_T], Awaitable[None]]) -> None:
    """Await ``act`` for every item, few at once."""
    free = asyncio.Semaphore(_AT_ONCE)

    async def one(item: _T) -> None:
        async with free:
            await act(item)

    await asyncio.gather(*(one(item) for item in items))


@dataclass(frozen=True, slots=True)
class End:
    """When a final decision arrived: by this process's clock (perf_counter), and by the calendar's."""

    at: float
    wall: datetime
    decision: DecisionMade


@dataclass
class Sent:
    """One intent: when it was due, sent, answered (perf_counter seconds), and how its workflow ended."""

    due: float
    sent: float
    accepted: float | None = None
    workflow_id: str | None = None
    end: End | None = None


@dataclass
class Load:
    """All that was sent in one run."""

    began: float
    until: float
    sent: list[Sent] = field(default_factory=list)
    refused: int = 0

    @property
    def ended(self) -> list[Sent]:
        """Those whose workflow has ended."""
        return [each for each in self.sent if each.end is not None]


class Ends:
    """Watches the decisions topic in a thread and wakes whoever waits for a workflow's end.

    ``seen`` is called in the loop with every decision, and when its record was made (calendar seconds).
    """

    def __init__(
        self,
        env: Mapping[str, str],
        codec: Codec,
        loop: asyncio.AbstractEventLoop,
        seen: Callable[[DecisionMade, float], None] | None = None,
    ) -> None:
        self._codec = codec
        self._seen = seen
        self._loop = loop
        self._stop = threading.Event()
        self._ends: dict[str, End] = {}
        self._waiting: dict[str, asyncio.Future[End]] = {}
        self._consumer = Consumer(
            {
                "bootstrap.servers": env["FULCRUM_KAFKA_BOOTSTRAP"],
                "group.id": "bench",
                "enable.auto.commit": False,
                # A crash run kills the broker on purpose: be quiet about it, and back at once.
                "log_level": 0,
                "reconnect.backoff.max.ms": 200,
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

    def of(self, workflow_id: str) -> asyncio.Future[End]:
        """A future of the arrival of the workflow's final decision."""
        future = self._waiting.setdefault(workflow_id, self._loop.create_future())
        if workflow_id in self._ends and not future.done():
            future.set_result(self._ends[workflow_id])
        return future

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            # One at a time: a poll returns at once, while reading many waits for all of them or the timeout.
            message = self._consumer.poll(_POLL_SECONDS)
            now, wall = time.perf_counter(), datetime.now(UTC)
            if message is None or message.error():
                continue
            try:
                decision = self._codec.decode(message.value() or b"")
            except FulcrumError:
                # Somebody else's test of poisonous records; the dead-letter topic accounts for it.
                continue
            if not isinstance(decision, DecisionMade):
                continue
            if self._seen is not None:
                self._loop.call_soon_threadsafe(self._seen, decision, message.timestamp()[1] / 1000)
            if decision.status in FINAL:
                self._loop.call_soon_threadsafe(self._ended, End(now, wall, decision))

    def _ended(self, end: End) -> None:
        workflow_id = end.decision.workflow_id
        self._ends.setdefault(workflow_id, end)
        future = self._waiting.get(workflow_id)
        if future is not None and not future.done():
            future.set_result(end)


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
        """Receive ``units`` of every SKU and wait until they are there. Unavailable when they do not come."""
        try:
            await each_of(self._skus, lambda sku: self._receive(sku, units))
            async with asyncio.timeout(_STOCK_WITHIN):
                await each_of(self._skus, self._until_in_stock)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(
                f"{self._api} did not bring {len(self._skus)} SKUs into stock within {_STOCK_WITHIN:g} s "
                f"({str(error) or type(error).__name__}); are all roles running?"
            ) from error

    async def _receive(self, sku: str, units: int) -> None:
        url, body = f"{self._api}/v1/stock/{sku}/receipts", {"quantity": units, "reference": "bench"}
        async with self._session.post(url, json=body, headers={"Idempotency-Key": sku}) as answer:
            answer.raise_for_status()

    async def _until_in_stock(self, sku: str) -> None:
        while True:
            async with self._session.get(f"{self._api}/v1/stock/{sku}") as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(0.1)

    async def disagreements(self, load: Load) -> list[Violation]:
        """Ended workflows, evenly picked, of which the query API says something else than the journal did."""
        step = max(1, len(load.ended) // _ASKED)
        found: list[Violation] = []

        async def ask(each: Sent) -> None:
            assert each.end is not None
            url = f"{self._api}/v1/workflows/{each.workflow_id}"
            async with self._session.get(url, params={"min_version": each.end.decision.version}) as answer:
                told = (await answer.json()).get("status", answer.status)
            if told != each.end.decision.status:
                detail = f"API {told}, journal {each.end.decision.status}"
                found.append(Violation("the query API tells the end", str(each.workflow_id), detail))

        await each_of(load.ended[::step], ask)
        return found

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
                record.workflow_id = str((await answer.json())["workflow_id"])
        except (aiohttp.ClientError, TimeoutError):
            load.refused += 1
            return
        record.accepted = time.perf_counter()
        record.end = await self._ends.of(record.workflow_id)
