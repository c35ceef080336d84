"""``kill -9`` of the payment worker around a call of the provider: one effect, and one answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio
from deliveries import authorize, capture, new_workflow, refund
from killed import Site, dies, payment_site, worker

from fulcrum.saga.messages import StepCommand
from fulcrum.settings import Settings
from fulcrum.store.database import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

_STATES = {"authorize": "authorized", "capture": "captured", "refund": "refunded"}


@pytest_asyncio.fixture(loop_scope="module")
async def site(settings: Settings, db: Database) -> AsyncIterator[Site]:
    """Everything but the worker."""
    async with payment_site(settings, db) as running:
        yield running


@pytest.mark.parametrize(("point", "happened"), [("provider.asking", 0), ("provider.asked", 1)])
@pytest.mark.parametrize("act", list(_STATES))
async def test_kill_around_the_call_has_one_effect_and_one_answer(
    site: Site, namespace: Mapping[str, str], tmp_path: Path, act: str, point: str, happened: int
) -> None:
    """The next process looks the key up, and finishes: exactly one effect, and nothing left open."""
    workflow = new_workflow()
    commands: dict[str, StepCommand] = {
        "authorize": authorize(workflow),
        "capture": capture(workflow, 3000),
        "refund": refund(workflow, 3000),
    }
    before = list(_STATES)[: list(_STATES).index(act)]
    output = tmp_path / "worker.out"
    # Each command before it comes by the point once.
    with worker(namespace, site, output, f"{point}:{len(before) + 1}") as doomed:
        for name in before:
            await site.send(commands[name])
            await site.answered(commands[name])
        await site.send(commands[act])
        await dies(doomed, output)
    assert site.effects(workflow).count(act) == happened
    assert await site.open_commands() == [commands[act].command_id]
    with worker(namespace, site, output):
        await site.answered(commands[act])
        assert site.effects(workflow) == [*before, act]
        assert await site.state(workflow) == _STATES[act]
        assert await site.open_commands() == []
