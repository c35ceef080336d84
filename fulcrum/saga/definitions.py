"""The workflows: each a table of steps. Adding a step is adding a row.

A run pins its definition when it starts and finishes under it, so a published row never changes:
another behaviour is another version.
"""

from __future__ import annotations

from datetime import timedelta

from fulcrum.saga.amounts import captured
from fulcrum.saga.messages import (
    AuthorizePayment,
    CancelDelivery,
    CancelPackJob,
    CapturePayment,
    ConfirmStock,
    ConsumeStock,
    CreateDelivery,
    DeliveryCancelled,
    DeliveryCreated,
    DeliveryDelayed,
    DeliveryNotCancelled,
    DeliveryRefused,
    HandOverParcel,
    HandOverRefused,
    HoldStock,
    OrderPacked,
    OrderShort,
    PackJobCancelled,
    PackOrder,
    PackRefused,
    ParcelDelivered,
    ParcelHandedOver,
    ParcelNotDelivered,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentCaptureRefused,
    PaymentDeclined,
    PaymentNotFound,
    PaymentReversalRefused,
    PaymentReversed,
    PaymentVoided,
    QueryPayment,
    ReleaseStock,
    ReserveStock,
    RestockStock,
    ReversePayment,
    StockConfirmed,
    StockConsumed,
    StockExpired,
    StockNotConfirmed,
    StockNotConsumed,
    StockRejected,
    StockReleased,
    StockReserved,
    StockRestocked,
    TrackDelivery,
    VoidPayment,
)
from fulcrum.saga.results import yielded
from fulcrum.saga.run import WorkflowRun
from fulcrum.saga.step import LONGEST_WAIT, Definition, Fill, Kind, Step

__all__ = ["DEFAULT_DEFINITION", "DEFINITIONS", "LONGEST_WAIT", "Definition", "Kind", "Step"]

AUTHORIZE_PAYMENT = Step(
    "authorize_payment",
    do=AuthorizePayment,
    done=PaymentAuthorized,
    refused=PaymentDeclined,
    undo=VoidPayment,
    undone=PaymentVoided,
    deadline=timedelta(seconds=60),
    query=QueryPayment,
    not_found=PaymentNotFound,
    milestone="paid",
)
RESERVE_STOCK = Step(
    "reserve_stock",
    do=ReserveStock,
    done=StockReserved,
    refused=StockRejected,
    undo=ReleaseStock,
    undone=StockReleased,
    deadline=timedelta(seconds=30),
    milestone="reserved",
)

HOLD_STOCK = Step(
    "reserve_stock",
    do=HoldStock,
    done=StockReserved,
    refused=StockRejected,
    undo=ReleaseStock,
    undone=StockReleased,
    deadline=timedelta(seconds=30),
    lapsed=StockExpired,
)
CONFIRM_STOCK = Step(
    "confirm_stock",
    do=ConfirmStock,
    done=StockConfirmed,
    refused=StockNotConfirmed,
    undo=None,
    undone=None,
    deadline=timedelta(seconds=30),
    keeps="reserve_stock",
    milestone="reserved",
)


# --- fulfillment.v2: the money is taken once the goods lie packed ----------------------------------


def _captured(run: WorkflowRun) -> int:
    """What is taken: the price of what was packed."""
    packed = yielded(run, "pack_order", "lines")
    return captured(run.intent.amount_minor, run.intent.lines, run.intent.terms, packed)


def _undamaged(run: WorkflowRun) -> bool:
    """Whether what left is back: it returned in good order, or the courier never fetched it."""
    told = yielded(run, "deliver", "undamaged")
    if told is not None:
        return bool(told)
    return bool(yielded(run, "create_delivery", "state") == "cancelled")


PACKED = Fill("pack_order", "lines")

HOLD_PAYMENT = Step(
    "authorize_payment",
    do=AuthorizePayment,
    done=PaymentAuthorized,
    refused=PaymentDeclined,
    undo=ReversePayment,
    undone=PaymentReversed,
    undo_refused=PaymentReversalRefused,
    deadline=timedelta(seconds=60),
    query=QueryPayment,
    not_found=PaymentNotFound,
    renewed=True,
    milestone="paid",
)
PACK_ORDER = Step(
    "pack_order",
    do=PackOrder,
    done=OrderPacked,
    refused=PackRefused,
    undo=CancelPackJob,
    undone=PackJobCancelled,
    deadline=timedelta(minutes=30),
    progress=OrderShort,
    yields=("lines", "parcels", "pack_job_id", "waits_until"),
    milestone="packed",
)
CAPTURE_PAYMENT = Step(
    "capture_payment",
    do=CapturePayment,
    done=PaymentCaptured,
    refused=PaymentCaptureRefused,
    undo=None,
    undone=None,
    deadline=timedelta(seconds=60),
    kind=Kind.PIVOT,
    query=QueryPayment,
    not_found=PaymentNotFound,
    keeps="authorize_payment",
    fills={"amount_minor": Fill("pack_order", "lines", of=_captured)},
)
CREATE_DELIVERY = Step(
    "create_delivery",
    do=CreateDelivery,
    done=DeliveryCreated,
    refused=DeliveryRefused,
    undo=CancelDelivery,
    undone=DeliveryCancelled,
    undo_refused=DeliveryNotCancelled,
    deadline=timedelta(seconds=60),
    kind=Kind.RETRIABLE,
    intercepts=True,
    yields=("delivery_id", "tracking_number", "state"),
    fills={"lines": PACKED, "parcels": Fill("pack_order", "parcels")},
)
HAND_OVER = Step(
    "hand_over",
    do=HandOverParcel,
    done=ParcelHandedOver,
    refused=HandOverRefused,
    undo=None,
    undone=None,
    deadline=timedelta(minutes=10),
    kind=Kind.RETRIABLE,
    keeps="pack_order",
    fills={"tracking_number": Fill("create_delivery", "tracking_number")},
    milestone="shipped",
)
CONSUME_STOCK = Step(
    "consume_stock",
    do=ConsumeStock,
    done=StockConsumed,
    refused=StockNotConsumed,
    undo=RestockStock,
    undone=StockRestocked,
    deadline=timedelta(seconds=30),
    kind=Kind.RETRIABLE,
    fills={"lines": PACKED, "undamaged": Fill("deliver", "undamaged", of=_undamaged, needed=False)},
)
DELIVER = Step(
    "deliver",
    do=TrackDelivery,
    done=ParcelDelivered,
    refused=ParcelNotDelivered,
    undo=None,
    undone=None,
    deadline=timedelta(days=1),
    kind=Kind.RETRIABLE,
    keeps="create_delivery",
    progress=DeliveryDelayed,
    yields=("reason", "undamaged"),
    milestone="delivered",
)

DEFINITIONS: dict[str, Definition] = {
    definition.name: definition
    for definition in (
        Definition("fulfillment.v1", (AUTHORIZE_PAYMENT, RESERVE_STOCK)),
        Definition(
            "fulfillment.v2",
            (
                HOLD_PAYMENT,
                RESERVE_STOCK,
                PACK_ORDER,
                CAPTURE_PAYMENT,
                CREATE_DELIVERY,
                HAND_OVER,
                CONSUME_STOCK,
                DELIVER,
            ),
        ),
        Definition("reserve_first.v1", (RESERVE_STOCK, AUTHORIZE_PAYMENT)),
        Definition("reserve_first.v2", (HOLD_STOCK, AUTHORIZE_PAYMENT, CONFIRM_STOCK)),
    )
}
DEFAULT_DEFINITION = "fulfillment.v1"
