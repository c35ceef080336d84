"""How does a process wait at its start for a server that is not there yet? With one log line a try."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from fulcrum.errors import Retryable

log = structlog.get_logger()

_Opened = TypeVar("_Opened")
_WAIT_FIRST, _WAIT_LAST = 0.25, 5.0


async def patiently(server: str, attempt: Callable[[], Awaitable[_Opened]]) -> _Opened:
    """Try ``attempt`` until it succeeds; only Retryable is waited out, anything else is raised."""
    wait = _WAIT_FIRST
    while True:
        try:
            return await attempt()
        except Retryable as error:
            log.warning("start.waiting", server=server, error=str(error), retry_in=wait)
            await asyncio.sleep(wait)
            wait = min(wait * 2, _WAIT_LAST)
