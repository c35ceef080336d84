"""The simulated payment provider: a real HTTP service that stands for the outside world.

::

    POST /v1/authorizations                 Idempotency-Key; {amount_minor, currency, token, reference}
                                            201 {authorization_id, status, expires_at?} | 402 {code}
    POST /v1/authorizations/{id}/void       Idempotency-Key; 200 | 404 | 409
    POST /v1/authorizations/{id}/capture    Idempotency-Key; {amount_minor?}; 200 | 202 | 402 {code} | 404
    POST /v1/authorizations/{id}/reauthorize  Idempotency-Key; 201 like an authorization | 402 {code} | 404
    POST /v1/authorizations/{id}/refund     the same; 202: accepted, look up what becomes of it
    GET  /v1/operations/{idempotency_key}   what happened under a key: 200 | 404 | 409 still at it
    GET  /v1/effects?reference=&since=      what really happened, one entry an effect, after number `since`

Without ``amount_minor`` the whole of the authorization is captured or refunded. What has lapsed can be held
anew, once, under another id. The same key gets the same answer and no second effect. How many requests of a
key a test token has seen is no effect: a restart counts them anew.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import structlog
from aiohttp import web

from fulcrum.errors import Misconfigured
from fulcrum.settings import Settings
from fulcrum.telemetry.health import add_health_routes
from fulcrum.workers.effect_log import EffectLog
from fulcrum.workers.psp_book import (
    Book,
    Effect,
    KeyReused,
    NoSuchAuthorization,
    Request,
    WrongState,
    operation_body,
)
from fulcrum.workers.psp_tokens import Reaction, reaction

DEFAULT_PORT = 8090

log = structlog.get_logger()

_Act = Callable[[], tuple[Effect, bool]]


class PspSimulator:
    """Listens from ``start`` to ``stop``; ``port`` 0 in ``start`` takes a free one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = EffectLog(settings.psp_log, "psp_log", Effect)
        self._book = Book()
        self._requests: Counter[str] = Counter()
        self._at_it: Counter[str] = Counter()
        self._later: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, port: int | None = None) -> None:
        """Remember what happened before, then listen. Misconfigured when log or port cannot be had."""
        effects = self._log.open()
        self._book = Book(effects)
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
        log.info("psp.listening", host=host, port=self.port, effects=len(effects))

    async def stop(self) -> None:
        """Close the port and the log; what was accepted and not done is forgotten. Idempotent."""
        self._stopping.set()
        for task in self._later:
            task.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self._log.close()

    def _app(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.post("/v1/authorizations", self._authorize),
                web.post("/v1/authorizations/{id}/void", self._void),
                web.post("/v1/authorizations/{id}/reauthorize", self._reauthorize),
                web.post("/v1/authorizations/{id}/capture", self._capture),
                web.post("/v1/authorizations/{id}/refund", self._refund),
                web.get("/v1/operations/{key}", self._operation),
                web.get("/v1/effects", self._effects),
            ]
        )
        add_health_routes(app, lambda: {"log": True})
        return app

    # --- requests ---------------------------------------------------------------------------------

    async def _authorize(self, request: web.Request) -> web.StreamResponse:
        key, wanted = _key(request), await _wanted(request)
        return await self._by_script(
            request,
            reaction(wanted.token, self._count(key)),
            lambda: self._book.authorize(key, wanted, datetime.now(UTC)),
            201,
        )

    async def _void(self, request: web.Request) -> web.Response:
        key, held = _key(request), request.match_info["id"]
        return self._answer(lambda: self._book.void(key, held, datetime.now(UTC)), 200)

    async def _reauthorize(self, request: web.Request) -> web.Response:
        key, lapsed = _key(request), request.match_info["id"]
        return self._answer(lambda: self._book.reauthorize(key, lapsed, datetime.now(UTC)), 201)

    async def _capture(self, request: web.Request) -> web.StreamResponse:
        return await self._move(request, "capture")

    async def _refund(self, request: web.Request) -> web.StreamResponse:
        return await self._move(request, "refund")

    async def _move(self, request: web.Request, act: str) -> web.StreamResponse:
        """Capture or refund, as the token of the authorization says."""
        key, held = _key(request), request.match_info["id"]
        try:
            made = self._book.authorization(held)
        except NoSuchAuthorization:
            return _problem(404, "no_such_authorization")
        amount_minor = await _amount(request, made.amount_minor)
        move = self._book.capture if act == "capture" else self._book.refund
        return await self._by_script(
            request,
            reaction(made.token, self._count(key), act),
            lambda: move(key, held, amount_minor, datetime.now(UTC)),
            200,
        )

    def _count(self, key: str) -> int:
        """Which request of ``key`` this is, from 1; what has happened already is not counted."""
        if self._book.operation(key) is None:
            self._requests[key] += 1
        return self._requests[key]

    async def _by_script(
        self, request: web.Request, reacts: Reaction, act: _Act, status: int
    ) -> web.StreamResponse:
        """Do what the token says about this request; two at once under one key still have one effect."""
        key = _key(request)
        if self._book.operation(key) is not None:
            return self._answer(act, status)
        if reacts.accepted:
            if key not in self._at_it:
                task = asyncio.create_task(self._at(key, reacts.delay, act))
                self._later.add(task)
                task.add_done_callback(self._later.discard)
            return web.json_response({"status": "pending"}, status=202)
        if reacts.act:
            await self._at(key, reacts.delay, act)
        if not reacts.answer:
            return await self._never_answer(request)
        return self._answer(act, status) if reacts.act else _problem(503, "temporarily_unavailable")

    async def _at(self, key: str, delay: float, act: _Act) -> None:
        """Be at it under ``key`` for so long, and then act."""
        self._at_it[key] += 1
        try:
            if delay:
                await asyncio.sleep(delay)
            with suppress(KeyReused):  # whoever reused it is told so when it is answered
                self._keep(*act())
        finally:
            self._at_it[key] -= 1
            if not self._at_it[key]:
                del self._at_it[key]

    async def _operation(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        effect = self._book.operation(key)
        if effect is not None:
            return web.json_response(operation_body(effect))
        if key in self._at_it:
            return _problem(409, "operation_in_progress")
        return _problem(404, "no_such_operation")

    async def _effects(self, request: web.Request) -> web.Response:
        since = request.query.get("since", "0")
        if not since.isdecimal():
            return _problem(400, "invalid_request", "since: the id of an effect, 0 or more")
        found = self._book.since(int(since), request.query.get("reference"))
        return web.json_response({"effects": [asdict(effect) for effect in found]})

    # --- answers ----------------------------------------------------------------------------------

    def _answer(self, act: _Act, status: int) -> web.Response:
        try:
            effect, new = act()
        except KeyReused:
            return _problem(422, "idempotency_key_reused")
        except NoSuchAuthorization:
            return _problem(404, "no_such_authorization")
        except WrongState as error:
            return _problem(409, "wrong_state", str(error))
        self._keep(effect, new)
        return web.json_response(operation_body(effect), status=402 if effect.code else status)

    def _keep(self, effect: Effect, new: bool) -> None:
        if new:
            self._log.append(effect)
            log.info(f"psp.{effect.status}", key=effect.key, reference=effect.reference, code=effect.code)

    async def _never_answer(self, request: web.Request) -> web.Response:
        """Hold the connection until the caller gives up, or this service stops."""
        while request.transport is not None and not self._stopping.is_set():
            try:
                async with asyncio.timeout(0.2):
                    await self._stopping.wait()
            except TimeoutError:
                continue
        return _problem(503, "stopping")


def _key(request: web.Request) -> str:
    key = request.headers.get("Idempotency-Key", "")
    if not 0 < len(key) <= 255:
        raise _bad_request("Idempotency-Key: a header of 1 to 255 characters is needed")
    return key


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body: Any = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise _bad_request("the body must be a JSON object")
    return body


async def _amount(request: web.Request, whole: int) -> int:
    """The amount to capture or refund; ``whole`` when none is given."""
    body = await _body(request) if request.can_read_body else {}
    amount = body.get("amount_minor", whole)
    if type(amount) is not int or amount < 1:
        raise _bad_request(f"amount_minor: {amount!r} is no whole number above 0")
    return amount


async def _wanted(request: web.Request) -> Request:
    body = await _body(request)
    for name, kind in (("amount_minor", int), ("currency", str), ("token", str), ("reference", str)):
        if type(body.get(name)) is not kind or body[name] == "":
            raise _bad_request(f"{name}: {body.get(name)!r} is no {kind.__name__}, or empty")
    if body["amount_minor"] < 1:
        raise _bad_request(f"amount_minor: {body['amount_minor']} is below 1")
    return Request(body["reference"], body["token"], body["amount_minor"], body["currency"])


def _bad_request(detail: str) -> web.HTTPBadRequest:
    answer = _problem(400, "invalid_request", detail)
    return web.HTTPBadRequest(text=answer.text, content_type="application/json")


def _problem(status: int, code: str, detail: str | None = None) -> web.Response:
    return web.json_response({"code": code, "detail": detail} if detail else {"code": code}, status=status)
