"""Does the clock move what waits too long, and does a finished run leave the table in time?"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from client import Client, connected, told
from endings import effects, issued, provider_effects
from eventually import eventually_async
from stories import COMPLETES
from system import System, deployed

from fulcrum.localstack import Stack

#: The shortest deadline of the shipped definitions is ReserveStock's: 30 s.
_LATE_WITHIN = 50.0
_RETENTION = "2"


@pytest.fixture(scope="module")
def hasty(stack: Stack) -> Iterator[System]:
    """A system that forgets finished runs after two seconds."""
    with deployed(stack, "clock", FULCRUM_RUN_RETENTION=_RETENTION) as found:
        yield found


@pytest.fixture
async def visitor(hasty: System) -> AsyncIterator[Client]:
    """Its HTTP API."""
    async with connected(hasty.running.api) as found:
        yield found


async def test_a_finished_run_leaves_the_table_and_stays_in_the_read_model(
    hasty: System, visitor: Client
) -> None:
    """After its retention the orchestrator has forgotten the run; people still see it."""
    shelf = await visitor.stocked(1)
    posted = await visitor.post(COMPLETES, shelf.full)
    await visitor.until_final([posted])
    page = f"{hasty.role('agents').url}/runs/{posted.workflow_id}"

    async def gone() -> bool:
        return (await visitor.call("GET", page)).status == 404

    await eventually_async(gone, within=20, state=lambda: f"{page} still answers")
    assert (await visitor.workflow(posted.workflow_id))["status"] == "completed"
    assert hasty.dead_letters() == 0


async def test_a_late_step_is_sent_again_and_happens_once(hasty: System, visitor: Client) -> None:
    """Nobody answers ReserveStock for longer than its deadline: it is sent again, and reserves once."""
    shelf = await visitor.stocked(3)
    await hasty.stop("inventory")
    posted = await visitor.post(COMPLETES, shelf.full)
    view: dict[str, Any] = {}

    async def late() -> bool:
        view.update(await visitor.workflow(posted.workflow_id))
        return issued(view).count("ReserveStock") == 2

    await eventually_async(late, within=_LATE_WITHIN, state=lambda: told(view))
    assert "DeadlinePassed" in [entry["cause"]["type"] for entry in view["timeline"]]
    await hasty.start("inventory")
    views = await visitor.until_final([posted])

    assert views[posted.workflow_id]["status"] == "completed"
    assert (await visitor.stock(shelf.full))["reserved"] == 1
    done = provider_effects(await effects(visitor, hasty.psp))
    assert dict(done[posted.workflow_id]) == {"authorize": 1}
    assert hasty.dead_letters() == 0
    assert await visitor.pages("/v1/parked?limit=10") == []
