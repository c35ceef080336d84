"""What is a courier command answered with, and under which number? Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from fulcrum.saga import identity
from fulcrum.saga.messages import (
    Answer,
    DeliveryCancelled,
    DeliveryCreated,
    DeliveryDelayed,
    DeliveryNotCancelled,
    DeliveryRefused,
    ParcelDelivered,
    ParcelNotDelivered,
)
from fulcrum.workers.courier_moves import Reply, Shipment, State


def told(shipment: Shipment, event: Answer) -> tuple[Shipment, Reply]:
    """The shipment once ``event`` is told, and the move that tells it."""
    return replace(shipment, sequence=event.sequence), Reply(event)


def created(shipment: Shipment, key: str, now: datetime) -> DeliveryCreated:
    """The courier has it in its books."""
    assert shipment.shipment_id is not None
    assert shipment.tracking_number is not None
    assert shipment.label_url is not None
    return DeliveryCreated(
        **_common(shipment, key, DeliveryCreated.__name__, now),
        delivery_id=shipment.shipment_id,
        tracking_number=shipment.tracking_number,
        label_url=shipment.label_url,
    )


def refused(shipment: Shipment, key: str, reason: str, now: datetime) -> DeliveryRefused:
    """Nothing is carried under ``key``."""
    return DeliveryRefused(**_common(shipment, key, DeliveryRefused.__name__, now), reason=reason)


def cancelled(shipment: Shipment, key: str, state: str, now: datetime) -> DeliveryCancelled:
    """Nothing is on its way to the customer."""
    common = _common(shipment, key, DeliveryCancelled.__name__, now)
    return DeliveryCancelled(**common, delivery_id=shipment.shipment_id, state=state)


def not_cancelled(shipment: Shipment, key: str, reason: str, now: datetime) -> DeliveryNotCancelled:
    """It is on its way, or has arrived."""
    return DeliveryNotCancelled(**_common(shipment, key, DeliveryNotCancelled.__name__, now), reason=reason)


def delayed(shipment: Shipment, key: str, reason: str, now: datetime) -> DeliveryDelayed:
    """The courier reports an exception. One event per command and update: its number makes the id."""
    named = f"{DeliveryDelayed.__name__}/{shipment.courier_sequence}"
    return DeliveryDelayed(**_common(shipment, key, named, now), reason=reason)


def ended(shipment: Shipment, key: str, now: datetime) -> ParcelDelivered | ParcelNotDelivered:
    """How the shipment ended; what was cancelled, or never carried, is as good as returned."""
    if shipment.state == State.DELIVERED:
        assert shipment.tracking_number is not None
        return ParcelDelivered(
            **_common(shipment, key, ParcelDelivered.__name__, now),
            tracking_number=shipment.tracking_number,
            delivered_at=shipment.ended_at or now,
        )
    lost = shipment.state == State.LOST
    # Who does not say how it came back is not believed to say that it came back well.
    whole = bool(shipment.undamaged) if shipment.state == State.RETURNED else not lost
    return ParcelNotDelivered(
        **_common(shipment, key, ParcelNotDelivered.__name__, now),
        reason="lost" if lost else "returned",
        undamaged=whole,
    )


def _common(shipment: Shipment, command_id: str, named: str, now: datetime) -> dict[str, Any]:
    return {
        "event_id": identity.event_id(command_id, named),
        "workflow_id": shipment.workflow_id,
        "sequence": shipment.sequence + 1,
        "occurred_at": now,
        "command_id": command_id,
    }
