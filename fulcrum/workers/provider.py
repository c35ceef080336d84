"""How is the payment provider asked, and what does its silence mean?

``Unavailable``: it was not reached, or said that it did nothing, or is left alone. ``OutcomeUnknown``: it was
reached and did not say what it did, so it may have acted. ``Rejected``: it does not understand us, and will
not later.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import aiohttp

from fulcrum.errors import OutcomeUnknown, Rejected, Unavailable
from fulcrum.settings import Settings
from fulcrum.telemetry.metrics import psp_calls, psp_calls_in_progress, psp_seconds
from fulcrum.workers.breaker import Breaker, LeftAlone
from fulcrum.workers.payment_moves import (
    Authorized,
    Captured,
    CaptureRefused,
    Declined,
    Outcome,
    Refunded,
    RefundRefused,
    Voided,
    VoidRefused,
)

#: The provider is at it under this very key, or is too busy to begin.
_LATER = {202: None, 409: "operation_in_progress", 429: None}
_REFUSED = frozenset({402})


class Provider:
    """The payment provider over HTTP. Amounts are in minor units; ``key`` makes a repeat harmless.

    At most ``psp_concurrency`` calls are under way; each has ``psp_timeout`` seconds from when it begins.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.psp_url.rstrip("/")
        self._free = asyncio.Semaphore(settings.psp_concurrency)
        self._breaker = Breaker(settings.psp_breaker_failures, settings.psp_breaker_seconds)
        # Waiting for a free connection is not the provider's silence, so there are as many as calls.
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=settings.psp_timeout),
            connector=aiohttp.TCPConnector(limit=settings.psp_concurrency),
        )

    @property
    def left_alone(self) -> bool:
        """Whether calls fail at once, because too many failed before."""
        return self._breaker.open

    async def authorize(
        self, key: str, amount_minor: int, currency: str, token: str, reference: str
    ) -> Authorized | Declined:
        """Hold the amount on the payment method; ``reference`` is our name for the business."""
        wanted = {"amount_minor": amount_minor, "currency": currency, "token": token, "reference": reference}
        status, body = await self._ask("authorize", "POST", "/v1/authorizations", key, wanted)
        match status, body:
            case 201, {"authorization_id": str(held)}:
                return Authorized(held, _expiry("authorize", status, body))
            case 402, {"code": str(code)}:
                return Declined(code)
        raise _refused("authorize", status, body)

    async def void(self, authorization_id: str, key: str) -> Voided | VoidRefused:
        """Give up what is held; what was given up before stays so."""
        status, body = await self._ask("void", "POST", _of(authorization_id, "void"), key)
        match status, body:
            case 200, _:
                return Voided(authorization_id)
            case 409, {"code": "wrong_state"}:
                return VoidRefused(authorization_id)
        raise _refused(f"void {authorization_id}", status, body)

    async def reauthorize(self, authorization_id: str, key: str) -> Authorized | Declined:
        """Hold the amount of ``authorization_id`` anew, which has lapsed."""
        status, body = await self._ask("reauthorize", "POST", _of(authorization_id, "reauthorize"), key)
        match status, body:
            case 201, {"authorization_id": str(held)}:
                return Authorized(held, _expiry("reauthorize", status, body))
            case 402, {"code": str(code)}:
                return Declined(code)
        raise _refused(f"reauthorize {authorization_id}", status, body)

    async def capture(self, authorization_id: str, amount_minor: int, key: str) -> Captured | CaptureRefused:
        """Take so much of what is held."""
        wanted = {"amount_minor": amount_minor}
        status, body = await self._ask("capture", "POST", _of(authorization_id, "capture"), key, wanted)
        match status, body:
            case 200, {"amount_minor": int(taken)}:
                return Captured(authorization_id, taken)
            case 402, {"code": str(code)}:
                return CaptureRefused(code, key)
        raise _refused(f"capture {authorization_id}", status, body)

    async def refund(self, authorization_id: str, amount_minor: int, key: str) -> Refunded | RefundRefused:
        """Give so much back of what was taken."""
        wanted = {"amount_minor": amount_minor}
        status, body = await self._ask("refund", "POST", _of(authorization_id, "refund"), key, wanted)
        match status, body:
            case 200, {"amount_minor": int(given)}:
                return Refunded(authorization_id, given)
            case 402, {"code": str(code)}:
                return RefundRefused(code)
        raise _refused(f"refund {authorization_id}", status, body)

    async def outcome_of(self, key: str) -> Outcome | None:
        """What happened under ``key``; None when nothing did."""
        status, body = await self._ask("look_up", "GET", f"/v1/operations/{quote(key, safe='')}")
        match status, body:
            case 404, _:
                return None
            case 200, {"status": "authorized", "authorization_id": str(held)}:
                return Authorized(held, _expiry(f"look up {key}", status, body))
            case 200, {"status": "voided", "authorization_id": str(held)}:
                return Voided(held)
            case 200, {"status": "captured", "authorization_id": str(held), "amount_minor": int(amount)}:
                return Captured(held, amount)
            case 200, {"status": "refunded", "authorization_id": str(held), "amount_minor": int(amount)}:
                return Refunded(held, amount)
            case 200, {"status": "declined", "code": str(code)}:
                return Declined(code)
            case 200, {"status": "capture_refused", "code": str(code)}:
                return CaptureRefused(code, key)
            case 200, {"status": "refund_refused", "code": str(code)}:
                return RefundRefused(code)
        raise _refused(f"look up {key}", status, body)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def _ask(
        self, call: str, method: str, path: str, key: str | None = None, body: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        headers = {} if key is None else {"Idempotency-Key": key}
        async with self._free:
            with _counted(call) as outcome:
                with self._breaker.watching():
                    status, text = await self._exchange(method, path, headers, body)
                    said = self._readable(status, text)
                if status in _LATER and _LATER[status] in (None, said.get("code")):
                    detail = said.get("code") or said.get("status") or ""
                    raise OutcomeUnknown(f"The payment provider is not done: {status} {detail}".rstrip())
                if status >= 400:
                    nothing = call == "look_up" and status == 404
                    outcome.append("refused" if status in _REFUSED else "done" if nothing else "rejected")
        return status, said

    async def _exchange(
        self, method: str, path: str, headers: dict[str, str], body: dict[str, Any] | None
    ) -> tuple[int, bytes]:
        try:
            async with self._session.request(method, self._url + path, json=body, headers=headers) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Unavailable(f"The payment provider at {self._url} cannot be reached: {error}") from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
            raise OutcomeUnknown(
                f"The payment provider at {self._url} did not answer {method} {path}: {error!r}"
            ) from error

    def _readable(self, status: int, text: bytes) -> dict[str, Any]:
        try:
            body = json.loads(text)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            body = {"detail": text[:200].decode(errors="replace")}
        if status >= 500:
            raise Unavailable(f"The payment provider at {self._url} answers {status} {body.get('code', '')}")
        return body


@contextmanager
def _counted(call: str) -> Iterator[list[str]]:
    """Count a call and its time; the last outcome that is put into the list counts, or else the error."""
    outcome = ["done"]
    began = time.perf_counter()
    psp_calls_in_progress.inc()
    try:
        yield outcome
    except LeftAlone:
        outcome.append("left_alone")
        raise
    except Unavailable:
        outcome.append("unavailable")
        raise
    except OutcomeUnknown:
        outcome.append("unknown")
        raise
    finally:
        psp_calls_in_progress.dec()
        psp_calls.labels(call, outcome[-1]).inc()
        if outcome[-1] != "left_alone":
            psp_seconds.labels(call).observe(time.perf_counter() - began)


def _of(authorization_id: str, act: str) -> str:
    return f"/v1/authorizations/{quote(authorization_id, safe='')}/{act}"


def _expiry(act: str, status: int, body: dict[str, Any]) -> datetime | None:
    """When the hold lapses; None when it does not."""
    said = body.get("expires_at")
    if said is None:
        return None
    try:
        expiry = datetime.fromisoformat(said)
    except (TypeError, ValueError):
        expiry = None
    if expiry is None or expiry.tzinfo is None:
        detail = f"expires_at {said!r} is no time with an offset, like 2026-03-01T12:00:00+00:00"
        raise _refused(act, status, {"detail": detail})
    return expiry.astimezone(UTC)


def _refused(act: str, status: int, body: dict[str, Any]) -> Rejected:
    detail = " ".join(str(body[name]) for name in ("code", "detail") if name in body)
    return Rejected(f"The payment provider refuses to {act}: {status} {detail}".rstrip())
