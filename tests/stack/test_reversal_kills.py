"""``kill -9`` around each call of a reversal, and of a capture that finds the hold lapsed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio
from deliveries import authorize, capture, new_workflow, reverse
from killed import Site, dies, payment_site, worker

from fulcrum.saga.messages import StepCommand
from fulcrum.settings import Settings
from fulcrum.store.database import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOLD, TAKE = ["authorize"], ["authorize", "capture"]


@pytest_asyncio.fixture(loop_scope="module")
async def site(settings: Settings, db: Database) -> AsyncIterator[Site]:
    """A service behind its queue, without a worker."""
    async with payment_site(settings, db) as running:
        yield running


#: What came before, the token, the command that is killed, its calls of the provider, and all that happened.
_KILLED = {
    "void": (HOLD, "pay_ok", "reverse", 1, [*HOLD, "void"], "voided"),
    "refund": (TAKE, "pay_ok", "reverse", 1, [*TAKE, "refund"], "refunded"),
    "held anew": (
        HOLD,
        "pay_expires",
        "capture",
        3,
        [*HOLD, "refuse_capture", "reauthorize", "capture"],
        "captured",
    ),
}


@pytest.mark.parametrize("point", ["provider.asking", "provider.asked"])
@pytest.mark.parametrize(
    ("name", "call"), [(name, call) for name, case in _KILLED.items() for call in range(1, case[3] + 1)]
)
async def test_kill_around_each_call_has_one_effect_and_one_answer(
    site: Site, namespace: Mapping[str, str], tmp_path: Path, name: str, call: int, point: str
) -> None:
    """The next process looks up what is open, and finishes: nothing twice, and nothing left open."""
    workflow = new_workflow()
    before, token, killed, _, effects, state = _KILLED[name]
    commands: dict[str, StepCommand] = {
        "authorize": authorize(workflow, token),
        "capture": capture(workflow, 3000),
        "reverse": reverse(workflow),
    }
    output = tmp_path / "worker.out"
    with worker(namespace, site, output, f"{point}:{len(before) + call}") as doomed:
        for each in before:
            await site.send(commands[each])
            await site.answered(commands[each])
        await site.send(commands[killed])
        await dies(doomed, output)
    assert await site.open_commands() == [commands[killed].command_id]
    with worker(namespace, site, output):
        await site.answered(commands[killed])
        assert site.effects(workflow) == effects
        assert await site.state(workflow) == state
        assert await site.open_commands() == []
