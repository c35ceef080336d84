"""Courier commands on a real database and a real courier: one parcel at most, whatever dies and repeats.

Long, because every address, every order and every death is tried on the same worker, database and courier.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any
from unittest.mock import ANY

import aiohttp
import pytest
import pytest_asyncio
from courierbench import WITHIN, Bench, courier_service, looking
from deliveries import CORRELATION, delivery, intercept, new_workflow, outbox_rows, ship, track
from eventually import eventually_async
from sqlalchemy import select, update

from fulcrum.errors import Corrupt, OutcomeUnknown, Rejected, Unavailable
from fulcrum.saga import identity
from fulcrum.saga.messages import (
    DeliveryCancelled,
    DeliveryCreated,
    DeliveryDelayed,
    DeliveryNotCancelled,
    DeliveryRefused,
    ParcelDelivered,
    ParcelNotDelivered,
)
from fulcrum.wire.topics import Topics
from fulcrum.workers.courier_relations import COURIER, DELIVERIES, OPEN_COMMAND

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(namespace: Mapping[str, str]) -> AsyncIterator[Bench]:
    """The service of this module."""
    async with courier_service(namespace) as running:
        yield running


# --- one command ----------------------------------------------------------------------------------


async def test_shipment_is_booked_stored_and_told(bench: Bench) -> None:
    """One effect at the courier, one row, one event that joins on to its command; the label is there."""
    command = ship(new_workflow(), "stays_booked-home")
    await bench.handle(command)
    row = await bench.row(command.workflow_id)
    (event,) = await bench.told(command.workflow_id)
    assert event == DeliveryCreated(
        event_id=identity.event_id(command.command_id, "DeliveryCreated"),
        workflow_id=command.workflow_id,
        sequence=1,
        occurred_at=ANY,
        command_id=command.command_id,
        delivery_id=row["shipment_id"],
        tracking_number=row["tracking_number"],
        label_url=row["label_url"],
    )
    assert (row["state"], bench.effects(command.workflow_id)) == ("booked", ["book"])
    (sent,) = await outbox_rows(bench.db, COURIER, command.workflow_id)
    assert sent["topic"] == Topics(bench.settings.namespace).stream("courier")
    assert sent["headers"]["fulcrum-causation-id"] == command.command_id
    async with aiohttp.ClientSession() as http, http.get(row["label_url"]) as label:
        assert "stays_booked-home" in await label.text()


async def test_address_that_is_unknown_is_refused_and_no_error(bench: Bench) -> None:
    """The next attempt may be carried; the question how it ended has an answer."""
    workflow = new_workflow()
    await bench.handle(ship(workflow, "unknown-home"), track(workflow), ship(workflow, attempt=2))
    refused, over, created = await bench.told(workflow)
    assert isinstance(refused, DeliveryRefused)
    assert refused.reason == "unknown_address"
    assert isinstance(over, ParcelNotDelivered)
    assert isinstance(created, DeliveryCreated)
    assert bench.effects(workflow) == ["refuse", "book"]


@pytest.mark.parametrize(
    ("ship_to", "state", "expected"),
    [
        ("home", "delivered", (ParcelDelivered, None, None)),
        ("twice-home", "delivered", (ParcelDelivered, None, None)),
        ("backwards-home", "delivered", (ParcelDelivered, None, None)),
        ("replayed-home", "delivered", (ParcelDelivered, None, None)),
        ("returned-home", "returned", (ParcelNotDelivered, "returned", True)),
        ("returned_damaged-home", "returned", (ParcelNotDelivered, "returned", False)),
        ("lost-home", "lost", (ParcelNotDelivered, "lost", False)),
    ],
)
async def test_the_end_is_told_once(bench: Bench, ship_to: str, state: str, expected: Any) -> None:
    """Whoever asks while it is under way is answered when it is over, and whoever asks later at once."""
    workflow = new_workflow()
    await bench.handle(ship(workflow, ship_to), track(workflow))
    assert await bench.open_commands(workflow) == ["TrackDelivery"]
    kind, reason, undamaged = expected
    event = await bench.until_told(workflow, kind)
    assert getattr(event, "reason", None) == reason
    assert getattr(event, "undamaged", None) == undamaged
    assert event.command_id == track(workflow).command_id
    row = await bench.row(workflow)
    assert (row["state"], row["sequence"], row["poll_at"]) == (state, 2, None)
    assert await bench.open_commands(workflow) == []
    (_, sent) = await outbox_rows(bench.db, COURIER, workflow)
    assert sent["headers"]["fulcrum-correlation-id"] == CORRELATION

    await bench.handle(track(workflow), track(workflow, attempt=2))
    _, first, again, other = await bench.told(workflow)
    assert first == again == event
    assert (type(other), other.sequence) == (kind, 3)


async def test_an_exception_is_told_and_goes_on(bench: Bench) -> None:
    """Two events answer one question, under numbers and ids of their own."""
    workflow = new_workflow()
    await bench.handle(ship(workflow, "exception-home"), track(workflow))
    await bench.until_told(workflow, ParcelDelivered)
    _, delayed, delivered = await bench.told(workflow)
    assert isinstance(delayed, DeliveryDelayed)
    assert delayed.reason == "address_not_found"
    assert delayed.command_id == delivered.command_id
    assert [delayed.sequence, delivered.sequence] == [2, 3]
    assert delayed.event_id != delivered.event_id


async def test_a_question_about_nothing_is_rejected(bench: Bench) -> None:
    """It is parked, where people see it."""
    with pytest.raises(Rejected, match="no shipment to track"):
        await bench.handle(track(new_workflow()))


async def test_another_body_under_a_known_id_is_corrupt(bench: Bench) -> None:
    """One id stands for one body."""
    workflow = new_workflow()
    await bench.handle(ship(workflow))
    with pytest.raises(Corrupt):
        await bench.handle(ship(workflow, "elsewhere"))


# --- cancelling -----------------------------------------------------------------------------------


async def test_a_cancellation_that_comes_first_is_a_fence(bench: Bench) -> None:
    """The courier never hears of it."""
    workflow = new_workflow()
    await bench.handle(intercept(workflow), ship(workflow), ship(workflow, attempt=2))
    cancelled, *refused = await bench.told(workflow)
    assert cancelled == DeliveryCancelled(
        event_id=ANY,
        workflow_id=workflow,
        sequence=1,
        occurred_at=ANY,
        command_id=intercept(workflow).command_id,
        delivery_id=None,
        state="cancelled",
    )
    assert [getattr(event, "reason", None) for event in refused] == ["fenced", "fenced"]
    assert bench.effects(workflow) == []


async def test_before_it_is_fetched_it_is_cancelled(bench: Bench) -> None:
    """Whoever waits for the end is told at once, and a late booking is refused."""
    workflow = new_workflow()
    await bench.handle(ship(workflow, "stays_booked-home"), track(workflow), intercept(workflow))
    _, first, second = await bench.told(workflow)
    cancelled, over = sorted((first, second), key=lambda event: type(event).__name__)
    assert isinstance(cancelled, DeliveryCancelled)
    assert cancelled.state == "cancelled"
    assert isinstance(over, ParcelNotDelivered)
    assert (over.reason, over.undamaged) == ("returned", True)
    assert {first.sequence, second.sequence} == {2, 3}
    assert bench.effects(workflow) == ["book", "cancel"]
    await bench.handle(ship(workflow, attempt=2), intercept(workflow), intercept(workflow, attempt=2))
    assert bench.effects(workflow) == ["book", "cancel"]
    kinds = [type(event) for event in (await bench.told(workflow))[3:]]
    assert kinds == [DeliveryRefused, DeliveryCancelled, DeliveryCancelled]


async def test_on_its_way_it_is_brought_back(bench: Bench) -> None:
    """It is cancelled at once as far as the customer is concerned, and over when it is back."""
    workflow = new_workflow()
    await bench.handle(ship(workflow, "stays_in_transit-home"), track(workflow))
    await bench.until_state(workflow, "in_transit")
    await bench.handle(intercept(workflow))
    over = await bench.until_told(workflow, ParcelNotDelivered)
    _, cancelled, _ = await bench.told(workflow)
    assert isinstance(cancelled, DeliveryCancelled)
    assert cancelled.state == "returning"
    assert (over.reason, over.undamaged, over.sequence) == ("returned", True, 3)
    assert bench.effects(workflow) == ["book", "intercept"]


async def test_a_courier_that_does_not_stop_is_believed(bench: Bench) -> None:
    """The refusal is told, and the parcel goes on; another request asks anew."""
    workflow = new_workflow()
    await bench.handle(ship(workflow, "nocancel-stays_in_transit-home"), track(workflow))
    await bench.until_state(workflow, "in_transit")
    await bench.handle(intercept(workflow), intercept(workflow), intercept(workflow, attempt=2))
    _, first, again, other = await bench.told(workflow)
    assert isinstance(first, DeliveryNotCancelled)
    assert first == again
    assert first.reason == "cannot_be_stopped"
    assert (type(other), other.sequence) == (DeliveryNotCancelled, 3)
    assert bench.effects(workflow) == ["book", "refuse_stop", "refuse_stop"]
    assert await bench.open_commands(workflow) == ["TrackDelivery"]


@pytest.mark.parametrize(
    ("ship_to", "expected"),
    [("home", "delivered"), ("lost-home", "lost"), ("returned-home", "returned")],
)
async def test_after_the_end_nothing_is_asked(bench: Bench, ship_to: str, expected: str) -> None:
    """A delivered parcel cannot be stopped; of another one nothing is on its way."""
    workflow = new_workflow()
    await bench.handle(ship(workflow, ship_to))
    await bench.until_state(workflow, expected)
    await bench.handle(intercept(workflow))
    _, event = await bench.told(workflow)
    if expected == "delivered":
        assert isinstance(event, DeliveryNotCancelled)
        assert event.reason == "delivered"
    else:
        assert isinstance(event, DeliveryCancelled)
        assert event.state == expected
    assert bench.effects(workflow) == ["book"]


# --- silence, copies, deaths ----------------------------------------------------------------------


async def test_a_booking_that_is_not_answered_is_made_once(bench: Bench) -> None:
    """The courier acted and was silent: the repeat finds the shipment."""
    command = ship(new_workflow(), "mute-stays_booked-home")
    with pytest.raises(OutcomeUnknown):
        await bench.handle(command)
    assert await bench.open_commands(command.workflow_id) == ["CreateDelivery"]
    await bench.handle(command)
    (event,) = await bench.told(command.workflow_id)
    assert isinstance(event, DeliveryCreated)
    assert bench.effects(command.workflow_id) == ["book"]
    assert await bench.open_commands(command.workflow_id) == []


async def test_a_booking_with_unknown_outcome_is_cancelled_for_sure(bench: Bench) -> None:
    """It is looked up, stopped, and its own command then hears that it came too late."""
    workflow = new_workflow()
    command = ship(workflow, "mute-stays_booked-home")
    with pytest.raises(OutcomeUnknown):
        await bench.handle(command)
    await bench.handle(intercept(workflow), command)
    cancelled, refused = await bench.told(workflow)
    assert isinstance(cancelled, DeliveryCancelled)
    assert isinstance(refused, DeliveryRefused)
    assert bench.effects(workflow) == ["book", "cancel"]


async def test_a_courier_that_is_busy_is_asked_again(bench: Bench) -> None:
    """It did nothing, and says so."""
    command = ship(new_workflow(), "busy_1-stays_booked-home")
    with pytest.raises(Unavailable):
        await bench.handle(command)
    await bench.handle(command)
    assert bench.effects(command.workflow_id) == ["book"]


async def test_the_sweeper_finishes_what_nobody_redelivers(bench: Bench) -> None:
    """An open booking is carried out again after its time, though its queue holds it back."""
    command = ship(new_workflow(), "mute-home")
    with pytest.raises(OutcomeUnknown):
        await bench.handle(command)
    async with looking(bench):
        await bench.until_told(command.workflow_id, DeliveryCreated)
    assert bench.effects(command.workflow_id) == ["book"]


async def test_the_sweeper_leaves_those_that_wait_alone(bench: Bench) -> None:
    """A question that waits for the end of its shipment is never due."""
    workflow = new_workflow()
    await bench.handle(ship(workflow, "stays_booked-home"), track(workflow))
    of = OPEN_COMMAND.c.workflow_id == workflow
    row = await bench.db.one(select(OPEN_COMMAND.c.type, OPEN_COMMAND.c.due_at).where(of))
    assert row == {"type": "TrackDelivery", "due_at": None}


async def test_copies_in_two_processes_have_one_answer(bench: Bench) -> None:
    """Bookings, questions and cancellations, each twice at once in two processes."""
    other, _ = bench.process()
    for _ in range(10):
        workflow = new_workflow()
        for command in (ship(workflow, "stays_booked-home"), track(workflow), intercept(workflow)):
            copies = (each.handle([delivery(command)]) for each in (bench.worker, other))
            await asyncio.gather(*copies)
        events = {event.event_id: event for event in await bench.told(workflow)}
        assert sorted(event.sequence for event in events.values()) == [1, 2, 3]
        assert bench.effects(workflow) == ["book", "cancel"]


async def test_many_at_once_share_transactions_and_keep_their_answers(bench: Bench) -> None:
    """Fifty workflows side by side: each booked once, each told once."""
    flows = [new_workflow() for _ in range(50)]
    await asyncio.gather(*(bench.handle(ship(flow, "stays_booked-home"), track(flow)) for flow in flows))
    for flow in flows:
        assert [type(event) for event in await bench.told(flow)] == [DeliveryCreated]
        assert bench.effects(flow) == ["book"]


async def test_a_question_and_the_end_at_once_lose_nothing(bench: Bench) -> None:
    """Whichever is first, the question is answered exactly once."""
    flows = [new_workflow() for _ in range(20)]
    await bench.handle(*(ship(flow, "lost-home") for flow in flows))

    async def ask(flow: str) -> None:
        async def moves() -> bool:
            return (await bench.row(flow))["state"] in ("in_transit", "lost")

        await eventually_async(moves, within=WITHIN)
        await bench.handle(track(flow))

    await asyncio.gather(*(ask(flow) for flow in flows))
    for flow in flows:
        event = await bench.until_told(flow, ParcelNotDelivered)
        assert event.sequence == 2
        assert len(await bench.told(flow)) == 2


# --- the poller -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ship_to", ["silent-home", "silent-lost-home"])
async def test_a_silent_shipment_is_found_out_by_asking(bench: Bench, ship_to: str) -> None:
    """No webhook ever comes: the poller brings the end, and what lay before it."""
    workflow = new_workflow()
    await bench.handle(ship(workflow, ship_to), track(workflow))
    kind = ParcelNotDelivered if "lost" in ship_to else ParcelDelivered
    async with looking(bench):
        await bench.until_told(workflow, kind)
    updates = await bench.updates(workflow)
    assert {row["came_by"] for row in updates} == {"poll"}
    assert [row["sequence"] for row in updates] == list(range(1, len(updates) + 1))
    assert updates[-1]["status"] in ("delivered", "lost")


async def test_two_pollers_share_the_work_and_repeat_nothing(bench: Bench) -> None:
    """Each shipment goes to one of them; those that have ended are asked about no more."""
    flows = [new_workflow() for _ in range(12)]
    await asyncio.gather(*(bench.handle(ship(flow, "silent-home")) for flow in flows))

    async def all_over() -> bool:
        await asyncio.gather(bench.poller.poll(), bench.poller.poll())
        return {(await bench.row(flow))["state"] for flow in flows} == {"delivered"}

    await eventually_async(all_over, within=WITHIN)
    for flow in flows:
        assert len(await bench.updates(flow)) == 5
        assert (await bench.row(flow))["poll_at"] is None


async def test_one_that_cannot_be_asked_about_keeps_no_other_waiting(bench: Bench) -> None:
    """The courier knows nothing of one shipment: the next one is asked about all the same."""
    strange, good = new_workflow(), new_workflow()
    await bench.handle(ship(strange, "silent-stays_booked-home"), ship(good, "silent-home"))
    await bench.db.execute(
        update(DELIVERIES).where(DELIVERIES.c.workflow_id == strange).values(shipment_id="shp_nobody")
    )
    async with looking(bench):
        await bench.until_state(good, "delivered")
    assert (await bench.row(strange))["state"] == "booked"
