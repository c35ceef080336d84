"""Two transactions, one of which comes in the middle of the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from eventually import eventually_async
from sqlalchemy import text

from fulcrum.store.database import Database

_BLOCKED = text(
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


async def interleave(
    monkeypatch: pytest.MonkeyPatch,
    db: Database,
    point: tuple[Any, str],
    first: Coroutine[Any, Any, None],
    second: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    """Run ``first`` up to its call of the coroutine function at ``point``, and there begin ``second``.

    ``first`` goes on when ``second`` is done, or waits for a lock; both have ended afterwards.
    """
    owner, name = point
    original = getattr(owner, name)
    began: list[asyncio.Task[None]] = []

    async def pause(*args: Any, **more: Any) -> Any:
        if not began:
            task = asyncio.create_task(second())
            began.append(task)

            async def settled() -> bool:
                return task.done() or await db.one(_BLOCKED) is not None

            await eventually_async(settled, within=10)
        return await original(*args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, pause)
        await first
        assert began, f"{name} was not reached"
        await began[0]
