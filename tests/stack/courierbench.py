"""The courier service and the simulated courier in this process, on a real database and real HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
from deliveries import CODEC, delivery, emitted, settings_for
from eventually import eventually_async
from intake import free_port
from sqlalchemy import select

from fulcrum.saga.messages import Answer, StepCommand
from fulcrum.settings import Settings
from fulcrum.store.database import Database, Row
from fulcrum.telemetry.health import HealthServer
from fulcrum.wire.topics import Topics
from fulcrum.workers.courier_loops import CourierPoller, CourierSweeper
from fulcrum.workers.courier_news import CourierNews
from fulcrum.workers.courier_port import Courier
from fulcrum.workers.courier_relations import COURIER, DELIVERIES, OPEN_COMMAND, TRACKING_UPDATES
from fulcrum.workers.courier_simulator import CourierSimulator
from fulcrum.workers.courier_webhook import PATH, CourierWebhook
from fulcrum.workers.courier_worker import CourierWorker
from fulcrum.workers.signature import HEADER, sign

SECRETS = ("new secret", "old secret")
WITHIN = 30.0

_Event = TypeVar("_Event", bound=Answer)


class Bench:
    """One process of the service, and what stands around it."""

    def __init__(
        self, settings: Settings, db: Database, simulator: CourierSimulator, webhook: CourierWebhook
    ) -> None:
        self.settings = settings
        self.db = db
        self.simulator = simulator
        self.webhook = webhook
        self.courier = Courier(settings)
        self.worker, self.news = self.process()
        self.poller = CourierPoller(db, self.news, self.courier, settings)
        self.sweeper = CourierSweeper(db, CODEC, self.worker, self.courier, settings)

    def process(self) -> tuple[CourierWorker, CourierNews]:
        """What another process of the service would be."""
        topics = Topics(self.settings.namespace)
        worker = CourierWorker(self.db, CODEC, topics, self.courier, self.settings)
        return worker, CourierNews(self.db, CODEC, topics, self.settings.courier_poll)

    async def handle(self, *commands: StepCommand) -> None:
        """Carry them out one after another."""
        for command in commands:
            await self.worker.handle([delivery(command)])

    # --- what is there ----------------------------------------------------------------------------

    async def row(self, workflow: str) -> Row:
        """The stored shipment."""
        row = await self.db.one(select(DELIVERIES).where(DELIVERIES.c.workflow_id == workflow))
        assert row is not None
        return row

    async def told(self, workflow: str) -> list[Answer]:
        """What was emitted, in order."""
        return await emitted(self.db, COURIER, workflow)

    async def until_told(self, workflow: str, kind: type[_Event]) -> _Event:
        """The last event, once it is one of ``kind``."""

        async def last() -> _Event | None:
            events = await self.told(workflow)
            return events[-1] if events and isinstance(events[-1], kind) else None

        event = await eventually_async(last, within=WITHIN, state=lambda: self.told(workflow))
        assert event is not None
        return event

    async def until_state(self, workflow: str, state: str) -> Row:
        """The stored shipment, once it stands there."""

        async def there() -> Row | None:
            row = await self.row(workflow)
            return row if row["state"] == state else None

        row = await eventually_async(there, within=WITHIN, state=lambda: self.row(workflow))
        assert row is not None
        return row

    async def updates(self, workflow: str) -> list[Row]:
        """The updates that are kept, by the courier's number."""
        of = TRACKING_UPDATES.c.workflow_id == workflow
        return await self.db.all(select(TRACKING_UPDATES).where(of).order_by(TRACKING_UPDATES.c.sequence))

    async def open_commands(self, workflow: str) -> list[str]:
        """The commands that have no answer yet."""
        of = OPEN_COMMAND.c.workflow_id == workflow
        return [row["type"] for row in await self.db.all(select(OPEN_COMMAND.c.type).where(of))]

    def effects(self, workflow: str) -> list[str]:
        """What was really done at the courier, without what it did by itself."""
        return [effect.kind for effect in self.simulator.effects(workflow) if effect.kind != "move"]

    # --- the webhook ------------------------------------------------------------------------------

    async def post(
        self, body: bytes | Mapping[str, Any], *, secret: str = SECRETS[0], age: int = 0, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """Send a webhook as the courier would; ``headers`` replace its own."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {HEADER: sign([secret], raw, int(time.time()) - age), **headers}
        async with (
            aiohttp.ClientSession() as http,
            http.post(self.settings.courier_webhook_url, data=raw, headers=given) as answer,
        ):
            return answer.status, await answer.json()


@asynccontextmanager
async def courier_service(namespace: Mapping[str, str], **changes: Any) -> AsyncIterator[Bench]:
    """Simulator, webhook, worker; the loops are run by hand."""
    port = free_port()
    given: dict[str, Any] = {
        "courier_pace": 0.05,
        "retry_unit": 0.05,
        "courier_poll": 0.2,
        "courier_poll_interval": 0.05,
        "courier_sweep_after": 0.2,
        "courier_timeout": 1.0,
        "webhook_secret": ",".join(SECRETS),
        "courier_webhook_url": f"http://127.0.0.1:{port}{PATH}",
        "http_port": port,
        **changes,
    }
    settings = settings_for(namespace, **given)
    simulator = CourierSimulator(settings)
    await simulator.start(port=0)
    settings = settings.model_copy(update={"courier_url": f"http://127.0.0.1:{simulator.port}"})
    db = await Database.open(settings.postgres_dsn, size=8)
    webhook = CourierWebhook(settings)
    server = HealthServer(settings, port, dict, webhook.routes)
    await server.start()
    bench = Bench(settings, db, simulator, webhook)
    webhook.news = bench.news
    try:
        yield bench
    finally:
        await simulator.stop()
        await server.stop()
        await bench.courier.close()
        await db.close()


@asynccontextmanager
async def looking(bench: Bench) -> AsyncIterator[None]:
    """The loops of the service run meanwhile."""
    stop = asyncio.Event()
    tasks = [asyncio.ensure_future(each.run(stop)) for each in (bench.poller, bench.sweeper)]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)
