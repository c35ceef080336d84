"""What do a capture and a refund do to what is held, and what do they ask for?"""

from __future__ import annotations

from dataclasses import replace

import pytest
from payments import (
    HELD,
    LATER,
    ask_about,
    asked,
    authorize,
    capture,
    common,
    fence,
    giving,
    held,
    only_queried,
    refund,
    taken,
    taking,
    told,
    void,
)

from fulcrum.errors import Rejected, Retryable
from fulcrum.saga.messages import (
    PaymentCaptured,
    PaymentCaptureRefused,
    PaymentDeclined,
    PaymentRefunded,
    PaymentRefundRefused,
    PaymentVoidRefused,
)
from fulcrum.workers.payment import authorize_payment, query_payment, void_payment
from fulcrum.workers.payment_capture import capture_payment, refund_payment
from fulcrum.workers.payment_moves import (
    Authorized,
    Begun,
    Capture,
    Captured,
    CaptureRefused,
    Learned,
    LookUp,
    Payment,
    Refund,
    Refunded,
    RefundRefused,
    Repeat,
    State,
    Unheard,
    Voided,
)

CAPTURE, REFUND = capture().command_id, refund().command_id

# --- captures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [1, 4200])
def test_capture_says_what_it_asks_for_before_it_asks(amount: int) -> None:
    """The whole amount or a part of it; the row is stored with the key and the amount."""
    payment, move = capture_payment(held(), capture(amount_minor=amount), Begun.FRESH, LATER)
    assert payment == held(State.CAPTURING, capture_key=CAPTURE, asked_minor=amount)
    assert move == Capture(HELD, amount, CAPTURE)


def test_capture_that_may_have_been_asked_is_looked_up_and_then_asked_again() -> None:
    """A copy, or a try after a silence, asks only when the provider has not heard of the key."""
    assert capture_payment(taking(3000), capture(), Begun.AGAIN, LATER) == (taking(3000), LookUp(CAPTURE))
    asks = capture_payment(taking(3000), capture(), Unheard(CAPTURE), LATER)
    assert asks == (taking(3000), Capture(HELD, 3000, CAPTURE))


def test_capture_that_happened_is_told() -> None:
    """What the provider took counts, and the row knows it."""
    payment, move = capture_payment(taking(3000), capture(), Captured(HELD, 3000), LATER)
    assert payment == taken(3000, settled_at=LATER)
    assert told(move) == PaymentCaptured(
        **common(capture(), "PaymentCaptured", 2), authorization_id=HELD, amount_minor=3000, currency="EUR"
    )


def test_capture_that_the_provider_refuses_leaves_the_hold() -> None:
    """The refusal is an event; another capture, or a void, may follow."""
    payment, move = capture_payment(taking(), capture(), CaptureRefused("card_declined", CAPTURE), LATER)
    assert (payment.state, payment.captured_minor, payment.asked_minor) == (State.AUTHORIZED, 0, None)
    refused = common(capture(), "PaymentCaptureRefused", 2)
    assert told(move) == PaymentCaptureRefused(**refused, reason="card_declined")
    again, move = capture_payment(payment, capture(2), Begun.FRESH, LATER)
    assert (again.state, move) == (State.CAPTURING, Capture(HELD, 4200, capture(2).command_id))
    assert void_payment(payment, void(), Begun.FRESH, LATER)[0].state == State.VOIDING


@pytest.mark.parametrize(
    ("payment", "changes", "reason"),
    [
        (None, {}, "not_authorized"),
        (only_queried(), {}, "not_authorized"),
        (asked(State.DECLINED, sequence=1), {}, "not_authorized"),
        (held(State.VOIDING, void_key=void().command_id), {}, "voided"),
        (fence(), {}, "voided"),
        (held(), {"amount_minor": 4201}, "amount_too_large"),
        (held(), {"amount_minor": 0}, "invalid_amount"),
        (held(), {"currency": "JPY"}, "other_currency"),
        (taken(), {"amount_minor": 4199}, "already_captured"),
        (taken(refunded_minor=1000), {}, "already_captured"),
        (giving(), {}, "already_captured"),
    ],
)
def test_capture_that_cannot_be_is_refused_unasked(
    payment: Payment | None, changes: dict[str, object], reason: str
) -> None:
    """Nothing is asked of the provider, and nothing but the number moves."""
    wanted = replace(capture(2), **changes)
    after, move = capture_payment(payment, wanted, Begun.FRESH, LATER)
    event = told(move)
    assert isinstance(event, PaymentCaptureRefused)
    assert event.reason == reason
    if payment is not None:
        assert after == replace(payment, sequence=payment.sequence + 1)


def test_capture_of_what_was_captured_says_so_again() -> None:
    """Another command for the very amount learns that it is taken; nothing is taken twice."""
    payment, move = capture_payment(taken(), capture(2), Begun.FRESH, LATER)
    assert payment == taken(sequence=3)
    event = told(move)
    assert isinstance(event, PaymentCaptured)
    assert (event.command_id, event.amount_minor) == (capture(2).command_id, 4200)


@pytest.mark.parametrize("payment", [asked(), taking(number=2)])
def test_capture_waits_for_what_is_open(payment: Payment) -> None:
    """While the authorization or another capture has no outcome, nobody knows what is held."""
    with pytest.raises(Retryable, match="no outcome yet"):
        capture_payment(payment, capture(1), Begun.FRESH, LATER)


# --- refunds --------------------------------------------------------------------------------------


def test_refund_says_what_it_asks_for_before_it_asks() -> None:
    """All of it or a part, as often as there is something left."""
    payment, move = refund_payment(taken(), refund(amount_minor=1000), Begun.FRESH, LATER)
    assert payment == giving(1000)
    assert move == Refund(HELD, 1000, REFUND)
    left = taken(refunded_minor=1000, refund_key=REFUND)
    payment, move = refund_payment(left, refund(2, 3200), Begun.FRESH, LATER)
    assert (payment.state, move) == (State.REFUNDING, Refund(HELD, 3200, refund(2).command_id))


def test_refund_that_may_have_been_asked_is_looked_up_and_then_asked_again() -> None:
    """As with a capture: never asked twice without a look."""
    assert refund_payment(giving(), refund(), Begun.AGAIN, LATER) == (giving(), LookUp(REFUND))
    asks = refund_payment(giving(), refund(), Unheard(REFUND), LATER)
    assert asks == (giving(), Refund(HELD, 1000, REFUND))


@pytest.mark.parametrize(
    ("before", "amount", "state"), [(0, 1000, State.CAPTURED), (3200, 1000, State.REFUNDED)]
)
def test_refund_that_happened_is_told(before: int, amount: int, state: State) -> None:
    """Once all is given back, the payment is at its end."""
    payment, move = refund_payment(
        giving(amount, refunded_minor=before), refund(), Refunded(HELD, amount), LATER
    )
    assert (payment.state, payment.refunded_minor, payment.asked_minor) == (state, before + amount, None)
    assert told(move) == PaymentRefunded(
        **common(refund(), "PaymentRefunded", 3),
        authorization_id=HELD,
        amount_minor=amount,
        refunded_minor=before + amount,
        currency="EUR",
    )


def test_refund_that_fails_leaves_what_was_taken() -> None:
    """The failure is an event, and another refund may follow."""
    payment, move = refund_payment(giving(), refund(), RefundRefused("refund_failed"), LATER)
    assert payment == taken(refund_key=REFUND, sequence=3, settled_at=LATER)
    refused = common(refund(), "PaymentRefundRefused", 3)
    assert told(move) == PaymentRefundRefused(**refused, reason="refund_failed")
    assert refund_payment(payment, refund(2), Begun.FRESH, LATER)[0].state == State.REFUNDING


@pytest.mark.parametrize(
    ("payment", "changes", "reason"),
    [
        (None, {}, "not_captured"),
        (held(), {}, "not_captured"),
        (fence(), {}, "not_captured"),
        (taken(3000), {"amount_minor": 3001}, "amount_too_large"),
        (taken(refunded_minor=1000), {"amount_minor": 3201}, "amount_too_large"),
        (taken(), {"amount_minor": 0}, "invalid_amount"),
        (taken(), {"currency": "JPY"}, "other_currency"),
        (taken(state=State.REFUNDED, refunded_minor=4200), {}, "already_refunded"),
    ],
)
def test_refund_that_cannot_be_is_refused_unasked(
    payment: Payment | None, changes: dict[str, object], reason: str
) -> None:
    """Nothing is asked of the provider."""
    event = told(refund_payment(payment, replace(refund(2), **changes), Begun.FRESH, LATER)[1])
    assert isinstance(event, PaymentRefundRefused)
    assert event.reason == reason


@pytest.mark.parametrize("payment", [taking(), giving(number=2)])
def test_refund_waits_for_what_is_open(payment: Payment) -> None:
    """While the capture or another refund has no outcome, nobody knows what is left."""
    with pytest.raises(Retryable, match="no outcome yet"):
        refund_payment(payment, refund(1), Begun.FRESH, LATER)


# --- repeats, queries and what else meets a capture -----------------------------------------------


def test_answered_command_is_only_repeated() -> None:
    """Whatever has become of the payment since."""
    done = taken(state=State.REFUNDED, refunded_minor=4200, refund_key=REFUND)
    for payment in (taken(refund_key=REFUND), done):
        for learned in (Begun.AGAIN, Captured(HELD, 4200), Refunded(HELD, 1)):
            assert capture_payment(payment, capture(), learned, LATER) == (payment, Repeat())
            assert refund_payment(payment, refund(), learned, LATER) == (payment, Repeat())
            assert query_payment(payment, ask_about(capture()), learned, LATER) == (payment, Repeat())
            assert query_payment(payment, ask_about(refund()), learned, LATER) == (payment, Repeat())
    assert authorize_payment(done, authorize(), Begun.AGAIN, LATER) == (done, Repeat())


@pytest.mark.parametrize("learned", [Captured(HELD, 4200), CaptureRefused("card_declined", CAPTURE)], ids=str)
def test_query_of_a_capture_answers_as_the_capture_would(learned: Learned) -> None:
    """It looks the key up, and speaks in the capture's name."""
    question = ask_about(capture())
    assert query_payment(taking(), question, Begun.FRESH, LATER) == (taking(), LookUp(CAPTURE))
    found = query_payment(taking(), question, learned, LATER)
    assert found == capture_payment(taking(), capture(), learned, LATER)


@pytest.mark.parametrize("learned", [Refunded(HELD, 1000), RefundRefused("refund_failed")], ids=str)
def test_query_of_a_refund_answers_as_the_refund_would(learned: Learned) -> None:
    """It looks the key up, and speaks in the refund's name."""
    question = ask_about(refund())
    assert query_payment(giving(), question, Begun.FRESH, LATER) == (giving(), LookUp(REFUND))
    assert query_payment(giving(), question, learned, LATER) == refund_payment(
        giving(), refund(), learned, LATER
    )


def test_query_of_a_capture_that_nobody_heard_of_leaves_it_open() -> None:
    """The capture, or its copy, may still be carried out."""
    payment, move = query_payment(taking(), ask_about(capture()), Unheard(CAPTURE), LATER)
    assert payment == taking(sequence=2)
    assert type(told(move)).__name__ == "PaymentNotFound"


@pytest.mark.parametrize("payment", [taken(), giving(), taken(state=State.REFUNDED, refunded_minor=4200)])
@pytest.mark.parametrize("begun", list(Begun))
def test_void_of_what_was_captured_is_refused(payment: Payment, begun: Begun) -> None:
    """There is no hold to give up, and nobody is told that there is none left to pay back."""
    after, move = void_payment(payment, void(), begun, LATER)
    assert after == replace(payment, sequence=payment.sequence + 1)
    event = told(move)
    assert isinstance(event, PaymentVoidRefused)
    assert event.reason == "captured"


def test_void_waits_for_an_open_capture() -> None:
    """Only the capture's outcome tells whether there is a hold."""
    with pytest.raises(Retryable, match="no outcome yet"):
        void_payment(taking(), void(), Begun.FRESH, LATER)


def test_another_authorization_of_what_was_captured_is_declined() -> None:
    """The workflow has paid; while the capture is open, it waits."""
    event = told(authorize_payment(taken(), authorize(2), Begun.FRESH, LATER)[1])
    assert isinstance(event, PaymentDeclined)
    assert event.reason == "captured"
    with pytest.raises(Retryable, match="no outcome yet"):
        authorize_payment(taking(), authorize(2), Begun.FRESH, LATER)


@pytest.mark.parametrize("learned", [Authorized(HELD), Voided(HELD), Refunded(HELD, 1)], ids=str)
def test_outcome_of_another_kind_under_the_key_is_for_a_person(learned: Learned) -> None:
    """The provider did under this key what nobody asked for."""
    with pytest.raises(Rejected, match="asked to capture"):
        capture_payment(taking(), capture(), learned, LATER)
