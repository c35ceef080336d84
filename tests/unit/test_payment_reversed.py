"""What does a reversal do to a payment, whatever became of it until then?"""

from __future__ import annotations

from dataclasses import replace

import pytest
from payments import (
    ANEW,
    HELD,
    LATER,
    ask_about,
    asked,
    authorize,
    capture,
    common,
    fence,
    giving,
    giving_back,
    held,
    holding_anew,
    only_queried,
    refund,
    reverse,
    taken,
    taking,
    taking_anew,
    told,
    void,
)

from fulcrum.errors import Rejected, Retryable
from fulcrum.saga.messages import (
    PaymentCaptured,
    PaymentCaptureRefused,
    PaymentDeclined,
    PaymentReversalRefused,
    PaymentReversed,
)
from fulcrum.workers.payment import authorize_payment, query_payment
from fulcrum.workers.payment_capture import capture_payment, open_key
from fulcrum.workers.payment_moves import (
    Authorized,
    Begun,
    Captured,
    CaptureRefused,
    Declined,
    Learned,
    LookUp,
    Payment,
    Refund,
    Refunded,
    RefundRefused,
    Repeat,
    State,
    TellAndAsk,
    Unheard,
    Void,
    Voided,
    VoidRefused,
)
from fulcrum.workers.payment_reversal import reverse_payment

REVERSE, CAPTURE = reverse().command_id, capture().command_id


def reversed_of(payment: Payment | None, learned: Learned = Begun.FRESH) -> tuple[Payment, PaymentReversed]:
    """The payment once it is reversed, and the answer."""
    after, move = reverse_payment(payment, reverse(), learned, LATER)
    event = told(move)
    assert isinstance(event, PaymentReversed)
    return after, event


# --- nothing was taken ----------------------------------------------------------------------------


@pytest.mark.parametrize("payment", [None, only_queried(), asked(State.DECLINED, decline_reason="no")])
def test_reversal_of_nothing_leaves_a_fence(payment: Payment | None) -> None:
    """Nothing is asked of the provider, and an authorization that comes late is declined."""
    after, event = reversed_of(payment)
    assert (after.state, after.void_key) == (State.VOIDED, REVERSE)
    assert (event.authorization_id, event.refunded_minor) == (None, 0)
    late = told(authorize_payment(after, authorize(7), Begun.FRESH, LATER)[1])
    assert isinstance(late, PaymentDeclined)
    assert late.reason == "fenced"


def test_reversal_gives_up_what_is_held() -> None:
    """The void is stored before it is asked for, looked up after a crash, and told by the reversal's name."""
    payment, move = reverse_payment(held(), reverse(), Begun.FRESH, LATER)
    assert payment == held(State.VOIDING, void_key=REVERSE)
    assert move == Void(HELD, REVERSE)
    assert reverse_payment(payment, reverse(), Begun.AGAIN, LATER) == (payment, LookUp(REVERSE))
    after, event = reversed_of(payment, Voided(HELD))
    assert after.state == State.VOIDED
    assert event == PaymentReversed(
        **common(reverse(), "PaymentReversed", 2), authorization_id=HELD, refunded_minor=0, currency="EUR"
    )


def test_reversal_asks_what_became_of_an_open_authorization() -> None:
    """A timeout is not a no: what is found held is given up, what nobody heard of is fenced."""
    key = authorize().command_id
    payment, move = reverse_payment(asked(), reverse(), Begun.FRESH, LATER)
    assert (payment.state, move) == (State.VOIDING, LookUp(key))
    found = reverse_payment(payment, reverse(), Authorized(HELD), LATER)
    assert found == (replace(payment, authorization_id=HELD), Void(HELD, REVERSE))
    assert reversed_of(payment, Unheard(key))[0].state == State.VOIDED
    assert reversed_of(payment, Declined("no"))[0].state == State.VOIDED


@pytest.mark.parametrize("payment", [fence(), held(State.VOIDED, void_key=void().command_id)])
def test_what_was_given_up_before_is_reversed(payment: Payment) -> None:
    """Whoever asked for it; the provider is not asked again."""
    after, event = reversed_of(payment)
    assert after == replace(payment, sequence=payment.sequence + 1)
    assert event.refunded_minor == 0


# --- a capture is under way -----------------------------------------------------------------------


@pytest.mark.parametrize("payment", [taking(3000), holding_anew(3000), taking_anew(3000)], ids=str)
@pytest.mark.parametrize("learned", [*Begun, VoidRefused(HELD), VoidRefused(ANEW)], ids=str)
def test_open_capture_is_asked_about_first(payment: Payment, learned: Learned) -> None:
    """Under the key that was asked last; also when the void was refused, for it has happened then."""
    assert reverse_payment(payment, reverse(), learned, LATER) == (payment, LookUp(open_key(payment)))


@pytest.mark.parametrize("payment", [taking(3000), taking_anew(3000)], ids=["first", "anew"])
def test_capture_that_happened_is_told_and_given_back(payment: Payment) -> None:
    """All of what was taken, and its own command gets its own answer."""
    learned = Captured(payment.authorization_id or "", 3000)
    after, move = reverse_payment(payment, reverse(), learned, LATER)
    assert isinstance(move, TellAndAsk)
    assert move.ask == Refund(payment.authorization_id or "", 3000, REVERSE)
    assert move.event == PaymentCaptured(
        **common(capture(), "PaymentCaptured", 2),
        authorization_id=payment.authorization_id or "",
        amount_minor=3000,
        currency="EUR",
        reauthorized=payment.lapsed_id is not None,
    )
    assert (after.state, after.captured_minor, after.asked_minor) == (State.REFUNDING, 3000, 3000)
    assert capture_payment(after, capture(1, 3000), Begun.AGAIN, LATER) == (after, Repeat())
    done, event = reversed_of(after, Refunded(HELD, 3000))
    assert (done.state, event.refunded_minor, event.sequence) == (State.REFUNDED, 3000, 3)


@pytest.mark.parametrize(
    ("payment", "learned", "lost", "reason"),
    [
        (taking(), CaptureRefused("card_declined", CAPTURE), HELD, "card_declined"),
        (taking(), CaptureRefused("authorization_expired", CAPTURE), HELD, "authorization_expired"),
        (holding_anew(), Declined("card_declined"), HELD, "authorization_expired"),
        (holding_anew(), Authorized(ANEW), ANEW, "voided"),
    ],
    ids=["refused", "expired", "not held anew", "held anew"],
)
def test_hold_that_was_not_taken_is_given_up(
    payment: Payment, learned: Learned, lost: str, reason: str
) -> None:
    """The capture is told that nothing was taken; nothing is asked for that would have to be given back."""
    after, move = reverse_payment(payment, reverse(), learned, LATER)
    assert isinstance(move, TellAndAsk)
    assert isinstance(move.event, PaymentCaptureRefused)
    assert (move.event.command_id, move.event.reason) == (CAPTURE, reason)
    assert move.ask == Void(lost, REVERSE)
    assert (after.state, after.authorization_id, after.asked_minor) == (State.VOIDING, lost, None)
    assert reversed_of(after, Voided(lost))[0].state == State.VOIDED


@pytest.mark.parametrize("payment", [taking(), holding_anew()], ids=["capture", "new hold"])
def test_capture_that_nobody_heard_of_is_kept_from_happening(payment: Payment) -> None:
    """A copy may be about to ask: the void comes first, and only then the capture is told that it is late."""
    unheard = reverse_payment(payment, reverse(), Unheard(open_key(payment)), LATER)
    assert unheard == (payment, Void(HELD, REVERSE))
    after, move = reverse_payment(payment, reverse(), Voided(HELD), LATER)
    assert isinstance(move, TellAndAsk)
    assert isinstance(move.event, PaymentCaptureRefused)
    assert (move.event.reason, move.ask) == ("voided", LookUp(REVERSE))
    assert reversed_of(after, Voided(HELD))[0].state == State.VOIDED


# --- it was taken ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "rest"), [(0, 4200), (1000, 3200)])
def test_reversal_gives_back_the_rest(before: int, rest: int) -> None:
    """What was refunded before is not given back twice; the answer says what was given back in all."""
    payment, move = reverse_payment(taken(refunded_minor=before), reverse(), Begun.FRESH, LATER)
    assert payment == giving_back(asked_minor=rest, refunded_minor=before)
    assert move == Refund(HELD, rest, REVERSE)
    done, event = reversed_of(payment, Refunded(HELD, rest))
    assert (done.state, event.refunded_minor) == (State.REFUNDED, 4200)


def test_refund_that_may_have_been_asked_for_is_looked_up() -> None:
    """It is asked for again only when the provider has not heard of it; what is overtaken does not count."""
    payment = giving_back()
    overtaken: list[Learned] = [Begun.AGAIN, Captured(HELD, 1), VoidRefused(HELD), Unheard(CAPTURE)]
    for learned in overtaken:
        assert reverse_payment(payment, reverse(), learned, LATER) == (payment, LookUp(REVERSE))
    unheard = reverse_payment(payment, reverse(), Unheard(REVERSE), LATER)
    assert unheard == (payment, Refund(HELD, 4200, REVERSE))


def test_refund_that_fails_is_told_and_another_attempt_asks_again() -> None:
    """A copy of the first attempt asks for nothing any more."""
    kept, move = reverse_payment(giving_back(), reverse(), RefundRefused("refund_failed"), LATER)
    refused = common(reverse(), "PaymentReversalRefused", 3)
    assert told(move) == PaymentReversalRefused(**refused, reason="refund_failed")
    assert kept.state == State.CAPTURED
    copy = told(reverse_payment(kept, reverse(), Begun.AGAIN, LATER)[1])
    assert isinstance(copy, PaymentReversalRefused)
    second, move = reverse_payment(kept, reverse(2), Begun.FRESH, LATER)
    assert move == Refund(HELD, 4200, reverse(2).command_id)
    assert (second.reverse_key, second.reverse_attempt) == (reverse(2).command_id, 2)
    late = told(reverse_payment(second, reverse(), Begun.AGAIN, LATER)[1])
    assert isinstance(late, PaymentReversalRefused)
    assert late.reason == "superseded"


def test_what_was_given_back_before_is_reversed() -> None:
    """By refunds or by another reversal."""
    payment = taken(state=State.REFUNDED, refunded_minor=4200, refund_key=refund().command_id)
    assert reversed_of(payment)[1].refunded_minor == 4200


@pytest.mark.parametrize("payment", [giving(), giving_back()], ids=["refund", "reversal"])
def test_reversal_waits_for_another_open_refund(payment: Payment) -> None:
    """Only its outcome tells what is left to give back."""
    with pytest.raises(Retryable, match="no outcome yet"):
        reverse_payment(payment, reverse(2), Begun.FRESH, LATER)


def test_query_of_a_reversal_answers_as_the_reversal_would() -> None:
    """While its refund is open; it looks the key up, and asks for nothing."""
    question = ask_about(reverse())
    assert query_payment(giving_back(), question, Begun.FRESH, LATER) == (giving_back(), LookUp(REVERSE))
    for learned in (Refunded(HELD, 4200), RefundRefused("refund_failed")):
        found = query_payment(giving_back(), question, learned, LATER)
        assert found == reverse_payment(giving_back(), reverse(), learned, LATER)


def test_void_that_the_provider_refuses_where_nothing_was_taken_is_for_a_person() -> None:
    """It says that it took what nobody here asked it to take."""
    with pytest.raises(Rejected, match="does not void"):
        reverse_payment(held(State.VOIDING, void_key=REVERSE), reverse(), VoidRefused(HELD), LATER)
