"""What a payment command means to what a workflow holds, and what to ask of the provider next. Pure.

A command is carried out in moves. Each move is decided here from the stored payment and from what was
learned last, is stored, and only then performed; the last one is the answer. So a crash at any point
leaves a row that says what may have been asked. Two rules keep the money right:

* what may have been asked before is looked up by its key before it is asked again;
* once a void has begun, a hold that arrives late is given up and never accepted.

A query makes nothing happen at the provider. When it learns an outcome, it answers in the name of the
command that it asks about, whose copies then only repeat that answer. Captures and refunds are decided in
``payment_capture``, what gives up or gives back in ``payment_reversal``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from uuid import UUID, uuid5

from fulcrum.errors import Rejected, Retryable
from fulcrum.saga.messages import Answer, AuthorizePayment, QueryPayment, VoidPayment
from fulcrum.workers.payment_answers import (
    authorized,
    declined,
    never_asked,
    not_found,
    told,
    told_so_far,
    void_refused,
    voided,
)
from fulcrum.workers.payment_capture import query_money
from fulcrum.workers.payment_moves import (
    TAKEN,
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
    State,
    Unheard,
    Void,
    Voided,
    VoidRefused,
)

#: Says that what the key asked for is done.
_Answered = Callable[[Payment, str, datetime], Answer]

# --- commands -------------------------------------------------------------------------------------


def authorize_payment(
    payment: Payment | None, command: AuthorizePayment, learned: Learned, now: datetime
) -> tuple[Payment, Move]:
    """Hold the amount, unless a void came first.

    Returns the payment as it must be stored before the move is made. Raises Retryable while an earlier
    attempt is open, Rejected when the workflow already holds another amount.
    """
    if payment is None or payment.state == State.NOT_ASKED:
        return _asked_for(command, told_so_far(payment), now), _hold(command, learned)
    own = payment.authorize_key == command.command_id
    newer = command.attempt > payment.attempt
    match payment.state:
        case State.AUTHORIZING if own:
            if isinstance(learned, Begun | Unheard):
                return payment, _hold(command, learned)
            return _learned(payment, command.command_id, learned, now)
        case State.AUTHORIZED | State.DECLINED if own:
            return payment, Repeat()
        case State.CAPTURING | State.REAUTHORIZING | State.CAPTURED | State.REFUNDING | State.REFUNDED if own:
            return payment, Repeat()
        case State.CAPTURING | State.REAUTHORIZING if newer:
            raise Retryable("the capture of this payment has no outcome yet")
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
    """Give up what is held, whatever that is, and leave a fence against what is still on its way.

    What was captured is held no more: that is refused. Raises Retryable while a capture is open, for only its
    outcome tells whether there is a hold.
    """
    if payment is None or payment.state == State.NOT_ASKED:
        return _given_up(never_asked(command, State.VOIDING, payment, now), command.command_id, voided, now)
    match payment.state:
        case State.DECLINED:
            return _given_up(payment, command.command_id, voided, now)
        case State.VOIDED if payment.void_key == command.command_id:
            return payment, Repeat()
        case State.VOIDED:
            return told(payment, voided(payment, command.command_id, now))
        case State.CAPTURING | State.REAUTHORIZING:
            raise Retryable("the capture of this payment has no outcome yet")
        case State.CAPTURED | State.REFUNDING | State.REFUNDED:
            return told(payment, void_refused(payment, command.command_id, "captured", now))
    key = command.command_id
    return voiding(replace(payment, state=State.VOIDING, void_key=key), key, voided, learned, now)


def query_payment(
    payment: Payment | None, command: QueryPayment, learned: Learned, now: datetime
) -> tuple[Payment, Move]:
    """Say what became of the command that is asked about, or that nobody has heard of it.

    Not heard of leaves that command open: it, or a copy that waits for its retry, may still
    be carried out. Behind a void it holds nothing either, and its own copies are told so.
    """
    if payment is None:
        return not_found(never_asked(command, State.NOT_ASKED, None, now), command, now)
    found = query_money(payment, command, learned, now)
    if found is not None:
        return found
    own = payment.authorize_key == command.asked_command_id
    match payment.state:
        case State.AUTHORIZED | State.DECLINED if own:
            return payment, Repeat()
        case State.CAPTURING | State.REAUTHORIZING | State.CAPTURED | State.REFUNDING | State.REFUNDED if own:
            return payment, Repeat()
        case State.AUTHORIZING if own and isinstance(learned, Begun):
            return payment, LookUp(command.asked_command_id)
        case State.AUTHORIZING if own and not isinstance(learned, Begun | Unheard):
            return _learned(payment, command.asked_command_id, learned, now)
    return not_found(payment, command, now)


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


def _learned(
    payment: Payment, key: str, learned: Outcome | VoidRefused, now: datetime
) -> tuple[Payment, Move]:
    """What became of the open authorization ``key``, whoever asked."""
    match learned:
        case Authorized():
            held = replace(_holding(payment, learned), state=State.AUTHORIZED, settled_at=now)
            return told(held, authorized(held, key, now))
        case Declined(code):
            refused = replace(payment, state=State.DECLINED, decline_reason=code, settled_at=now)
            return told(refused, declined(refused, key, code, now))
    raise Rejected(f"the provider did to this authorization what nobody here asked for: {learned}")


def _holding(payment: Payment, held: Authorized) -> Payment:
    return replace(payment, authorization_id=held.authorization_id, expires_at=held.expires_at)


def _already_held(payment: Payment, command: AuthorizePayment, now: datetime) -> tuple[Payment, Move]:
    wanted, held = (command.amount_minor, command.currency), (payment.amount_minor, payment.currency)
    if wanted != held:
        raise Rejected(f"amount_minor, currency {wanted}: this workflow already holds {held}; void it first")
    return told(payment, authorized(payment, command.command_id, now))


def _too_late(
    payment: Payment, command: AuthorizePayment, learned: Learned, now: datetime
) -> tuple[Payment, Move]:
    """A void, a newer attempt or the capture came first: leave nothing held under this key, and decline."""
    if learned is Begun.AGAIN:
        return payment, LookUp(command.command_id)
    known = (payment.authorization_id, payment.lapsed_id)
    if isinstance(learned, Authorized) and learned.authorization_id not in known:
        key = str(uuid5(UUID(command.command_id), "give up"))
        return payment, Void(learned.authorization_id, key)
    # When the payment knows the authorization, the void that made the fence gives it up.
    reason = "superseded"
    if payment.state in (State.VOIDING, State.VOIDED):
        reason = "fenced"
    elif payment.state in TAKEN and command.attempt > payment.attempt:
        reason = "captured"
    return told(payment, declined(payment, command.command_id, reason, now))


# --- voiding --------------------------------------------------------------------------------------


def voiding(
    payment: Payment, key: str, answer: _Answered, learned: Learned, now: datetime
) -> tuple[Payment, Move]:
    """Give up what is, or may be, held; ``key`` asks for it, and ``answer`` says that it is done."""
    if payment.authorization_id is None:
        return _voiding_unknown(payment, key, answer, learned, now)
    match learned:
        case Voided(authorization_id) if authorization_id == payment.authorization_id:
            return _given_up(payment, key, answer, now)
        case VoidRefused(authorization_id) if authorization_id == payment.authorization_id:
            raise Rejected(f"the provider does not void {authorization_id}: it took what was held")
        case Begun.AGAIN:
            return payment, LookUp(key)
    return payment, Void(payment.authorization_id, key)


def _voiding_unknown(
    payment: Payment, key: str, answer: _Answered, learned: Learned, now: datetime
) -> tuple[Payment, Move]:
    """Nobody knows whether the authorization happened, and a timeout is not a no: ask for it first."""
    assert payment.authorize_key is not None
    match learned:
        case Authorized(authorization_id):
            return _holding(payment, learned), Void(authorization_id, key)
        case Declined() | Voided():
            return _given_up(payment, key, answer, now)
        case Unheard(asked) if asked == payment.authorize_key:
            return _given_up(payment, key, answer, now)
    return payment, LookUp(payment.authorize_key)


def _given_up(payment: Payment, key: str, answer: _Answered, now: datetime) -> tuple[Payment, Move]:
    given_up = replace(payment, state=State.VOIDED, void_key=key, settled_at=now)
    return told(given_up, answer(given_up, key, now))
