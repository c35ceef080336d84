"""Who waits for the next version of which workflow? One look at the read model serves all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import structlog

from fulcrum.errors import Unavailable
from fulcrum.readmodel import queries
from fulcrum.store.database import Database
from fulcrum.web.problem import RETRY_AFTER, Problem

log = structlog.get_logger()

#: How often is looked while anybody waits, and how often while Postgres does not answer (seconds).
_LOOK_EVERY, _LOOK_AGAIN = 0.1, 1.0
#: What one process bears: each watcher is an open connection.
MOST = 1000


class Watcher:
    """One who waits for one workflow."""

    def __init__(self, workflow_id: str) -> None:
        self.workflow_id = workflow_id
        self._newest = 0
        self._moved = asyncio.Event()
        self.ended = False

    def tell(self, version: int) -> None:
        """The workflow is at ``version`` now."""
        if version > self._newest:
            self._newest = version
            self._moved.set()

    def end(self) -> None:
        """Nothing will be told any more."""
        self.ended = True
        self._moved.set()

    async def newer_than(self, version: int, within: float) -> bool:
        """Whether there is a newer version, or the end, within so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._newest <= version and not self.ended:
                    self._moved.clear()
                    await self._moved.wait()
        return self._newest > version or self.ended


class Watchers:
    """The watchers of one process. It looks only while there are any."""

    def __init__(self, db: Callable[[], Database]) -> None:
        self._db = db
        self._known: set[Watcher] = set()
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._known)

    @contextmanager
    def watching(self, workflow_id: str) -> Iterator[Watcher]:
        """A watcher of the workflow, as long as it is needed."""
        watcher = Watcher(workflow_id)
        if self._closed:
            watcher.end()
        self._known.add(watcher)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            yield watcher
        finally:
            self._known.discard(watcher)

    def require_room(self) -> None:
        """Problem when this process carries as many watchers as it can."""
        if len(self._known) >= MOST:
            raise Problem(
                "too-many-watchers",
                f"{len(self._known)} event streams are open here.",
                headers={"Retry-After": str(RETRY_AFTER)},
            )

    async def close(self) -> None:
        """End every watcher, and those that come later at once. Idempotent."""
        self._closed = True
        for watcher in self._known:
            watcher.end()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        while self._known and not self._closed:
            pause = _LOOK_EVERY
            try:
                found = await queries.find_versions(
                    self._db(), sorted({watcher.workflow_id for watcher in self._known})
                )
            except Unavailable as error:
                log.warning("watchers.blind", watchers=len(self._known), error=str(error))
                pause = _LOOK_AGAIN
            else:
                for watcher in self._known:
                    watcher.tell(found.get(watcher.workflow_id, 0))
            await asyncio.sleep(pause)
