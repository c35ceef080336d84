"""The stories that the demonstration tells: what is posted, and how each must end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Story:
    """One intent and its expected end.

    ``steps`` maps each step to its last status; ``effects`` is what the payment provider must have done, with
    the cents that it took or gave back. ``stocked`` says whether the SKU is received before; ``held`` is how
    much of it is reserved at the end, and ``left`` how much is consumed. ``sku_prefix`` begins the SKU, and
    tells the simulated warehouse what to do; ``ship_to`` tells the courier.
    """

    name: str
    title: str
    payment_method: str
    status: str
    steps: Mapping[str, str]
    effects: tuple[str, ...]
    definition: str = "fulfillment.v1"
    stocked: bool = True
    held: int = 0
    left: int = 0
    posts: int = 1
    sku_prefix: str = ""
    ship_to: str = "address-1"

    def body(self, sku: str) -> dict[str, Any]:
        """The intent: two units of ``sku``, at 20.00 each where the price of one matters."""
        priced = {"unit_price_minor": 2000, "on_short": "cancel_line"} if self.sku_prefix else {}
        return {
            "tenant": "demo",
            "customer_ref": f"customer-{self.name}",
            "lines": [{"sku": sku, "quantity": 2, **priced}],
            "amount_minor": 4990,
            "currency": "EUR",
            "payment_method": self.payment_method,
            "ship_to": self.ship_to,
            "definition": self.definition,
        }


_WHOLE = dict.fromkeys(
    (
        "authorize_payment",
        "reserve_stock",
        "pack_order",
        "capture_payment",
        "create_delivery",
        "hand_over",
        "consume_stock",
        "deliver",
    ),
    "done",
)

STORIES: tuple[Story, ...] = (
    Story(
        "completes",
        "an order that completes",
        "pay_ok",
        "completed",
        {"authorize_payment": "done", "reserve_stock": "done"},
        ("authorize",),
        held=2,
    ),
    Story(
        "declined",
        "a card that is declined",
        "pay_declined",
        "cancelled",
        {"authorize_payment": "refused", "reserve_stock": "pending"},
        ("decline",),
    ),
    Story(
        "no-stock",
        "stock that is missing: the payment is voided",
        "pay_ok",
        "cancelled",
        {"authorize_payment": "undone", "reserve_stock": "refused"},
        ("authorize", "void"),
        stocked=False,
    ),
    Story(
        "give-back",
        "stock first, then a declined card: the stock is released",
        "pay_declined",
        "cancelled",
        {"reserve_stock": "undone", "authorize_payment": "refused"},
        ("decline",),
        definition="reserve_first.v1",
    ),
    Story(
        "twice",
        "one order posted twice with one Idempotency-Key",
        "pay_ok",
        "completed",
        {"authorize_payment": "done", "reserve_stock": "done"},
        ("authorize",),
        held=2,
        posts=2,
    ),
    Story(
        "delivered",
        "packed, paid, shipped and delivered",
        "pay_ok",
        "completed",
        _WHOLE,
        ("authorize", "capture 4990"),
        definition="fulfillment.v2",
        left=2,
    ),
    Story(
        "short",
        "one unit of two is not to be found: the rest is delivered, and only that is paid",
        "pay_ok",
        "completed",
        _WHOLE,
        ("authorize", "capture 2990"),
        definition="fulfillment.v2",
        left=1,
        sku_prefix="short1-",
    ),
    Story(
        "lost",
        "the parcel is lost on its way: the money is given back",
        "pay_ok",
        "cancelled",
        {
            "authorize_payment": "undone",
            "reserve_stock": "undone",
            "pack_order": "undone",
            "capture_payment": "undone",
            "create_delivery": "undone",
            "hand_over": "undone",
            "consume_stock": "undone",
            "deliver": "refused",
        },
        ("authorize", "capture 4990", "refund 4990"),
        definition="fulfillment.v2",
        left=2,
        ship_to="lost-address",
    ),
)
