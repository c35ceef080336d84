"""What becomes of a cancellation once the goods may be on their way?"""

from __future__ import annotations

from datetime import timedelta

import pytest
from fulfilment import Fulfilment

from fulcrum.saga.messages import (
    CancelDelivery,
    DeliveryCancelled,
    DeliveryCreated,
    DeliveryNotCancelled,
    Event,
    OrderPacked,
    PackJobCancelled,
    ParcelDelivered,
    ParcelHandedOver,
    ParcelNotDelivered,
    PaymentCaptured,
    PaymentReversed,
    RestockStock,
    StockConsumed,
    StockReleased,
    StockRestocked,
)
from fulcrum.saga.run import Status, StepStatus
from fulcrum.saga.timers import fire, next_timer

UNDER_WAY: list[type[Event]] = [PaymentCaptured, DeliveryCreated, ParcelHandedOver, StockConsumed]


def intercepting(last: type[Event] = StockConsumed) -> Fulfilment:
    """A run that is cancelled when its parcel may be on its way."""
    run = Fulfilment().through(last)
    run.cancel()
    assert isinstance(run.asked, CancelDelivery)
    return run


def test_before_a_delivery_is_asked_for_a_cancellation_compensates() -> None:
    """Also of what may have been taken."""
    run = Fulfilment().through(OrderPacked)
    assert run.cancel().run.status == Status.COMPENSATING
    assert run.names[-1] == "CancelPackJob"


@pytest.mark.parametrize("last", UNDER_WAY)
def test_from_then_on_it_is_a_request_and_the_run_goes_on(last: type[Event]) -> None:
    """The courier is asked to stop the parcel; whatever else is awaited is still awaited."""
    run = Fulfilment().through(last)
    awaited = run.asked
    asked = run.cancel()
    assert asked.run.status == Status.RUNNING
    assert [type(command) for command in asked.commands] == [CancelDelivery]
    assert asked.run.step(awaited.step).status == StepStatus.REQUESTED
    assert asked.run.intercept is not None
    assert asked.run.intercept.reason == "cancelled: changed their mind"


def test_a_parcel_that_is_stopped_turns_the_run_round() -> None:
    """What came before is undone, and the run ends for the reason of the cancellation."""
    run = intercepting()
    stopped = run.answer(DeliveryCancelled, state="returning")
    assert stopped.run.intercept is None
    assert isinstance(run.asked, RestockStock)
    assert not run.asked.undamaged
    for kind in (StockRestocked, PackJobCancelled, StockReleased, PaymentReversed):
        run.answer(kind)
    assert (run.run.status, run.run.reason) == (Status.CANCELLED, "cancelled: changed their mind")
    assert {step.status for step in run.run.steps} == {StepStatus.UNDONE}


def test_goods_that_the_courier_never_fetched_are_available_again() -> None:
    """They had been booked as gone."""
    run = intercepting()
    run.answer(DeliveryCancelled, state="cancelled")
    assert isinstance(run.asked, RestockStock)
    assert run.asked.undamaged


def test_a_delivery_that_was_not_booked_yet_is_refused_for_good() -> None:
    """The stop overtook it: its own answer is of no account any more."""
    run = Fulfilment().through(PaymentCaptured)
    create = run.asked
    run.cancel()
    run.answer(DeliveryCancelled, state="none", delivery_id=None)
    assert (run.run.status, run.names[-1]) == (Status.COMPENSATING, "CancelPackJob")
    late = run.answer(DeliveryCreated, create)
    assert [type(command) for command in late.commands] == [CancelDelivery]


def test_a_parcel_that_cannot_be_stopped_is_delivered() -> None:
    """The refusal is in the journal and at the step."""
    run = Fulfilment().through(StockConsumed)
    track = run.asked
    run.cancel()
    refused = run.answer(DeliveryNotCancelled, reason="out_for_delivery")
    assert (refused.ignored, refused.step, refused.commands) == (None, "create_delivery", ())
    assert refused.run.intercept is None
    assert run.step("create_delivery").reason == "intercept_refused: out_for_delivery"
    assert run.answer(ParcelDelivered, track).run.status == Status.COMPLETED


def test_a_second_cancellation_while_one_is_out_is_ignored() -> None:
    """Nothing leaves twice."""
    again = intercepting().cancel()
    assert (again.ignored, again.commands) == ("already_intercepting", ())


def test_after_a_refusal_it_may_be_asked_again_under_another_id() -> None:
    """The courier would give the first answer to the first id."""
    run = intercepting()
    first = run.asked
    run.answer(DeliveryNotCancelled)
    run.cancel()
    assert isinstance(run.asked, CancelDelivery)
    assert run.asked.command_id != first.command_id


def test_an_intercept_is_asked_again_for_ever_to_the_last_field() -> None:
    """Silence of the courier decides nothing."""
    run = intercepting()
    first = run.asked
    for late in range(30):
        fired = run.fire()
        assert fired.commands == (first,)
        assert fired.run.intercept is not None
        assert (fired.run.status, fired.run.intercept.late) == (Status.RUNNING, late + 1)
    assert run.answer(DeliveryCancelled, first).run.status == Status.COMPENSATING


def test_an_old_deadline_of_an_intercept_is_stale() -> None:
    """It moved when the command was sent again."""
    run = intercepting()
    old = run.fire().run
    timer = next_timer(old, timedelta(days=1))
    assert timer is not None
    run.fire()
    assert run.feed(fire(run.run, timer, timer.due)).ignored == "stale_deadline"


def test_a_parcel_that_arrives_first_completes_the_run() -> None:
    """Nobody waits for the courier's answer any more, and it changes nothing."""
    run = Fulfilment().through(StockConsumed)
    track = run.asked
    run.cancel()
    stop = run.asked
    done = run.answer(ParcelDelivered, track)
    assert (done.run.status, done.run.intercept) == (Status.COMPLETED, None)
    assert run.answer(DeliveryNotCancelled, stop).ignored == "stale_command"
    timer = next_timer(run.run, timedelta(days=1))
    assert timer is not None
    assert timer.event.__name__ == "RetentionPassed"


def test_a_parcel_that_is_lost_first_is_refunded_for_that() -> None:
    """The delivery is cancelled under another id than the one that was asked to be stopped."""
    run = Fulfilment().through(StockConsumed)
    track = run.asked
    run.cancel()
    stop = run.asked
    lost = run.answer(ParcelNotDelivered, track, reason="lost", undamaged=False)
    assert (lost.run.reason, lost.run.intercept) == ("deliver: lost", None)
    run.answer(StockRestocked)
    assert isinstance(run.asked, CancelDelivery)
    assert run.asked.command_id != stop.command_id
    assert run.answer(DeliveryNotCancelled, stop).ignored == "stale_command"


def test_a_terminated_run_waits_for_no_intercept() -> None:
    """What stands is a person's to settle."""
    run = intercepting()
    assert run.ask("terminate").run.intercept is None


def test_an_intercept_of_a_held_run_leaves_when_it_is_released() -> None:
    """Nothing leaves before; its answer is taken as it comes."""
    run = Fulfilment().through(StockConsumed)
    run.ask("pause")
    held = run.cancel()
    assert held.run.intercept is not None
    assert (held.commands, held.run.intercept.held, held.run.intercept.deadline_at) == ((), True, None)
    assert not held.run.step("create_delivery").held
    resumed = run.ask("resume")
    assert [type(command) for command in resumed.commands] == [CancelDelivery]
    assert resumed.run.intercept is not None
    assert not resumed.run.intercept.held
    assert resumed.run.intercept.deadline_at is not None


def test_a_delivery_that_is_held_back_is_not_under_way() -> None:
    """Nobody has been asked to fetch anything, so the cancellation compensates."""
    run = Fulfilment().through(OrderPacked)
    capture = run.asked
    run.ask("pause")
    run.answer(PaymentCaptured, capture)
    assert run.step("create_delivery").held
    cancelled = run.cancel()
    assert (cancelled.run.paused_from, cancelled.run.intercept) == (Status.COMPENSATING, None)


@pytest.mark.parametrize("kind", [DeliveryCancelled, DeliveryNotCancelled])
def test_an_answer_to_an_intercept_is_taken_while_the_run_is_held(kind: type[Event]) -> None:
    """A yes turns the run round and holds the undo back; a no lets it wait as it is."""
    run = intercepting()
    run.ask("pause")
    answered = run.answer(kind)
    assert (answered.run.status, answered.commands) == (Status.PAUSED, ())
    assert answered.run.intercept is None
    turned = kind is DeliveryCancelled
    assert answered.run.paused_from == (Status.COMPENSATING if turned else Status.RUNNING)


def test_a_skipped_delivery_can_be_stopped() -> None:
    """An operator booked it by hand."""
    run = Fulfilment().through(PaymentCaptured)
    run.ask("skip", result='{"tracking_number": "T9"}')
    run.cancel()
    assert isinstance(run.asked, CancelDelivery)
