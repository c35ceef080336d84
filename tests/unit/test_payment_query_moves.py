"""What does a query of a payment find, and what does it leave alone?"""

from __future__ import annotations

from dataclasses import replace

import pytest
from payments import (
    FLOW,
    HELD,
    LAPSES,
    LATER,
    NOON,
    asked,
    authorize,
    common,
    fence,
    held,
    only_queried,
    query,
    told,
    void,
)

from fulcrum.saga.messages import (
    PaymentAuthorized,
    PaymentNotFound,
)
from fulcrum.workers.payment import authorize_payment, query_payment, void_payment
from fulcrum.workers.payment_moves import (
    Authorize,
    Authorized,
    Begun,
    Declined,
    Learned,
    LookUp,
    Move,
    Payment,
    Repeat,
    State,
    Unheard,
)


@pytest.mark.parametrize("begun", list(Begun))
def test_query_of_an_open_authorization_looks_it_up(begun: Begun) -> None:
    """Nothing is recorded of it, so only the provider can tell."""
    assert query_payment(asked(), query(), begun, LATER) == (asked(), LookUp(authorize().command_id))


@pytest.mark.parametrize("learned", [Authorized(HELD, LAPSES), Declined("card_declined")], ids=str)
def test_query_that_learns_the_outcome_answers_as_the_authorization_would(learned: Learned) -> None:
    """The row and the event are the same, whoever of the two is told by the provider."""
    found = query_payment(asked(sequence=1), query(), learned, LATER)
    assert found == authorize_payment(asked(sequence=1), authorize(), learned, LATER)
    assert told(found[1]).command_id == authorize().command_id
    assert found[0].sequence == 2


def test_query_that_the_provider_cannot_answer_leaves_the_authorization_open() -> None:
    """The authorization may be sent again, and then looks again before it asks."""
    unheard = Unheard(authorize().command_id)
    payment, move = query_payment(asked(), query(), unheard, LATER)
    assert payment == asked(sequence=1)
    assert told(move) == PaymentNotFound(
        **common(query(), "PaymentNotFound", 1), asked_command_id=authorize().command_id
    )
    assert authorize_payment(payment, authorize(), Begun.AGAIN, LATER)[1] == LookUp(authorize().command_id)
    event = told(authorize_payment(payment, authorize(), Authorized(HELD), LATER)[1])
    assert (type(event), event.sequence) == (PaymentAuthorized, 2)


@pytest.mark.parametrize("payment", [held(), asked(State.DECLINED, sequence=1)], ids=lambda p: str(p.state))
@pytest.mark.parametrize("learned", [*Begun, Unheard(authorize().command_id), Authorized(HELD)], ids=str)
def test_query_of_a_recorded_outcome_repeats_it(payment: Payment, learned: Learned) -> None:
    """Even when the provider knew of nothing a moment ago: the answer may only be delayed."""
    assert query_payment(payment, query(), learned, LATER) == (payment, Repeat())


def test_query_before_any_authorization_is_numbered_and_asks_nothing() -> None:
    """Its answer is an event of the stream, so the next one counts on."""
    payment, move = query_payment(None, query(), Begun.FRESH, NOON)
    assert payment == Payment(workflow_id=FLOW, state=State.NOT_ASKED, sequence=1, requested_at=NOON)
    assert isinstance(told(move), PaymentNotFound)
    payment, move = query_payment(payment, query(number=2), Begun.FRESH, LATER)
    assert (payment.state, payment.sequence, told(move).sequence) == (State.NOT_ASKED, 2, 2)


@pytest.mark.parametrize(
    ("begun", "move"), [("fresh", Authorize()), ("again", LookUp(authorize().command_id))]
)
def test_authorization_after_a_query_is_asked_for(begun: str, move: Move) -> None:
    """A query asked nothing of the provider, and leaves no fence."""
    authorizing = authorize_payment(only_queried(), authorize(), Begun(begun), LATER)
    assert authorizing == (asked(sequence=1, requested_at=LATER), move)


def test_void_after_a_query_leaves_a_fence() -> None:
    """Like a void that came first, and its answer counts on."""
    payment, move = void_payment(only_queried(), void(), Begun.FRESH, NOON)
    assert payment == replace(fence(), sequence=2)
    assert told(move).sequence == 2


@pytest.mark.parametrize(
    "payment",
    [
        fence(),
        asked(State.VOIDING, void_key=void().command_id),
        held(State.VOIDING, void_key=void().command_id),
        held(State.VOIDED, sequence=2, void_key=void().command_id),
        asked(attempt=2),
        held(attempt=2),
    ],
)
@pytest.mark.parametrize("learned", [*Begun, Authorized(HELD), Unheard(authorize().command_id)], ids=str)
def test_query_of_what_can_hold_nothing_any_more_finds_nothing(payment: Payment, learned: Learned) -> None:
    """Behind a void or a newer attempt it asks nothing and moves nothing: copies of the command do."""
    found, move = query_payment(payment, query(), learned, LATER)
    assert found == replace(payment, sequence=payment.sequence + 1)
    assert isinstance(told(move), PaymentNotFound)
