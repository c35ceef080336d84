"""The stories that the demonstration tells: what is posted, and how each must end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Story:
    """One intent and its expected end.

    ``steps`` maps each step to its last status; ``effects`` is what the payment provider must have done.
    ``stocked`` says whether the SKU is received before; ``held`` is how much of it is reserved at the end.
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
    posts: int = 1

    def body(self, sku: str) -> dict[str, Any]:
        """The intent: two units of ``sku``."""
        return {
            "tenant": "demo",
            "customer_ref": f"customer-{self.name}",
            "lines": [{"sku": sku, "quantity": 2}],
            "amount_minor": 4990,
            "currency": "EUR",
            "payment_method": self.payment_method,
            "ship_to": "address-1",
            "definition": self.definition,
        }


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
)
