"""How many callers share one transaction: whoever comes while one is under way goes with the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from fulcrum.errors import Unavailable

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Together(Generic[_Item, _Result]):
    """Calls ``run`` with up to ``most`` items at a time and hands each caller its own result.

    Nobody waits for company: a lone item goes at once. ``at_once`` runs may be under way side by side. When a
    run of several fails, each item goes again alone, so that only the one at fault gets the error;
    Unavailable is nobody's fault and goes to all.
    """

    def __init__(
        self, run: Callable[[Sequence[_Item]], Awaitable[Sequence[_Result]]], most: int, at_once: int
    ) -> None:
        self._run = run
        self._most = most
        self._at_once = at_once
        self._waiting: list[tuple[_Item, asyncio.Future[_Result]]] = []
        self._running: set[asyncio.Task[None] | None] = set()

    async def __call__(self, item: _Item) -> _Result:
        """The result for ``item``."""
        future: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if len(self._running) < self._at_once:
            self._running.add(asyncio.create_task(self._work()))
        return await future

    async def _work(self) -> None:
        try:
            while self._waiting:
                taken, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                await self._settle(taken)
        finally:
            # At once, and not by a callback of the task: whoever got a result just now may come again before
            # that, and would wait for a run that is over.
            self._running.discard(asyncio.current_task())

    async def _settle(self, taken: Sequence[tuple[_Item, asyncio.Future[_Result]]]) -> None:
        try:
            results = await self._run([item for item, _ in taken])
        except Exception as error:
            if len(taken) > 1 and not isinstance(error, Unavailable):
                for alone in taken:
                    await self._settle([alone])
                return
            for _, future in taken:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), result in zip(taken, results, strict=True):
                if not future.done():
                    future.set_result(result)
