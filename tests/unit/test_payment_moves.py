"""The moves of a payment: what is asked of the provider, when, and what is never left held."""

from __future__ import annotations

from dataclasses import replace

import pytest
from payments import (
    HELD,
    LAPSES,
    LATER,
    NOON,
    asked,
    authorize,
    common,
    fence,
    held,
    told,
    void,
)

from fulcrum.errors import Rejected, Retryable
from fulcrum.saga.messages import (
    PaymentAuthorized,
    PaymentDeclined,
    PaymentVoided,
)
from fulcrum.workers.payment import authorize_payment, void_payment
from fulcrum.workers.payment_moves import (
    Authorize,
    Authorized,
    Begun,
    Declined,
    Learned,
    LookUp,
    Payment,
    Repeat,
    State,
    Unheard,
    Void,
    Voided,
)

# --- authorizing ----------------------------------------------------------------------------------


def test_fresh_authorization_is_stored_before_it_is_asked_for() -> None:
    """The first move stores under which key the provider will be asked, and asks at once."""
    payment, move = authorize_payment(None, authorize(), Begun.FRESH, NOON)
    assert payment == asked()
    assert move == Authorize()


def test_authorization_begun_again_is_looked_up_first() -> None:
    """A timeout is not a no: what may have been asked is not asked again unseen."""
    payment, move = authorize_payment(asked(), authorize(), Begun.AGAIN, LATER)
    assert (payment, move) == (asked(), LookUp(authorize().command_id))


def test_authorization_that_the_provider_never_heard_of_is_asked_for() -> None:
    """Only when the provider knows nothing of the key is it asked to act."""
    move = authorize_payment(asked(), authorize(), Unheard(authorize().command_id), LATER)[1]
    assert move == Authorize()


def test_provider_that_holds_the_amount_makes_the_payment_authorized() -> None:
    """Its id of the hold is kept, and told."""
    payment, move = authorize_payment(asked(), authorize(), Authorized(HELD), LATER)
    assert payment == held(settled_at=LATER)
    assert told(move) == PaymentAuthorized(
        **common(authorize(), "PaymentAuthorized", 1),
        authorization_id=HELD,
        amount_minor=4200,
        currency="EUR",
    )


def test_provider_that_refuses_makes_the_payment_declined() -> None:
    """Its reason is kept, and told."""
    payment, move = authorize_payment(asked(), authorize(), Declined("card_declined"), LATER)
    assert payment == asked(State.DECLINED, sequence=1, decline_reason="card_declined", settled_at=LATER)
    assert told(move) == PaymentDeclined(
        **common(authorize(), "PaymentDeclined", 1),
        reason="card_declined",
    )


def test_hold_that_lapses_is_stored_and_told_with_its_time() -> None:
    """The saga must know until when it can count on the amount."""
    payment, move = authorize_payment(asked(), authorize(), Authorized(HELD, LAPSES), LATER)
    assert payment.expires_at == LAPSES
    event = told(move)
    assert isinstance(event, PaymentAuthorized)
    assert event.expires_at == LAPSES
    again = told(authorize_payment(payment, authorize(2), Begun.FRESH, LATER)[1])
    assert isinstance(again, PaymentAuthorized)
    assert again.expires_at == LAPSES


@pytest.mark.parametrize("payment", [held(), asked(State.DECLINED, sequence=1)], ids=lambda p: str(p.state))
@pytest.mark.parametrize("learned", [Begun.AGAIN, Authorized(HELD), Declined("card_declined")], ids=str)
def test_answered_authorization_repeats_its_answer(payment: Payment, learned: Learned) -> None:
    """A copy of a command that was answered changes nothing and asks nothing."""
    assert authorize_payment(payment, authorize(), learned, LATER) == (payment, Repeat())


def test_void_by_somebody_else_parks_the_authorization() -> None:
    """The provider gave up what nobody here asked it to: a person must look."""
    with pytest.raises(Rejected, match="nobody here asked"):
        authorize_payment(asked(), authorize(), Voided(HELD), LATER)


# --- attempts -------------------------------------------------------------------------------------


def test_new_attempt_waits_for_the_open_one() -> None:
    """Two attempts are never open at once, or both could hold the amount."""
    with pytest.raises(Retryable, match="attempt 1 of this payment has no outcome yet"):
        authorize_payment(asked(), authorize(2), Begun.FRESH, LATER)


def test_new_attempt_after_a_refusal_is_asked_under_its_own_key() -> None:
    """The provider sees a new key, and the sequence goes on."""
    declined = asked(State.DECLINED, sequence=1, decline_reason="card_declined", settled_at=NOON)
    payment, move = authorize_payment(declined, authorize(2), Begun.FRESH, LATER)
    assert payment == asked(attempt=2, sequence=1, requested_at=LATER)
    assert move == Authorize()


def test_new_attempt_of_a_held_amount_is_told_the_hold() -> None:
    """What is held already is not held twice."""
    payment, move = authorize_payment(held(), authorize(2), Begun.FRESH, LATER)
    assert payment == held(sequence=2)
    event = told(move)
    assert isinstance(event, PaymentAuthorized)
    assert (event.authorization_id, event.sequence) == (HELD, 2)
    assert event.command_id == authorize(2).command_id


def test_new_attempt_with_another_amount_is_rejected() -> None:
    """The error names both amounts and what to do."""
    with pytest.raises(Rejected, match=r"\(9900, 'EUR'\).*\(4200, 'EUR'\); void it first"):
        authorize_payment(held(), authorize(2, amount_minor=9900), Begun.FRESH, LATER)


def test_older_attempt_is_superseded() -> None:
    """A straggler of an earlier attempt is declined and asks for nothing."""
    payment, move = authorize_payment(held(attempt=2), authorize(1), Begun.FRESH, LATER)
    assert payment == held(attempt=2, sequence=2)
    event = told(move)
    assert isinstance(event, PaymentDeclined)
    assert event.reason == "superseded"


# --- voiding --------------------------------------------------------------------------------------


def test_void_gives_up_what_is_held() -> None:
    """The provider is asked under the void's own key, after the intent is stored."""
    payment, move = void_payment(held(), void(), Begun.FRESH, LATER)
    assert payment == held(state=State.VOIDING, void_key=void().command_id)
    assert move == Void(HELD, void().command_id)
    payment, move = void_payment(payment, void(), Voided(HELD), LATER)
    assert (payment.state, payment.sequence) == (State.VOIDED, 2)
    assert told(move) == PaymentVoided(
        **common(void(), "PaymentVoided", 2),
        authorization_id=HELD,
    )


def test_void_begun_again_is_looked_up_first() -> None:
    """A void that may have been asked for is looked up; when it was not heard, it is asked for again."""
    voiding = held(state=State.VOIDING, void_key=void().command_id)
    assert void_payment(voiding, void(), Begun.AGAIN, LATER)[1] == LookUp(void().command_id)
    assert void_payment(voiding, void(), Unheard(void().command_id), LATER)[1] == Void(
        HELD, void().command_id
    )


@pytest.mark.parametrize("begun", list(Begun))
def test_void_of_an_open_authorization_asks_what_became_of_it(begun: Begun) -> None:
    """Nobody knows whether the amount is held, so the void looks before it answers."""
    payment, move = void_payment(asked(), void(), begun, LATER)
    assert payment == asked(State.VOIDING, void_key=void().command_id)
    assert move == LookUp(authorize().command_id)


def test_void_that_finds_a_hold_gives_it_up() -> None:
    """The hold that was found is stored before the provider is asked to give it up."""
    voiding = asked(State.VOIDING, void_key=void().command_id)
    payment, move = void_payment(voiding, void(), Authorized(HELD), LATER)
    assert payment.authorization_id == HELD
    assert move == Void(HELD, void().command_id)


@pytest.mark.parametrize(
    "learned", [Declined("card_declined"), Unheard(authorize().command_id), Voided(HELD)], ids=str
)
def test_void_that_finds_no_hold_is_done(learned: Learned) -> None:
    """Where nothing is held there is nothing to give up."""
    voiding = asked(State.VOIDING, void_key=void().command_id)
    payment, move = void_payment(voiding, void(), learned, LATER)
    assert payment.state == State.VOIDED
    event = told(move)
    assert isinstance(event, PaymentVoided)
    assert event.authorization_id is None


def test_void_of_a_refused_payment_asks_nothing() -> None:
    """A declined payment holds nothing."""
    payment, move = void_payment(asked(State.DECLINED, sequence=1), void(), Begun.FRESH, LATER)
    assert payment.state == State.VOIDED
    assert told(move).sequence == 2


def test_answered_void_repeats_its_answer() -> None:
    """A copy of the void changes nothing and asks nothing."""
    assert void_payment(fence(), void(), Begun.AGAIN, LATER) == (fence(), Repeat())


def test_second_void_is_told_that_it_is_done() -> None:
    """Another void command gets an answer of its own, and the provider is left alone."""
    payment, move = void_payment(fence(), void(2), Begun.FRESH, LATER)
    assert payment == replace(fence(), sequence=2)
    assert told(move).command_id == void(2).command_id


# --- the fence ------------------------------------------------------------------------------------


def test_void_before_any_authorization_leaves_a_fence() -> None:
    """It is answered at once, and what it leaves refuses all that comes later."""
    payment, move = void_payment(None, void(), Begun.FRESH, NOON)
    assert (payment.state, payment.authorize_key, payment.sequence) == (State.VOIDED, None, 1)
    event = told(move)
    assert isinstance(event, PaymentVoided)
    assert event.authorization_id is None


@pytest.mark.parametrize("attempt", [1, 2])
def test_authorization_behind_a_fence_is_declined_unasked(attempt: int) -> None:
    """A late command that never asked the provider does not ask it now."""
    payment, move = authorize_payment(fence(), authorize(attempt), Begun.FRESH, LATER)
    assert payment == replace(fence(), sequence=2)
    event = told(move)
    assert isinstance(event, PaymentDeclined)
    assert event.reason == "fenced"


def test_late_hold_behind_a_fence_is_given_up() -> None:
    """An authorization that came through after the void was answered is voided and then declined."""
    voided = asked(State.VOIDED, sequence=1, void_key=void().command_id)
    key = authorize().command_id
    assert authorize_payment(voided, authorize(), Begun.AGAIN, LATER) == (voided, LookUp(key))
    payment, move = authorize_payment(voided, authorize(), Authorized(HELD), LATER)
    assert payment == voided
    assert isinstance(move, Void)
    assert move.authorization_id == HELD
    assert move.key not in (key, void().command_id)
    payment, move = authorize_payment(voided, authorize(), Voided(HELD), LATER)
    assert payment == replace(voided, sequence=2)
    event = told(move)
    assert isinstance(event, PaymentDeclined)
    assert event.reason == "fenced"


def test_hold_that_the_void_knows_is_left_to_it() -> None:
    """While the void gives the hold up, the authorization is declined and voids nothing itself."""
    voiding = held(state=State.VOIDING, void_key=void().command_id)
    move = authorize_payment(voiding, authorize(), Authorized(HELD), LATER)[1]
    event = told(move)
    assert isinstance(event, PaymentDeclined)
    assert event.reason == "fenced"
