"""Commands as a queue delivers them, and what a worker left in its outbox, without a broker."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import select

from fulcrum.commands.delivery import Delivery
from fulcrum.saga import identity
from fulcrum.saga.messages import (
    Answer,
    AuthorizePayment,
    CancelDelivery,
    CapturePayment,
    Command,
    ConfirmStock,
    ConsumeStock,
    CreateDelivery,
    HoldStock,
    Line,
    QueryPayment,
    ReceiveStock,
    RefundPayment,
    ReleaseStock,
    ReserveStock,
    RestockStock,
    ReversePayment,
    TrackDelivery,
    VoidPayment,
)
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.store.relations import ServiceRelations
from fulcrum.wire.codec import offline_codec
from fulcrum.wire.headers import Envelope

CODEC = offline_codec()
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CORRELATION = "order 4711"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def settings_for(env: Mapping[str, str], **changes: Any) -> Settings:
    """Settings for ``env``."""
    fields = {name.removeprefix("FULCRUM_").lower(): value for name, value in env.items()}
    known = {name: value for name, value in fields.items() if name in Settings.model_fields}
    return Settings.model_validate({**known, **changes})


# --- commands -------------------------------------------------------------------------------------


def new_workflow() -> str:
    """A workflow that no other test knows."""
    return str(uuid4())


def _step(workflow: str, step: str, command: str, attempt: int) -> dict[str, Any]:
    return {
        "command_id": identity.command_id(workflow, step, command, attempt),
        "workflow_id": workflow,
        "step": step,
        "attempt": attempt,
        "issued_at": NOON,
    }


def authorize(
    workflow: str, token: str = "pay_ok", attempt: int = 1, amount_minor: int = 4200
) -> AuthorizePayment:
    """Hold an amount."""
    return AuthorizePayment(
        **_step(workflow, "authorize_payment", "AuthorizePayment", attempt),
        tenant="acme",
        amount_minor=amount_minor,
        currency="EUR",
        payment_method=token,
    )


def query(workflow: str, attempt: int = 1, number: int = 1) -> QueryPayment:
    """Ask what became of an authorization."""
    asked = authorize(workflow, attempt=attempt).command_id
    common = _step(workflow, "authorize_payment", "QueryPayment", attempt)
    return QueryPayment(**{**common, "command_id": identity.query_id(asked, number)}, asked_command_id=asked)


def void(workflow: str, attempt: int = 1) -> VoidPayment:
    """Give the amount up."""
    return VoidPayment(**_step(workflow, "authorize_payment", "VoidPayment", attempt))


def capture(workflow: str, amount_minor: int = 4200, attempt: int = 1) -> CapturePayment:
    """Take an amount."""
    return CapturePayment(
        **_step(workflow, "capture_payment", "CapturePayment", attempt),
        amount_minor=amount_minor,
        currency="EUR",
    )


def refund(workflow: str, amount_minor: int = 4200, attempt: int = 1) -> RefundPayment:
    """Give an amount back."""
    return RefundPayment(
        **_step(workflow, "refund_payment", "RefundPayment", attempt),
        amount_minor=amount_minor,
        currency="EUR",
    )


def reverse(workflow: str, attempt: int = 1) -> ReversePayment:
    """Give the amount up, or back."""
    return ReversePayment(**_step(workflow, "authorize_payment", "ReversePayment", attempt))


def ask_about(command: AuthorizePayment | CapturePayment | RefundPayment, number: int = 1) -> QueryPayment:
    """Ask what became of a command."""
    common = _step(command.workflow_id, command.step, "QueryPayment", command.attempt)
    asked = command.command_id
    return QueryPayment(**{**common, "command_id": identity.query_id(asked, number)}, asked_command_id=asked)


def reserve(workflow: str, *lines: tuple[str, int], attempt: int = 1) -> ReserveStock:
    """Hold these quantities."""
    return ReserveStock(
        **_step(workflow, "reserve_stock", "ReserveStock", attempt),
        lines=tuple(Line(sku, quantity) for sku, quantity in lines),
    )


def release(workflow: str, attempt: int = 1) -> ReleaseStock:
    """Give back what is held."""
    return ReleaseStock(**_step(workflow, "reserve_stock", "ReleaseStock", attempt))


def hold(workflow: str, *lines: tuple[str, int], attempt: int = 1) -> HoldStock:
    """Hold these quantities until they are confirmed, or lapse."""
    return HoldStock(
        **_step(workflow, "reserve_stock", "HoldStock", attempt),
        lines=tuple(Line(sku, quantity) for sku, quantity in lines),
    )


def confirm(workflow: str, attempt: int = 1) -> ConfirmStock:
    """Keep what is held."""
    return ConfirmStock(**_step(workflow, "confirm_stock", "ConfirmStock", attempt))


def consume(workflow: str, *lines: tuple[str, int], attempt: int = 1) -> ConsumeStock:
    """Let these quantities leave."""
    return ConsumeStock(
        **_step(workflow, "consume_stock", "ConsumeStock", attempt),
        lines=tuple(Line(sku, quantity) for sku, quantity in lines),
    )


def restock(workflow: str, undamaged: bool = True, attempt: int = 1) -> RestockStock:
    """Take back what left, or write it off."""
    return RestockStock(**_step(workflow, "consume_stock", "RestockStock", attempt), undamaged=undamaged)


def ship(workflow: str, ship_to: str = "Main Street 1", attempt: int = 1) -> CreateDelivery:
    """Have a parcel brought there."""
    return CreateDelivery(
        **_step(workflow, "create_delivery", "CreateDelivery", attempt),
        tenant="acme",
        ship_to=ship_to,
        lines=(Line("widget", 1),),
        parcels=1,
    )


def intercept(workflow: str, attempt: int = 1) -> CancelDelivery:
    """Stop the parcel."""
    return CancelDelivery(**_step(workflow, "create_delivery", "CancelDelivery", attempt))


def track(workflow: str, attempt: int = 1) -> TrackDelivery:
    """Tell how the parcel ends."""
    return TrackDelivery(**_step(workflow, "deliver", "TrackDelivery", attempt))


def receive(sku: str, quantity: int) -> ReceiveStock:
    """Goods arrive."""
    key = str(uuid4())
    return ReceiveStock(
        command_id=identity.receipt_id(sku, key), sku=sku, quantity=quantity, reference=key, issued_at=NOON
    )


def delivery(command: Command) -> Delivery:
    """``command`` as its queue hands it out."""
    envelope = Envelope(
        message_id=command.command_id,
        type=type(command).__name__,
        source="orchestrator",
        workflow_id=getattr(command, "workflow_id", None),
        time=NOON,
        correlation_id=CORRELATION,
        causation_id=None,
        traceparent=TRACEPARENT,
    )
    return Delivery(command, envelope.to_amqp(), command.command_id, 1, CODEC.encode(command))


# --- answers --------------------------------------------------------------------------------------


async def outbox_rows(db: Database, relations: ServiceRelations, workflow: str) -> list[dict[str, Any]]:
    """What was emitted for ``workflow``, in order. No relay runs, so nothing is taken away."""
    outbox = relations.outbox
    statement = select(outbox).where(outbox.c.key == workflow.encode()).order_by(outbox.c.id)
    return await db.all(statement)


async def emitted(db: Database, relations: ServiceRelations, workflow: str) -> list[Answer]:
    """The events that were emitted for ``workflow``, in order, copies included."""
    events = [CODEC.decode(row["value"]) for row in await outbox_rows(db, relations, workflow)]
    assert all(isinstance(event, Answer) for event in events)
    return events  # type: ignore[return-value]
