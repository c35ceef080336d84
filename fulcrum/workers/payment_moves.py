"""What is known of a payment, what can be learned about it, and what can be done next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from fulcrum.saga.messages import Answer


class State(StrEnum):
    """Where a payment stands, and who moves it on."""

    NOT_ASKED = "not_asked"  #: only a query came; an authorization or a void moves it
    AUTHORIZING = "authorizing"  #: the provider may hold the amount; its answer or a void moves it
    AUTHORIZED = "authorized"  #: the provider holds the amount; a void or a capture moves it
    DECLINED = "declined"  #: nothing is held; a new attempt or a void moves it
    VOIDING = "voiding"  #: what may be held is being given up; the provider's answer moves it
    VOIDED = "voided"  #: final: nothing is held, and nothing will be
    CAPTURING = "capturing"  #: the provider may have taken the amount; its answer moves it
    REAUTHORIZING = (
        "reauthorizing"  #: the hold lapsed, another may be there in its place; the answer moves it
    )
    CAPTURED = "captured"  #: the provider took the amount; a refund moves it
    REFUNDING = "refunding"  #: the provider may have given the amount back; its answer moves it
    REFUNDED = "refunded"  #: final: all that was taken was given back


#: The amount was taken, so that there is no hold any more.
TAKEN = frozenset({State.CAPTURED, State.REFUNDING, State.REFUNDED})
#: A capture has no outcome yet: only its outcome tells whether there is a hold.
CAPTURE_OPEN = frozenset({State.CAPTURING, State.REAUTHORIZING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """What is stored of one workflow. ``sequence`` counts its events on the payments stream.

    ``authorize_key`` is None while no authorization came, and on a fence: a void that came before any.
    ``expires_at`` is when the provider's hold lapses; None when it does not, or when there is none.
    ``capture_key`` and ``refund_key`` name the latest capture and refund that the provider was asked for, and
    ``asked_minor`` is the amount of the one that has no outcome yet.

    ``reauthorize_key`` is the key of the latest hold that was asked for in place of one that had lapsed, and
    ``lapsed_id`` the hold that it took the place of. ``reverse_key`` is the latest reversal that asked for a
    refund, number ``reverse_attempt``.
    """

    workflow_id: str
    state: str
    sequence: int
    requested_at: datetime
    attempt: int = 0
    authorize_key: str | None = None
    amount_minor: int | None = None
    currency: str | None = None
    authorization_id: str | None = None
    decline_reason: str | None = None
    void_key: str | None = None
    settled_at: datetime | None = None
    expires_at: datetime | None = None
    capture_key: str | None = None
    refund_key: str | None = None
    asked_minor: int | None = None
    captured_minor: int = 0
    refunded_minor: int = 0
    reauthorize_key: str | None = None
    lapsed_id: str | None = None
    reverse_key: str | None = None
    reverse_attempt: int = 0


# --- what was learned -----------------------------------------------------------------------------


class Begun(StrEnum):
    """How a command starts."""

    FRESH = "fresh"  #: it was never tried here, so nothing was asked for it
    AGAIN = "again"  #: it was tried and left no answer, so anything may have been asked


@dataclass(frozen=True, slots=True)
class Authorized:
    """The provider holds the amount, until ``expires_at`` when there is one."""

    authorization_id: str
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Declined:
    """The provider refuses the amount; ``code`` says why."""

    code: str


@dataclass(frozen=True, slots=True)
class Voided:
    """The provider holds nothing under ``authorization_id`` any more."""

    authorization_id: str


@dataclass(frozen=True, slots=True)
class VoidRefused:
    """There is no hold under ``authorization_id``: it was captured, or another one took its place."""

    authorization_id: str


@dataclass(frozen=True, slots=True)
class Captured:
    """The provider took ``amount_minor`` of what it held under ``authorization_id``."""

    authorization_id: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class CaptureRefused:
    """The provider takes nothing under ``key``, now or later; ``code`` says why."""

    code: str
    key: str


@dataclass(frozen=True, slots=True)
class Refunded:
    """The provider gave ``amount_minor`` back of what it took under ``authorization_id``."""

    authorization_id: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class RefundRefused:
    """The provider gives nothing back under this key, now or later; ``code`` says why."""

    code: str


@dataclass(frozen=True, slots=True)
class Unheard:
    """The provider was never asked anything under ``key``."""

    key: str


Outcome = Authorized | Declined | Voided | Captured | CaptureRefused | Refunded | RefundRefused
Learned = Begun | Outcome | VoidRefused | Unheard


# --- moves ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LookUp:
    """Ask the provider what became of ``key``."""

    key: str


@dataclass(frozen=True, slots=True)
class Authorize:
    """Ask the provider to hold the command's amount under the command's id."""


@dataclass(frozen=True, slots=True)
class Void:
    """Ask the provider to give up ``authorization_id``."""

    authorization_id: str
    key: str


@dataclass(frozen=True, slots=True)
class Capture:
    """Ask the provider to take ``amount_minor`` of ``authorization_id``."""

    authorization_id: str
    amount_minor: int
    key: str


@dataclass(frozen=True, slots=True)
class Reauthorize:
    """Ask the provider for a new hold in place of ``authorization_id``, which has lapsed."""

    authorization_id: str
    key: str


@dataclass(frozen=True, slots=True)
class Refund:
    """Ask the provider to give ``amount_minor`` back of what it took of ``authorization_id``."""

    authorization_id: str
    amount_minor: int
    key: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The command is carried out: this event says so."""

    event: Answer


@dataclass(frozen=True, slots=True)
class Repeat:
    """The command, or the one it asks about, was answered meanwhile: emit that answer again."""


Ask = LookUp | Authorize | Void | Capture | Reauthorize | Refund


@dataclass(frozen=True, slots=True)
class TellAndAsk:
    """The outcome of another command was learned on the way: ``event`` tells it, and this one goes on."""

    event: Answer
    ask: Ask


Move = Ask | Reply | Repeat | TellAndAsk
