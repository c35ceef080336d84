"""What becomes of a capture that finds the hold lapsed?"""

from __future__ import annotations

from dataclasses import replace

import pytest
from payments import (
    ANEW,
    HELD,
    LAPSES,
    LATER,
    ask_about,
    authorize,
    capture,
    common,
    held,
    holding_anew,
    refund,
    taking,
    taking_anew,
    told,
    void,
)

from fulcrum.errors import Retryable
from fulcrum.saga.messages import PaymentCaptured, PaymentCaptureRefused, PaymentNotFound
from fulcrum.workers.payment import authorize_payment, query_payment, void_payment
from fulcrum.workers.payment_capture import capture_payment, open_key, refund_payment
from fulcrum.workers.payment_moves import (
    Authorized,
    Begun,
    Capture,
    Captured,
    CaptureRefused,
    Declined,
    Learned,
    LookUp,
    Payment,
    Reauthorize,
    Repeat,
    State,
    Unheard,
)

CAPTURE = capture().command_id
ANEW_KEY, AGAIN_KEY = open_key(holding_anew()), open_key(taking_anew())
EXPIRED = CaptureRefused("authorization_expired", CAPTURE)


def test_three_asks_have_three_keys() -> None:
    """The refused capture, the new hold and the second try: the provider never takes one for the other."""
    assert open_key(taking()) == CAPTURE
    assert len({CAPTURE, ANEW_KEY, AGAIN_KEY}) == 3


def test_lapsed_hold_is_asked_for_anew() -> None:
    """The row says so before the provider is asked, and a copy looks it up."""
    assert capture_payment(taking(), capture(), EXPIRED, LATER) == (
        holding_anew(),
        Reauthorize(HELD, ANEW_KEY),
    )
    assert capture_payment(holding_anew(), capture(), Begun.AGAIN, LATER)[1] == LookUp(ANEW_KEY)
    unheard = capture_payment(holding_anew(), capture(), Unheard(ANEW_KEY), LATER)
    assert unheard == (holding_anew(), Reauthorize(HELD, ANEW_KEY))


def test_new_hold_is_captured_and_the_answer_says_so() -> None:
    """The amount that was asked for at first, out of the hold that took the place of the lapsed one."""
    payment, move = capture_payment(holding_anew(3000), capture(1, 3000), Authorized(ANEW, LAPSES), LATER)
    assert payment == taking_anew(3000, expires_at=LAPSES)
    assert move == Capture(ANEW, 3000, AGAIN_KEY)
    after, move = capture_payment(payment, capture(1, 3000), Captured(ANEW, 3000), LATER)
    assert (after.state, after.captured_minor, after.lapsed_id) == (State.CAPTURED, 3000, HELD)
    assert told(move) == PaymentCaptured(
        **common(capture(), "PaymentCaptured", 2),
        authorization_id=ANEW,
        amount_minor=3000,
        currency="EUR",
        reauthorized=True,
    )


def test_hold_that_cannot_be_had_anew_refuses_the_capture() -> None:
    """The reason is that the hold lapsed; another capture may ask for another hold."""
    payment, move = capture_payment(holding_anew(), capture(), Declined("card_declined"), LATER)
    assert (payment.state, payment.asked_minor, payment.authorization_id) == (State.AUTHORIZED, None, HELD)
    refused = common(capture(), "PaymentCaptureRefused", 2)
    assert told(move) == PaymentCaptureRefused(**refused, reason="authorization_expired")
    again, move = capture_payment(payment, capture(2), Begun.FRESH, LATER)
    assert move == Capture(HELD, 4200, capture(2).command_id)
    expired = replace(EXPIRED, key=capture(2).command_id)
    assert open_key(capture_payment(again, capture(2), expired, LATER)[0]) not in (ANEW_KEY, AGAIN_KEY)


def test_hold_is_asked_for_anew_once() -> None:
    """A second hold that lapses too refuses the capture."""
    expired = CaptureRefused("authorization_expired", AGAIN_KEY)
    payment, move = capture_payment(taking_anew(), capture(), expired, LATER)
    assert (payment.state, payment.authorization_id) == (State.AUTHORIZED, ANEW)
    assert isinstance(told(move), PaymentCaptureRefused)


@pytest.mark.parametrize(
    ("payment", "learned"),
    [
        (holding_anew(), EXPIRED),
        (holding_anew(), Unheard(CAPTURE)),
        (taking_anew(), EXPIRED),
        (taking_anew(), Authorized(ANEW)),
        (taking_anew(), Unheard(ANEW_KEY)),
    ],
    ids=str,
)
def test_what_a_copy_learned_before_is_looked_past(payment: Payment, learned: Learned) -> None:
    """Another copy has gone on: the key that is open now is looked up."""
    assert capture_payment(payment, capture(), learned, LATER) == (payment, LookUp(open_key(payment)))


@pytest.mark.parametrize("payment", [taking(), holding_anew(), taking_anew()], ids=["first", "hold", "anew"])
def test_query_asks_about_what_is_open(payment: Payment) -> None:
    """Whichever of the three it is; what nobody has heard of stays open."""
    question = ask_about(capture())
    assert query_payment(payment, question, Begun.FRESH, LATER) == (payment, LookUp(open_key(payment)))
    after, move = query_payment(payment, question, Unheard(open_key(payment)), LATER)
    assert after == replace(payment, sequence=payment.sequence + 1)
    assert isinstance(told(move), PaymentNotFound)


@pytest.mark.parametrize(("payment", "learned"), [(taking(), EXPIRED), (holding_anew(), Authorized(ANEW))])
def test_query_asks_for_no_hold_and_takes_nothing(payment: Payment, learned: Learned) -> None:
    """Where the capture has to go on, it is the capture's turn."""
    after, move = query_payment(payment, ask_about(capture()), learned, LATER)
    assert after == replace(payment, sequence=payment.sequence + 1)
    assert isinstance(told(move), PaymentNotFound)


def test_query_tells_what_became_of_the_second_try() -> None:
    """As the capture itself would."""
    outcomes: list[tuple[Payment, Learned]] = [
        (holding_anew(), Declined("card_declined")),
        (taking_anew(), Captured(ANEW, 4200)),
        (taking_anew(), CaptureRefused("card_declined", AGAIN_KEY)),
    ]
    for payment, learned in outcomes:
        found = query_payment(payment, ask_about(capture()), learned, LATER)
        assert found == capture_payment(payment, capture(), learned, LATER)


def test_others_wait_while_a_hold_is_asked_for_anew() -> None:
    """Only its outcome tells whether there is one."""
    payment = holding_anew()
    with pytest.raises(Retryable):
        void_payment(payment, void(), Begun.FRESH, LATER)
    with pytest.raises(Retryable):
        capture_payment(payment, capture(2), Begun.FRESH, LATER)
    with pytest.raises(Retryable):
        refund_payment(payment, refund(), Begun.FRESH, LATER)
    with pytest.raises(Retryable):
        authorize_payment(payment, authorize(2), Begun.FRESH, LATER)
    assert authorize_payment(payment, authorize(), Begun.AGAIN, LATER) == (payment, Repeat())


def test_lapsed_hold_is_not_given_up_by_a_late_copy() -> None:
    """The copy of the first authorization finds the hold that another one took the place of."""
    gone = held(State.VOIDED, authorization_id=ANEW, lapsed_id=HELD, void_key=void().command_id)
    _, move = authorize_payment(gone, authorize(), Authorized(HELD), LATER)
    assert type(told(move)).__name__ == "PaymentDeclined"
