"""An intent as a client posts it, and as the event that says it was accepted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fulcrum.saga import identity
from fulcrum.saga.messages import IntentCreated, Line

INTENT_ID = identity.intent_id("acme", "order-1")
WORKFLOW = identity.workflow_id(INTENT_ID)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def intent_body(**changes: Any) -> dict[str, Any]:
    """What ``POST /v1/intents`` accepts."""
    return {
        "tenant": "acme",
        "customer_ref": "customer-7",
        "lines": [{"sku": "tea-01", "quantity": 2}],
        "amount_minor": 1250,
        "currency": "EUR",
        "payment_method": "pay_ok",
        "ship_to": "address-1",
        **changes,
    }


def intent_created(**changes: Any) -> IntentCreated:
    """The event of an accepted intent for two units of one SKU."""
    said = intent_body(lines=(Line("tea-01", 2),))
    event = {
        "event_id": identity.event_id(INTENT_ID, "IntentCreated"),
        "workflow_id": WORKFLOW,
        "sequence": 1,
        "occurred_at": NOON,
        "intent_id": INTENT_ID,
        "definition": "fulfillment.v1",
        "correlation_id": "order-1",
    }
    return IntentCreated(**{**said, **event, **changes})
