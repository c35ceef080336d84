"""Which workflows do the tests start, and how must each of them end?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

TENANT = "acme"


@dataclass(frozen=True)
class Story:
    """A kind of intent and its only right end.

    ``steps`` maps a step to its last status; ``commands`` are the types in the order in which they leave;
    ``effects`` is what the provider must have done, no more and no less.
    """

    name: str
    definition: str
    payment_method: str
    status: str
    steps: dict[str, str]
    commands: tuple[str, ...]
    effects: tuple[str, ...]
    in_stock: bool = True
    keeps_stock: bool = False
    ship_to: str = "address-1"

    def body(self, sku: str) -> dict[str, Any]:
        """The intent to post: one unit of ``sku``, which must be in stock exactly when ``in_stock``."""
        return {
            "tenant": TENANT,
            "customer_ref": f"customer-{self.name}",
            "lines": [{"sku": sku, "quantity": 1}],
            "amount_minor": 4200,
            "currency": "EUR",
            "payment_method": self.payment_method,
            "ship_to": self.ship_to,
            "definition": self.definition,
        }


def completes(payment_method: str = "pay_ok") -> Story:
    """Authorise, reserve, done."""
    return Story(
        name="completes",
        definition="fulfillment.v1",
        payment_method=payment_method,
        status="completed",
        steps={"authorize_payment": "done", "reserve_stock": "done"},
        commands=("AuthorizePayment", "ReserveStock"),
        effects=("authorize",),
        keeps_stock=True,
    )


COMPLETES = completes()
DECLINED = Story(
    name="declined",
    definition="fulfillment.v1",
    payment_method="pay_declined",
    status="cancelled",
    steps={"authorize_payment": "refused", "reserve_stock": "pending"},
    commands=("AuthorizePayment",),
    effects=("decline",),
)
VOIDED = Story(
    name="voided",
    definition="fulfillment.v1",
    payment_method="pay_ok",
    status="cancelled",
    steps={"authorize_payment": "undone", "reserve_stock": "refused"},
    commands=("AuthorizePayment", "ReserveStock", "VoidPayment"),
    effects=("authorize", "void"),
    in_stock=False,
)
RELEASED = Story(
    name="released",
    definition="reserve_first.v1",
    payment_method="pay_declined",
    status="cancelled",
    steps={"reserve_stock": "undone", "authorize_payment": "refused"},
    commands=("ReserveStock", "AuthorizePayment", "ReleaseStock"),
    effects=("decline",),
)
RESERVED_FIRST = Story(
    name="reserved-first",
    definition="reserve_first.v1",
    payment_method="pay_ok",
    status="completed",
    steps={"reserve_stock": "done", "authorize_payment": "done"},
    commands=("ReserveStock", "AuthorizePayment"),
    effects=("authorize",),
    keeps_stock=True,
)
CONFIRMED = Story(
    name="confirmed",
    definition="reserve_first.v2",
    payment_method="pay_ok",
    status="completed",
    steps={"reserve_stock": "done", "authorize_payment": "done", "confirm_stock": "done"},
    commands=("HoldStock", "AuthorizePayment", "ConfirmStock"),
    effects=("authorize",),
    keeps_stock=True,
)

_SHIPPING = (
    "AuthorizePayment",
    "ReserveStock",
    "PackOrder",
    "CapturePayment",
    "CreateDelivery",
    "HandOverParcel",
    "ConsumeStock",
    "TrackDelivery",
)
_BACK = ("RestockStock", "CancelDelivery", "CancelPackJob", "ReleaseStock", "ReversePayment")
_STEPS = (
    "authorize_payment",
    "reserve_stock",
    "pack_order",
    "capture_payment",
    "create_delivery",
    "hand_over",
    "consume_stock",
)
DELIVERED = Story(
    name="delivered",
    definition="fulfillment.v2",
    payment_method="pay_ok",
    status="completed",
    steps=dict.fromkeys((*_STEPS, "deliver"), "done"),
    commands=_SHIPPING,
    effects=("authorize", "capture"),
    keeps_stock=True,
)
LOST = Story(
    name="lost",
    definition="fulfillment.v2",
    payment_method="pay_ok",
    status="cancelled",
    steps={**dict.fromkeys(_STEPS, "undone"), "deliver": "refused"},
    commands=(*_SHIPPING, *_BACK),
    effects=("authorize", "capture", "refund"),
    keeps_stock=True,  # nobody has it, and it is not for sale any more
    ship_to="lost-1",
)
RETURNED = replace(LOST, name="returned", keeps_stock=False, ship_to="returned-1")
SILENT = replace(DELIVERED, name="silent", ship_to="silent-1")
LAPSED = replace(
    DELIVERED,
    name="lapsed",
    payment_method="pay_expires",
    effects=("authorize", "refuse_capture", "reauthorize", "capture"),
)

STORIES = (
    COMPLETES,
    DECLINED,
    VOIDED,
    RELEASED,
    RESERVED_FIRST,
    CONFIRMED,
    DELIVERED,
    LOST,
    RETURNED,
    SILENT,
    LAPSED,
)
#: Every end that a workflow can have, the usual one more often.
MIX = (COMPLETES, VOIDED, COMPLETES, RELEASED, DECLINED, COMPLETES, VOIDED, RESERVED_FIRST)
