"""How is the payment provider asked, and what does its silence mean?

``Unavailable``: it was not reached, or said that it did nothing. ``OutcomeUnknown``: it was reached and did
not say what it did, so it may have acted. ``Rejected``: it does not understand us, and will not later.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import aiohttp

from fulcrum.errors import OutcomeUnknown, Rejected, Unavailable
from fulcrum.settings import Settings
from fulcrum.workers.payment_moves import Authorized, Declined, Outcome, Voided

#: The provider is at it under this very key, or is too busy to begin.
_LATER = {409: "operation_in_progress", 429: None}


class Provider:
    """The payment provider over HTTP. Amounts are in minor units; ``key`` makes a repeat harmless."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.psp_url.rstrip("/")
        # Waiting for a free connection is not the provider's silence, so there are as many as commands.
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=settings.psp_timeout),
            connector=aiohttp.TCPConnector(limit=settings.concurrency),
        )

    async def authorize(
        self, key: str, amount_minor: int, currency: str, token: str, reference: str
    ) -> Authorized | Declined:
        """Hold the amount on the payment method; ``reference`` is our name for the business."""
        wanted = {"amount_minor": amount_minor, "currency": currency, "token": token, "reference": reference}
        status, body = await self._ask("POST", "/v1/authorizations", key, wanted)
        match status, body:
            case 201, {"authorization_id": str(held)}:
                return Authorized(held, _expiry("authorize", status, body))
            case 402, {"code": str(code)}:
                return Declined(code)
        raise _refused("authorize", status, body)

    async def void(self, authorization_id: str, key: str) -> Voided:
        """Give up what is held; what was given up before stays so."""
        path = f"/v1/authorizations/{quote(authorization_id, safe='')}/void"
        status, body = await self._ask("POST", path, key)
        if status == 200:
            return Voided(authorization_id)
        raise _refused(f"void {authorization_id}", status, body)

    async def outcome_of(self, key: str) -> Outcome | None:
        """What happened under ``key``; None when nothing did."""
        status, body = await self._ask("GET", f"/v1/operations/{quote(key, safe='')}")
        match status, body:
            case 404, _:
                return None
            case 200, {"status": "authorized", "authorization_id": str(held)}:
                return Authorized(held, _expiry(f"look up {key}", status, body))
            case 200, {"status": "voided", "authorization_id": str(held)}:
                return Voided(held)
            case 200, {"status": "declined", "code": str(code)}:
                return Declined(code)
        raise _refused(f"look up {key}", status, body)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def _ask(
        self, method: str, path: str, key: str | None = None, body: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        headers = {} if key is None else {"Idempotency-Key": key}
        try:
            async with self._session.request(method, self._url + path, json=body, headers=headers) as answer:
                status, text = answer.status, await answer.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Unavailable(f"The payment provider at {self._url} cannot be reached: {error}") from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
            raise OutcomeUnknown(
                f"The payment provider at {self._url} did not answer {method} {path}: {error!r}"
            ) from error
        return status, self._readable(status, text)

    def _readable(self, status: int, text: bytes) -> dict[str, Any]:
        try:
            body = json.loads(text)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            body = {"detail": text[:200].decode(errors="replace")}
        if status >= 500:
            raise Unavailable(f"The payment provider at {self._url} answers {status} {body.get('code', '')}")
        if status in _LATER and _LATER[status] in (None, body.get("code")):
            raise OutcomeUnknown(f"The payment provider is not done: {status} {body.get('code', '')}")
        return body


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
