"""What a payment command means to what a workflow holds, and what to ask of the provider next. Pure.

A command is carried out in moves. Each move is decided here from the stored payment and from what was
learned last, is stored, and only then performed; the last one is the answer. So a crash at any point
leaves a row that says what may have been asked. Two rules keep the money right:

* what may have been asked before is looked up by its key before it is asked again;
* once a void has begun, a hold that arrives late is given up and never accepted.

A query makes nothing happen at the provider. When it learns an outcome, it answers in the name of the
authorization, whose copies then only repeat that answer.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, assert_never
from uuid import UUID, uuid5

from fulcrum.errors import Rejected, Retryable
from fulcrum.saga import identity
from fulcrum.saga.messages import (
    Answer,
    AuthorizePayment,
    PaymentAuthorized,
    PaymentDeclined,
    PaymentNotFound,
    PaymentVoided,
    QueryPayment,
    StepCommand,
    VoidPayment,
)
from fulcrum.workers.payment_moves import (
    Authorize,
    Authorized,
    Begun,
    Declined,
    Learned,
    LookUp,
    Move,
    Outcome,
    Payment,
    Repeat,
    Reply,
    State,
    Unheard,
    Void,
    Voided,
)

# --- commands -------------------------------------------------------------------------------------


def authorize_payment(
    payment: Payment | None, command: AuthorizePayment, learned: Learned, now: datetime
) -> tuple[Payment, Move]:
    """Hold the amount, unless a void came first.

    Returns the payment as it must be stored before the move is made. Raises Retryable while an earlier
    attempt is open, Rejected when the workflow already holds another amount.
    """
    if payment is None or payment.state == State.NOT_ASKED:
        return _asked_for(command, _told_so_far(payment), now), _hold(command, learned)
    own = payment.authorize_key == command.command_id
    newer = command.attempt > payment.attempt
    match payment.state:
        case State.AUTHORIZING if own:
            if isinstance(learned, Begun | Unheard):
                return payment, _hold(command, learned)
            return _learned(payment, command.command_id, learned, now)
        case State.AUTHORIZED | State.DECLINED if own:
            return payment, Repeat()
        case State.AUTHORIZING if newer:
            raise Retryable(f"attempt {payment.attempt} of this payment has no outcome yet")
        case State.DECLINED if newer:
            return _asked_for(command, payment.sequence, now), _hold(command, learned)
        case State.AUTHORIZED if newer:
            return _already_held(payment, command, now)
    return _too_late(payment, command, learned, now)


def void_payment(
    payment: Payment | None, command: VoidPayment, learned: Learned, now: datetime
) -> tuple[Payment, Move]:
    """Give up what is held, whatever that is, and leave a fence against what is still on its way."""
    if payment is None or payment.state == State.NOT_ASKED:
        return _given_up(_no_authorization(command, State.VOIDING, payment, now), command, now)
    match payment.state:
        case State.DECLINED:
            return _given_up(payment, command, now)
        case State.VOIDED if payment.void_key == command.command_id:
            return payment, Repeat()
        case State.VOIDED:
            return _told(payment, _voided(payment, command, now))
    return _voiding(replace(payment, state=State.VOIDING, void_key=command.command_id), command, learned, now)


def query_payment(
    payment: Payment | None, command: QueryPayment, learned: Learned, now: datetime
) -> tuple[Payment, Move]:
    """Say what became of the authorization that is asked about, or that nobody has heard of it.

    Not heard of leaves the authorization open: the command, or a copy that waits for its retry, may still
    be carried out. Behind a void it holds nothing either, and its own copies are told so.
    """
    if payment is None:
        return _not_found(_no_authorization(command, State.NOT_ASKED, None, now), command, now)
    own = payment.authorize_key == command.asked_command_id
    match payment.state:
        case State.AUTHORIZED | State.DECLINED if own:
            return payment, Repeat()
        case State.AUTHORIZING if own and isinstance(learned, Begun):
            return payment, LookUp(command.asked_command_id)
        case State.AUTHORIZING if own and not isinstance(learned, Begun | Unheard):
            return _learned(payment, command.asked_command_id, learned, now)
    return _not_found(payment, command, now)


# --- authorizing ----------------------------------------------------------------------------------


def _asked_for(command: AuthorizePayment, sequence: int, now: datetime) -> Payment:
    return Payment(
        workflow_id=command.workflow_id,
        state=State.AUTHORIZING,
        sequence=sequence,
        requested_at=now,
        attempt=command.attempt,
        authorize_key=command.command_id,
        amount_minor=command.amount_minor,
        currency=command.currency,
    )


def _hold(command: AuthorizePayment, learned: Learned) -> Move:
    return LookUp(command.command_id) if learned is Begun.AGAIN else Authorize()


def _learned(payment: Payment, key: str, learned: Outcome, now: datetime) -> tuple[Payment, Move]:
    """What became of the open authorization ``key``, whoever asked."""
    match learned:
        case Authorized():
            held = replace(_holding(payment, learned), state=State.AUTHORIZED, settled_at=now)
            return _told(held, _authorized(held, key, now))
        case Declined(code):
            declined = replace(payment, state=State.DECLINED, decline_reason=code, settled_at=now)
            return _told(declined, _declined(declined, key, code, now))
        case Voided():
            raise Rejected("the provider voided this authorization although nobody here asked for it")
        case _:
            assert_never(learned)


def _holding(payment: Payment, held: Authorized) -> Payment:
    return replace(payment, authorization_id=held.authorization_id, expires_at=held.expires_at)


def _already_held(payment: Payment, command: AuthorizePayment, now: datetime) -> tuple[Payment, Move]:
    wanted, held = (command.amount_minor, command.currency), (payment.amount_minor, payment.currency)
    if wanted != held:
        raise Rejected(f"amount_minor, currency {wanted}: this workflow already holds {held}; void it first")
    return _told(payment, _authorized(payment, command.command_id, now))


def _too_late(
    payment: Payment, command: AuthorizePayment, learned: Learned, now: datetime
) -> tuple[Payment, Move]:
    """A void or a newer attempt came first: leave nothing held under this command's key, and decline."""
    if learned is Begun.AGAIN:
        return payment, LookUp(command.command_id)
    if isinstance(learned, Authorized) and learned.authorization_id != payment.authorization_id:
        key = str(uuid5(UUID(command.command_id), "give up"))
        return payment, Void(learned.authorization_id, key)
    # When the payment knows the authorization, the void that made the fence gives it up.
    fenced = payment.state in (State.VOIDING, State.VOIDED)
    return _told(payment, _declined(payment, command.command_id, "fenced" if fenced else "superseded", now))


# --- voiding --------------------------------------------------------------------------------------


def _voiding(payment: Payment, command: VoidPayment, learned: Learned, now: datetime) -> tuple[Payment, Move]:
    if payment.authorization_id is None:
        return _voiding_unknown(payment, command, learned, now)
    match learned:
        case Voided(authorization_id) if authorization_id == payment.authorization_id:
            return _given_up(payment, command, now)
        case Begun.AGAIN:
            return payment, LookUp(command.command_id)
    return payment, Void(payment.authorization_id, command.command_id)


def _voiding_unknown(
    payment: Payment, command: VoidPayment, learned: Learned, now: datetime
) -> tuple[Payment, Move]:
    """Nobody knows whether the authorization happened, and a timeout is not a no: ask for it first."""
    assert payment.authorize_key is not None
    match learned:
        case Authorized(authorization_id):
            return _holding(payment, learned), Void(authorization_id, command.command_id)
        case Declined() | Voided():
            return _given_up(payment, command, now)
        case Unheard(key) if key == payment.authorize_key:
            return _given_up(payment, command, now)
    return payment, LookUp(payment.authorize_key)


def _given_up(payment: Payment, command: VoidPayment, now: datetime) -> tuple[Payment, Move]:
    voided = replace(payment, state=State.VOIDED, void_key=command.command_id, settled_at=now)
    return _told(voided, _voided(voided, command, now))


# --- before any authorization ---------------------------------------------------------------------


def _told_so_far(payment: Payment | None) -> int:
    return 0 if payment is None else payment.sequence


def _no_authorization(command: StepCommand, state: State, payment: Payment | None, now: datetime) -> Payment:
    return Payment(
        workflow_id=command.workflow_id, state=state, sequence=_told_so_far(payment), requested_at=now
    )


# --- answers --------------------------------------------------------------------------------------


def _told(payment: Payment, event: Answer) -> tuple[Payment, Move]:
    return replace(payment, sequence=event.sequence), Reply(event)


def _authorized(payment: Payment, key: str, now: datetime) -> PaymentAuthorized:
    assert payment.authorization_id is not None
    assert payment.amount_minor is not None
    assert payment.currency is not None
    return PaymentAuthorized(
        **_common(payment, key, PaymentAuthorized, now),
        authorization_id=payment.authorization_id,
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        expires_at=payment.expires_at,
    )


def _declined(payment: Payment, key: str, reason: str, now: datetime) -> PaymentDeclined:
    return PaymentDeclined(**_common(payment, key, PaymentDeclined, now), reason=reason)


def _voided(payment: Payment, command: VoidPayment, now: datetime) -> PaymentVoided:
    common = _common(payment, command.command_id, PaymentVoided, now)
    return PaymentVoided(**common, authorization_id=payment.authorization_id)


def _not_found(payment: Payment, command: QueryPayment, now: datetime) -> tuple[Payment, Move]:
    common = _common(payment, command.command_id, PaymentNotFound, now)
    return _told(payment, PaymentNotFound(**common, asked_command_id=command.asked_command_id))


def _common(payment: Payment, command_id: str, event: type[Answer], now: datetime) -> dict[str, Any]:
    return {
        "event_id": identity.event_id(command_id, event.__name__),
        "workflow_id": payment.workflow_id,
        "sequence": payment.sequence + 1,
        "occurred_at": now,
        "command_id": command_id,
    }
