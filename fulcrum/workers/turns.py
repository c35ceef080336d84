"""How two commands of one workflow wait for each other, while those of others go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """One at a time for each name, first come first served, within this process."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._here: dict[str, int] = {}

    @asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[None]:
        """Wait for the turn of ``name``, and have it inside."""
        lock = self._locks.setdefault(name, asyncio.Lock())
        self._here[name] = self._here.get(name, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._here[name] -= 1
            if not self._here[name]:
                del self._here[name], self._locks[name]
