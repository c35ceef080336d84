"""How do the simulated courier's updates reach whoever wants to know: signed, and again if need be?"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aiohttp
import structlog

from fulcrum.settings import Settings
from fulcrum.workers.signature import HEADER, sign

log = structlog.get_logger()

#: Attempts of one webhook; the pause before the second is one ``retry_unit``, and doubles.
TRIES = 6
_WITHIN = 5.0
#: How old the signature of a replay is, in seconds.
OLD = 3600


class WebhookSender:
    """Sends webhooks until ``close``; what is not delivered after a few attempts is given up."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.courier_webhook_url
        self._secrets = settings.webhook_secrets
        self._unit = settings.retry_unit
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_WITHIN))
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, update: dict[str, Any], age: int = 0) -> None:
        """Send ``update`` without waiting for it; ``age`` is how long ago it was signed."""
        task = asyncio.create_task(self._deliver(json.dumps(update).encode(), update, age))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop sending."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    async def _deliver(self, body: bytes, update: dict[str, Any], age: int) -> None:
        status = 0
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(self._unit * 2 ** (attempt - 1))
            status = await self._post(body, int(time.time()) - age)
            log.info("courier.webhook", update=update["update_id"], status=status, attempt=attempt + 1)
            if 200 <= status < 300 or age:
                return
        log.warning("courier.webhook_given_up", update=update["update_id"], status=status)

    async def _post(self, body: bytes, at: int) -> int:
        """The status of the answer; 0 when there is none."""
        headers = {HEADER: sign(self._secrets, body, at), "Content-Type": "application/json"}
        try:
            async with self._session.post(self._url, data=body, headers=headers) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return 0
