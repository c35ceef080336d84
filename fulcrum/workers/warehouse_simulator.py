"""The simulated warehouse floor: a real HTTP service that stands for the outside world.

::

    POST /v1/tasks                  Idempotency-Key; {reference, ship_to, lines: [{sku, quantity}]}; 201 | 422
    GET  /v1/tasks/{key}            200 | 404
    POST /v1/tasks/{key}/pick       try the missing lines of a short task once more: 200 | 404 | 409
    POST /v1/tasks/{key}/pack       pack a short task as it is: 200 | 404 | 409
    POST /v1/tasks/{key}/cancel     put back what is picked, and never take the task up again: 200 | 409
    POST /v1/tasks/{key}/hand-over  {tracking_number}; 200 | 404 | 409
    GET  /v1/effects?reference=&since=  what really happened, one entry an effect, after number `since`

A task has the name that its caller gave it as Idempotency-Key. Every answer but 404 and 422 holds the task as
it then is: {task_id, state, lines: [{sku, quantity, picked, damaged}], parcels}; 409 says that what was asked
for cannot be. Everything may be asked again. A key that is cancelled before it is offered is refused then.
What the SKUs make happen: ``warehouse_tokens``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from aiohttp import web

from fulcrum.errors import Misconfigured
from fulcrum.settings import Settings
from fulcrum.telemetry.health import add_health_routes
from fulcrum.workers.effect_log import EffectLog
from fulcrum.workers.warehouse_book import Book, Effect, KeyReused, NoSuchTask, Wanted

DEFAULT_PORT = 8091

log = structlog.get_logger()


class WarehouseSimulator:
    """Listens from ``start`` to ``stop``; ``port`` 0 in ``start`` takes a free one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = EffectLog(settings.warehouse_log, "warehouse_log", Effect)
        self._pace = timedelta(seconds=settings.warehouse_pace)
        self._book = Book(self._pace)
        self._kept = 0
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, port: int | None = None) -> None:
        """Remember what happened before, then listen. Misconfigured when log or port cannot be had."""
        self._book = Book(self._pace, self._log.open())
        self._kept = len(self._book.effects)
        host = self._settings.http_host
        wanted = port if port is not None else self._settings.port(DEFAULT_PORT)
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, wanted).start()
        except OSError as error:
            await self.stop()
            raise Misconfigured(
                f"http_port {wanted} on {host} cannot be listened on ({error.strerror}); "
                "set FULCRUM_HTTP_PORT to a free port"
            ) from error
        self.port = self._runner.addresses[0][1]
        log.info("warehouse_floor.listening", host=host, port=self.port, effects=self._kept)

    async def stop(self) -> None:
        """Close the port and the log. Idempotent."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self._log.close()

    def effects(self, reference: str | None = None, since: int = 0) -> list[Effect]:
        """What really happened by now, after number ``since``, of one reference or of all."""
        self._book.proceed(datetime.now(UTC))
        self._keep()
        return self._book.since(since, reference)

    def _app(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.post("/v1/tasks", self._offer),
                web.get("/v1/tasks/{key}", self._task),
                web.post("/v1/tasks/{key}/pick", self._pick),
                web.post("/v1/tasks/{key}/pack", self._pack),
                web.post("/v1/tasks/{key}/cancel", self._cancel),
                web.post("/v1/tasks/{key}/hand-over", self._hand_over),
                web.get("/v1/effects", self._effects),
            ]
        )
        add_health_routes(app, lambda: {"log": True})
        return app

    async def _offer(self, request: web.Request) -> web.Response:
        key = request.headers.get("Idempotency-Key", "")
        if not 0 < len(key) <= 255:
            raise _bad_request("Idempotency-Key: a header of 1 to 255 characters is needed")
        body = await _body(request)
        reference, ship_to, wanted = _text(body, "reference"), _text(body, "ship_to"), _wanted(body)
        try:
            return self._answer(key, lambda now: self._book.offer(key, reference, ship_to, wanted, now), 201)
        except KeyReused:
            return _problem(422, "idempotency_key_reused")

    async def _task(self, request: web.Request) -> web.Response:
        return self._answer(request.match_info["key"], lambda now: None)

    async def _pick(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        return self._answer(key, lambda now: self._book.pick_again(key, now))

    async def _pack(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        return self._answer(key, lambda now: self._book.pack(key, now))

    async def _cancel(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        return self._answer(key, lambda now: self._book.cancel(key, now))

    async def _hand_over(self, request: web.Request) -> web.Response:
        key, number = request.match_info["key"], _text(await _body(request), "tracking_number")
        return self._answer(key, lambda now: self._book.hand_over(key, number, now))

    async def _effects(self, request: web.Request) -> web.Response:
        since = request.query.get("since", "0")
        if not since.isdecimal():
            raise _bad_request("since: the id of an effect, 0 or more")
        found = self.effects(request.query.get("reference"), int(since))
        return web.json_response({"effects": [asdict(effect) for effect in found]})

    def _answer(self, key: str, act: Callable[[datetime], bool | None], status: int = 200) -> web.Response:
        """Do it, keep what happened, and tell how the task then stands."""
        now = datetime.now(UTC)
        try:
            done = act(now)
            body = self._book.body(key, now)
        except NoSuchTask:
            return _problem(404, "no_such_task")
        finally:
            self._keep()
        return web.json_response(body, status=409 if done is False else status)

    def _keep(self) -> None:
        new = self._book.effects[self._kept :]
        self._log.append(*new)
        self._kept += len(new)
        for effect in new:
            log.info(f"warehouse_floor.{effect.kind}", task=effect.task, reference=effect.reference)


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body: Any = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise _bad_request("the body must be a JSON object")
    return body


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise _bad_request(f"{name}: {value!r} is no text, or empty")
    return value


def _wanted(body: dict[str, Any]) -> Wanted:
    lines = body.get("lines")
    if not isinstance(lines, list) or not lines:
        raise _bad_request("lines: a list with at least one line is needed")
    wanted = []
    for line in lines:
        quantity = line.get("quantity") if isinstance(line, dict) else None
        if type(quantity) is not int or quantity < 1:
            raise _bad_request(f"lines: {line!r} has no quantity, a whole number above 0")
        wanted.append((_text(line, "sku"), quantity))
    return tuple(wanted)


def _bad_request(detail: str) -> web.HTTPBadRequest:
    answer = _problem(400, "invalid_request", detail)
    return web.HTTPBadRequest(text=answer.text, content_type="application/json")


def _problem(status: int, code: str, detail: str | None = None) -> web.Response:
    return web.json_response({"code": code, "detail": detail} if detail else {"code": code}, status=status)
