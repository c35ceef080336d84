"""What is a payment command answered with, and under which number? Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from fulcrum.saga import identity
from fulcrum.saga.messages import (
    Answer,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentCaptureRefused,
    PaymentDeclined,
    PaymentNotFound,
    PaymentRefunded,
    PaymentRefundRefused,
    PaymentReversalRefused,
    PaymentReversed,
    PaymentVoided,
    PaymentVoidRefused,
    QueryPayment,
    StepCommand,
)
from fulcrum.workers.payment_moves import Payment, Reply, State


def told(payment: Payment, event: Answer) -> tuple[Payment, Reply]:
    """The payment once ``event`` is told, and the move that tells it."""
    return replace(payment, sequence=event.sequence), Reply(event)


def told_so_far(payment: Payment | None) -> int:
    """How many events this workflow has on the payments stream."""
    return 0 if payment is None else payment.sequence


def never_asked(command: StepCommand, state: State, payment: Payment | None, now: datetime) -> Payment:
    """The payment of a workflow that never asked for an authorization."""
    return Payment(
        workflow_id=command.workflow_id, state=state, sequence=told_so_far(payment), requested_at=now
    )


def authorized(payment: Payment, key: str, now: datetime) -> PaymentAuthorized:
    """The amount is held."""
    authorization_id, currency = _held(payment)
    assert payment.amount_minor is not None
    return PaymentAuthorized(
        **_common(payment, key, PaymentAuthorized, now),
        authorization_id=authorization_id,
        amount_minor=payment.amount_minor,
        currency=currency,
        expires_at=payment.expires_at,
    )


def declined(payment: Payment, key: str, reason: str, now: datetime) -> PaymentDeclined:
    """Nothing is held under ``key``."""
    return PaymentDeclined(**_common(payment, key, PaymentDeclined, now), reason=reason)


def voided(payment: Payment, key: str, now: datetime) -> PaymentVoided:
    """Nothing is held any more."""
    common = _common(payment, key, PaymentVoided, now)
    return PaymentVoided(**common, authorization_id=payment.authorization_id)


def void_refused(payment: Payment, key: str, reason: str, now: datetime) -> PaymentVoidRefused:
    """There is no hold to give up."""
    return PaymentVoidRefused(**_common(payment, key, PaymentVoidRefused, now), reason=reason)


def captured(payment: Payment, key: str, now: datetime) -> PaymentCaptured:
    """What is captured was taken."""
    authorization_id, currency = _held(payment)
    return PaymentCaptured(
        **_common(payment, key, PaymentCaptured, now),
        authorization_id=authorization_id,
        amount_minor=payment.captured_minor,
        currency=currency,
        reauthorized=payment.lapsed_id is not None,
    )


def capture_refused(payment: Payment, key: str, reason: str, now: datetime) -> PaymentCaptureRefused:
    """Nothing was taken under ``key``."""
    return PaymentCaptureRefused(**_common(payment, key, PaymentCaptureRefused, now), reason=reason)


def refunded(payment: Payment, key: str, amount_minor: int, now: datetime) -> PaymentRefunded:
    """``amount_minor`` was given back, and is counted in ``payment`` already."""
    authorization_id, currency = _held(payment)
    return PaymentRefunded(
        **_common(payment, key, PaymentRefunded, now),
        authorization_id=authorization_id,
        amount_minor=amount_minor,
        refunded_minor=payment.refunded_minor,
        currency=currency,
    )


def refund_refused(payment: Payment, key: str, reason: str, now: datetime) -> PaymentRefundRefused:
    """Nothing was given back under ``key``."""
    return PaymentRefundRefused(**_common(payment, key, PaymentRefundRefused, now), reason=reason)


def reversal_done(payment: Payment, key: str, now: datetime) -> PaymentReversed:
    """Nothing is held or kept any more."""
    return PaymentReversed(
        **_common(payment, key, PaymentReversed, now),
        authorization_id=payment.authorization_id,
        refunded_minor=payment.refunded_minor,
        currency=payment.currency,
    )


def reversal_refused(payment: Payment, key: str, reason: str, now: datetime) -> PaymentReversalRefused:
    """What was taken is still there."""
    return PaymentReversalRefused(**_common(payment, key, PaymentReversalRefused, now), reason=reason)


def not_found(payment: Payment, command: QueryPayment, now: datetime) -> tuple[Payment, Reply]:
    """Nobody has heard of the command that is asked about."""
    common = _common(payment, command.command_id, PaymentNotFound, now)
    return told(payment, PaymentNotFound(**common, asked_command_id=command.asked_command_id))


def _held(payment: Payment) -> tuple[str, str]:
    assert payment.authorization_id is not None
    assert payment.currency is not None
    return payment.authorization_id, payment.currency


def _common(payment: Payment, command_id: str, event: type[Answer], now: datetime) -> dict[str, Any]:
    return {
        "event_id": identity.event_id(command_id, event.__name__),
        "workflow_id": payment.workflow_id,
        "sequence": payment.sequence + 1,
        "occurred_at": now,
        "command_id": command_id,
    }
