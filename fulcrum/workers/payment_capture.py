"""What does a capture or a refund mean to what a workflow holds, and what is asked of the provider? Pure.

A hold is captured once, whole or in part; the rest of it is given up. What was captured is refunded whole or
in parts. One of them is under way at a time, and the row says how much is asked for before the provider is.

The provider's refusal under a key is final, like its consent, so a copy never learns another outcome than
the one that was told. What may have been asked before is looked up by its key before it is asked again.

A hold that has lapsed is asked for anew, once for each capture: the refused capture, the new hold and the
second try have a key each, and the row says which of them is open. So what a copy learned of an earlier one
is told apart, and looked past.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from uuid import UUID, uuid5

from fulcrum.errors import Rejected, Retryable
from fulcrum.saga.messages import Answer, CapturePayment, QueryPayment, RefundPayment
from fulcrum.workers.payment_answers import (
    capture_refused,
    captured,
    never_asked,
    refund_refused,
    refunded,
    reversal_done,
    reversal_refused,
    told,
)
from fulcrum.workers.payment_moves import (
    CAPTURE_OPEN,
    TAKEN,
    Authorized,
    Begun,
    Capture,
    Captured,
    CaptureRefused,
    Declined,
    Learned,
    LookUp,
    Move,
    Payment,
    Reauthorize,
    Refund,
    Refunded,
    RefundRefused,
    Repeat,
    Reply,
    State,
    Unheard,
)

#: The provider's word for a hold that has lapsed, and ours for a capture that found one.
EXPIRED = "authorization_expired"


def capture_payment(
    payment: Payment | None, command: CapturePayment, learned: Learned, now: datetime
) -> tuple[Payment, Move]:
    """Take the command's amount out of what is held, or refuse.

    Returns the payment as it must be stored before the move is made. Raises Retryable while the authorization
    or another capture is open.
    """
    if payment is None:
        payment = never_asked(command, State.NOT_ASKED, None, now)
    key = command.command_id
    if payment.state in CAPTURE_OPEN and payment.capture_key == key:
        return _capturing(payment, key, learned, now)
    if payment.capture_key == key or learned is not Begun.FRESH:
        return payment, Repeat()  # only what was answered has lost its place here
    match payment.state:
        case State.AUTHORIZING | State.CAPTURING | State.REAUTHORIZING:
            raise Retryable(f"this payment is {payment.state} and has no outcome yet")
        case State.CAPTURED if _is_what_was_taken(payment, command):
            return told(payment, captured(payment, key, now))
    reason = _no_capture(payment, command)
    if reason is not None:
        return told(payment, capture_refused(payment, key, reason, now))
    asked = replace(payment, state=State.CAPTURING, capture_key=key, asked_minor=command.amount_minor)
    return asked, _capture(asked)


def refund_payment(
    payment: Payment | None, command: RefundPayment, learned: Learned, now: datetime
) -> tuple[Payment, Move]:
    """Give the command's amount back out of what was captured, or refuse.

    Returns the payment as it must be stored before the move is made. Raises Retryable while the capture or
    another refund is open.
    """
    if payment is None:
        payment = never_asked(command, State.NOT_ASKED, None, now)
    key = command.command_id
    if payment.state == State.REFUNDING and payment.refund_key == key:
        return refunding(payment, key, learned, now)
    if payment.refund_key == key or learned is not Begun.FRESH:
        return payment, Repeat()
    if payment.state in (*CAPTURE_OPEN, State.REFUNDING):
        raise Retryable(f"this payment is {payment.state} and has no outcome yet")
    reason = _no_refund(payment, command)
    if reason is not None:
        return told(payment, refund_refused(payment, key, reason, now))
    asked = replace(payment, state=State.REFUNDING, refund_key=key, asked_minor=command.amount_minor)
    return asked, ask_refund(asked, key)


def query_money(
    payment: Payment, command: QueryPayment, learned: Learned, now: datetime
) -> tuple[Payment, Move] | None:
    """What a query of a capture or refund finds; None when it asks about neither of the latest two.

    None, too, when there is more to be asked for than a look-up: that leaves it open.
    """
    asked = command.asked_command_id
    settle = None
    if payment.state in CAPTURE_OPEN and payment.capture_key == asked:
        settle = _capturing
    elif payment.state == State.REFUNDING and payment.refund_key == asked:
        settle = refunding
    elif asked in (payment.capture_key, payment.refund_key):
        return payment, Repeat()
    if settle is None:
        return None
    found = settle(payment, asked, learned, now)
    return found if isinstance(found[1], LookUp | Reply) else None


# --- capturing ------------------------------------------------------------------------------------


def _no_capture(payment: Payment, command: CapturePayment) -> str | None:
    """Why the amount cannot be taken; None when the provider must be asked."""
    if payment.state in TAKEN:
        return "already_captured"
    if payment.state in (State.VOIDING, State.VOIDED):
        return "voided"
    if payment.state != State.AUTHORIZED:
        return "not_authorized"
    if command.amount_minor < 1:
        return "invalid_amount"
    if command.currency != payment.currency:
        return "other_currency"
    if command.amount_minor > (payment.amount_minor or 0):
        return "amount_too_large"
    return None


def _is_what_was_taken(payment: Payment, command: CapturePayment) -> bool:
    untouched = payment.refunded_minor == 0
    return untouched and (command.amount_minor, command.currency) == (
        payment.captured_minor,
        payment.currency,
    )


def open_key(payment: Payment) -> str:
    """The key under which the provider was asked last for the open capture."""
    assert payment.capture_key is not None
    if payment.reauthorize_key != _anew(payment.capture_key):
        return payment.capture_key
    if payment.state == State.REAUTHORIZING:
        return payment.reauthorize_key
    return str(uuid5(UUID(payment.capture_key), "capture again"))


def capture_outcome(payment: Payment, learned: Learned, now: datetime) -> tuple[Payment, Answer] | None:
    """The payment once its open capture ends with what was ``learned``, and the event of it; None when open.

    A hold that lapsed is not asked for anew, and one that took its place is not captured.
    """
    key = payment.capture_key
    assert key is not None
    still_held = settled(payment, State.AUTHORIZED, now)
    match learned:
        case Captured(_, amount_minor) if payment.state == State.CAPTURING:
            taken = replace(settled(payment, State.CAPTURED, now), captured_minor=amount_minor)
            return taken, captured(taken, key, now)
        case CaptureRefused(code, asked) if asked == open_key(payment):
            return still_held, capture_refused(still_held, key, code, now)
        case Declined() if payment.state == State.REAUTHORIZING:
            return still_held, capture_refused(still_held, key, EXPIRED, now)
        case Authorized() if payment.state == State.REAUTHORIZING:
            anew = _held_anew(still_held, learned)
            return anew, capture_refused(anew, key, "voided", now)
    return None


def _capturing(payment: Payment, key: str, learned: Learned, now: datetime) -> tuple[Payment, Move]:
    """The next move of the open capture ``key``."""
    asked = open_key(payment)
    first = asked == key
    match learned:
        case Begun():
            return payment, LookUp(asked)
        case Unheard(unheard) if unheard == asked:
            return payment, _again(payment)
        case CaptureRefused(code, refused) if code == EXPIRED and refused == key and first:
            lapsed = replace(payment, state=State.REAUTHORIZING, reauthorize_key=_anew(key))
            return lapsed, _again(lapsed)
        case Authorized() if payment.state == State.REAUTHORIZING:
            anew = replace(_held_anew(payment, learned), state=State.CAPTURING)
            return anew, _again(anew)
        case Unheard():
            return payment, LookUp(asked)
        case CaptureRefused() | Authorized() if not first and not _is_of(learned, asked):
            return payment, LookUp(asked)  # a copy has gone on meanwhile
    outcome = capture_outcome(payment, learned, now)
    if outcome is None:
        raise Rejected(f"the provider was asked to capture, and says of that key: {learned}")
    return told(*outcome)


def _is_of(learned: Learned, asked: str) -> bool:
    return isinstance(learned, CaptureRefused) and learned.key == asked


def _again(payment: Payment) -> Capture | Reauthorize:
    """What the open capture asks for next."""
    if payment.state == State.REAUTHORIZING:
        assert payment.authorization_id is not None
        return Reauthorize(payment.authorization_id, open_key(payment))
    return _capture(payment)


def _held_anew(payment: Payment, held: Authorized) -> Payment:
    """The payment with the hold that took the place of the lapsed one."""
    return replace(
        payment,
        authorization_id=held.authorization_id,
        expires_at=held.expires_at,
        lapsed_id=payment.authorization_id,
    )


def _anew(capture_key: str) -> str:
    return str(uuid5(UUID(capture_key), "reauthorize"))


def _capture(payment: Payment) -> Capture:
    assert payment.authorization_id is not None
    assert payment.asked_minor is not None
    return Capture(payment.authorization_id, payment.asked_minor, open_key(payment))


# --- refunding ------------------------------------------------------------------------------------


def _no_refund(payment: Payment, command: RefundPayment) -> str | None:
    """Why the amount cannot be given back; None when the provider must be asked."""
    if payment.state != State.CAPTURED:
        return "already_refunded" if payment.state == State.REFUNDED else "not_captured"
    if command.amount_minor < 1:
        return "invalid_amount"
    if command.currency != payment.currency:
        return "other_currency"
    if command.amount_minor > payment.captured_minor - payment.refunded_minor:
        return "amount_too_large"
    return None


def refunding(payment: Payment, key: str, learned: Learned, now: datetime) -> tuple[Payment, Move]:
    """The next move of the open refund ``key``, which is that of a reversal or of a refund."""
    back = payment.reverse_key == key
    match learned:
        case Begun():
            return payment, LookUp(key)
        case Unheard():
            return payment, ask_refund(payment, key)
        case Refunded(_, amount_minor):
            total = payment.refunded_minor + amount_minor
            state = State.REFUNDED if total == payment.captured_minor else State.CAPTURED
            given = replace(settled(payment, state, now), refunded_minor=total)
            return told(
                given, reversal_done(given, key, now) if back else refunded(given, key, amount_minor, now)
            )
        case RefundRefused(code):
            kept = settled(payment, State.CAPTURED, now)
            refused = reversal_refused if back else refund_refused
            return told(kept, refused(kept, key, code, now))
    raise Rejected(f"the provider was asked to refund, and says of that key: {learned}")


def ask_refund(payment: Payment, key: str) -> Refund:
    """Ask for what the payment says is asked for."""
    assert payment.authorization_id is not None
    assert payment.asked_minor is not None
    return Refund(payment.authorization_id, payment.asked_minor, key)


def settled(payment: Payment, state: State, now: datetime) -> Payment:
    """The payment once its open capture or refund has an outcome."""
    return replace(payment, state=state, asked_minor=None, settled_at=now)
