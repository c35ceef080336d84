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
    CreateDelivery,
    HandOverParcel,
    HoldStock,
    PackOrder,
    QueryPayment,
    ReceiveStock,
    RefundPayment,
    ReleaseStock,
    ReserveStock,
    TrackDelivery,
    VoidPayment,
)
from fulcrum.workers import courier, payment, payment_capture, warehouse
from fulcrum.workers.stockroom import Stockroom

#: (payment, command, learned, now) -> (payment, move)
PAYMENT_HANDLERS: Mapping[type[Command], Callable[..., Any]] = {
    AuthorizePayment: payment.authorize_payment,
    CapturePayment: payment_capture.capture_payment,
    QueryPayment: payment.query_payment,
    RefundPayment: payment_capture.refund_payment,
    VoidPayment: payment.void_payment,
}
#: (stockroom, command) -> answer, or None when nobody waits for one
INVENTORY_HANDLERS: Mapping[type[Command], Callable[..., Any]] = {
    ReserveStock: Stockroom.reserve,
    ReleaseStock: Stockroom.release,
    ReceiveStock: Stockroom.receive,
    HoldStock: Stockroom.reserve,
    ConfirmStock: Stockroom.confirm,
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
#: Carried out on the branches of the other services.
_ELSEWHERE = frozenset({"ReversePayment", "ConsumeStock", "RestockStock"})


def _missing() -> list[str]:
    tables = {
        "payment": PAYMENT_HANDLERS,
        "inventory": INVENTORY_HANDLERS,
        "warehouse": WAREHOUSE_HANDLERS,
        "courier": COURIER_HANDLERS,
    }
    return [
        command.__name__
        for command in COMMANDS
        if command not in tables.get(command.service, frozenset()) and command.__name__ not in _ELSEWHERE
    ]


if _missing():
    raise ImportError(f"no worker handles {', '.join(_missing())}: add a line to fulcrum/workers/handlers.py")
