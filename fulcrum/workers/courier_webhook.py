"""Which bytes that come to ``POST /webhooks/courier`` are news, and what is their sender told?

::

    200 {"status": "kept" | "seen_before"}      it is committed, or was before
    400 {"code": "invalid_update", detail}      the field that is wrong
    401 {"code": "not_signed", detail}          no signature of ours, or an old one: nothing was read
    404 {"code": "unknown_shipment", detail}    nothing is kept; it may be told again
    409 {"code": "update_id_reused", detail}    this id stood for something else
    413                                         more than 64 KiB
    503 {"code": "later", detail}               Postgres is away, or this process is starting: again, please
"""

from __future__ import annotations

import time

import structlog
from aiohttp import web

from fulcrum.errors import Conflict, Corrupt, Forbidden, NotFound, Retryable
from fulcrum.settings import Settings
from fulcrum.telemetry.metrics import courier_webhooks
from fulcrum.workers.courier_news import WEBHOOK, CourierNews
from fulcrum.workers.signature import HEADER, verify
from fulcrum.workers.tracking import parse_update

log = structlog.get_logger()

PATH = "/webhooks/courier"
LIMIT = 64 * 1024


class CourierWebhook:
    """Takes signed updates, once ``news`` is set; each answer is given after the commit."""

    def __init__(self, settings: Settings) -> None:
        self._secrets = settings.webhook_secrets
        self._tolerance = settings.webhook_tolerance
        self.news: CourierNews | None = None
        if not self._secrets:
            log.warning("webhook.no_secret", remedy="set FULCRUM_WEBHOOK_SECRET; until then all is refused")

    @property
    def routes(self) -> list[web.RouteDef]:
        """Where it is served."""
        return [web.post(PATH, self._post)]

    async def _post(self, request: web.Request) -> web.Response:
        body = await self._read(request)
        if body is None:
            return _told(413, "too_large", f"an update has {LIMIT} bytes at most")
        try:
            verify(request.headers.get(HEADER), body, self._secrets, time.time(), self._tolerance)
            update = parse_update(body)
            if self.news is None:
                return _told(503, "later", "this process is starting")
            taken = await self.news.take(update.shipment_id, [(update, body)], WEBHOOK)
        except Forbidden as error:
            return _told(401, "not_signed", str(error))
        except Corrupt as error:
            return _told(400, "invalid_update", str(error))
        except NotFound as error:
            return _told(404, "unknown_shipment", str(error))
        except Conflict as error:
            return _told(409, "update_id_reused", str(error))
        except Retryable as error:
            return _told(503, "later", str(error))
        status = "kept" if taken else "seen_before"
        courier_webhooks.labels(status).inc()
        return web.json_response({"status": status})

    async def _read(self, request: web.Request) -> bytes | None:
        """The body; None when it is too long, whatever its header says of its length."""
        body = bytearray()
        async for piece in request.content.iter_any():
            body += piece
            if len(body) > LIMIT:
                return None
        return bytes(body)


def _told(status: int, code: str, detail: str) -> web.Response:
    courier_webhooks.labels(code).inc()
    log.warning("webhook.refused", status=status, code=code, detail=detail)
    return web.json_response({"code": code, "detail": detail}, status=status)
