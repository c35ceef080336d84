"""Courier commands and stored shipments, and the courier as a book, for tests of what becomes of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from fulcrum.saga import identity
from fulcrum.saga.messages import CancelDelivery, CreateDelivery, Line, TrackDelivery
from fulcrum.workers.courier_book import Book as Courier
from fulcrum.workers.courier_book import Effect, NoSuchShipment, Request
from fulcrum.workers.courier_moves import (
    LIVE,
    Ask,
    Book,
    Booked,
    BookingRefused,
    Learned,
    LookUp,
    NotStopped,
    Shipment,
    State,
    Stop,
    Stopped,
    Unheard,
)
from fulcrum.workers.tracking import Status, Update

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = NOON + timedelta(seconds=30)
FLOW = "6f0c1d9e-1111-5222-8333-444455556666"
PARCEL = "shp_1"
Commands = CreateDelivery | CancelDelivery | TrackDelivery


def _step(step: str, command: str, attempt: int) -> dict[str, Any]:
    return {
        "command_id": identity.command_id(FLOW, step, command, attempt),
        "workflow_id": FLOW,
        "step": step,
        "attempt": attempt,
        "issued_at": NOON,
    }


def create(attempt: int = 1, ship_to: str = "Main Street 1") -> CreateDelivery:
    """Have it brought there."""
    return CreateDelivery(
        **_step("create_delivery", "CreateDelivery", attempt),
        tenant="acme",
        ship_to=ship_to,
        lines=(Line("widget", 1),),
        parcels=1,
    )


def cancel(attempt: int = 1) -> CancelDelivery:
    """Stop it."""
    return CancelDelivery(**_step("create_delivery", "CancelDelivery", attempt))


def track(attempt: int = 1) -> TrackDelivery:
    """Tell how it ends."""
    return TrackDelivery(**_step("deliver", "TrackDelivery", attempt))


def requested(attempt: int = 1) -> Shipment:
    """The courier may have it in its books."""
    return Shipment(
        workflow_id=FLOW,
        state=State.REQUESTED,
        sequence=attempt - 1,
        requested_at=NOON,
        attempt=attempt,
        create_key=create(attempt).command_id,
    )


def in_state(state: State) -> Shipment:
    """A shipment that stands there."""
    asked = requested()
    if state == State.REQUESTED:
        return asked
    if state == State.REFUSED:
        return replace(asked, state=state, refusal="unknown_address", sequence=1, ended_at=NOON)
    named = replace(
        asked, state=state, sequence=1, shipment_id=PARCEL, tracking_number="TRK1", label_url="http://label"
    )
    if state in LIVE:
        return named
    return replace(named, ended_at=NOON, undamaged=True if state == State.RETURNED else None)


def update(sequence: int, status: Status, number: int | None = None, **more: Any) -> Update:
    """One thing that happened to the parcel."""
    return Update(f"upd_{number or sequence}", PARCEL, sequence, status, NOON, **more)


# --- the courier ----------------------------------------------------------------------------------


def perform(courier: Courier, ask: Ask, ship_to: str, key: str) -> Learned:
    """What the courier answers to ``ask``; ``key`` is the id of the command that it is for."""
    match ask:
        case Book():
            return booking(key, courier.book(key, Request(FLOW, ship_to, 1), NOON)[0])
        case LookUp(asked):
            found = courier.operation(asked)
            return Unheard(asked) if found is None else booking(asked, found)
        case Stop(shipment, own):
            effect, _ = courier.stop(own, shipment, NOON)
            status = str(courier.status(shipment))
            if effect.code is not None:
                return NotStopped(effect.code, status)
            return Stopped("cancelled" if status == "cancelled" else "returning")


def booking(key: str, effect: Effect) -> Booked | BookingRefused:
    """What the courier says of a booking."""
    if effect.shipment_id is None:
        return BookingRefused(key, effect.code or "")
    return Booked(key, effect.shipment_id, "TRK1", "http://label")


def told(courier: Courier, shipment: str) -> list[Update]:
    """All updates of a shipment so far."""
    try:
        history = courier.history(shipment)
    except NoSuchShipment:
        return []
    return [
        Update(e.key, shipment, e.sequence or 0, Status(e.status or ""), NOON, e.reason, e.undamaged)
        for e in history
    ]
