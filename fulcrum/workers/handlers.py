"""Which function carries out which command. Complete, or the import fails: one handler per command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fulcrum.saga.messages import (
    COMMANDS,
    AuthorizePayment,
    CancelDelivery,
    CapturePayment,
    Command,
    ConfirmStock,
    CreateDelivery,
    HoldStock,
    QueryPayment,
    ReceiveStock,
    RefundPayment,
    ReleaseStock,
    ReserveStock,
    TrackDelivery,
    VoidPayment,
)
from fulcrum.workers import courier, payment, payment_capture
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

#: (shipment, command, learned, now) -> (shipment, move)
COURIER_HANDLERS: Mapping[type[Command], Callable[..., Any]] = {
    CreateDelivery: courier.create_delivery,
    CancelDelivery: courier.cancel_delivery,
    TrackDelivery: courier.track_delivery,
}


def _missing() -> list[str]:
    tables = {"payment": PAYMENT_HANDLERS, "inventory": INVENTORY_HANDLERS, "courier": COURIER_HANDLERS}
    return [
        command.__name__ for command in COMMANDS if command not in tables.get(command.service, frozenset())
    ]


if _missing():
    raise ImportError(f"no worker handles {', '.join(_missing())}: add a line to fulcrum/workers/handlers.py")
