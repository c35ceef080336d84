"""Faults of the provider at every act: one effect at most, and the right answer in the end.

Long, because every fault is tried at every act on the same worker and provider.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio
from deliveries import ask_about, authorize, capture, delivery, new_workflow, refund, void
from eventually import eventually_async
from intake import free_port
from paymentbench import Bench, Died, payment_service
from prometheus_client import REGISTRY

from fulcrum.errors import OutcomeUnknown, Retryable, Unavailable
from fulcrum.saga.messages import (
    AuthorizePayment,
    CapturePayment,
    PaymentCaptured,
    PaymentCaptureRefused,
    PaymentRefunded,
    PaymentRefundRefused,
    PaymentVoidRefused,
    RefundPayment,
)
from fulcrum.workers.breaker import LeftAlone
from fulcrum.workers.payment_moves import State
from fulcrum.workers.psp_simulator import PspSimulator

pytestmark = pytest.mark.asyncio(loop_scope="module")

ACTS = ["authorize", "capture", "refund"]
#: What the saga is told when the act succeeds.
TOLD = {"authorize": "PaymentAuthorized", "capture": "PaymentCaptured", "refund": "PaymentRefunded"}
DONE = {"authorize": State.AUTHORIZED, "capture": State.CAPTURED, "refund": State.REFUNDED}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(namespace: Mapping[str, str]) -> AsyncIterator[Bench]:
    """The service of this module."""
    async with payment_service(namespace) as running:
        yield running


async def before(bench: Bench, act: str, script: str) -> AuthorizePayment | CapturePayment | RefundPayment:
    """A workflow that is ready for ``act``, which goes by ``script``; the command for it."""
    workflow = new_workflow()
    token = f"pay_{script}" if act == "authorize" else f"pay_{act}_{script}"
    if act == "authorize":
        return authorize(workflow, token)
    await bench.handle(authorize(workflow, token))
    if act == "capture":
        return capture(workflow)
    await bench.handle(capture(workflow))
    return refund(workflow)


# --- the good way ---------------------------------------------------------------------------------


async def test_amount_is_captured_and_given_back_in_parts(bench: Bench) -> None:
    """Each part is one effect and one event with what was moved, and the row counts them."""
    workflow = new_workflow()
    for command in (
        authorize(workflow),
        capture(workflow, 3000),
        refund(workflow, 1000, attempt=1),
        refund(workflow, 2001, attempt=2),
        refund(workflow, 2000, attempt=3),
    ):
        await bench.handle(command)
    assert bench.effects(workflow) == ["authorize", "capture", "refund", "refund"]
    _, taken, first, too_much, second = await bench.told(workflow)
    assert isinstance(taken, PaymentCaptured)
    assert isinstance(first, PaymentRefunded)
    assert isinstance(too_much, PaymentRefundRefused)
    assert isinstance(second, PaymentRefunded)
    assert (taken.amount_minor, too_much.reason) == (3000, "amount_too_large")
    assert (first.amount_minor, first.refunded_minor) == (1000, 1000)
    assert (second.amount_minor, second.refunded_minor) == (2000, 3000)
    row = await bench.row(workflow)
    assert (row["state"], row["captured_minor"], row["refunded_minor"]) == (State.REFUNDED, 3000, 3000)


@pytest.mark.parametrize("act", ["capture", "refund"])
async def test_duplicate_moves_the_amount_once(bench: Bench, act: str) -> None:
    """Every copy gets the first answer, and the provider is asked by the first alone."""
    command = await before(bench, act, "ok")
    worker, provider = bench.process()
    await asyncio.gather(*(worker.handle([delivery(command)]) for _ in range(3)))
    assert provider.calls == [act]
    told = [
        event for event in await bench.told(command.workflow_id) if event.command_id == command.command_id
    ]
    assert len(told) == 3
    assert len(set(told)) == 1


async def test_void_of_what_was_captured_is_refused_and_asks_nothing(bench: Bench) -> None:
    """The hold is gone; the saga is told so and not that nothing is owed."""
    workflow = new_workflow()
    await bench.handle(authorize(workflow))
    await bench.handle(capture(workflow))
    worker, provider = bench.process()
    await worker.handle([delivery(void(workflow))])
    assert provider.calls == []
    event = (await bench.told(workflow))[-1]
    assert isinstance(event, PaymentVoidRefused)
    assert event.reason == "captured"


async def test_hold_that_lapsed_is_refused_by_the_provider(bench: Bench) -> None:
    """``pay_expires_for_good``: the provider decides; the refusal is an event, and the hold can be voided."""
    workflow = new_workflow()
    await bench.handle(authorize(workflow, "pay_expires_for_good"))
    await bench.handle(capture(workflow))
    event = (await bench.told(workflow))[-1]
    assert isinstance(event, PaymentCaptureRefused)
    assert event.reason == "authorization_expired"
    await bench.handle(void(workflow))
    assert bench.effects(workflow) == ["authorize", "refuse_capture", "refuse_reauthorize", "void"]


# --- silence --------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ACTS)
async def test_silence_that_acted_is_looked_up_before_anything_else(bench: Bench, act: str) -> None:
    """Timed out but happened: exactly one effect, and the answer says that it happened."""
    command = await before(bench, act, "timeout_ok")
    await bench.not_told(command)
    worker, provider = bench.process()
    await worker.handle([delivery(command)])
    assert provider.calls == ["outcome_of"]
    assert bench.effects(command.workflow_id).count(act) == 1
    assert type((await bench.told(command.workflow_id))[-1]).__name__ == TOLD[act]
    assert (await bench.row(command.workflow_id))["state"] == DONE[act]


@pytest.mark.parametrize("act", ACTS)
async def test_silence_that_did_nothing_is_asked_again(bench: Bench, act: str) -> None:
    """Timed out and did not happen: looked up, and then asked for; one effect."""
    command = await before(bench, act, "timeout_no")
    await bench.not_told(command)
    assert act not in bench.effects(command.workflow_id)
    worker, provider = bench.process()
    await worker.handle([delivery(command)])
    assert provider.calls == ["outcome_of", act]
    assert bench.effects(command.workflow_id).count(act) == 1
    assert (await bench.row(command.workflow_id))["state"] == DONE[act]


@pytest.mark.parametrize("act", ACTS)
async def test_query_finds_what_a_silence_did(bench: Bench, act: str) -> None:
    """It answers in the command's name, and the command's copy repeats that."""
    command = await before(bench, act, "timeout_ok")
    await bench.not_told(command)
    await bench.handle(ask_about(command))
    worker, provider = bench.process()
    await worker.handle([delivery(command), delivery(ask_about(command))])
    assert provider.calls == []
    *_, answer, first, second = await bench.told(command.workflow_id)
    assert answer == first == second
    assert (answer.command_id, type(answer).__name__) == (command.command_id, TOLD[act])


@pytest.mark.parametrize("act", ["capture", "refund"])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_death_around_the_call_has_one_effect(bench: Bench, moment: str, act: str) -> None:
    """The intent is stored, so the next process looks first, and ends it."""
    command = await before(bench, act, "ok")
    worker, provider = bench.process()
    getattr(provider, moment).add(act)
    with pytest.raises(Died):
        await worker.handle([delivery(command)])
    worker, provider = bench.process()
    await worker.handle([delivery(command)])
    assert provider.calls == (["outcome_of", act] if moment == "before" else ["outcome_of"])
    assert bench.effects(command.workflow_id).count(act) == 1
    assert (await bench.row(command.workflow_id))["state"] == DONE[act]


@pytest.mark.parametrize("act", ACTS)
async def test_stumbling_provider_is_retried(bench: Bench, act: str) -> None:
    """``flaky_2``: twice Unavailable and nothing done, then done once."""
    command = await before(bench, act, "flaky_2")
    for _ in range(2):
        with pytest.raises(Unavailable, match="503"):
            await bench.handle(command)
    await bench.handle(command)
    assert bench.effects(command.workflow_id).count(act) == 1


@pytest.mark.parametrize("act", ["capture", "refund"])
async def test_refusal_is_an_event_and_no_error(bench: Bench, act: str) -> None:
    """The provider's code is told; what was held or taken stays so."""
    command = await before(bench, act, "declined")
    await bench.handle(command)
    event: Any = (await bench.told(command.workflow_id))[-1]
    assert isinstance(event, PaymentCaptureRefused | PaymentRefundRefused)
    assert event.reason == "card_declined"
    state = {"capture": State.AUTHORIZED, "refund": State.CAPTURED}[act]
    assert (await bench.row(command.workflow_id))["state"] == state


async def test_refund_that_fails_late_is_told_when_it_has(bench: Bench) -> None:
    """Accepted is no outcome: nothing is told until the provider knows, and then that nothing was given."""
    command = await before(bench, "refund", "fails_400")
    for _ in range(2):
        with pytest.raises(OutcomeUnknown, match="not done"):
            await bench.handle(command)
    assert (await bench.row(command.workflow_id))["state"] == State.REFUNDING

    async def answered() -> bool:
        await bench.handle(command)
        return True

    await eventually_async(answered, within=20)
    event = (await bench.told(command.workflow_id))[-1]
    assert isinstance(event, PaymentRefundRefused)
    assert event.reason == "refund_failed"
    assert (await bench.row(command.workflow_id))["refunded_minor"] == 0


async def test_copies_of_capture_void_and_query_in_many_processes_move_money_once(bench: Bench) -> None:
    """All at once, each insisting: either captured or voided, told once, and the provider agrees."""
    workflow = new_workflow()
    await bench.handle(authorize(workflow))

    async def insist(command: Any) -> None:
        worker, _ = bench.process()
        while True:
            try:
                return await worker.handle([delivery(command)])
            except Retryable:
                continue

    commands = [capture(workflow), void(workflow), ask_about(capture(workflow))] * 3
    await asyncio.gather(*(insist(command) for command in commands))
    moved = [kind for kind in bench.effects(workflow) if kind in ("capture", "void")]
    state = (await bench.row(workflow))["state"]
    assert (moved, state) in [(["capture"], State.CAPTURED), (["void"], State.VOIDED)]
    events = set(await bench.told(workflow))
    assert sorted(event.sequence for event in events) == list(range(1, len(events) + 1))


# --- limits ---------------------------------------------------------------------------------------


async def test_calls_are_limited_and_commands_are_not(bench: Bench) -> None:
    """Twelve commands in progress, three calls at most."""
    worker, provider = bench.process(psp_concurrency=3)
    under_way, most = 0, 0
    exchange = provider._exchange

    async def watched(*given: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await exchange(*given)
        finally:
            under_way -= 1

    provider._exchange = watched  # type: ignore[method-assign]
    commands = [authorize(new_workflow(), "pay_slow_50") for _ in range(12)]
    await asyncio.gather(*(worker.handle([delivery(command)]) for command in commands))
    assert most == 3
    assert all(bench.effects(command.workflow_id) == ["authorize"] for command in commands)


async def test_provider_that_is_away_is_left_alone_until_it_is_back(bench: Bench) -> None:
    """After two failures it is asked no more, which is counted; then one call tries it, and all goes on."""
    port = free_port()
    away = bench.settings.model_copy(update={"psp_url": f"http://127.0.0.1:{port}"})
    changes = {"psp_url": away.psp_url, "psp_breaker_failures": 2, "psp_breaker_seconds": 0.3}
    worker, provider = bench.process(**changes)
    commands = [authorize(new_workflow()) for _ in range(4)]
    for command in commands[:2]:
        with pytest.raises(Unavailable, match="cannot be reached"):
            await worker.handle([delivery(command)])
    for command in commands[2:]:
        with pytest.raises(LeftAlone):
            await worker.handle([delivery(command)])
    assert provider.left_alone
    assert sample("authorize", "left_alone") >= 2
    assert sample("authorize", "unavailable") >= 2
    simulator = PspSimulator(away)
    await simulator.start(port)
    try:

        async def handled() -> bool:
            await worker.handle([delivery(command) for command in commands])
            return True

        await eventually_async(handled, within=20)
        for command in commands:
            kinds = [effect.kind for effect in simulator._book.since(0, command.workflow_id)]
            assert kinds == ["authorize"]
    finally:
        await simulator.stop()
    assert not provider.left_alone


async def test_calls_are_counted_by_outcome(bench: Bench) -> None:
    """Done, refused and unknown, with the seconds they took."""
    before_it = {outcome: sample("authorize", outcome) for outcome in ("done", "refused", "unknown")}
    timed = REGISTRY.get_sample_value("fulcrum_psp_seconds_count", {"call": "authorize"}) or 0.0
    await bench.handle(authorize(new_workflow()))
    await bench.handle(authorize(new_workflow(), "pay_declined"))
    await bench.not_told(authorize(new_workflow(), "pay_timeout_no"))
    assert {outcome: sample("authorize", outcome) - n for outcome, n in before_it.items()} == {
        "done": 1,
        "refused": 1,
        "unknown": 1,
    }
    assert REGISTRY.get_sample_value("fulcrum_psp_seconds_count", {"call": "authorize"}) == timed + 3


def sample(call: str, outcome: str) -> float:
    """How often ``call`` has ended so."""
    labels = {"call": call, "outcome": outcome}
    return REGISTRY.get_sample_value("fulcrum_psp_calls_total", labels) or 0.0
