"""How is money given up or given back, whatever became of the payment until now? Pure.

What the payment is found to be decides, not who asks: what is held is voided, what was taken is refunded, and
where nothing is, a fence stays against what is still on its way. An open capture has no outcome yet, so that
is asked for first. Where the provider has not heard of it, the void comes between: after it nothing can be
taken, and the void of what was taken is refused. What became of the capture is told in its own name, before
the reversal goes on.

A refused refund leaves what was taken. Another attempt asks again, under a key of its own; a copy of an
earlier one asks for nothing any more.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from fulcrum.errors import Retryable
from fulcrum.saga.messages import ReversePayment
from fulcrum.workers.payment import voiding
from fulcrum.workers.payment_answers import (
    capture_refused,
    never_asked,
    reversal_done,
    reversal_refused,
    told,
)
from fulcrum.workers.payment_capture import (
    ask_refund,
    capture_outcome,
    open_key,
    refunding,
)
from fulcrum.workers.payment_moves import (
    CAPTURE_OPEN,
    Ask,
    Begun,
    Learned,
    LookUp,
    Move,
    Payment,
    Refunded,
    RefundRefused,
    State,
    TellAndAsk,
    Unheard,
    Void,
    Voided,
)


def reverse_payment(
    payment: Payment | None, command: ReversePayment, learned: Learned, now: datetime
) -> tuple[Payment, Move]:
    """Leave nothing of the customer's money held or kept, and refuse to hold more.

    Returns the payment as it must be stored before the move is made. Raises Retryable while another refund is
    open.
    """
    key = command.command_id
    if payment is None or payment.state in (State.NOT_ASKED, State.DECLINED):
        return _fenced(payment, command, now)
    if payment.state in CAPTURE_OPEN:
        return _after_the_capture(payment, command, learned, now)
    match payment.state:
        case State.VOIDED | State.REFUNDED:
            return told(payment, reversal_done(payment, key, now))
        case State.REFUNDING if payment.refund_key == key:
            return refunding(payment, key, _of_the_refund(learned, key), now)
        case State.CAPTURED | State.REFUNDING if command.attempt <= payment.reverse_attempt:
            return told(payment, reversal_refused(payment, key, "superseded", now))
        case State.REFUNDING:
            raise Retryable("another refund of this payment has no outcome yet")
        case State.CAPTURED:
            asked, ask = _give_back(payment, command)
            return asked, LookUp(key) if learned is Begun.AGAIN else ask
    return voiding(_giving_up(payment, key), key, reversal_done, learned, now)


def _fenced(payment: Payment | None, command: ReversePayment, now: datetime) -> tuple[Payment, Move]:
    """Nothing was ever held: refuse what is still on its way."""
    known = payment or never_asked(command, State.NOT_ASKED, None, now)
    fence = replace(known, state=State.VOIDED, void_key=command.command_id, settled_at=now)
    return told(fence, reversal_done(fence, command.command_id, now))


def _after_the_capture(
    payment: Payment, command: ReversePayment, learned: Learned, now: datetime
) -> tuple[Payment, Move]:
    """Whether it was taken decides what comes next; what never came to the provider is kept off."""
    key = command.command_id
    assert payment.authorization_id is not None
    assert payment.capture_key is not None
    match learned:
        case Unheard(asked) if asked == open_key(payment):
            return payment, Void(payment.authorization_id, key)
        case Voided(authorization_id) if authorization_id == payment.authorization_id:
            given_up = _giving_up(payment, key)
            refused = capture_refused(given_up, payment.capture_key, "voided", now)
            return told(given_up, refused)[0], TellAndAsk(refused, LookUp(key))
    outcome = capture_outcome(payment, learned, now)
    if outcome is None:
        return payment, LookUp(open_key(payment))
    after, event = outcome
    after = told(after, event)[0]
    if after.state == State.CAPTURED:
        after, ask = _give_back(after, command)
        return after, TellAndAsk(event, ask)
    assert after.authorization_id is not None
    return _giving_up(after, key), TellAndAsk(event, Void(after.authorization_id, key))


def _give_back(payment: Payment, command: ReversePayment) -> tuple[Payment, Ask]:
    """Ask for all that was taken and not given back."""
    asked = replace(
        payment,
        state=State.REFUNDING,
        refund_key=command.command_id,
        asked_minor=payment.captured_minor - payment.refunded_minor,
        reverse_key=command.command_id,
        reverse_attempt=command.attempt,
    )
    return asked, ask_refund(asked, command.command_id)


def _giving_up(payment: Payment, key: str) -> Payment:
    return replace(payment, state=State.VOIDING, void_key=key, asked_minor=None)


def _of_the_refund(learned: Learned, key: str) -> Learned:
    """What was learned of anything else than the refund ``key`` is overtaken: a copy has gone on."""
    if isinstance(learned, Begun | Refunded | RefundRefused) or learned == Unheard(key):
        return learned
    return Begun.AGAIN
