"""What does fulfillment.v2 do, from the payment to the customer's door?

Long, because every turn that a shipped order can take is told on one run.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from fulfilment import ORDERED, Fulfilment

from fulcrum.saga.messages import (
    CapturePayment,
    ConsumeStock,
    CreateDelivery,
    DeliveryCancelled,
    DeliveryCreated,
    DeliveryDelayed,
    DeliveryNotCancelled,
    DeliveryRefused,
    Event,
    HandOverParcel,
    HandOverRefused,
    Line,
    OrderPacked,
    OrderShort,
    PackJobCancelled,
    PackOrder,
    PackRefused,
    ParcelDelivered,
    ParcelHandedOver,
    ParcelNotDelivered,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentCaptureRefused,
    PaymentNotFound,
    PaymentReversalRefused,
    PaymentReversed,
    QueryPayment,
    RestockStock,
    StockConsumed,
    StockNotConsumed,
    StockReleased,
    StockReserved,
    StockRestocked,
)
from fulcrum.saga.run import Status, StepStatus
from fulcrum.saga.timers import next_timer

FORTH = [
    "AuthorizePayment",
    "ReserveStock",
    "PackOrder",
    "CapturePayment",
    "CreateDelivery",
    "HandOverParcel",
    "ConsumeStock",
    "TrackDelivery",
]


def back(run: Fulfilment, *answers: type[Event]) -> list[str]:
    """Answer every undo that leaves; which ones did."""
    before = len(run.names)
    for kind in answers:
        run.answer(kind)
    return run.names[before - 1 :]


# --- forth ----------------------------------------------------------------------------------------


def test_every_step_done_brings_the_parcel_to_the_customer() -> None:
    """Eight commands leave in their order, and the last answer completes the run."""
    run = Fulfilment().through(StockConsumed)
    done = run.answer(ParcelDelivered)
    assert run.names == FORTH
    assert done.run.status == Status.COMPLETED
    assert {step.status for step in done.run.steps} == {StepStatus.DONE}


def test_later_commands_say_what_earlier_answers_said() -> None:
    """Packed lines and parcels go to the courier, the tracking number to the warehouse."""
    run = Fulfilment().through(StockReserved)
    packed = (Line("tea-01", 1), Line("cup", 1))
    run.answer(OrderPacked, lines=packed, parcels=3)
    run.answer(PaymentCaptured)
    created = run.asked
    run.answer(DeliveryCreated, tracking_number="T77")
    handed = run.asked
    run.answer(ParcelHandedOver)
    assert isinstance(created, CreateDelivery)
    assert (created.lines, created.parcels, created.ship_to) == (packed, 3, "address-1")
    assert isinstance(handed, HandOverParcel)
    assert handed.tracking_number == "T77"
    assert isinstance(run.asked, ConsumeStock)
    assert run.asked.lines == packed


def test_what_was_not_packed_is_not_paid() -> None:
    """The captured amount is the intent's less the price of each missing unit."""
    run = Fulfilment().through(StockReserved)
    run.answer(OrderPacked, lines=(Line("tea-01", 1), Line("cup", 1)))
    assert isinstance(run.asked, CapturePayment)
    assert (run.asked.amount_minor, run.asked.currency) == (850, "EUR")


def test_the_warehouse_learns_what_was_agreed_on_each_line() -> None:
    """The terms are the intent's."""
    run = Fulfilment().through(StockReserved)
    assert isinstance(run.asked, PackOrder)
    assert (run.asked.lines, run.asked.terms) == (ORDERED, run.run.intent.terms)


def test_an_authorization_may_lapse_while_the_goods_are_packed() -> None:
    """Whoever captures renews it: its time is no time of the run's."""
    run = Fulfilment()
    run.answer(PaymentAuthorized, expires_at=run.now)
    assert run.step("authorize_payment").expires_at is None
    for kind in (StockReserved, OrderPacked):
        assert run.answer(kind).run.status == Status.RUNNING


# --- progress -------------------------------------------------------------------------------------


def test_a_wait_for_goods_moves_the_deadline_behind_its_end() -> None:
    """The step is not late while the warehouse waits; the journal has the event and the step its reason."""
    run = Fulfilment().through(StockReserved)
    run.fire()
    until = run.now + timedelta(hours=5)
    short = run.answer(OrderShort, waits_until=until)
    step = run.step("pack_order")
    assert (short.ignored, short.commands, short.step) == (None, (), "pack_order")
    assert step.deadline_at == until + timedelta(minutes=30)
    assert (step.reason, step.late) == ("short", 0)
    run.answer(OrderPacked)
    assert run.step("pack_order").reason is None
    assert isinstance(run.asked, CapturePayment)


@pytest.mark.parametrize("verb", ["resume", "retry"])
def test_a_wait_for_goods_is_not_cut_short(verb: str) -> None:
    """Neither by a pause, nor by an operator who asks meanwhile."""
    run = Fulfilment().through(StockReserved)
    until = run.now + timedelta(hours=5)
    run.answer(OrderShort, waits_until=until)
    if verb == "resume":
        run.ask("pause")
    run.ask(verb)
    assert run.step("pack_order").deadline_at == until + timedelta(minutes=30)


def test_an_exception_on_the_way_gives_the_parcel_more_time() -> None:
    """It may still arrive, and nothing is sent."""
    run = Fulfilment().through(StockConsumed)
    delayed = run.answer(DeliveryDelayed, reason="weather")
    step = run.step("deliver")
    assert (step.reason, step.deadline_at) == ("weather", delayed.run.updated_at + timedelta(days=1))
    assert not delayed.commands
    assert run.answer(ParcelDelivered).run.status == Status.COMPLETED


def test_progress_of_a_step_that_has_ended_is_ignored() -> None:
    """It came late."""
    run = Fulfilment().through(StockReserved)
    pack = run.asked
    run.answer(OrderPacked)
    assert run.answer(OrderShort, pack).ignored == "progress_while_running_done"


# --- silence --------------------------------------------------------------------------------------

AFTER = [
    (OrderPacked, "capture_payment", "QueryPayment"),
    (PaymentCaptured, "create_delivery", "CreateDelivery"),
    (DeliveryCreated, "hand_over", "HandOverParcel"),
    (ParcelHandedOver, "consume_stock", "ConsumeStock"),
    (StockConsumed, "deliver", "TrackDelivery"),
]


@pytest.mark.parametrize(("last", "step", "asked"), AFTER)
def test_silence_from_the_pivot_on_undoes_nothing(last: type[Event], step: str, asked: str) -> None:
    """It is asked again for ever, and its waits do not grow out of every clock."""
    run = Fulfilment().through(last)
    for _ in range(100):
        fired = run.fire()
        assert [type(command).__name__ for command in fired.commands] == [asked]
        assert fired.run.status == Status.RUNNING
    assert run.step(step).late == 100


def test_silence_of_the_warehouse_before_the_pivot_is_given_up() -> None:
    """Nothing is taken yet, so all of it can be given back."""
    run = Fulfilment().through(StockReserved)
    for _ in range(10):
        run.fire()
    assert (run.run.status, run.run.reason) == (Status.COMPENSATING, "pack_order: no_answer")
    assert run.names[-1] == "CancelPackJob"


def test_a_capture_nobody_has_heard_of_is_sent_again() -> None:
    """The answer belongs to the step whose query it answers, though two steps can have it."""
    run = Fulfilment().through(OrderPacked)
    capture = run.asked
    run.fire()
    assert isinstance(run.asked, QueryPayment)
    found = run.answer(PaymentNotFound)
    assert (found.step, found.commands) == ("capture_payment", (capture,))


# --- back -----------------------------------------------------------------------------------------

BEFORE_CAPTURE = ["CancelPackJob", "ReleaseStock", "ReversePayment"]


def test_a_refused_pack_job_gives_everything_back() -> None:
    """A refusal leaves nothing in the warehouse."""
    run = Fulfilment().through(StockReserved)
    run.answer(PackRefused, reason="short")
    assert back(run, StockReleased, PaymentReversed) == ["ReleaseStock", "ReversePayment"]
    assert (run.run.status, run.run.reason) == (Status.CANCELLED, "pack_order: short")


def test_a_refused_capture_gives_everything_back() -> None:
    """The pivot that refuses is none: the goods go back to their shelves."""
    run = Fulfilment().through(OrderPacked)
    run.answer(PaymentCaptureRefused, reason="expired")
    assert back(run, PackJobCancelled, StockReleased, PaymentReversed) == BEFORE_CAPTURE
    assert (run.run.status, run.run.reason) == (Status.CANCELLED, "capture_payment: expired")


def test_an_address_the_courier_refuses_gives_the_money_back() -> None:
    """Also what was taken."""
    run = Fulfilment().through(PaymentCaptured)
    run.answer(DeliveryRefused, reason="unknown_address")
    assert back(run, PackJobCancelled, StockReleased, PaymentReversed) == BEFORE_CAPTURE
    assert run.run.status == Status.CANCELLED
    assert run.step("capture_payment").status == StepStatus.UNDONE


def test_a_hand_over_that_is_refused_cancels_the_delivery_first() -> None:
    """The courier must not come for nothing."""
    run = Fulfilment().through(DeliveryCreated)
    run.answer(HandOverRefused)
    assert back(run, DeliveryCancelled) == ["CancelDelivery", "CancelPackJob"]


def test_goods_that_were_not_held_turn_the_run_round() -> None:
    """Nothing was consumed, so nothing is restocked."""
    run = Fulfilment().through(ParcelHandedOver)
    run.answer(StockNotConsumed, reason="released")
    assert run.names[-1] == "CancelDelivery"


LOST = [("lost", False, False), ("returned", True, True), ("returned", False, False)]


@pytest.mark.parametrize(("reason", "undamaged", "restocked"), LOST)
def test_a_parcel_that_does_not_arrive_is_refunded(reason: str, undamaged: bool, restocked: bool) -> None:
    """Its goods are available again if they came back in good order."""
    run = Fulfilment().through(StockConsumed)
    run.answer(ParcelNotDelivered, reason=reason, undamaged=undamaged)
    assert isinstance(run.asked, RestockStock)
    assert run.asked.undamaged is restocked
    undone = (StockRestocked, DeliveryCancelled, PackJobCancelled, StockReleased, PaymentReversed)
    assert back(run, *undone) == ["RestockStock", "CancelDelivery", *BEFORE_CAPTURE]
    assert (run.run.status, run.run.reason) == (Status.CANCELLED, f"deliver: {reason}")
    assert {step.status for step in run.run.steps} == {StepStatus.UNDONE, StepStatus.REFUSED}


def test_a_reversal_that_is_refused_needs_attention_until_a_retry_succeeds() -> None:
    """The reason stands at the step; a retry is another command with its full patience."""
    run = Fulfilment().through(StockReserved)
    run.answer(PackRefused, reason="short")
    run.answer(StockReleased)
    first = run.asked
    refused = run.answer(PaymentReversalRefused, reason="card_closed")
    assert (refused.run.status, refused.commands) == (Status.NEEDS_ATTENTION, ())
    assert run.step("authorize_payment").reason == "undo_refused: card_closed"
    assert next_timer(run.run, timedelta(days=1)) is None
    again = run.ask("retry")
    assert again.run.status == Status.COMPENSATING
    assert run.asked.command_id != first.command_id
    assert run.answer(PaymentReversed).run.status == Status.CANCELLED


def test_a_delivery_that_cannot_be_cancelled_needs_attention() -> None:
    """An operator who forces a compensation learns that the parcel is on its way."""
    run = Fulfilment().through(StockConsumed)
    run.ask("compensate")
    restock = run.asked
    assert isinstance(restock, RestockStock)
    assert not restock.undamaged
    run.answer(StockRestocked)
    refused = run.answer(DeliveryNotCancelled, reason="picked_up")
    assert refused.run.status == Status.NEEDS_ATTENTION
    assert run.step("create_delivery").reason == "undo_refused: picked_up"


def test_an_undo_that_left_is_repeated_to_the_last_field() -> None:
    """What is told of the parcel after a forced compensation does not change what was asked for."""
    run = Fulfilment().through(StockConsumed)
    track = run.asked
    run.ask("compensate")
    restock = run.asked
    run.answer(ParcelNotDelivered, track, reason="returned", undamaged=True)
    assert run.fire().commands == (restock,)
