"""Which function carries out which command. Complete, or the import fails: one handler per command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fulcrum.saga.messages import (
    COMMANDS,
    AuthorizePayment,
    CancelDelivery,
    CancelPackJob,
    CapturePayment,
    Command,
    ConfirmStock,
    ConsumeStock,
    CreateDelivery,
    HandOverParcel,
    HoldStock,
    PackOrder,
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
from fulcrum.workers import courier, payment, payment_capture, payment_reversal, warehouse
from fulcrum.workers.stockroom import Stockroom

#: (payment, command, learned, now) -> (payment, move)
PAYMENT_HANDLERS: Mapping[type[Command], Callable[..., Any]] = {
    AuthorizePayment: payment.authorize_payment,
    CapturePayment: payment_capture.capture_payment,
    QueryPayment: payment.query_payment,
    RefundPayment: payment_capture.refund_payment,
    ReversePayment: payment_reversal.reverse_payment,
    VoidPayment: payment.void_payment,
}
#: (stockroom, command) -> answer, or None when nobody waits for one
INVENTORY_HANDLERS: Mapping[type[Command], Callable[..., Any]] = {
    ReserveStock: Stockroom.reserve,
    ReleaseStock: Stockroom.release,
    ReceiveStock: Stockroom.receive,
    HoldStock: Stockroom.reserve,
    ConfirmStock: Stockroom.confirm,
    ConsumeStock: Stockroom.consume,
    RestockStock: Stockroom.restock,
}
#: (job, command, now) -> (job, answer), the answer None when it comes later
WAREHOUSE_HANDLERS: Mapping[type[Command], Callable[..., Any]] = {
    PackOrder: warehouse.pack_order,
    CancelPackJob: warehouse.cancel_pack_job,
    HandOverParcel: warehouse.hand_over_parcel,
}
#: (shipment, command, learned, now) -> (shipment, move)
COURIER_HANDLERS: Mapping[type[Command], Callable[..., Any]] = {
    CreateDelivery: courier.create_delivery,
    CancelDelivery: courier.cancel_delivery,
    TrackDelivery: courier.track_delivery,
}


def _missing() -> list[str]:
    tables = {
        "payment": PAYMENT_HANDLERS,
        "inventory": INVENTORY_HANDLERS,
        "warehouse": WAREHOUSE_HANDLERS,
        "courier": COURIER_HANDLERS,
    }
    return [command.__name__ for command in COMMANDS if command not in tables[command.service]]


if _missing():
    raise ImportError(f"no worker handles {', '.join(_missing())}: add a line to fulcrum/workers/handlers.py")
