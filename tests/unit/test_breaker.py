"""When are calls let through, and when is the provider left alone?"""

from __future__ import annotations

import asyncio

import pytest
from eventually import eventually_async

from fulcrum.errors import OutcomeUnknown, Unavailable
from fulcrum.telemetry.metrics import psp_breaker_open
from fulcrum.workers.breaker import Breaker, LeftAlone

_SOON = 0.05


def fail(breaker: Breaker, times: int = 1) -> None:
    """Let so many calls fail, each with its own error."""
    for _ in range(times):
        with pytest.raises(OutcomeUnknown, match="silent"), breaker.watching():
            raise OutcomeUnknown("silent")


async def closed(breaker: Breaker) -> bool:
    """A call that succeeds is let through."""
    with breaker.watching():
        return True


def shown() -> float:
    """What the gauge says."""
    return float(psp_breaker_open._value.get())


def test_failures_in_a_row_open_it() -> None:
    """The call that opens it still says what happened to it; the next ones are not made."""
    breaker = Breaker(3, 60)
    fail(breaker, 3)
    assert (breaker.open, shown()) == (True, 1.0)
    called = False
    with pytest.raises(LeftAlone, match="psp_breaker_seconds"), breaker.watching():
        called = True
    assert not called
    assert issubclass(LeftAlone, Unavailable)


def test_success_between_failures_keeps_it_closed() -> None:
    """Only a row of failures counts."""
    breaker = Breaker(3, 60)
    for _ in range(4):
        fail(breaker, 2)
        with breaker.watching():
            pass
    assert (breaker.open, shown()) == (False, 0.0)


async def test_success_after_its_time_closes_it() -> None:
    """One call tries, and the calls after it are made again."""
    breaker = Breaker(1, _SOON)
    fail(breaker)
    await eventually_async(lambda: closed(breaker), within=10)
    assert (breaker.open, shown()) == (False, 0.0)
    fail(Breaker(2, 60))


async def test_failure_after_its_time_opens_it_again() -> None:
    """One failure is enough then."""
    breaker = Breaker(3, _SOON)
    fail(breaker, 3)

    async def tried() -> bool:
        fail(breaker)
        return True

    await eventually_async(tried, within=10)
    assert (breaker.open, shown()) == (True, 1.0)


async def test_only_one_call_tries() -> None:
    """While it is under way the others go on leaving the provider alone."""
    breaker = Breaker(1, _SOON)
    fail(breaker)
    begun, answer = asyncio.Event(), asyncio.Event()

    async def try_it() -> None:
        with breaker.watching():
            begun.set()
            await answer.wait()

    async def trying() -> asyncio.Task[None]:
        task = asyncio.create_task(try_it())
        await asyncio.wait({task, asyncio.create_task(begun.wait())}, return_when="FIRST_COMPLETED")
        if task.done():
            await task
        return task

    task = await eventually_async(trying, within=10)
    assert shown() == 0.5
    with pytest.raises(LeftAlone), breaker.watching():
        pass
    answer.set()
    await task
    assert await closed(breaker)


async def test_calls_side_by_side_do_not_wait_for_each_other() -> None:
    """The library's lock is not held while a call is under way."""
    breaker = Breaker(2, 60)
    here, all_here = 0, asyncio.Event()

    async def call() -> None:
        nonlocal here
        with breaker.watching():
            here += 1
            if here == 5:
                all_here.set()
            await all_here.wait()

    async with asyncio.timeout(10):
        await asyncio.gather(*(call() for _ in range(5)))
