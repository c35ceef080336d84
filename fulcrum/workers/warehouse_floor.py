"""How is the warehouse floor asked, and what does its silence mean?

Every question may be asked again without harm, so whether the floor acted is never in doubt for long: it is
asked once more. ``Unavailable``: it was not reached, said that it did nothing, or is left alone.
``OutcomeUnknown``: it was reached and did not answer. ``Rejected``: it does not understand us.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import aiohttp

from fulcrum.errors import OutcomeUnknown, Rejected, Unavailable
from fulcrum.settings import Settings
from fulcrum.telemetry.metrics import (
    warehouse_breaker_open,
    warehouse_calls,
    warehouse_calls_in_progress,
    warehouse_seconds,
)
from fulcrum.workers.breaker import Breaker, LeftAlone
from fulcrum.workers.warehouse_jobs import (
    Ask,
    HandOver,
    Learned,
    Look,
    NoTask,
    Offer,
    Pack,
    PickAgain,
    PutBack,
    Task,
    TaskState,
)

#: What was asked for is done, was done before, or cannot be done: the task that comes with it tells which.
_TELLS = frozenset({200, 201, 409})
_TASKS = "/v1/tasks"
_SHOWN = {state.value: state for state in TaskState if state != TaskState.REFUSED}


class Floor:
    """The warehouse floor over HTTP.

    At most ``warehouse_concurrency`` calls are under way; each has ``warehouse_timeout`` seconds from when
    it begins.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.warehouse_url.rstrip("/")
        self._free = asyncio.Semaphore(settings.warehouse_concurrency)
        self._breaker = Breaker(
            settings.warehouse_breaker_failures,
            settings.warehouse_breaker_seconds,
            "warehouse floor",
            "warehouse",
            warehouse_breaker_open,
        )
        # Waiting for a free connection is not the floor's silence, so there are as many as calls.
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=settings.warehouse_timeout),
            connector=aiohttp.TCPConnector(limit=settings.warehouse_concurrency),
        )

    @property
    def left_alone(self) -> bool:
        """Whether calls fail at once, because too many failed before."""
        return self._breaker.open

    async def ask(self, ask: Ask) -> Learned:
        """Ask, and return the task as it then is."""
        match ask:
            case Offer(key, reference, ship_to, lines):
                wanted = {
                    "reference": reference,
                    "ship_to": ship_to,
                    "lines": [{"sku": sku, "quantity": quantity} for sku, quantity in lines],
                }
                return await self._call("offer", "POST", _TASKS, wanted, {"Idempotency-Key": key})
            case Look(key):
                return await self._call("look", "GET", _of(key))
            case PickAgain(key):
                return await self._call("pick_again", "POST", f"{_of(key)}/pick")
            case Pack(key):
                return await self._call("pack", "POST", f"{_of(key)}/pack")
            case PutBack(key):
                return await self._call("put_back", "POST", f"{_of(key)}/cancel")
            case HandOver(key, tracking_number):
                wanted = {"tracking_number": tracking_number}
                return await self._call("hand_over", "POST", f"{_of(key)}/hand-over", wanted)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def _call(
        self,
        call: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Learned:
        async with self._free:
            with _counted(call) as outcome:
                with self._breaker.watching():
                    status, text = await self._exchange(method, path, body, headers)
                    said = self._readable(status, text)
                if status == 404:
                    return NoTask()
                if status in _TELLS:
                    return _task(call, status, said)
                outcome.append("rejected")
        if call == "offer" and status in (400, 422):
            return Task(TaskState.REFUSED)
        raise _rejected(call, status, said)

    async def _exchange(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str] | None
    ) -> tuple[int, bytes]:
        try:
            async with self._session.request(method, self._url + path, json=body, headers=headers) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Unavailable(f"The warehouse floor at {self._url} cannot be reached: {error}") from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
            raise OutcomeUnknown(
                f"The warehouse floor at {self._url} did not answer {method} {path}: {error!r}"
            ) from error

    def _readable(self, status: int, text: bytes) -> dict[str, Any]:
        try:
            body = json.loads(text)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            body = {"detail": text[:200].decode(errors="replace")}
        if status >= 500 or status == 429:
            raise Unavailable(f"The warehouse floor at {self._url} answers {status} {body.get('code', '')}")
        return body


def _task(call: str, status: int, said: Mapping[str, Any]) -> Task:
    match said:
        case {"state": str(state), "lines": list(lines), "parcels": int(parcels)} if state in _SHOWN:
            picked: list[Any] = [line.get("picked") for line in lines if isinstance(line, dict)]
            if len(picked) == len(lines) and all(type(units) is int and units >= 0 for units in picked):
                return Task(_SHOWN[state], tuple(picked), parcels)
    raise _rejected(call, status, {"detail": f"{said} is no task"})


def _rejected(call: str, status: int, said: Mapping[str, Any]) -> Rejected:
    detail = " ".join(str(said[name]) for name in ("code", "detail") if name in said)
    return Rejected(f"The warehouse floor refuses to {call.replace('_', ' ')}: {status} {detail}".rstrip())


def _of(key: str) -> str:
    return f"{_TASKS}/{quote(key, safe='')}"


@contextmanager
def _counted(call: str) -> Iterator[list[str]]:
    """Count a call and its time; the last outcome that is put into the list counts, or else the error."""
    outcome = ["done"]
    began = time.perf_counter()
    warehouse_calls_in_progress.inc()
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
    except Rejected:
        outcome.append("rejected")
        raise
    finally:
        warehouse_calls_in_progress.dec()
        warehouse_calls.labels(call, outcome[-1]).inc()
        if outcome[-1] != "left_alone":
            warehouse_seconds.labels(call).observe(time.perf_counter() - began)
