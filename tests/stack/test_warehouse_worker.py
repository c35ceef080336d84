"""Warehouse commands on a real database and a real floor: one answer each, and goods in one place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio
from deliveries import CORRELATION, delivery, new_workflow, outbox_rows
from warehousebench import Bench, cancel, hand_over, pack, warehouse_service

from fulcrum.errors import Corrupt, Retryable
from fulcrum.saga import identity
from fulcrum.saga.messages import (
    HandOverRefused,
    Line,
    OrderPacked,
    OrderShort,
    PackJobCancelled,
    PackRefused,
    ParcelHandedOver,
    ShortLine,
)
from fulcrum.workers.warehouse_relations import WAREHOUSE

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(namespace: Mapping[str, str]) -> AsyncIterator[Bench]:
    """The service of this module."""
    async with warehouse_service(namespace) as running:
        yield running


async def test_an_order_is_packed_and_handed_over(bench: Bench) -> None:
    """Every state of the way, two answers, and nothing that waits."""
    workflow = new_workflow()
    order = pack(workflow, ("tea", 2), ("pot", 1))
    (packed,) = await bench.done(order)
    assert isinstance(packed, OrderPacked)
    assert packed.lines == (Line("tea", 2), Line("pot", 1))
    assert (packed.sequence, packed.parcels, packed.command_id) == (1, 1, order.command_id)
    assert packed.event_id == identity.event_id(order.command_id, "OrderPacked")
    _, handed = await bench.done(hand_over(workflow))
    assert isinstance(handed, ParcelHandedOver)
    assert (handed.sequence, handed.lines, handed.pack_job_id) == (2, packed.lines, packed.pack_job_id)
    history = await bench.history(workflow)
    assert (history[0], history[-2:]) == ("queued", ["packed", "handed_over"])
    assert set(history) <= {"queued", "assigned", "picking", "packed", "handed_over"}
    row = await bench.row(workflow)
    assert (row["state"], row["goal"], row["due_at"], row["sequence"]) == ("handed_over", None, None, 2)
    assert await bench.open_commands(workflow) == []
    assert bench.units(workflow) == {"offer": 1, "pick": 3, "pack": 1, "hand_over": 1}


async def test_answer_leaves_for_its_stream_with_the_commands_headers(bench: Bench) -> None:
    """It comes long after its command, and still joins on to it."""
    workflow = new_workflow()
    order = pack(workflow, ("tea", 1))
    await bench.done(order)
    (row,) = await outbox_rows(bench.db, WAREHOUSE, workflow)
    assert row["topic"] == f"{bench.settings.namespace}.warehouse"
    assert row["headers"]["fulcrum-causation-id"] == order.command_id
    assert row["headers"]["fulcrum-correlation-id"] == CORRELATION


async def test_a_repeat_waits_and_then_gets_the_first_answer(bench: Bench) -> None:
    """A copy of an open command tells nothing; later copies get the same event."""
    workflow = new_workflow()
    order = pack(workflow, ("slow-tea", 1))
    await bench.handle(order, order)
    await bench.handle(order)
    assert await bench.told(workflow) == []
    (packed,) = await bench.answered(order)
    await bench.handle(order)
    assert await bench.told(workflow) == [packed, packed]
    assert bench.units(workflow)["pick"] == 1


async def test_a_repeat_with_another_body_is_corrupt(bench: Bench) -> None:
    """One id stands for one body."""
    workflow = new_workflow()
    await bench.handle(pack(workflow, ("tea", 1)))
    with pytest.raises(Corrupt):
        await bench.worker.handle([delivery(pack(workflow, ("tea", 2)))])


# --- what is short --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sku", "on_short", "lines"),
    [
        ("short1-pot", "cancel_line", (Line("tea", 2), Line("short1-pot", 1))),
        ("short-pot", "cancel_line", (Line("tea", 2),)),
        ("broken-pot", "cancel_line", (Line("tea", 2), Line("broken-pot", 1))),
        ("later1-pot", "cancel_line", (Line("tea", 2), Line("later1-pot", 1))),
        ("slow-pot", "cancel_line", (Line("tea", 2), Line("slow-pot", 2))),
    ],
)
async def test_what_is_missing_is_left_out(
    bench: Bench, sku: str, on_short: str, lines: tuple[Line, ...]
) -> None:
    """The answer names what lies packed, and the relation agrees with the floor."""
    workflow = new_workflow()
    (packed,) = await bench.done(pack(workflow, ("tea", 2), (sku, 2), on_short=on_short))
    assert isinstance(packed, OrderPacked)
    assert packed.lines == lines
    picked = sum(line.quantity for line in lines)
    assert sum(units for _, _, units in await bench.lines(workflow)) == picked
    assert bench.units(workflow)["pick"] == picked


@pytest.mark.parametrize(
    ("lines", "on_short", "reason", "short"),
    [
        ((("short1-tea", 2), ("pot", 1)), "cancel_order", "short", (ShortLine("short1-tea", 2, 1),)),
        ((("short-tea", 2), ("pot", 1)), (), "short", (ShortLine("short-tea", 2, 0),)),
        ((("broken-tea", 1),), "cancel_order", "short", (ShortLine("broken-tea", 1, 0),)),
        ((("short-tea", 2),), "cancel_line", "nothing_left", (ShortLine("short-tea", 2, 0),)),
        (
            (("later-tea", 2), ("short1-pot", 2)),
            ("wait", "cancel_order"),
            "short",
            (ShortLine("later-tea", 2, 0), ShortLine("short1-pot", 2, 1)),
        ),
    ],
)
async def test_a_refused_order_is_put_back(
    bench: Bench,
    lines: tuple[tuple[str, int], ...],
    on_short: str | tuple[str, ...],
    reason: str,
    short: tuple[ShortLine, ...],
) -> None:
    """The answer names every short line, and nothing lies picked when it is given."""
    workflow = new_workflow()
    (refused,) = await bench.done(pack(workflow, *lines, on_short=on_short))
    assert isinstance(refused, PackRefused)
    assert (refused.reason, refused.short) == (reason, short)
    units = bench.units(workflow)
    assert units.get("pick", 0) == units.get("put_back", 0)
    assert [picked for _, _, picked in await bench.lines(workflow)] == [0] * len(lines)
    assert (await bench.row(workflow))["state"] == "failed"


async def test_goods_that_come_later_are_waited_for(bench: Bench) -> None:
    """The shortfall is told once, under an id of its own, before the answer; mixed terms wait too."""
    workflow = new_workflow()
    order = pack(workflow, ("later1-tea", 2), ("short1-pot", 2), on_short=("wait", "cancel_line"))
    short, packed = await bench.done(order)
    assert isinstance(short, OrderShort)
    assert isinstance(packed, OrderPacked)
    assert short.short == (ShortLine("later1-tea", 2, 1), ShortLine("short1-pot", 2, 1))
    assert short.event_id not in (
        packed.event_id,
        identity.event_id(order.command_id, "OrderShort"),
    )
    assert (short.sequence, packed.sequence) == (1, 2)
    row = await bench.row(workflow)
    assert short.waits_until == row["waits_until"] > row["requested_at"]
    assert packed.lines == (Line("later1-tea", 2), Line("short1-pot", 1))
    assert "short_picked" in await bench.history(workflow)


# --- cancellation ---------------------------------------------------------------------------------


async def test_a_cancellation_before_the_order_is_a_fence(bench: Bench) -> None:
    """The late order is refused, and the floor never hears of it."""
    workflow = new_workflow()
    (cancelled,) = await bench.done(cancel(workflow))
    assert isinstance(cancelled, PackJobCancelled)
    assert (cancelled.pack_job_id, cancelled.handed_over, cancelled.sequence) == (None, False, 1)
    _, refused = await bench.done(pack(workflow, ("tea", 1)))
    assert isinstance(refused, PackRefused)
    assert (refused.reason, refused.sequence) == ("cancelled", 2)
    assert bench.units(workflow) == {}


async def test_order_and_cancellation_in_one_batch(bench: Bench) -> None:
    """Both are answered, in the order of the way back, and the floor takes nothing up."""
    workflow = new_workflow()
    order, undo = pack(workflow, ("tea", 1)), cancel(workflow)
    await bench.handle(order, undo)
    refused, cancelled = await bench.answered(undo)
    assert isinstance(refused, PackRefused)
    assert isinstance(cancelled, PackJobCancelled)
    assert (refused.reason, cancelled.pack_job_id) == ("cancelled", order.command_id)
    assert "pick" not in bench.units(workflow)


@pytest.mark.parametrize("state", ["picking", "short_picked", "packed"])
async def test_a_cancellation_puts_everything_back(bench: Bench, state: str) -> None:
    """Whatever the floor was at; the order that waited is refused first."""
    workflow = new_workflow()
    lines = {
        "picking": [("tea", 2), ("slow-tea", 1)],
        "short_picked": [("short1-tea", 2)],
        "packed": [("tea", 2)],
    }[state]
    order = pack(workflow, *lines, on_short="wait")
    await bench.handle(order)
    await bench.until(workflow, state)
    events = await bench.done(cancel(workflow))
    cancelled = events[-1]
    assert isinstance(cancelled, PackJobCancelled)
    assert (cancelled.pack_job_id, cancelled.handed_over) == (order.command_id, False)
    assert any(isinstance(event, PackRefused) for event in events) == (state != "packed")
    units = bench.units(workflow)
    assert units.get("pick", 0) == units.get("put_back", 0)
    assert [event.sequence for event in events] == [*range(1, len(events) + 1)]
    assert (await bench.row(workflow))["state"] == "cancelled"
    *_, late = await bench.done(hand_over(workflow))
    assert isinstance(late, HandOverRefused)
    assert late.reason == "cancelled"


async def test_what_was_handed_over_is_not_put_back(bench: Bench) -> None:
    """The answer says so, and the parcel stays with the courier."""
    workflow = new_workflow()
    await bench.done(pack(workflow, ("tea", 1)))
    await bench.done(hand_over(workflow))
    *_, cancelled = await bench.done(cancel(workflow))
    assert isinstance(cancelled, PackJobCancelled)
    assert cancelled.handed_over
    assert "put_back" not in bench.units(workflow)


async def test_nothing_is_handed_over_before_it_is_packed(bench: Bench) -> None:
    """With or without a job; the job goes on."""
    workflow = new_workflow()
    (refused,) = await bench.done(hand_over(workflow))
    assert isinstance(refused, HandOverRefused)
    assert refused.reason == "not_packed"
    *_, packed = await bench.done(pack(workflow, ("tea", 1)))
    assert isinstance(packed, OrderPacked)
    assert packed.sequence == 2
    *_, handed = await bench.done(hand_over(workflow, attempt=2))
    assert isinstance(handed, ParcelHandedOver)


async def test_a_new_attempt_after_a_refusal_packs(bench: Bench) -> None:
    """It has lines of its own, and the count of events goes on."""
    workflow = new_workflow()
    await bench.done(pack(workflow, ("short-tea", 1)))
    *_, packed = await bench.done(pack(workflow, ("pot", 3), ("cup", 1), attempt=2))
    assert isinstance(packed, OrderPacked)
    assert (packed.sequence, packed.lines) == (2, (Line("pot", 3), Line("cup", 1)))
    assert await bench.lines(workflow) == [("pot", 3, 3), ("cup", 1, 1)]


async def test_a_new_attempt_waits_for_the_open_one(bench: Bench) -> None:
    """Nothing of it is kept, so that its redelivery can decide."""
    workflow = new_workflow()
    await bench.handle(pack(workflow, ("slow-tea", 1)))
    with pytest.raises(Retryable, match="attempt 1"):
        await bench.handle(pack(workflow, ("slow-tea", 1), attempt=2))
    assert await bench.open_commands(workflow) == ["PackOrder"]


# --- silence --------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("question", ["Offer", "Look", "PickAgain", "Pack", "PutBack", "HandOver"])
async def test_silence_is_asked_again(bench: Bench, question: str, moment: str) -> None:
    """Whether the floor acted or not, it ends with one effect and one answer."""
    workflow = new_workflow()
    getattr(bench.floor, moment).add(question)
    on_short = {"Pack": "cancel_line", "PutBack": "cancel_order", "PickAgain": "wait"}.get(question, "wait")
    sku = {"Pack": "short1-tea", "PutBack": "short1-tea", "PickAgain": "later1-tea"}.get(question, "tea")
    last, *_ = await bench.done(pack(workflow, (sku, 2), on_short=on_short))
    if question == "HandOver":
        _, last = await bench.done(hand_over(workflow))
        assert isinstance(last, ParcelHandedOver)
    assert question not in bench.floor.before | bench.floor.after
    units = bench.units(workflow)
    assert (units["offer"], units.get("pack", 0) + units.get("cancel", 0)) == (1, 1)
    assert units.get("hand_over", 0) == (question == "HandOver")
    assert await bench.open_commands(workflow) == []
