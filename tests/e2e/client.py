"""How do the tests use Fulcrum? As any client does: over HTTP, trying again when nobody answers."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import aiohttp
from eventually import eventually_async
from stories import Story

FINAL = ("completed", "cancelled", "terminated")
#: Statuses of a server that is not there, or not yet.
_ABSENT = (502, 503, 504)
_AT_ONCE = 16


@dataclass(frozen=True)
class Answer:
    """A response, read whole."""

    status: int
    headers: Mapping[str, str]
    json: Any


@dataclass(frozen=True)
class Posted:
    """An accepted intent: what was asked, and the workflow that must follow."""

    story: Story
    sku: str
    key: str
    workflow_id: str
    answer: Answer


@dataclass(frozen=True)
class Shelf:
    """A SKU of which ``received`` units came in, and one of which there never was any."""

    full: str
    empty: str
    received: int

    def sku(self, story: Story) -> str:
        """What an intent of this story must order."""
        return self.full if story.in_stock else self.empty


class Client:
    """The HTTP API of one system."""

    def __init__(self, session: aiohttp.ClientSession, intake: str) -> None:
        self._session = session
        self._intake = intake
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request, one answer. ``path`` may be a whole URL of another role."""
        url = path if path.startswith("http") else self._intake + path
        async with self._session.request(method, url, json=body, headers=headers) as response:
            text = await response.text()
            value = json.loads(text) if "json" in response.content_type else text
            return Answer(response.status, response.headers, value)

    async def insist(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        within: float = 60,
    ) -> Answer:
        """Repeat a request that met no server, or one that says 503, until it is answered."""
        last: Answer | None = None

        async def attempt() -> Answer | None:
            nonlocal last
            last = await self.call(method, path, body, headers)
            return None if last.status in _ABSENT else last

        answer = await eventually_async(attempt, within=within, state=lambda: f"{method} {path}: {last}")
        assert answer is not None
        return answer

    # --- intents ----------------------------------------------------------------------------------

    async def post(
        self, story: Story, sku: str, key: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Posted:
        """Post one intent until it is accepted, always with the same key."""
        key = key or str(uuid4())
        sent = {"Idempotency-Key": key, **(headers or {})}
        async with self._free:
            answer = await self.insist("POST", "/v1/intents", story.body(sku), sent)
        assert answer.status == 202, answer
        return Posted(story, sku, key, answer.json["workflow_id"], answer)

    async def post_all(self, stories: Iterable[Story], shelf: Shelf) -> list[Posted]:
        """Post them side by side, each with a key of its own."""
        return await asyncio.gather(*(self.post(story, shelf.sku(story)) for story in stories))

    async def workflow(self, workflow_id: str) -> dict[str, Any]:
        """The run with its timeline."""
        async with self._free:
            answer = await self.insist("GET", f"/v1/workflows/{workflow_id}")
        assert answer.status == 200, answer
        view: dict[str, Any] = answer.json
        return view

    async def until_final(self, posted: Collection[Posted], within: float = 60) -> dict[str, dict[str, Any]]:
        """The views of the workflows once every one has ended; fails with what the others are doing."""
        seen: dict[str, dict[str, Any]] = {}
        waiting = {item.workflow_id for item in posted}

        async def attempt() -> bool:
            for view in await asyncio.gather(*map(self.workflow, sorted(waiting)[: 4 * _AT_ONCE])):
                seen[view["workflow_id"]] = view
                if view["status"] in FINAL:
                    waiting.discard(view["workflow_id"])
            return not waiting

        def state() -> str:
            open_runs = [seen[i] for i in sorted(waiting) if i in seen]
            return f"{len(waiting)} of {len(posted)} are not final: {Counter(map(_stage, open_runs))}\n" + (
                "\n".join(told(view) for view in open_runs[:3])
            )

        await eventually_async(attempt, within=within, state=state)
        return seen

    # --- stock ------------------------------------------------------------------------------------

    async def stocked(self, units: int, within: float = 30) -> Shelf:
        """A new SKU with ``units`` in stock, once they can be seen."""
        shelf = Shelf(f"full-{uuid4().hex[:12]}", f"empty-{uuid4().hex[:12]}", units)
        await self.receive(shelf.full, units, key="first")

        async def visible() -> bool:
            stock = await self.insist("GET", f"/v1/stock/{shelf.full}")
            return stock.status == 200 and stock.json["received"] == units

        await eventually_async(visible, within=within, state=lambda: f"no receipt of {shelf.full} is visible")
        return shelf

    async def receive(self, sku: str, quantity: int, key: str) -> None:
        """Tell that stock arrived."""
        body = {"quantity": quantity, "reference": "test"}
        answer = await self.insist("POST", f"/v1/stock/{sku}/receipts", body, {"Idempotency-Key": key})
        assert answer.status == 202, answer

    async def stock(self, sku: str) -> dict[str, Any]:
        """What there is of ``sku``."""
        answer = await self.insist("GET", f"/v1/stock/{sku}")
        assert answer.status == 200, answer
        found: dict[str, Any] = answer.json
        return found

    async def pages(self, path: str) -> list[dict[str, Any]]:
        """Every item of a list, page by page."""
        items: list[dict[str, Any]] = []
        cursor = ""
        while True:
            answer = await self.insist("GET", path + (f"&cursor={cursor}" if cursor else ""))
            assert answer.status == 200, answer
            items += answer.json["items"]
            cursor = answer.json.get("next_cursor")
            if not cursor:
                return items


async def until(predicate: Callable[[], Any], what: str, within: float = 30) -> Any:
    """The first truthy value of ``predicate``, which may block or return an awaitable."""

    async def attempt() -> Any:
        found = await asyncio.to_thread(predicate)
        return await found if inspect.isawaitable(found) else found

    return await eventually_async(attempt, within=within, state=lambda: f"not yet: {what}")


def _stage(view: Mapping[str, Any]) -> str:
    """What the workflow waits for."""
    steps = ",".join(f"{step['name']}:{step['status']}" for step in view["steps"])
    return f"{view['status']} v{view['version']} {steps}"


def told(view: Mapping[str, Any]) -> str:
    """A workflow and its timeline, for the message of a failed test."""
    head = f"{view['workflow_id']} {_stage(view)} from {view['freshness']}"
    lines = [
        f"  {entry['version']} {entry['at']} {entry['cause']['type']} -> {entry['status']} "
        f"{[command['type'] for command in entry['commands']]} {entry['ignored'] or ''}"
        for entry in view["timeline"]
    ]
    return "\n".join([head, *lines])


@asynccontextmanager
async def connected(intake: str) -> AsyncIterator[Client]:
    """A client of the system whose intake serves at ``intake``."""
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield Client(session, intake)
