"""Reversals and lapsed holds on a real database and a real provider, whatever dies on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio
from deliveries import (
    ask_about,
    authorize,
    capture,
    delivery,
    new_workflow,
    refund,
    reverse,
    void,
)
from eventually import eventually_async
from paymentbench import Bench, Died, payment_service

from fulcrum.errors import OutcomeUnknown
from fulcrum.saga.messages import (
    PaymentCaptured,
    PaymentCaptureRefused,
    PaymentDeclined,
    PaymentReversalRefused,
    PaymentReversed,
    StepCommand,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOLD, TAKE = ["authorize"], ["authorize", "capture"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(namespace: Mapping[str, str]) -> AsyncIterator[Bench]:
    """The service of this module."""
    async with payment_service(namespace) as running:
        yield running


async def reversed_as(bench: Bench, command: StepCommand) -> tuple[int, str]:
    """What the reversal gave back in all, and where the payment stands."""
    *_, event = [e for e in await bench.told(command.workflow_id) if e.command_id == command.command_id]
    assert isinstance(event, PaymentReversed)
    row = await bench.row(command.workflow_id)
    return event.refunded_minor, row["state"]


# --- by what the payment is found to be -----------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "effects", "answer"),
    [
        ([], [], (0, "voided")),
        (["authorize"], [*HOLD, "void"], (0, "voided")),
        (["authorize", "void"], [*HOLD, "void"], (0, "voided")),
        (["authorize", "capture"], [*TAKE, "refund"], (3000, "refunded")),
        (["authorize", "capture", "part"], [*TAKE, "refund", "refund"], (3000, "refunded")),
        (["authorize", "capture", "all"], [*TAKE, "refund"], (3000, "refunded")),
    ],
)
async def test_state_decides_between_void_and_refund(
    bench: Bench, before: list[str], effects: list[str], answer: tuple[int, str]
) -> None:
    """Nothing is left held or kept, and a repeat has no effect."""
    workflow = new_workflow()
    every: dict[str, StepCommand] = {
        "authorize": authorize(workflow),
        "void": void(workflow),
        "capture": capture(workflow, 3000),
        "part": refund(workflow, 1000, attempt=1),
        "all": refund(workflow, 3000, attempt=2),
    }
    for name in before:
        await bench.handle(every[name])
    command = reverse(workflow)
    await bench.handle(command)
    await bench.handle(command)
    await bench.handle(reverse(workflow, attempt=2))
    assert bench.effects(workflow) == effects
    assert await reversed_as(bench, command) == answer
    assert await reversed_as(bench, reverse(workflow, attempt=2)) == answer


async def test_authorization_behind_a_reversal_is_fenced(bench: Bench) -> None:
    """The reversal came first: nothing is held."""
    workflow = new_workflow()
    await bench.handle(reverse(workflow))
    await bench.handle(authorize(workflow))
    event = (await bench.told(workflow))[-1]
    assert isinstance(event, PaymentDeclined)
    assert (event.reason, bench.effects(workflow)) == ("fenced", [])


@pytest.mark.parametrize(
    ("token", "effects", "answer"),
    [
        ("pay_timeout_ok", [*HOLD, "void"], (0, "voided")),
        ("pay_timeout_no", [], (0, "voided")),
    ],
)
async def test_silent_authorization_is_asked_about_first(
    bench: Bench, token: str, effects: list[str], answer: tuple[int, str]
) -> None:
    """A timeout is not a no."""
    workflow = new_workflow()
    await bench.not_told(authorize(workflow, token))
    command = reverse(workflow)
    await bench.handle(command)
    assert bench.effects(workflow) == effects
    assert await reversed_as(bench, command) == answer


@pytest.mark.parametrize(
    ("token", "effects", "told", "answer"),
    [
        ("pay_capture_timeout_ok", [*TAKE, "refund"], PaymentCaptured, (3000, "refunded")),
        ("pay_capture_timeout_no", [*HOLD, "void"], PaymentCaptureRefused, (0, "voided")),
    ],
)
async def test_silent_capture_is_asked_about_first(
    bench: Bench, token: str, effects: list[str], told: type, answer: tuple[int, str]
) -> None:
    """What was taken is given back, what was not is kept from being taken; the capture hears of it."""
    workflow = new_workflow()
    taking, command = capture(workflow, 3000), reverse(workflow)
    await bench.handle(authorize(workflow, token))
    await bench.not_told(taking)
    await bench.handle(command)
    await bench.handle(taking)
    assert bench.effects(workflow) == effects
    assert await reversed_as(bench, command) == answer
    events = await bench.told(workflow)
    of_capture = {event.event_id: event for event in events if event.command_id == taking.command_id}
    assert [type(event) for event in of_capture.values()] == [told]
    assert await bench.open_commands(taking, command) == []


async def test_capture_that_is_being_asked_for_meets_the_void(bench: Bench) -> None:
    """The provider decides which came first, and both commands agree with it."""
    workflow = new_workflow()
    taking, command = capture(workflow, 3000), reverse(workflow)
    await bench.handle(authorize(workflow))
    slow, provider = bench.process()
    provider.before = {"capture"}
    with pytest.raises(Died):
        await slow.handle([delivery(taking)])
    hasty, other = bench.process()
    other.after = {"void"}
    with pytest.raises(Died):
        await hasty.handle([delivery(command)])
    await bench.handle(taking)
    await bench.handle(command)
    assert bench.effects(workflow) == [*HOLD, "void", "refuse_capture"]
    assert await reversed_as(bench, command) == (0, "voided")
    assert await bench.open_commands(taking, command) == []


# --- a refund that fails --------------------------------------------------------------------------


async def test_refund_that_fails_for_good_is_refused(bench: Bench) -> None:
    """Each attempt asks, and each is told no; what was taken is still there."""
    workflow = new_workflow()
    await bench.handle(authorize(workflow, "pay_refund_fails"))
    await bench.handle(capture(workflow))
    for attempt in (1, 2):
        await bench.handle(reverse(workflow, attempt))
    *_, first, second = await bench.told(workflow)
    assert [type(event) for event in (first, second)] == [PaymentReversalRefused] * 2
    assert bench.effects(workflow) == [*TAKE, "refuse_refund", "refuse_refund"]
    assert (await bench.row(workflow))["state"] == "captured"


async def test_refund_that_fails_late_is_given_back_by_another_attempt(bench: Bench) -> None:
    """Accepted is no outcome: it is looked up until there is one. A copy of the first attempt gets its no."""
    workflow = new_workflow()
    await bench.handle(authorize(workflow, "pay_refund_late"))
    await bench.handle(capture(workflow))
    for attempt in (1, 2):
        command = reverse(workflow, attempt)
        with pytest.raises(OutcomeUnknown):
            await bench.handle(command)

        async def settled(command: StepCommand = command) -> bool:
            try:
                await bench.handle(command)
            except OutcomeUnknown:
                return False
            return True

        await eventually_async(settled, within=20)
    await bench.handle(reverse(workflow, 1))
    refused, done, copy = (await bench.told(workflow))[-3:]
    assert isinstance(refused, PaymentReversalRefused)
    assert isinstance(done, PaymentReversed)
    assert copy == refused
    assert bench.effects(workflow) == [*TAKE, "refuse_refund", "refund"]
    assert await reversed_as(bench, reverse(workflow, 2)) == (4200, "refunded")


# --- a hold that lapses ---------------------------------------------------------------------------


async def test_lapsed_hold_is_held_anew_and_captured(bench: Bench) -> None:
    """Once, under another authorization, and the old one is never captured; then it can be given back."""
    workflow = new_workflow()
    await bench.handle(authorize(workflow, "pay_expires"))
    old = (await bench.row(workflow))["authorization_id"]
    await bench.handle(capture(workflow, 3000))
    event = (await bench.told(workflow))[-1]
    assert isinstance(event, PaymentCaptured)
    assert (event.reauthorized, event.amount_minor) == (True, 3000)
    assert event.authorization_id != old
    assert bench.effects(workflow) == [*HOLD, "refuse_capture", "reauthorize", "capture"]
    await bench.handle(reverse(workflow))
    assert await reversed_as(bench, reverse(workflow)) == (3000, "refunded")


async def test_hold_that_cannot_be_had_anew_refuses_the_capture(bench: Bench) -> None:
    """And a reversal then finds nothing to give back."""
    workflow = new_workflow()
    await bench.handle(authorize(workflow, "pay_expires_for_good"))
    await bench.handle(capture(workflow))
    event = (await bench.told(workflow))[-1]
    assert isinstance(event, PaymentCaptureRefused)
    assert event.reason == "authorization_expired"
    await bench.handle(reverse(workflow))
    assert await reversed_as(bench, reverse(workflow)) == (0, "voided")
    assert bench.effects(workflow) == [*HOLD, "refuse_capture", "refuse_reauthorize", "void"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["reauthorize", "capture"])
async def test_query_finds_a_capture_that_died_on_its_way(bench: Bench, call: str, when: str) -> None:
    """It tells what there is to tell, asks for nothing, and the capture goes on after it."""
    workflow = new_workflow()
    taking = capture(workflow)
    await bench.handle(authorize(workflow, "pay_expires"))
    doomed, provider = bench.process()
    setattr(provider, when, {call})
    with pytest.raises(Died):
        await doomed.handle([delivery(taking)])
    before = bench.effects(workflow)
    await bench.handle(ask_about(taking))
    assert bench.effects(workflow) == before
    await bench.handle(taking)
    assert bench.effects(workflow).count("capture") == 1
    assert bench.effects(workflow).count("reauthorize") == 1
    assert await bench.open_commands(taking) == []
