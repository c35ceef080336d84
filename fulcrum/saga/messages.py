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


@dataclass(frozen=True, slots=True)
class LineTerms:
    """What was agreed on a line: the price of a unit, and what to do when it cannot be packed in full.

    ``on_short`` is ``cancel_line`` (go on without what is missing), ``wait`` (for a while, then
    ``cancel_order``) or ``cancel_order``.
    """

    unit_minor: int
    on_short: str


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
    """A client's intent was accepted.

    ``terms`` are those of each line in their order; without any, a line that comes short cancels the order.
    ``promised_at`` is when it was promised to arrive. ``holds`` are reasons for which the run waits from the
    start, see ``SignalReceived``.
    """

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
    terms: tuple[LineTerms, ...] = ()
    promised_at: datetime | None = None
    holds: tuple[str, ...] = ()


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
class SignalReceived(Event):
    """Somebody tells the workflow something: ``name`` is one of ``saga.signals``, ``payload`` a JSON object.

    ``event_id`` is the id of the request. It travels behind the intent on its stream.
    """

    stream: ClassVar[str] = "intents"

    name: str
    payload: str
    actor: str
    reason: str


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
    """The provider took ``amount_minor`` of what it held, and gave up the rest of the hold.

    ``reauthorized``: the first hold had lapsed, and ``authorization_id`` is one that was made in its place.
    """

    stream: ClassVar[str] = "payments"

    authorization_id: str
    amount_minor: int
    currency: str
    reauthorized: bool = False


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
class PaymentReversed(Answer):
    """Nothing of the customer's money is held or kept: the hold was given up, or what was taken given back.

    ``refunded_minor`` is what was given back in all, 0 when nothing had been taken. ``authorization_id`` is
    None when nothing was ever held.
    """

    stream: ClassVar[str] = "payments"

    authorization_id: str | None
    refunded_minor: int
    currency: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentReversalRefused(Answer):
    """By the provider's word the money cannot be given back this way; a person has to."""

    stream: ClassVar[str] = "payments"

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StockConsumed(Answer):
    """``lines`` have left the building and are held no more; ``released`` was held and not needed."""

    stream: ClassVar[str] = "inventory"

    lines: tuple[Line, ...]
    released: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StockNotConsumed(Answer):
    """Less was held than should leave: the hold is gone, or never was."""

    stream: ClassVar[str] = "inventory"

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StockRestocked(Answer):
    """``lines`` are available again after they had left; none when they are lost, damaged or never left."""

    stream: ClassVar[str] = "inventory"

    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderShort(Answer):
    """Some lines cannot be packed in full yet; the warehouse waits for goods until ``waits_until``."""

    stream: ClassVar[str] = "warehouse"

    pack_job_id: str
    short: tuple[ShortLine, ...]
    waits_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPacked(Answer):
    """``lines`` lie packed; where they are less than was ordered, the terms of the line allow it."""

    stream: ClassVar[str] = "warehouse"

    pack_job_id: str
    lines: tuple[Line, ...]
    parcels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PackRefused(Answer):
    """Nothing is packed: ``short`` names the lines that could not be picked in full."""

    stream: ClassVar[str] = "warehouse"

    reason: str
    short: tuple[ShortLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackJobCancelled(Answer):
    """The goods of the pack job are back on their shelves; ``pack_job_id`` is None when there was none.

    ``handed_over``: they had left the warehouse before, and come back with the parcel or not at all.
    """

    stream: ClassVar[str] = "warehouse"

    pack_job_id: str | None
    handed_over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ParcelHandedOver(Answer):
    """The courier has the parcels."""

    stream: ClassVar[str] = "warehouse"

    pack_job_id: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOverRefused(Answer):
    """There is nothing to hand over: the pack job was cancelled, or never ended."""

    stream: ClassVar[str] = "warehouse"

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryCreated(Answer):
    """The courier has the shipment in its books and gave it a number and a label."""

    stream: ClassVar[str] = "courier"

    delivery_id: str
    tracking_number: str
    label_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRefused(Answer):
    """The courier does not carry it."""

    stream: ClassVar[str] = "courier"

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryCancelled(Answer):
    """Nothing is on its way to the customer: it was not picked up, is stopped, or had ended before.

    ``delivery_id`` is None when there was none. ``state`` is the shipment's last one.
    """

    stream: ClassVar[str] = "courier"

    delivery_id: str | None
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryNotCancelled(Answer):
    """The parcel is on its way and cannot be stopped."""

    stream: ClassVar[str] = "courier"

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryDelayed(Answer):
    """The courier reports an exception; the parcel may still arrive."""

    stream: ClassVar[str] = "courier"

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParcelDelivered(Answer):
    """The customer has the parcel, by the courier's word."""

    stream: ClassVar[str] = "courier"

    tracking_number: str
    delivered_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ParcelNotDelivered(Answer):
    """The parcel will not arrive: ``reason`` is ``returned`` or ``lost``.

    ``undamaged``: it came back, and what is in it can be sold again.
    """

    stream: ClassVar[str] = "courier"

    reason: str
    undamaged: bool


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
class ReversePayment(StepCommand):
    """Give up what this workflow holds at the provider, or give back what was taken, and refuse to hold more.

    Which of the two is told by what the payment is found to be, not by who asks.
    """

    service: ClassVar[str] = "payment"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumeStock(StepCommand):
    """``lines`` leave the building: take them out of what this workflow holds, and release the rest of it."""

    service: ClassVar[str] = "inventory"

    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestockStock(StepCommand):
    """What this workflow consumed is not with the customer: where ``undamaged``, make it available again.

    It also refuses a consumption that comes later.
    """

    service: ClassVar[str] = "inventory"

    undamaged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PackOrder(StepCommand):
    """Pick and pack every line; ``terms`` say what to do about those that come short."""

    service: ClassVar[str] = "warehouse"

    lines: tuple[Line, ...]
    terms: tuple[LineTerms, ...]
    ship_to: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelPackJob(StepCommand):
    """Put back what was picked, and refuse to pack."""

    service: ClassVar[str] = "warehouse"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOverParcel(StepCommand):
    """Give what was packed to the courier, under this tracking number."""

    service: ClassVar[str] = "warehouse"

    tracking_number: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateDelivery(StepCommand):
    """Have the courier fetch so many parcels and bring them to the address."""

    service: ClassVar[str] = "courier"

    tenant: str
    ship_to: str
    lines: tuple[Line, ...]
    parcels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelDelivery(StepCommand):
    """Stop the shipment of this workflow, on its way too if the courier can, and refuse to make one."""

    service: ClassVar[str] = "courier"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackDelivery(StepCommand):
    """Tell how the shipment of this workflow ends, once it does."""

    service: ClassVar[str] = "courier"


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
    ``holds`` are the reasons for which a paused run waits, ``promised_at`` is the intent's. ``intercept``
    says why the shipment is to be stopped, until somebody has answered whether it is.
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
    holds: tuple[str, ...] = ()
    promised_at: datetime | None = None
    intercept: str | None = None


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
    SignalReceived,
    PaymentReversed,
    PaymentReversalRefused,
    StockConsumed,
    StockNotConsumed,
    StockRestocked,
    OrderShort,
    OrderPacked,
    PackRefused,
    PackJobCancelled,
    ParcelHandedOver,
    HandOverRefused,
    DeliveryCreated,
    DeliveryRefused,
    DeliveryCancelled,
    DeliveryNotCancelled,
    DeliveryDelayed,
    ParcelDelivered,
    ParcelNotDelivered,
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
    ReversePayment,
    ConsumeStock,
    RestockStock,
    PackOrder,
    CancelPackJob,
    HandOverParcel,
    CreateDelivery,
    CancelDelivery,
    TrackDelivery,
)
EVENT_STREAMS: tuple[str, ...] = ("intents", "payments", "inventory", "warehouse", "courier", "timers")
SERVICES: tuple[str, ...] = ("payment", "inventory", "warehouse", "courier")
