"""The simulated courier: a real HTTP service that stands for the outside world.

::

    POST /shipments                Idempotency-Key; {reference, ship_to, parcels}
                                   201 {shipment_id, tracking_number, label_url, status} | 422 {code}
    GET  /shipments/{id}           200 {shipment_id, status, updates} | 404
    GET  /shipments/{id}/label     200 the label as text | 404
    POST /shipments/{id}/cancel    Idempotency-Key; 200 {status: cancelled | returning} | 404
                                   409 {code: cannot_be_stopped | over, status}
    GET  /operations/{key}         what became of a booking: 200 | 404 | 409 still at it
    GET  /effects?reference=&since= what really happened, one entry an effect, after number `since`

A shipment moves on by itself every ``courier_pace`` seconds, and each move is sent as a signed webhook to
``courier_webhook_url``. The same key gets the same answer and no second effect. A restart remembers what
happened, and goes on; webhooks that were not delivered before are not sent again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import structlog
from aiohttp import web

from fulcrum.errors import Misconfigured
from fulcrum.settings import Settings
from fulcrum.telemetry.health import add_health_routes
from fulcrum.workers.courier_book import Book, Effect, KeyReused, NoSuchShipment, Request, update_body
from fulcrum.workers.courier_sender import OLD, WebhookSender
from fulcrum.workers.courier_tokens import script
from fulcrum.workers.effect_log import EffectLog

DEFAULT_PORT = 8092

log = structlog.get_logger()


class CourierSimulator:
    """Listens from ``start`` to ``stop``; ``port`` 0 in ``start`` takes a free one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = EffectLog(settings.courier_log, "courier_log", Effect)
        self._book = Book()
        self._sender: WebhookSender | None = None
        self._requests: Counter[str] = Counter()
        self._moving: dict[str, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, port: int | None = None) -> None:
        """Remember what happened before, listen, and move on what is under way.

        Misconfigured when log or port cannot be had.
        """
        effects = self._log.open()
        self._book = Book(effects)
        self._sender = WebhookSender(self._settings)
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
        for shipment in self._book.under_way():
            self._move_on(shipment)
        log.info("courier.listening", host=host, port=self.port, effects=len(effects))

    async def stop(self) -> None:
        """Close the port and the log. Idempotent."""
        self._stopping.set()
        for task in list(self._moving.values()):
            task.cancel()
        if self._sender is not None:
            await self._sender.close()
            self._sender = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self._log.close()

    def effects(self, reference: str) -> list[Effect]:
        """What really happened for one reference."""
        return self._book.since(0, reference)

    def _app(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.post("/shipments", self._post),
                web.get("/shipments/{id}", self._shipment),
                web.get("/shipments/{id}/label", self._label),
                web.post("/shipments/{id}/cancel", self._cancel),
                web.get("/operations/{key}", self._operation),
                web.get("/effects", self._effects),
            ]
        )
        add_health_routes(app, lambda: {"log": True})
        return app

    # --- requests ---------------------------------------------------------------------------------

    async def _post(self, request: web.Request) -> web.Response:
        key, wanted = _key(request), await _wanted(request)
        known = self._book.operation(key) is not None
        self._requests[key] += 1
        says = script(wanted.ship_to)
        if not known and self._requests[key] <= says.busy:
            return _problem(503, "temporarily_unavailable")
        try:
            effect = self._keep(*self._book.book(key, wanted, datetime.now(UTC)))
        except KeyReused:
            return _problem(409, "idempotency_key_reused")
        if says.mute and not known:
            return await self._never_answer(request)
        return self._booking(effect, 201)

    def _booking(self, effect: Effect, status: int) -> web.Response:
        if effect.shipment_id is None:
            return _problem(422 if status == 201 else status, effect.code or "refused")
        shipment = effect.shipment_id
        body = {
            "shipment_id": shipment,
            "tracking_number": f"TRK{shipment[4:16].upper()}",
            "label_url": f"http://{self._settings.http_host}:{self.port}/shipments/{shipment}/label",
            "status": str(self._book.status(shipment)),
        }
        return web.json_response(body, status=status)

    async def _shipment(self, request: web.Request) -> web.Response:
        shipment = request.match_info["id"]
        try:
            history = self._book.history(shipment)
        except NoSuchShipment:
            return _problem(404, "no_such_shipment")
        return web.json_response(
            {
                "shipment_id": shipment,
                "status": history[-1].status,
                "updates": [update_body(effect) for effect in history],
            }
        )

    async def _label(self, request: web.Request) -> web.Response:
        shipment = request.match_info["id"]
        try:
            booked = self._book.history(shipment)[0]
        except NoSuchShipment:
            return _problem(404, "no_such_shipment")
        return web.Response(text=f"{shipment}\n{booked.ship_to}\n{booked.parcels} parcel(s)\n")

    async def _cancel(self, request: web.Request) -> web.Response:
        key, shipment = _key(request), request.match_info["id"]
        try:
            effect = self._keep(*self._book.stop(key, shipment, datetime.now(UTC)))
        except KeyReused:
            return _problem(409, "idempotency_key_reused")
        except NoSuchShipment:
            return _problem(404, "no_such_shipment")
        if effect.code is not None:
            body = {"code": effect.code, "status": str(self._book.status(shipment))}
            return web.json_response(body, status=409)
        over = self._book.status(shipment) == "cancelled"
        return web.json_response({"status": "cancelled" if over else "returning"})

    async def _operation(self, request: web.Request) -> web.Response:
        effect = self._book.operation(request.match_info["key"])
        if effect is None or effect.kind not in ("book", "refuse"):
            return _problem(404, "no_such_operation")
        return self._booking(effect, 200)

    async def _effects(self, request: web.Request) -> web.Response:
        since = request.query.get("since", "0")
        if not since.isdecimal():
            return _problem(400, "invalid_request", "since: the id of an effect, 0 or more")
        found = self._book.since(int(since), request.query.get("reference"))
        return web.json_response({"effects": [asdict(effect) for effect in found]})

    # --- what happens by itself -------------------------------------------------------------------

    def _keep(self, effect: Effect, new: bool) -> Effect:
        """Write ``effect`` down before anybody hears of it, and go on from there."""
        if not new:
            return effect
        self._log.append(effect)
        log.info(f"courier.{effect.kind}", shipment_id=effect.shipment_id, reference=effect.reference)
        if effect.shipment_id is not None:
            if effect.sequence is not None and effect.kind != "book":
                self._tell(effect)
            self._move_on(effect.shipment_id)
        return effect

    def _move_on(self, shipment: str) -> None:
        if shipment not in self._moving and self._book.due(shipment) is not None:
            self._moving[shipment] = asyncio.create_task(self._travel(shipment))

    async def _travel(self, shipment: str) -> None:
        try:
            while self._book.due(shipment) is not None:
                await asyncio.sleep(self._settings.courier_pace)
                effect = self._book.move(shipment, datetime.now(UTC))
                if effect is not None:
                    self._keep(effect, new=True)
        finally:
            # At once, and not when the loop gets to it: a cancellation may set the shipment in motion again.
            del self._moving[shipment]

    def _tell(self, effect: Effect) -> None:
        """Send the webhooks of a move as the address says."""
        assert effect.shipment_id is not None
        assert self._sender is not None
        says = self._book.script(effect.shipment_id)
        if says.silent:
            return
        told = [effect]
        if says.backwards:
            last = self._book.due(effect.shipment_id) is None
            told = self._book.history(effect.shipment_id)[:0:-1] if last else []
        for each in told:
            body = update_body(each)
            for _ in range(2 if says.twice else 1):
                self._sender.send(body)
            if says.replayed:
                self._sender.send(body, age=OLD)

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


async def _wanted(request: web.Request) -> Request:
    try:
        body: Any = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise _bad_request("the body must be a JSON object")
    for name, kind in (("reference", str), ("ship_to", str), ("parcels", int)):
        if type(body.get(name)) is not kind or body[name] == "":
            raise _bad_request(f"{name}: {body.get(name)!r} is no {kind.__name__}, or empty")
    if body["parcels"] < 1:
        raise _bad_request(f"parcels: {body['parcels']} is below 1")
    return Request(body["reference"], body["ship_to"], body["parcels"])


def _bad_request(detail: str) -> web.HTTPBadRequest:
    answer = _problem(400, "invalid_request", detail)
    return web.HTTPBadRequest(text=answer.text, content_type="application/json")


def _problem(status: int, code: str, detail: str | None = None) -> web.Response:
    return web.json_response({"code": code, "detail": detail} if detail else {"code": code}, status=status)
