"""Payment commands and stored payments, and the provider as a book, for tests of what becomes of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from fulcrum.saga import identity
from fulcrum.saga.messages import (
    Answer,
    AuthorizePayment,
    CapturePayment,
    QueryPayment,
    RefundPayment,
    ReversePayment,
    StepCommand,
    VoidPayment,
)
from fulcrum.workers.payment import query_payment, void_payment
from fulcrum.workers.payment_moves import (
    Ask,
    Authorize,
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
    Reply,
    State,
    Unheard,
    Void,
    Voided,
    VoidRefused,
)
from fulcrum.workers.psp_book import Book, Effect, Request, WrongState

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = NOON + timedelta(seconds=30)
FLOW = "6f0c1d9e-1111-5222-8333-444455556666"
HELD = "auth_held"
ANEW = "auth_anew"
LAPSES = NOON + timedelta(hours=1)
StepCommands = AuthorizePayment | QueryPayment | VoidPayment | CapturePayment | RefundPayment | ReversePayment


def authorize(attempt: int = 1, amount_minor: int = 4200) -> AuthorizePayment:
    """Hold the amount."""
    return AuthorizePayment(
        command_id=identity.command_id(FLOW, "authorize_payment", "AuthorizePayment", attempt),
        workflow_id=FLOW,
        step="authorize_payment",
        attempt=attempt,
        issued_at=NOON,
        tenant="acme",
        amount_minor=amount_minor,
        currency="EUR",
        payment_method="pay_ok",
    )


def void(attempt: int = 1) -> VoidPayment:
    """Give the amount up."""
    return VoidPayment(
        command_id=identity.command_id(FLOW, "void_payment", "VoidPayment", attempt),
        workflow_id=FLOW,
        step="void_payment",
        attempt=attempt,
        issued_at=NOON,
    )


def capture(attempt: int = 1, amount_minor: int = 4200, currency: str = "EUR") -> CapturePayment:
    """Take the amount."""
    return CapturePayment(
        command_id=identity.command_id(FLOW, "capture_payment", "CapturePayment", attempt),
        workflow_id=FLOW,
        step="capture_payment",
        attempt=attempt,
        issued_at=NOON,
        amount_minor=amount_minor,
        currency=currency,
    )


def refund(attempt: int = 1, amount_minor: int = 4200, currency: str = "EUR") -> RefundPayment:
    """Give the amount back."""
    return RefundPayment(
        command_id=identity.command_id(FLOW, "refund_payment", "RefundPayment", attempt),
        workflow_id=FLOW,
        step="refund_payment",
        attempt=attempt,
        issued_at=NOON,
        amount_minor=amount_minor,
        currency=currency,
    )


def reverse(attempt: int = 1) -> ReversePayment:
    """Give the amount up, or back."""
    return ReversePayment(
        command_id=identity.command_id(FLOW, "authorize_payment", "ReversePayment", attempt),
        workflow_id=FLOW,
        step="authorize_payment",
        attempt=attempt,
        issued_at=NOON,
    )


def ask_about(command: StepCommands, number: int = 1) -> QueryPayment:
    """Ask what became of ``command``."""
    return replace(
        query(), command_id=identity.query_id(command.command_id, number), asked_command_id=command.command_id
    )


def query(attempt: int = 1, number: int = 1) -> QueryPayment:
    """Ask what became of the authorization number ``attempt``."""
    about = authorize(attempt).command_id
    return QueryPayment(
        command_id=identity.query_id(about, number),
        workflow_id=FLOW,
        step="authorize_payment",
        attempt=attempt,
        issued_at=NOON,
        asked_command_id=about,
    )


def asked(state: State = State.AUTHORIZING, attempt: int = 1, **changes: Any) -> Payment:
    """A payment whose attempt number ``attempt`` was begun."""
    begun = Payment(
        workflow_id=FLOW,
        state=State.AUTHORIZING,
        sequence=0,
        requested_at=NOON,
        attempt=attempt,
        authorize_key=authorize(attempt).command_id,
        amount_minor=4200,
        currency="EUR",
    )
    return replace(begun, state=state, **changes)


def held(state: State = State.AUTHORIZED, attempt: int = 1, **changes: Any) -> Payment:
    """A payment whose amount the provider holds, or held."""
    return asked(**{"state": state, "attempt": attempt, "sequence": 1, "authorization_id": HELD, **changes})


def taking(amount_minor: int = 4200, number: int = 1, **changes: Any) -> Payment:
    """A payment whose capture was begun."""
    key = capture(number).command_id
    open_capture = {"capture_key": key, "asked_minor": amount_minor, "settled_at": NOON}
    return held(**{"state": State.CAPTURING, **open_capture, **changes})


def holding_anew(amount_minor: int = 4200, number: int = 1, **changes: Any) -> Payment:
    """A payment whose capture found the hold lapsed, and asks for another one."""
    key = str(uuid5(UUID(capture(number).command_id), "reauthorize"))
    changes = {"state": State.REAUTHORIZING, "reauthorize_key": key, **changes}
    return taking(amount_minor, number, **changes)


def taking_anew(amount_minor: int = 4200, number: int = 1, **changes: Any) -> Payment:
    """A payment whose capture goes on with the hold that took the place of the lapsed one."""
    anew = {"state": State.CAPTURING, "authorization_id": ANEW, "lapsed_id": HELD}
    return holding_anew(amount_minor, number, **{**anew, **changes})


def giving_back(number: int = 1, **changes: Any) -> Payment:
    """A payment that is reversed after it was captured."""
    key = reverse(number).command_id
    back = {"refund_key": key, "reverse_key": key, "reverse_attempt": number, "asked_minor": 4200}
    return taken(**{"state": State.REFUNDING, **back, **changes})


def taken(captured_minor: int = 4200, **changes: Any) -> Payment:
    """A payment whose amount, or a part of it, was captured."""
    changes = {"capture_key": capture().command_id, "sequence": 2, "settled_at": NOON, **changes}
    return held(**{"state": State.CAPTURED, "captured_minor": captured_minor, **changes})


def giving(amount_minor: int = 1000, number: int = 1, **changes: Any) -> Payment:
    """A payment whose refund was begun."""
    key = refund(number).command_id
    return taken(**{"state": State.REFUNDING, "refund_key": key, "asked_minor": amount_minor, **changes})


def fence() -> Payment:
    """What a void leaves that came before anything else."""
    payment, _ = void_payment(None, void(), Begun.FRESH, NOON)
    return payment


def only_queried() -> Payment:
    """What a query leaves that came before anything else."""
    payment, _ = query_payment(None, query(), Begun.FRESH, NOON)
    return payment


def told(move: Move) -> Answer:
    """The event of a reply."""
    assert isinstance(move, Reply)
    return move.event


def common(command: StepCommands, event: str, sequence: int) -> dict[str, Any]:
    """What every answer to ``command`` carries."""
    return {
        "event_id": identity.event_id(command.command_id, event),
        "workflow_id": FLOW,
        "sequence": sequence,
        "occurred_at": LATER,
        "command_id": command.command_id,
    }


# --- the provider ---------------------------------------------------------------------------------


def perform(book: Book, ask: Ask, command: StepCommand) -> Learned:
    """Let the provider do what is asked of it because of ``command``."""
    match ask:
        case LookUp(key):
            effect = book.operation(key)
            return Unheard(key) if effect is None else learned(effect)
        case Void(authorization_id, key):
            try:
                book.void(key, authorization_id, NOON)
            except WrongState:
                return VoidRefused(authorization_id)
            return Voided(authorization_id)
        case Reauthorize(authorization_id, key):
            return learned(book.reauthorize(key, authorization_id, NOON)[0])
        case Capture(authorization_id, amount_minor, key):
            return learned(book.capture(key, authorization_id, amount_minor, NOON)[0])
        case Refund(authorization_id, amount_minor, key):
            return learned(book.refund(key, authorization_id, amount_minor, NOON)[0])
        case Authorize():
            assert isinstance(command, AuthorizePayment)
            request = Request(FLOW, command.payment_method, command.amount_minor, command.currency)
            return learned(book.authorize(command.command_id, request, NOON)[0])


def learned(effect: Effect) -> Learned:
    """What the provider tells of one of its effects."""
    if effect.code is not None:
        match effect.kind:
            case "refuse_capture":
                return CaptureRefused(effect.code, effect.key)
            case "refuse_refund":
                return RefundRefused(effect.code)
        return Declined(effect.code)
    assert effect.authorization_id is not None
    match effect.kind:
        case "void":
            return Voided(effect.authorization_id)
        case "capture":
            return Captured(effect.authorization_id, effect.amount_minor)
        case "refund":
            return Refunded(effect.authorization_id, effect.amount_minor)
    lapses = datetime.fromisoformat(effect.expires_at) if effect.expires_at else None
    return Authorized(effect.authorization_id, lapses)


def still_held(book: Book) -> set[str]:
    """The authorizations that the provider still holds."""
    by_kind = {
        kind: {effect.authorization_id or "" for effect in book.effects if effect.kind == kind}
        for kind in ("authorize", "reauthorize", "void", "capture")
    }
    replaced = {effect.replaces or "" for effect in book.effects if effect.kind == "reauthorize"}
    made = by_kind["authorize"] | by_kind["reauthorize"]
    return made - by_kind["void"] - by_kind["capture"] - replaced
