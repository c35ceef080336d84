"""Is anything lost or done twice when a process dies in the middle of two hundred workflows?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from bench.invariants import check_all
from client import connected
from endings import assert_all_ended, assert_stock
from stories import MIX
from system import System, deployed

from fulcrum.localstack import Stack

_WORKFLOWS = 200
_WITHIN = 90.0


@pytest.fixture(scope="module")
def doomed(stack: Stack) -> Iterator[System]:
    """Roles that are killed here, apart from those of other tests."""
    with deployed(stack, "kills") as found:
        yield found


#: Who is killed, once how many of the workflows were posted. The agents hold orchestrator and bridge and die
#: twice: while runs start, and while commands flow. Intake, payment and inventory hold a relay each.
_KILLS = [
    ("agents", 40),
    ("agents", 150),
    ("payment", 100),
    ("inventory", 100),
    ("intake", 100),
    ("projector", 100),
]


@pytest.mark.parametrize(("role", "after"), _KILLS, ids=[f"{role}-after-{n}" for role, n in _KILLS])
async def test_a_killed_role_loses_and_doubles_nothing(doomed: System, role: str, after: int) -> None:
    """``kill -9`` in the middle: every workflow ends right, with each effect once and the stock conserved."""
    async with connected(doomed.running.api) as client:
        await doomed.until_all_ready()
        shelf = await client.stocked(_WORKFLOWS)
        stories = [MIX[number % len(MIX)] for number in range(_WORKFLOWS)]
        first = await client.post_all(stories[:after], shelf)
        rest = asyncio.create_task(client.post_all(stories[after:], shelf))
        restarts = doomed.kill(role)
        posted = [*first, *await rest]

        await doomed.until_back(role, restarts)
        await assert_all_ended(client, posted, doomed.psp, _WITHIN)
        await assert_stock(client, shelf, posted)
        await doomed.until_idle()
        assert await client.pages("/v1/parked?status=parked") == []
    assert doomed.dead_letters() == 0
    assert await check_all(doomed.env) == []
