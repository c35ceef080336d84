"""A steady load of intents of every kind, and what each client saw: accepted, ended, shown.

A client whose request fails tries again under the same key, as a client must; nothing else is forgiven. When
a workflow ends is read off the decisions topic, and when people see it from the query API.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aiohttp

from bench.load import Ends
from fulcrum.errors import Unavailable
from fulcrum.readmodel.projection import FINAL

_REQUEST_WITHIN = 3.0
_AGAIN, _LOOK_AGAIN = 0.05, 0.1
_STOCK_WITHIN = 60.0
_UNITS = 1_000_000


@dataclass(frozen=True, slots=True)
class Story:
    """A kind of intent and its only right end. ``share``: how often it comes, relative to the others."""

    name: str
    share: int
    payment_method: str
    status: str
    definition: str = "fulfillment.v1"
    in_stock: bool = True
    ship_to: str = "address-1"


STORIES = (
    Story("completes", 10, "pay_ok", "completed"),
    Story("reserves first", 3, "pay_ok", "completed", "reserve_first.v1"),
    Story("no stock: voided", 3, "pay_ok", "cancelled", in_stock=False),
    Story("declined", 2, "pay_declined", "cancelled"),
    Story("declined: released", 3, "pay_declined", "cancelled", "reserve_first.v1"),
    Story("no answer, but paid", 1, "pay_timeout_ok", "completed"),
    Story("no answer, not paid", 1, "pay_timeout_no", "completed"),
    Story("fails twice", 1, "pay_flaky_2", "completed"),
    Story("slow", 1, "pay_slow_300", "completed"),
    Story("ships", 3, "pay_ok", "completed", "fulfillment.v2"),
    Story("ships, not heard of", 1, "pay_ok", "completed", "fulfillment.v2", ship_to="silent-1"),
    Story("ships, hold lapsed", 1, "pay_expires", "completed", "fulfillment.v2"),
    Story("lost: refunded", 1, "pay_ok", "cancelled", "fulfillment.v2", ship_to="lost-1"),
    Story("returned: refunded", 1, "pay_ok", "cancelled", "fulfillment.v2", ship_to="returned-1"),
)


@dataclass
class Sent:
    """One intent. Times are perf_counter seconds: first sent, accepted, ended, and shown to have ended."""

    story: Story
    sent: float
    tries: int = 0
    workflow_id: str | None = None
    accepted: float | None = None
    ended: float | None = None
    status: str | None = None
    shown: float | None = None
    error: str | None = None


@dataclass
class Steady:
    """Posts ``rate`` intents a second from ``run`` until ``stop``; ``sent`` is all of it, in order."""

    api: str
    ends: Ends
    rate: float
    seed: int
    sent: list[Sent] = field(default_factory=list)
    #: What is not yet shown to have ended, by number.
    waiting: dict[int, Sent] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._mark = uuid4().hex[:8]
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=128), timeout=aiohttp.ClientTimeout(total=_REQUEST_WITHIN)
        )
        self._full, self._empty = f"crash-{self._mark}-full", f"crash-{self._mark}-empty"

    async def stock(self) -> None:
        """Bring the one SKU into stock that intents order; Unavailable when it does not come."""
        record = Sent(STORIES[0], 0.0)
        try:
            async with asyncio.timeout(_STOCK_WITHIN):
                url = f"{self.api}/v1/stock/{self._full}"
                body = {"quantity": _UNITS, "reference": "crash"}
                await self._insist("POST", f"{url}/receipts", 202, body, "first", record)
                await self._insist("GET", url, 200, record=record)
        except TimeoutError:
            raise Unavailable(
                f"{self._full} did not come into stock within {_STOCK_WITHIN:g} s; "
                f"the last answer was {record.error}"
            ) from None

    async def run(self) -> None:
        """Send evenly until stopped, whatever the answers do."""
        began, number = time.perf_counter(), 0
        while not self._stop.is_set():
            task = asyncio.create_task(self._one(number))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            number += 1
            due = began + number / self.rate
            try:
                async with asyncio.timeout(max(0.0, due - time.perf_counter())):
                    await self._stop.wait()
            except TimeoutError:
                continue

    def stop(self) -> None:
        """Send no more."""
        self._stop.set()

    async def drain(self, within: float) -> list[Sent]:
        """Wait for every workflow to end and to be shown; those that did not."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within)
        return list(self.waiting.values())

    async def close(self) -> None:
        """Give up what is left."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    # --- one intent -------------------------------------------------------------------------------

    async def _one(self, number: int) -> None:
        story = self._chance.choices(STORIES, [story.share for story in STORIES])[0]
        record = Sent(story, time.perf_counter())
        self.sent.append(record)
        self.waiting[number] = record
        body = {
            "tenant": "crash",
            "customer_ref": f"customer-{number % 1000}",
            "lines": [{"sku": self._full if story.in_stock else self._empty, "quantity": 1}],
            "amount_minor": 1000 + number % 1000,
            "currency": "EUR",
            "payment_method": story.payment_method,
            "ship_to": story.ship_to,
            "definition": story.definition,
        }
        key = f"{self._mark}-{number}"
        answer = await self._insist("POST", f"{self.api}/v1/intents", 202, body, key, record)
        record.workflow_id, record.accepted = str(answer["workflow_id"]), time.perf_counter()
        end = await self.ends.of(record.workflow_id)
        record.ended, record.status = end.at, end.decision.status
        url = f"{self.api}/v1/workflows/{record.workflow_id}"
        while (await self._insist("GET", url, 200))["status"] not in FINAL:  # noqa: ASYNC110 - the API is polled
            await asyncio.sleep(_LOOK_AGAIN)
        record.shown = time.perf_counter()
        del self.waiting[number]

    async def _insist(
        self,
        method: str,
        url: str,
        wanted: int,
        body: Mapping[str, Any] | None = None,
        key: str | None = None,
        record: Sent | None = None,
    ) -> Any:
        """Repeat the request, always the same, until it is answered as wanted."""
        headers = {"Idempotency-Key": key} if key else {}
        while True:
            if record is not None:
                record.tries += 1
            try:
                async with self._session.request(method, url, json=body, headers=headers) as answer:
                    if answer.status == wanted:
                        return await answer.json()
                    told = f"{answer.status} {(await answer.text())[:200]}"
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                told = type(error).__name__
            if record is not None:
                record.error = told
            await asyncio.sleep(_AGAIN)
