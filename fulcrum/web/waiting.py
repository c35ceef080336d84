"""How long may a request wait for what the read model is about to show?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Seen = TypeVar("Seen")

#: How long a client may wait for its own write, and how often is looked meanwhile (seconds).
WAIT_MOST = 2.0
_LOOK_FIRST, _LOOK_LAST = 0.02, 0.25


async def look_until(look: Callable[[], Awaitable[Seen]], good: Callable[[Seen], bool]) -> Seen:
    """What ``look`` finds once it is ``good``; after ``WAIT_MOST`` what it found last."""
    deadline = time.monotonic() + WAIT_MOST
    pause = _LOOK_FIRST
    while True:
        seen = await look()
        if good(seen) or time.monotonic() + pause > deadline:
            return seen
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LOOK_LAST)
