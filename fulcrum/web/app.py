"""The intake role: one HTTP server, the relay of its outbox, the reconciler, the runner of operations, and
the search for workflows that do not move."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import structlog
from aiohttp import web

from fulcrum.attention.detector import Detector
from fulcrum.errors import Misconfigured
from fulcrum.operations.event_parker import EventParker
from fulcrum.operations.retention import Retention
from fulcrum.operations.runner import Runner
from fulcrum.operations.sending import Sender
from fulcrum.settings import Settings
from fulcrum.store.outbox import OutboxRow
from fulcrum.store.relay import Relay
from fulcrum.telemetry.health import add_health_routes
from fulcrum.web.bulk import asker
from fulcrum.web.middleware import explain, observe
from fulcrum.web.openapi import document
from fulcrum.web.operation import BODY_MOST, JSON
from fulcrum.web.reconciler import Reconciler
from fulcrum.web.relations import INTAKE
from fulcrum.web.routes import ROUTES
from fulcrum.web.services import Services
from fulcrum.web.unstarted import find_unstarted
from fulcrum.wire.producer import KafkaProducer, Record

log = structlog.get_logger()

DEFAULT_PORT = 8080
#: Seconds that requests in progress get to finish.
_FINISH_WITHIN = 5.0


def build_app(services: Services) -> web.Application:
    """The HTTP application on top of ``services``."""
    app = web.Application(middlewares=[observe, explain], client_max_size=BODY_MOST)
    for row in ROUTES:
        add = app.router.add_get if row.method == "GET" else app.router.add_post
        add(row.path, row.bind(services))
    text = json.dumps(document(ROUTES), indent=1)

    async def openapi(_: web.Request) -> web.Response:
        return web.Response(text=text, content_type=JSON)

    async def end_streams(_: web.Application) -> None:
        await services.watchers.close()

    # Before requests in progress are waited for: a stream would not end by itself.
    app.on_shutdown.append(end_streams)
    app.router.add_get("/openapi.json", openapi)
    add_health_routes(app, services.checks)
    return app


async def serve_intake(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until ``stop`` is set, then finish what has begun: requests first, the relay after them.

    Misconfigured when the port is taken, or when Postgres or the registry lack what intake needs.
    """
    services = Services(settings)
    runner = web.AppRunner(build_app(services), access_log=None, shutdown_timeout=_FINISH_WITHIN)
    await runner.setup()
    watch = asyncio.create_task(services.watch())
    try:
        await _listen(runner, settings)
        if await _before(stop, services.open()):
            async with _relaying(settings, services) as relay:
                log.info("intake.ready")
                async with _reconciling(settings, services), _operating(settings, services):
                    await _before(stop, relay)
                await runner.cleanup()
    finally:
        watch.cancel()
        await runner.cleanup()
        await services.close()


async def _listen(runner: web.AppRunner, settings: Settings) -> None:
    port = settings.port(DEFAULT_PORT)
    try:
        await web.TCPSite(runner, settings.http_host, port).start()
    except OSError as error:
        raise Misconfigured(
            f"http_port {port} on {settings.http_host} cannot be listened on ({error.strerror}); "
            "set FULCRUM_HTTP_PORT to a free port"
        ) from error
    log.info("intake.listening", address=f"http://{settings.http_host}:{port}")


async def _before(stop: asyncio.Event, work: Coroutine[Any, Any, None] | asyncio.Task[None]) -> bool:
    """Await ``work``; False when ``stop`` was set first. A coroutine is then cancelled, a task goes on."""
    task = work if isinstance(work, asyncio.Task) else asyncio.create_task(work)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if task.done():
        task.result()
        return True
    if task is not work:
        task.cancel()
        await asyncio.wait((task,))
    return False


@asynccontextmanager
async def _relaying(settings: Settings, services: Services) -> AsyncIterator[asyncio.Task[None]]:
    """The task that carries the outbox to Kafka; at the end it finishes its batch."""
    producer = KafkaProducer(settings)

    async def send(rows: Sequence[OutboxRow], may_send: Callable[[], bool]) -> int:
        return await producer.send_batch([_record(row) for row in rows], may_send)

    relay = Relay(services.db, INTAKE, settings, owner="intake", send=send)
    stop = asyncio.Event()
    task = asyncio.create_task(relay.run(stop))
    try:
        yield task
    finally:
        stop.set()
        await asyncio.wait((task,))
        await producer.close()


@asynccontextmanager
async def _reconciling(settings: Settings, services: Services) -> AsyncIterator[None]:
    """Look after accepted intents meanwhile; at the end the round under way is finished."""
    stop = asyncio.Event()
    task = asyncio.create_task(Reconciler(services.db, settings, services.stream).run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait((task,))


@asynccontextmanager
async def _operating(settings: Settings, services: Services) -> AsyncIterator[None]:
    """Keep what Kafka's readers refuse, carry operations out, delete old bodies, look for workflows that do
    not move; finish what is in hand."""
    sender = Sender(services.db, settings, services.publisher)
    runner = Runner(services.db, settings, sender, services.editor, asker(services))
    services.wake = runner.wake
    parts = (
        runner,
        Retention(services.db, settings),
        Detector(services.db, settings, _detector_name(settings), partial(find_unstarted, services.db)),
        EventParker(services.db, settings, services.codec.read),
    )
    stop = asyncio.Event()
    tasks = [asyncio.create_task(part.run(stop)) for part in parts]
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait(tasks)
        await sender.close()


def _detector_name(settings: Settings) -> str:
    return f"{settings.namespace}-intake-{settings.instance}"


def _record(row: OutboxRow) -> Record:
    return Record(
        row.topic, row.key, row.value, [(name, value.encode()) for name, value in row.headers.items()]
    )
