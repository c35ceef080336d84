"""Every event and command, in the order of the flow: one frozen dataclass and one ``.avsc`` each.

Events are facts in the past tense and say on which *stream* (a Kafka topic) they travel.
Commands are imperative and say which *service* (a RabbitMQ queue) carries them out.
All times are aware UTC datetimes; all amounts are integers in the currency's minor unit.

Long, because it is the whole vocabulary: one short record after another.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Line:
    """So many units of one SKU."""

    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class ShortLine:
    """A line that stock could not cover."""

    sku: str
    requested: int
    available: int


# --- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What every event carries.

    ``sequence`` counts this stream's events of this workflow from 1 without gaps; a repeated event
    keeps its ``event_id`` and its ``sequence``.
    """

    stream: ClassVar[str]

    event_id: str
    workflow_id: str
    sequence: int
    occurred_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Event):
    """An event by which a service answers a command."""

    command_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentCreated(Event):
    """A client's intent was accepted."""

    stream: ClassVar[str] = "intents"

    intent_id: str
    tenant: str
    customer_ref: str
    lines: tuple[Line, ...]
    amount_minor: int
    currency: str
    payment_method: str
    ship_to: str
    definition: str
    correlation_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested(Event):
    """Somebody wants the workflow undone. ``actor`` is who asked, ``reason`` why in their words.

    It travels behind the intent on its stream, so it cannot overtake it.
    """

    stream: ClassVar[str] = "intents"

    reason: str
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRequested(Event):
    """An operator wants something done to the workflow: ``verb`` is one of ``saga.verbs``.

    ``event_id`` is the id of the request. ``step`` None means the step that the run waits for. ``result`` is
    what a skipped step would have answered, as a JSON object; ``seconds`` how long from now a step may take.
    It travels behind the intent on its stream.
    """

    stream: ClassVar[str] = "intents"

    verb: str
    reason: str
    actor: str
    step: str | None = None
    result: str | None = None
    seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentAuthorized(Answer):
    """The provider holds the amount. ``expires_at`` None means that the hold does not lapse."""

    stream: ClassVar[str] = "payments"

    authorization_id: str
    amount_minor: int
    currency: str
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentDeclined(Answer):
    """The provider, or a fence left by an earlier void, refused the amount."""

    stream: ClassVar[str] = "payments"

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentNotFound(Answer):
    """The provider has never heard of the command that was asked about."""

    stream: ClassVar[str] = "payments"

    asked_command_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentVoided(Answer):
    """Nothing is held any more; ``authorization_id`` is None when nothing ever was."""

    stream: ClassVar[str] = "payments"

    authorization_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentVoidRefused(Answer):
    """The amount was captured before, so there is no hold to give up; a refund can give it back."""

    stream: ClassVar[str] = "payments"

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentCaptured(Answer):
    """The provider took ``amount_minor`` of what it held, and gave up the rest of the hold."""

    stream: ClassVar[str] = "payments"

    authorization_id: str
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentCaptureRefused(Answer):
    """Nothing was taken under this command: by the provider's word, or because nothing is held."""

    stream: ClassVar[str] = "payments"

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRefunded(Answer):
    """The provider gave ``amount_minor`` back, and ``refunded_minor`` in all until now."""

    stream: ClassVar[str] = "payments"

    authorization_id: str
    amount_minor: int
    refunded_minor: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRefundRefused(Answer):
    """Nothing was given back under this command: by the provider's word, or as so much was not taken."""

    stream: ClassVar[str] = "payments"

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StockReserved(Answer):
    """Every line is held. ``expires_at`` None means that the hold does not lapse."""

    stream: ClassVar[str] = "inventory"

    lines: tuple[Line, ...]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StockRejected(Answer):
    """Nothing is held: ``short`` names the lines that stock could not cover."""

    stream: ClassVar[str] = "inventory"

    reason: str
    short: tuple[ShortLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StockReleased(Answer):
    """The lines are available again; none when nothing was held."""

    stream: ClassVar[str] = "inventory"

    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StockConfirmed(Answer):
    """The lines are held for good: their hold does not lapse any more."""

    stream: ClassVar[str] = "inventory"

    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StockNotConfirmed(Answer):
    """Nothing was held that could be confirmed: it is expired, released, or never was."""

    stream: ClassVar[str] = "inventory"

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StockExpired(Answer):
    """The hold lapsed and its lines are available again. ``command_id`` is the command that made the hold."""

    stream: ClassVar[str] = "inventory"

    lines: tuple[Line, ...]
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFired(Event):
    """A time that stands in the run's own state has come.

    The process that holds the run sends it to the run's partition, maybe more than once.
    """

    stream: ClassVar[str] = "timers"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlinePassed(TimerFired):
    """A step's answer is late. ``command_id`` is the command that was not answered."""

    step: str
    command_id: str
    deadline_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldExpired(TimerFired):
    """What a step holds has lapsed while the run still needed it."""

    step: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPassed(TimerFired):
    """A finished run has been kept long enough."""

    finished_at: datetime


# --- commands -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What every command carries. A technical retry keeps ``command_id``."""

    service: ClassVar[str]

    command_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCommand(Command):
    """A command that a workflow's step issued. ``attempt`` is the logical attempt, from 1."""

    workflow_id: str
    step: str
    attempt: int
    issued_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizePayment(StepCommand):
    """Hold the amount on the payment method."""

    service: ClassVar[str] = "payment"

    tenant: str
    amount_minor: int
    currency: str
    payment_method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryPayment(StepCommand):
    """Ask the provider what became of a command whose answer is late.

    The answer is that command's own, or ``PaymentNotFound``. An authorization, a capture and a refund can be
    asked about.
    """

    service: ClassVar[str] = "payment"

    asked_command_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidPayment(StepCommand):
    """Give up whatever this workflow holds at the provider, and refuse to hold more.

    What was captured is held no more: the answer is ``PaymentVoidRefused`` then.
    """

    service: ClassVar[str] = "payment"


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturePayment(StepCommand):
    """Take the amount, or a part of it, out of what this workflow holds. A hold is captured once."""

    service: ClassVar[str] = "payment"

    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundPayment(StepCommand):
    """Give back the amount, or a part of it, out of what was captured and not refunded yet."""

    service: ClassVar[str] = "payment"

    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveStock(StepCommand):
    """Hold every line, or none, until it is released."""

    service: ClassVar[str] = "inventory"

    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseStock(StepCommand):
    """Give back whatever this workflow holds, and refuse to hold more."""

    service: ClassVar[str] = "inventory"


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldStock(StepCommand):
    """Hold every line, or none, until it is confirmed or released, or lapses."""

    service: ClassVar[str] = "inventory"

    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmStock(StepCommand):
    """Keep what this workflow holds until it is released."""

    service: ClassVar[str] = "inventory"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveStock(Command):
    """Goods arrived: add them to what is available. Belongs to no workflow."""

    service: ClassVar[str] = "inventory"

    sku: str
    quantity: int
    reference: str
    issued_at: datetime


# --- the journal ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """The event that a decision answers, and where it stood in Kafka.

    ``actor`` is the person who asked, ``reason`` why in their words, ``verb`` what they asked for.
    ``traceparent`` is the W3C trace context that the event came with.
    """

    event_id: str
    type: str
    stream: str
    sequence: int
    occurred_at: datetime
    topic: str
    partition: int
    offset: int
    actor: str | None = None
    reason: str | None = None
    verb: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCommand:
    """A command as it leaves: ``body`` is the encoded message."""

    command_id: str
    type: str
    service: str
    step: str
    attempt: int
    deadline_at: datetime | None
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """A step as people see it.

    ``held``: its command waits until the run is resumed. ``passed_over``: the run is undone from an earlier
    step on, and this one is left as it is.
    """

    name: str
    status: str
    attempt: int
    command_id: str | None
    deadline_at: datetime | None
    finished_at: datetime | None
    reason: str | None
    late: int = 0
    expires_at: datetime | None = None
    held: bool = False
    skipped_by: str | None = None
    result: str | None = None
    passed_over: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionMade:
    """One transition of one run: what happened, what was decided, which commands left.

    ``version`` is dense per workflow, from 1. The record holds the whole view of the run after the
    transition, so that a reader needs no other record. ``ignored`` gives the reason when the event
    changed nothing. ``standing`` names the steps of a terminated run whose effect stands or may stand.
    """

    stream: ClassVar[str] = "decisions"

    decision_id: str
    workflow_id: str
    version: int
    decided_at: datetime
    cause: Cause
    step: str | None
    status_before: str | None
    status: str
    reason: str | None
    ignored: str | None
    commands: tuple[IssuedCommand, ...]
    intent_id: str
    tenant: str
    customer_ref: str
    correlation_id: str
    definition: str
    lines: tuple[Line, ...]
    amount_minor: int
    currency: str
    started_at: datetime
    steps: tuple[StepView, ...]
    standing: tuple[str, ...] = ()
    finished_at: datetime | None = None


EVENTS: tuple[type[Event], ...] = (
    IntentCreated,
    CancelRequested,
    PaymentAuthorized,
    PaymentDeclined,
    PaymentNotFound,
    PaymentVoided,
    PaymentVoidRefused,
    PaymentCaptured,
    PaymentCaptureRefused,
    PaymentRefunded,
    PaymentRefundRefused,
    StockReserved,
    StockRejected,
    StockReleased,
    DeadlinePassed,
    HoldExpired,
    RetentionPassed,
    StockConfirmed,
    StockNotConfirmed,
    StockExpired,
    OperatorRequested,
)
COMMANDS: tuple[type[Command], ...] = (
    AuthorizePayment,
    QueryPayment,
    VoidPayment,
    CapturePayment,
    RefundPayment,
    ReserveStock,
    ReleaseStock,
    ReceiveStock,
    HoldStock,
    ConfirmStock,
)
EVENT_STREAMS: tuple[str, ...] = ("intents", "payments", "inventory", "timers")
SERVICES: tuple[str, ...] = ("payment", "inventory")
