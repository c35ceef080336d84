"""How does a test wait? On a condition, with a deadline, never by sleeping for a guessed time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

Result = TypeVar("Result")

_PAUSE = 0.05


def eventually(
    predicate: Callable[[], Result],
    *,
    within: float,
    state: Callable[[], object] | None = None,
) -> Result:
    """The first truthy value of ``predicate``; AssertionError with ``state()`` after ``within`` seconds.

    An exception of ``predicate`` counts as "not yet" and is shown when the deadline passes.
    """
    deadline = time.monotonic() + within
    while True:
        error: Exception | None = None
        try:
            if value := predicate():
                return value
        except Exception as caught:
            error = caught
        if time.monotonic() > deadline:
            raise AssertionError(_story(within, error, state() if state else None)) from error
        time.sleep(_PAUSE)


async def eventually_async(
    predicate: Callable[[], Awaitable[Result]],
    *,
    within: float,
    state: Callable[[], Any] | None = None,
) -> Result:
    """``eventually`` for a coroutine function; ``state`` may be one too."""
    deadline = time.monotonic() + within
    while True:
        error: Exception | None = None
        try:
            if value := await predicate():
                return value
        except Exception as caught:
            error = caught
        if time.monotonic() > deadline:
            seen = state() if state else None
            if inspect.isawaitable(seen):
                seen = await seen
            raise AssertionError(_story(within, error, seen)) from error
        await asyncio.sleep(_PAUSE)


def _story(within: float, error: Exception | None, state: object) -> str:
    parts = [f"not within {within:g} s"]
    if error is not None:
        parts.append(f"last error: {type(error).__name__}: {error}")
    if state is not None:
        parts.append(f"state: {state}")
    return "; ".join(parts)
