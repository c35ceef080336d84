"""What the sweeper finishes: commands whose process died between intent and outcome, without a redelivery."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio
from deliveries import (
    CORRELATION,
    authorize,
    capture,
    delivery,
    new_workflow,
    outbox_rows,
    query,
    refund,
    void,
)
from eventually import eventually_async
from paymentbench import Bench, Died, payment_service

from fulcrum.errors import Rejected
from fulcrum.saga.messages import PaymentAuthorized, StepCommand
from fulcrum.workers import payment_sweeper
from fulcrum.workers.payment_moves import State
from fulcrum.workers.payment_relations import PAYMENTS

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(namespace: Mapping[str, str]) -> AsyncIterator[Bench]:
    """The service of this module."""
    async with payment_service(namespace) as running:
        yield running


async def dead(bench: Bench, command: StepCommand, moment: str, call: str, sweep_after: float = 0.0) -> None:
    """Carry ``command`` out in a process that dies before or after ``call``."""
    worker, provider = bench.process(sweep_after=sweep_after)
    getattr(provider, moment).add(call)
    with pytest.raises(Died):
        await worker.handle([delivery(command)])
    assert await bench.open_commands(command) == [type(command).__name__]


async def ready_for(bench: Bench, act: str, workflow: str) -> StepCommand:
    """Bring the workflow to where ``act`` is due; the command for it."""
    if act != "authorize":
        await bench.handle(authorize(workflow))
    if act == "refund":
        await bench.handle(capture(workflow))
    commands = {"authorize": authorize, "void": void, "capture": capture, "refund": refund}
    return commands[act](workflow)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("act", ["authorize", "void", "capture", "refund"])
async def test_command_that_died_is_finished_without_its_delivery(
    bench: Bench, act: str, moment: str
) -> None:
    """Looked up by its key, done when it was not, answered by the outbox, and open no more."""
    workflow = new_workflow()
    command = await ready_for(bench, act, workflow)
    await dead(bench, command, moment, act)
    told = len(await bench.told(workflow))
    sweeper, _, provider = bench.sweeper()
    assert await sweeper.sweep() == 1
    assert provider.calls == (["outcome_of", act] if moment == "before" else ["outcome_of"])
    assert bench.effects(workflow).count(act) == 1
    assert await bench.open_commands(command) == []
    *_, answer = events = await bench.told(workflow)
    assert (answer.command_id, len(events)) == (command.command_id, told + 1)
    await bench.handle(command)
    assert (await bench.told(workflow))[-1] == answer


async def test_answer_joins_on_to_its_command(bench: Bench) -> None:
    """The headers were kept with the command."""
    command = authorize(new_workflow())
    await dead(bench, command, "after", "authorize")
    sweeper, _, _ = bench.sweeper()
    await sweeper.sweep()
    (row,) = await outbox_rows(bench.db, PAYMENTS, command.workflow_id)
    assert row["headers"]["fulcrum-correlation-id"] == CORRELATION
    assert row["headers"]["fulcrum-causation-id"] == command.command_id


async def test_command_that_is_answered_is_open_no_more(bench: Bench) -> None:
    """Also one that needed no call, one that is repeated, and one that a query answered."""
    workflow, fenced, silent = new_workflow(), new_workflow(), new_workflow()
    commands = [authorize(workflow), query(workflow), void(workflow), void(fenced), authorize(fenced)]
    for command in [*commands, *commands]:
        await bench.handle(command)
    await bench.not_told(authorize(silent, "pay_timeout_ok"))
    assert await bench.open_commands(authorize(silent)) == ["AuthorizePayment"]
    await bench.handle(query(silent))
    assert await bench.open_commands(*commands, authorize(silent), query(silent)) == []


async def test_command_that_is_not_due_is_left_to_its_delivery(bench: Bench) -> None:
    """It may well be in progress elsewhere."""
    command = authorize(new_workflow())
    await dead(bench, command, "before", "authorize", sweep_after=60.0)
    sweeper, _, provider = bench.sweeper()
    assert await sweeper.sweep() == 0
    assert provider.calls == []
    await bench.handle(command)
    assert await bench.open_commands(command) == []


async def test_command_in_hand_is_passed_by(bench: Bench) -> None:
    """A slow call in this very process is not made twice."""
    command = authorize(new_workflow())
    sweeper, worker, provider = bench.sweeper()
    worker._sweep_after = 0.0
    provider.held.add("authorize")
    slow = asyncio.create_task(worker.handle([delivery(command)]))

    async def arrived() -> bool:
        return provider.arrived == 1

    await eventually_async(arrived, within=20)
    assert await sweeper.sweep() == 0
    provider.let_go.set()
    await slow
    assert provider.calls == ["authorize"]
    assert len(await bench.told(command.workflow_id)) == 1


async def test_two_sweepers_at_once_take_up_a_command_once(bench: Bench) -> None:
    """Whoever has the row, the other passes it by."""
    commands = [authorize(new_workflow()) for _ in range(6)]
    for command in commands:
        await dead(bench, command, "before", "authorize")
    sweepers = [bench.sweeper() for _ in range(3)]
    finished = await asyncio.gather(*(sweeper.sweep() for sweeper, _, _ in sweepers))
    assert sum(finished) == 6
    calls = [call for _, _, provider in sweepers for call in provider.calls]
    assert sorted(calls) == ["authorize"] * 6 + ["outcome_of"] * 6
    for command in commands:
        assert bench.effects(command.workflow_id) == ["authorize"]


async def test_sweep_takes_a_bounded_number(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest has its turn at the next one."""
    monkeypatch.setattr(payment_sweeper, "BATCH", 2)
    for _ in range(3):
        await dead(bench, authorize(new_workflow()), "after", "authorize")
    sweeper, _, _ = bench.sweeper()
    assert [await sweeper.sweep() for _ in range(3)] == [2, 1, 0]


async def test_command_that_stays_open_is_put_off(bench: Bench) -> None:
    """The provider is still at it: nothing is told, and it is due again later."""
    command = authorize(new_workflow(), "pay_slow_1500")
    worker, _ = bench.process(patience=0.5, sweep_after=0.0)
    with pytest.raises(Exception, match="did not answer"):
        await worker.handle([delivery(command)])
    sweeper, _, provider = bench.sweeper(sweep_after=0.2)
    assert await sweeper.sweep() == 0
    assert provider.calls == ["outcome_of"]
    assert await bench.told(command.workflow_id) == []

    async def finished() -> bool:
        return await sweeper.sweep() == 1

    await eventually_async(finished, within=20)
    assert bench.effects(command.workflow_id) == ["authorize"]


async def test_command_that_the_provider_rejects_is_given_up(bench: Bench) -> None:
    """Its delivery is parked for a person; the sweeper does not ask for ever."""
    command = authorize(new_workflow(), token="")
    worker, _ = bench.process(sweep_after=0.0)
    with pytest.raises(Rejected, match="token"):
        await worker.handle([delivery(command)])
    sweeper, _, _ = bench.sweeper(sweep_after=0.0)
    assert await sweeper.sweep() == 0
    assert await bench.open_commands(command) == []
    assert (await bench.row(command.workflow_id))["state"] == State.AUTHORIZING


async def test_sweeper_runs_until_it_is_stopped(bench: Bench) -> None:
    """At its interval, and it outlives what goes wrong in a sweep."""
    command = authorize(new_workflow())
    await dead(bench, command, "after", "authorize")
    sweeper, _, provider = bench.sweeper()
    sweeper._interval = 0.02
    provider.before.add("outcome_of")
    sweeper._after = 0.0
    stop = asyncio.Event()
    running = asyncio.create_task(sweeper.run(stop))

    async def told() -> bool:
        return [type(event) for event in await bench.told(command.workflow_id)] == [PaymentAuthorized]

    await eventually_async(told, within=20)
    stop.set()
    async with asyncio.timeout(10):
        await running
    assert provider.calls == ["outcome_of", "outcome_of"]
