"""How callers share a run, and how they wait for their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from fulcrum.errors import Unavailable
from fulcrum.workers.together import Together
from fulcrum.workers.turns import Turns


class Runs:
    """Runs that wait until they are let go, and what each was given."""

    def __init__(self, poison: int | None = None, error: type[Exception] = ValueError) -> None:
        self.given: list[list[int]] = []
        self.gate = asyncio.Event()
        self._poison = poison
        self._error = error

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.given.append(list(items))
        await self.gate.wait()
        if self._poison in items:
            raise self._error(f"{self._poison} in {items}")
        return [item * 10 for item in items]


async def until_idle() -> None:
    """Let every task run as far as it gets."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_whoever_comes_during_a_run_goes_with_the_next() -> None:
    """The first goes alone at once; those that came meanwhile share one run, and each gets its own result."""
    runs = Runs()
    together = Together(runs, most=50, at_once=1)
    first = asyncio.create_task(together(1))
    await until_idle()
    rest = [asyncio.create_task(together(item)) for item in (2, 3, 4)]
    await until_idle()
    runs.gate.set()

    assert await asyncio.gather(first, *rest) == [10, 20, 30, 40]
    assert runs.given == [[1], [2, 3, 4]]


async def test_a_run_takes_no_more_than_its_most() -> None:
    """What is over waits for the next one."""
    runs = Runs()
    runs.gate.set()
    together = Together(runs, most=2, at_once=1)

    assert await asyncio.gather(*(together(item) for item in range(5))) == [0, 10, 20, 30, 40]
    assert [len(given) for given in runs.given] == [2, 2, 1]


async def test_the_one_at_fault_alone_gets_the_error() -> None:
    """The others go again without it."""
    runs = Runs(poison=2)
    runs.gate.set()
    together = Together(runs, most=50, at_once=1)

    results = await asyncio.gather(*(together(item) for item in (1, 2, 3)), return_exceptions=True)

    assert [results[0], results[2]] == [10, 30]
    assert isinstance(results[1], ValueError)


async def test_an_outage_is_told_to_all_at_once() -> None:
    """Trying each alone would only wait for the same outage again and again."""
    runs = Runs(poison=2, error=Unavailable)
    runs.gate.set()
    together = Together(runs, most=50, at_once=1)

    results = await asyncio.gather(*(together(item) for item in (1, 2, 3)), return_exceptions=True)

    assert [type(result) for result in results] == [Unavailable] * 3
    assert runs.given == [[1, 2, 3]]


async def test_a_caller_that_gives_up_leaves_the_others_theirs() -> None:
    """Its result is dropped, and the run goes on."""
    runs = Runs()
    together = Together(runs, most=50, at_once=1)
    callers = [asyncio.create_task(together(item)) for item in (1, 2)]
    await until_idle()
    callers[0].cancel()
    runs.gate.set()

    assert await callers[1] == 20
    assert callers[0].cancelled()


async def test_one_name_has_one_turn_at_a_time() -> None:
    """The second of a name waits for the first; another name does not."""
    turns, seen, gate = Turns(), [], asyncio.Event()

    async def visit(name: str, who: int) -> None:
        async with turns.of(name):
            seen.append(who)
            await gate.wait()

    tasks = [asyncio.create_task(visit(name, who)) for who, name in enumerate(["a", "a", "b"])]
    await until_idle()
    during = list(seen)
    gate.set()
    await asyncio.gather(*tasks)

    assert during == [0, 2]
    assert seen == [0, 2, 1]


@pytest.mark.parametrize("fails", [False, True])
async def test_a_turn_that_ended_is_forgotten(fails: bool) -> None:
    """However it ended: names are workflows, and there is no end of those."""
    turns = Turns()

    async def visit() -> None:
        async with turns.of("a"):
            if fails:
                raise ValueError

    await asyncio.gather(visit(), visit(), return_exceptions=True)

    assert not turns._locks
    assert not turns._here


async def test_whoever_comes_again_at_once_is_not_forgotten() -> None:
    """All runs end in one turn of the loop, and each caller has its next item ready as it gets its result."""
    gate = asyncio.Event()

    async def run(items: Sequence[int]) -> list[int]:
        await gate.wait()
        return list(items)

    together: Together[int, int] = Together(run, 1, 2)

    async def twice(item: int) -> int:
        return await together(item) + await together(item)

    callers = [asyncio.create_task(twice(item)) for item in (1, 2)]
    await asyncio.sleep(0)
    gate.set()
    async with asyncio.timeout(5):
        assert await asyncio.gather(*callers) == [2, 4]
