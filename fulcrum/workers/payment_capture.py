"""What does a capture or a refund mean to what a workflow holds, and what is asked of the provider? Pure.

A hold is captured once, whole or in part; the rest of it is given up. What was captured is refunded whole or
in parts. One of them is under way at a time, and the row says how much is asked for before the provider is.

The provider's refusal under a key is final, like its consent, so a copy never learns another outcome than
the one that was told. What may have been asked before is looked up by its key before it is asked again.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from fulcrum.errors import Rejected, Retryable
from fulcrum.saga.messages import CapturePayment, QueryPayment, RefundPayment
from fulcrum.workers.payment_answers import (
    capture_refused,
    captured,
    never_asked,
    refund_refused,
    refunded,
    told,
)
from fulcrum.workers.payment_moves import (
    TAKEN,
    Begun,
    Capture,
    Captured,
    CaptureRefused,
    Learned,
    LookUp,
    Move,
    Payment,
    Refund,
    Refunded,
    RefundRefused,
    Repeat,
    State,
    Unheard,
)


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
    if payment.state == State.CAPTURING and payment.capture_key == key:
        return _capturing(payment, key, learned, now)
    if payment.capture_key == key or learned is not Begun.FRESH:
        return payment, Repeat()  # only what was answered has lost its place here
    match payment.state:
        case State.AUTHORIZING | State.CAPTURING:
            raise Retryable(f"this payment is {payment.state} and has no outcome yet")
        case State.CAPTURED if _is_what_was_taken(payment, command):
            return told(payment, captured(payment, key, now))
    reason = _no_capture(payment, command)
    if reason is not None:
        return told(payment, capture_refused(payment, key, reason, now))
    asked = replace(payment, state=State.CAPTURING, capture_key=key, asked_minor=command.amount_minor)
    return asked, _capture(asked, key)


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
        return _refunding(payment, key, learned, now)
    if payment.refund_key == key or learned is not Begun.FRESH:
        return payment, Repeat()
    if payment.state in (State.CAPTURING, State.REFUNDING):
        raise Retryable(f"this payment is {payment.state} and has no outcome yet")
    reason = _no_refund(payment, command)
    if reason is not None:
        return told(payment, refund_refused(payment, key, reason, now))
    asked = replace(payment, state=State.REFUNDING, refund_key=key, asked_minor=command.amount_minor)
    return asked, _refund(asked, key)


def query_money(
    payment: Payment, command: QueryPayment, learned: Learned, now: datetime
) -> tuple[Payment, Move] | None:
    """What a query of a capture or refund finds; None when it asks about neither of the latest two.

    None, too, when the provider has not heard of it: that leaves it open.
    """
    asked = command.asked_command_id
    settle = None
    if payment.state == State.CAPTURING and payment.capture_key == asked:
        settle = _capturing
    elif payment.state == State.REFUNDING and payment.refund_key == asked:
        settle = _refunding
    elif asked in (payment.capture_key, payment.refund_key):
        return payment, Repeat()
    if settle is None or isinstance(learned, Unheard):
        return None
    return settle(payment, asked, learned, now)


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


def _capturing(payment: Payment, key: str, learned: Learned, now: datetime) -> tuple[Payment, Move]:
    match learned:
        case Begun():
            return payment, LookUp(key)
        case Unheard():
            return payment, _capture(payment, key)
        case Captured(_, amount_minor):
            taken = replace(_settled(payment, State.CAPTURED, now), captured_minor=amount_minor)
            return told(taken, captured(taken, key, now))
        case CaptureRefused(code):
            still_held = _settled(payment, State.AUTHORIZED, now)
            return told(still_held, capture_refused(still_held, key, code, now))
    raise Rejected(f"the provider was asked to capture, and says of that key: {learned}")


def _capture(payment: Payment, key: str) -> Capture:
    assert payment.authorization_id is not None
    assert payment.asked_minor is not None
    return Capture(payment.authorization_id, payment.asked_minor, key)


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


def _refunding(payment: Payment, key: str, learned: Learned, now: datetime) -> tuple[Payment, Move]:
    match learned:
        case Begun():
            return payment, LookUp(key)
        case Unheard():
            return payment, _refund(payment, key)
        case Refunded(_, amount_minor):
            total = payment.refunded_minor + amount_minor
            state = State.REFUNDED if total == payment.captured_minor else State.CAPTURED
            given = replace(_settled(payment, state, now), refunded_minor=total)
            return told(given, refunded(given, key, amount_minor, now))
        case RefundRefused(code):
            kept = _settled(payment, State.CAPTURED, now)
            return told(kept, refund_refused(kept, key, code, now))
    raise Rejected(f"the provider was asked to refund, and says of that key: {learned}")


def _refund(payment: Payment, key: str) -> Refund:
    assert payment.authorization_id is not None
    assert payment.asked_minor is not None
    return Refund(payment.authorization_id, payment.asked_minor, key)


def _settled(payment: Payment, state: State, now: datetime) -> Payment:
    """The payment once its open capture or refund has an outcome."""
    return replace(payment, state=state, asked_minor=None, settled_at=now)
