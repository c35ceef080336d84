"""How is the courier asked, and what does its silence mean?

``Unavailable``: it was not reached, or said that it did nothing, or is left alone. ``OutcomeUnknown``: it was
reached and did not say what it did, so it may have acted. ``Rejected``: it does not understand us, and will
not later.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import aiohttp

from fulcrum.errors import OutcomeUnknown, Rejected, Unavailable
from fulcrum.settings import Settings
from fulcrum.telemetry.metrics import (
    courier_breaker_open,
    courier_calls,
    courier_calls_in_progress,
    courier_seconds,
)
from fulcrum.workers.breaker import Breaker, LeftAlone
from fulcrum.workers.courier_moves import Booked, BookingRefused, NotStopped, Stopped

#: The courier is at it under this very key, or is too busy to begin.
_LATER = {409: "operation_in_progress", 429: None}
#: It understands, and says no.
_REFUSED = {409: ("cannot_be_stopped", "over"), 422: ("unknown_address",)}


class Courier:
    """The courier over HTTP. ``key`` makes a repeat harmless.

    At most ``courier_concurrency`` calls are under way; each has ``courier_timeout`` seconds from when it
    begins.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.courier_url.rstrip("/")
        self._free = asyncio.Semaphore(settings.courier_concurrency)
        self._breaker = Breaker(
            settings.courier_breaker_failures,
            settings.courier_breaker_seconds,
            "courier",
            "courier",
            courier_breaker_open,
        )
        # Waiting for a free connection is not the courier's silence, so there are as many as calls.
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=settings.courier_timeout),
            connector=aiohttp.TCPConnector(limit=settings.courier_concurrency),
        )

    @property
    def left_alone(self) -> bool:
        """Whether calls fail at once, because too many failed before."""
        return self._breaker.open

    async def book(self, key: str, reference: str, ship_to: str, parcels: int) -> Booked | BookingRefused:
        """Have so many parcels fetched and brought there; ``reference`` is our name for the business."""
        wanted = {"reference": reference, "ship_to": ship_to, "parcels": parcels}
        status, body = await self._ask("book", "POST", "/shipments", key, wanted)
        found = _booking(key, body) if status in (201, 422) else None
        if found is None:
            raise _refused("book", status, body)
        return found

    async def booking_of(self, key: str) -> Booked | BookingRefused | None:
        """What became of the booking ``key``; None when nothing did."""
        status, body = await self._ask("look_up", "GET", f"/operations/{quote(key, safe='')}")
        if status == 404:
            return None
        found = _booking(key, body) if status == 200 else None
        if found is None:
            raise _refused(f"look up {key}", status, body)
        return found

    async def stop(self, shipment_id: str, key: str) -> Stopped | NotStopped:
        """Have the shipment not fetched, or brought back."""
        status, body = await self._ask("stop", "POST", f"{_of(shipment_id)}/cancel", key)
        match status, body:
            case 200, {"status": "cancelled" | "returning" as said}:
                return Stopped(str(said))
            case 409, {"code": "cannot_be_stopped" | "over" as code, "status": str(said)}:
                return NotStopped(str(code), said)
        raise _refused(f"stop {shipment_id}", status, body)

    async def updates_of(self, shipment_id: str) -> Sequence[Mapping[str, Any]]:
        """All that has happened to the shipment, as the courier tells it."""
        status, body = await self._ask("updates", "GET", _of(shipment_id))
        match status, body:
            case 200, {"updates": list(updates)}:
                return [each for each in updates if isinstance(each, dict)]
        raise _refused(f"tell of {shipment_id}", status, body)

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
                    raise OutcomeUnknown(f"The courier is not done: {status} {said.get('code', '')}".rstrip())
                if status >= 400:
                    nothing = call == "look_up" and status == 404
                    refused = said.get("code") in _REFUSED.get(status, ())
                    outcome.append("refused" if refused else "done" if nothing else "rejected")
        return status, said

    async def _exchange(
        self, method: str, path: str, headers: dict[str, str], body: dict[str, Any] | None
    ) -> tuple[int, bytes]:
        try:
            async with self._session.request(method, self._url + path, json=body, headers=headers) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Unavailable(f"The courier at {self._url} cannot be reached: {error}") from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
            raise OutcomeUnknown(
                f"The courier at {self._url} did not answer {method} {path}: {error!r}"
            ) from error

    def _readable(self, status: int, text: bytes) -> dict[str, Any]:
        try:
            body = json.loads(text)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            body = {"detail": text[:200].decode(errors="replace")}
        if status >= 500:
            raise Unavailable(f"The courier at {self._url} answers {status} {body.get('code', '')}".rstrip())
        return body


@contextmanager
def _counted(call: str) -> Iterator[list[str]]:
    """Count a call and its time; the last outcome that is put into the list counts, or else the error."""
    outcome = ["done"]
    began = time.perf_counter()
    courier_calls_in_progress.inc()
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
        courier_calls_in_progress.dec()
        courier_calls.labels(call, outcome[-1]).inc()
        if outcome[-1] != "left_alone":
            courier_seconds.labels(call).observe(time.perf_counter() - began)


def _booking(key: str, body: dict[str, Any]) -> Booked | BookingRefused | None:
    match body:
        case {"shipment_id": str(shipment), "tracking_number": str(number), "label_url": str(label)}:
            return Booked(key, shipment, number, label)
        case {"code": "unknown_address" as code}:
            return BookingRefused(key, code)
    return None


def _of(shipment_id: str) -> str:
    return f"/shipments/{quote(shipment_id, safe='')}"


def _refused(act: str, status: int, body: dict[str, Any]) -> Rejected:
    detail = " ".join(str(body[name]) for name in ("code", "detail") if name in body)
    return Rejected(f"The courier refuses to {act}: {status} {detail}".rstrip())
