"""The simulated warehouse floor over HTTP: one key, one task, and nothing forgotten by a kill."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from eventually import eventually_async
from intake import free_port

from fulcrum.errors import Misconfigured
from fulcrum.settings import Settings
from fulcrum.workers.warehouse_simulator import WarehouseSimulator

_WITHIN = 20.0
_ORDER = {
    "reference": "order 1",
    "ship_to": "1 Road",
    "lines": [{"sku": "tea", "quantity": 2}, {"sku": "short1-pot", "quantity": 2}],
}
Answer = tuple[int, dict[str, Any]]


class Caller:
    """Somebody who has a warehouse pack for him, at ``port``."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._url = f"http://127.0.0.1:{port}"

    async def ask(self, method: str, path: str, body: Any = None, key: str | None = None) -> Answer:
        """Status and JSON body of one request."""
        headers = {} if key is None else {"Idempotency-Key": key}
        async with self._session.request(method, self._url + path, json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def offer(self, key: str, **changes: Any) -> Answer:
        """Have an order picked."""
        return await self.ask("POST", "/v1/tasks", {**_ORDER, **changes}, key)

    async def until(self, key: str, state: str) -> dict[str, Any]:
        """Wait until the task is in ``state``; the task."""

        async def there() -> dict[str, Any] | None:
            _, body = await self.ask("GET", f"/v1/tasks/{key}")
            return body if body["state"] == state else None

        found = await eventually_async(there, within=_WITHIN)
        assert found is not None
        return found

    async def kinds(self, query: str = "") -> list[str]:
        """What really happened."""
        status, body = await self.ask("GET", f"/v1/effects{query}")
        assert status == 200
        return [effect["kind"] for effect in body["effects"]]


@asynccontextmanager
async def calling(port: int) -> AsyncIterator[Caller]:
    """A caller with connections of its own."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield Caller(session, port)


@asynccontextmanager
async def floor() -> AsyncIterator[Caller]:
    """A simulator in this process, and somebody who calls it."""
    simulator = WarehouseSimulator(Settings(warehouse_pace=0.01))
    await simulator.start(0)
    try:
        async with calling(simulator.port) as caller:
            yield caller
    finally:
        await simulator.stop()


async def test_a_short_task_is_packed_as_it_is_and_handed_over() -> None:
    """Each act answers with the task as it then is."""
    async with floor() as caller:
        status, task = await caller.offer("k")
        assert (status, task["task_id"], task["state"]) == (201, "k", "assigned")
        short = await caller.until("k", "short")
        assert [line["picked"] for line in short["lines"]] == [2, 1]
        assert (await caller.ask("POST", "/v1/tasks/k/hand-over", {"tracking_number": "N"}))[0] == 409
        status, packed = await caller.ask("POST", "/v1/tasks/k/pack")
        assert (status, packed["state"], packed["parcels"]) == (200, "packed", 1)
        for _ in range(2):
            status, gone = await caller.ask("POST", "/v1/tasks/k/hand-over", {"tracking_number": "N"})
            assert (status, gone["state"]) == (200, "handed_over")
        status, gone = await caller.ask("POST", "/v1/tasks/k/cancel")
        assert (status, gone["state"]) == (409, "handed_over")
        assert await caller.kinds() == ["offer", "pick", "pick", "short", "pack", "hand_over"]
        assert await caller.kinds("?since=4&reference=order%201") == ["pack", "hand_over"]
        assert await caller.kinds("?reference=order%202") == []


async def test_one_key_is_one_task() -> None:
    """The same order again finds it; another order under its key is told so; an unknown key is not found."""
    async with floor() as caller:
        await caller.offer("k")
        assert (await caller.offer("k"))[0] == 201
        assert await caller.offer("k", ship_to="2 Road") == (422, {"code": "idempotency_key_reused"})
        assert await caller.ask("GET", "/v1/tasks/u") == (404, {"code": "no_such_task"})
        assert (await caller.kinds()).count("offer") == 1


async def test_a_key_that_was_cancelled_is_refused() -> None:
    """A cancellation that comes before the offer."""
    async with floor() as caller:
        status, fence = await caller.ask("POST", "/v1/tasks/k/cancel")
        assert (status, fence["state"], fence["lines"]) == (200, "cancelled", [])
        _, task = await caller.offer("k")
        assert task["state"] == "cancelled"


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"reference": ""}, "reference"),
        ({"ship_to": 7}, "ship_to"),
        ({"lines": []}, "lines"),
        ({"lines": [{"sku": "tea", "quantity": 0}]}, "quantity"),
        ({"lines": [{"quantity": 1}]}, "sku"),
    ],
)
async def test_what_makes_no_sense_is_named(changes: dict[str, Any], names: str) -> None:
    """And nothing is taken up."""
    async with floor() as caller:
        status, problem = await caller.offer("k", **changes)
        assert (status, problem["code"]) == (400, "invalid_request")
        assert names in problem["detail"]
        assert await caller.kinds() == []


@contextmanager
def _process(env: Mapping[str, str]) -> Iterator[None]:
    """The simulator as a process, killed at the end."""
    command = [sys.executable, "-m", "fulcrum", "run", "warehouse-simulator"]
    running = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        running.kill()
        running.wait()


async def test_a_kill_forgets_nothing(tmp_path: Path) -> None:
    """What was told to somebody is in the file; the next process goes on from there."""
    log, port = tmp_path / "effects.log", free_port()
    env = {
        **os.environ,
        "FULCRUM_WAREHOUSE_LOG": str(log),
        "FULCRUM_WAREHOUSE_PACE": "0.01",
        "FULCRUM_HTTP_PORT": str(port),
    }
    async with calling(port) as caller:

        async def ready() -> bool:
            return (await caller.ask("GET", "/readyz"))[0] == 200

        with _process(env):
            await eventually_async(ready, within=_WITHIN)
            await caller.offer("k")
            short = await caller.until("k", "short")
            known = await caller.kinds()
        with _process(env):
            await eventually_async(ready, within=_WITHIN)
            assert await caller.until("k", "short") == short
            assert await caller.kinds() == known
            assert (await caller.ask("POST", "/v1/tasks/k/cancel"))[1]["state"] == "cancelled"


async def test_a_log_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """The process does not start."""
    with pytest.raises(Misconfigured, match="FULCRUM_WAREHOUSE_LOG"):
        await WarehouseSimulator(Settings(warehouse_log=tmp_path)).start(0)
