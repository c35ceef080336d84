"""The simulated courier over HTTP: one key, one effect, nothing forgotten, and webhooks told again."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from eventually import eventually_async

from fulcrum.errors import Misconfigured
from fulcrum.settings import Settings
from fulcrum.workers.courier_simulator import CourierSimulator
from fulcrum.workers.signature import HEADER, verify

_WANTED = {"reference": "order 1", "ship_to": "home", "parcels": 1}
_WITHIN = 20.0


class Ear:
    """A receiver of webhooks that answers what it is told to."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.refusals = 0
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        """Keep what is signed, unless it shall be refused."""
        body = await request.read()
        if self.refusals:
            self.refusals -= 1
            return web.Response(status=500)
        verify(request.headers.get(HEADER), body, ("secret",), time.time(), 300)
        self.heard.append(json.loads(body))
        return web.Response()

    def statuses(self) -> list[str]:
        """What was told, in order."""
        return [update["status"] for update in self.heard]


@asynccontextmanager
async def listening() -> AsyncIterator[Ear]:
    """An ear on a port of its own."""
    ear = Ear()
    app = web.Application()
    app.add_routes([web.post("/hook", ear.take)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ear.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield ear
    finally:
        await runner.cleanup()


@asynccontextmanager
async def courier(ear: Ear, log: Path | None = None, pace: float = 0.02) -> AsyncIterator[CourierSimulator]:
    """A simulator that tells ``ear``."""
    settings = Settings(
        courier_log=log,
        courier_pace=pace,
        retry_unit=0.01,
        webhook_secret="secret",
        courier_webhook_url=ear.url,
    )
    simulator = CourierSimulator(settings)
    await simulator.start(0)
    try:
        yield simulator
    finally:
        await simulator.stop()


async def ask(
    simulator: CourierSimulator, method: str, path: str, key: str = "", body: Any = None
) -> tuple[int, dict[str, Any]]:
    """Status and JSON body of one request."""
    async with (
        aiohttp.ClientSession() as http,
        http.request(
            method,
            f"http://127.0.0.1:{simulator.port}{path}",
            json=body,
            headers={"Idempotency-Key": key} if key else {},
        ) as answer,
    ):
        return answer.status, await answer.json()


async def booked(simulator: CourierSimulator, key: str, ship_to: str) -> str:
    """Book a shipment; the courier's id of it."""
    status, body = await ask(simulator, "POST", "/shipments", key, {**_WANTED, "ship_to": ship_to})
    assert status == 201
    return str(body["shipment_id"])


async def test_a_key_books_once() -> None:
    """A repeat gets the same shipment, ten at once too; another request under the key is a conflict."""
    async with listening() as ear, courier(ear) as simulator:
        ask_again = (ask(simulator, "POST", "/shipments", "key 1", _WANTED) for _ in range(10))
        answers = await asyncio.gather(*ask_again)
        assert {status for status, _ in answers} == {201}
        assert len({body["shipment_id"] for _, body in answers}) == 1
        other = {**_WANTED, "parcels": 2}
        assert (await ask(simulator, "POST", "/shipments", "key 1", other))[0] == 409
        assert [effect.kind for effect in simulator.effects("order 1")][:1] == ["book"]
        assert sum(effect.kind == "book" for effect in simulator.effects("order 1")) == 1


@pytest.mark.parametrize(
    ("body", "key", "named"),
    [
        ({**_WANTED, "parcels": 0}, "k", "parcels"),
        ({**_WANTED, "parcels": True}, "k", "parcels"),
        ({**_WANTED, "ship_to": ""}, "k", "ship_to"),
        ({**_WANTED, "reference": 1}, "k", "reference"),
        ([], "k", "JSON object"),
        (_WANTED, "", "Idempotency-Key"),
    ],
)
async def test_a_bad_request_is_400_and_named(body: Any, key: str, named: str) -> None:
    """Nothing happens."""
    async with listening() as ear, courier(ear) as simulator:
        status, answer = await ask(simulator, "POST", "/shipments", key, body)
        assert (status, answer["code"]) == (400, "invalid_request")
        assert named in answer["detail"]
        assert simulator.effects("order 1") == []


@pytest.mark.parametrize("method_path", [("GET", "/shipments/x"), ("POST", "/shipments/x/cancel")])
async def test_an_unknown_shipment_is_404(method_path: tuple[str, str]) -> None:
    """Neither told of nor stopped."""
    async with listening() as ear, courier(ear) as simulator:
        status, body = await ask(simulator, *method_path, key="k")
        assert (status, body["code"]) == (404, "no_such_shipment")


async def test_every_move_is_told_until_it_is_heard() -> None:
    """A receiver that is down at first hears all of it, from the courier's own list of updates."""
    async with listening() as ear, courier(ear) as simulator:
        ear.refusals = 3
        shipment = await booked(simulator, "key 1", "home")

        async def all_heard() -> bool:
            return sorted(ear.statuses()) == sorted(
                ["picked_up", "in_transit", "out_for_delivery", "delivered"]
            )

        await eventually_async(all_heard, within=_WITHIN, state=ear.statuses)
        _, told = await ask(simulator, "GET", f"/shipments/{shipment}")
        assert [update["sequence"] for update in told["updates"]] == [1, 2, 3, 4, 5]
        assert all(update in told["updates"] for update in ear.heard)


async def test_a_restart_forgets_nothing_and_goes_on(tmp_path: Path) -> None:
    """Keys keep their answers, what was under way goes on, and a torn line is dropped."""
    log = tmp_path / "effects.log"
    async with listening() as ear:
        async with courier(ear, log, pace=60) as first:
            going = await booked(first, "key 1", "lost-home")
            stopped = await booked(first, "key 2", "home")
            assert (await ask(first, "POST", f"/shipments/{stopped}/cancel", "key 3"))[1] == {
                "status": "cancelled"
            }
        with log.open("ab") as file:
            file.write(b'{"id": 4, "ki')
        async with courier(ear, log) as second:
            assert await booked(second, "key 1", "lost-home") == going
            assert (await ask(second, "POST", f"/shipments/{stopped}/cancel", "key 3"))[0] == 200

            async def lost() -> bool:
                return (await ask(second, "GET", f"/shipments/{going}"))[1]["status"] == "lost"

            await eventually_async(lost, within=_WITHIN)
            kinds = [effect.kind for effect in second.effects("order 1")]
            assert kinds == ["book", "book", "cancel", "move", "move", "move"]


async def test_a_log_of_something_else_is_named(tmp_path: Path) -> None:
    """The file, the line and the remedy."""
    log = tmp_path / "effects.log"
    log.write_text('{"what": "is this"}\n')
    with pytest.raises(Misconfigured, match=r"courier_log .* line 1 .*FULCRUM_COURIER_LOG"):
        await CourierSimulator(Settings(courier_log=log)).start(0)
