"""What a courier command, or an update, means to a workflow's shipment, and what to ask next. Pure.

A command is carried out in moves. Each is decided here from the stored shipment and from what was learned
last, is stored, and only then performed; the last one is the answer. Three rules keep parcels right:

* a booking is asked for under its command's id, so asking again makes no second shipment;
* once a workflow is cancelled, a booking that arrives late is stopped at the courier and never accepted;
* a shipment that has ended stays as it ended, and whoever waits for the end is told it once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID, uuid5

from fulcrum.errors import Rejected, Retryable
from fulcrum.saga.messages import Answer, CancelDelivery, CreateDelivery, TrackDelivery
from fulcrum.workers.courier_answers import (
    cancelled,
    created,
    delayed,
    ended,
    not_cancelled,
    refused,
    told,
)
from fulcrum.workers.courier_moves import (
    OVER,
    Begun,
    Book,
    Booked,
    BookingRefused,
    Learned,
    LookUp,
    Move,
    NotStopped,
    Shipment,
    State,
    Stop,
    Stopped,
    Unheard,
    Wait,
)
from fulcrum.workers.tracking import ENDS, Status, Update, follow

# --- commands -------------------------------------------------------------------------------------


def create_delivery(
    shipment: Shipment | None, command: CreateDelivery, learned: Learned, now: datetime
) -> tuple[Shipment, Move]:
    """Book the shipment, unless a cancellation came first.

    Returns the shipment as it must be stored before the move is made. Raises Retryable while an earlier
    attempt is open.
    """
    if shipment is None:
        return _asked_for(command, 0, now), Book()
    key = command.command_id
    own = shipment.create_key == key
    newer = command.attempt > shipment.attempt
    match shipment.state:
        case State.REQUESTED if own:
            return _booking(shipment, learned, now)
        case State.REQUESTED if newer:
            raise Retryable(f"attempt {shipment.attempt} of this booking has no outcome yet")
        case State.REFUSED if own:
            return told(shipment, refused(shipment, key, shipment.refusal or "refused", now))
        case State.REFUSED if newer:
            return _asked_for(command, shipment.sequence, now), Book()
        case State.REQUESTED | State.REFUSED | State.CANCELLED:
            return _too_late(shipment, command, learned, now)
    if own or newer:
        return told(shipment, created(shipment, key, now))
    return _too_late(shipment, command, learned, now)


def cancel_delivery(
    shipment: Shipment | None, command: CancelDelivery, learned: Learned, now: datetime
) -> tuple[Shipment, Move]:
    """Stop the shipment, on its way too if the courier can, and leave a fence against a late booking."""
    key = command.command_id
    if shipment is None:
        shipment = Shipment(
            workflow_id=command.workflow_id, state=State.REFUSED, sequence=0, requested_at=now
        )
    match shipment.state:
        case State.REFUSED:
            return _fenced(shipment, key, now)
        case State.REQUESTED:
            return _cancel_unknown(shipment, key, learned, now)
        case State.DELIVERED:
            return told(shipment, not_cancelled(shipment, key, "delivered", now))
        case State.RETURNED | State.LOST | State.CANCELLED:
            return told(shipment, cancelled(shipment, key, shipment.state, now))
    if shipment.intercepted:
        return told(shipment, cancelled(shipment, key, "returning", now))
    return _stopping(shipment, key, learned, now)


def track_delivery(
    shipment: Shipment | None, command: TrackDelivery, learned: Learned, now: datetime
) -> tuple[Shipment, Move]:
    """Tell how the shipment ended, or wait until it has.

    Raises Rejected when there is no shipment, Retryable while nobody knows whether there is one.
    """
    if shipment is None:
        raise Rejected("this workflow has no shipment to track: create_delivery was never carried out here")
    key = command.command_id
    if shipment.state == State.REQUESTED:
        raise Retryable("the booking of this shipment has no outcome yet")
    if shipment.state in OVER:
        return told(shipment, ended(shipment, key, now))
    if shipment.state == State.EXCEPTION and learned is Begun.FRESH:
        event = delayed(shipment, key, "exception", now)
        return replace(shipment, sequence=event.sequence), Wait((event,))
    return shipment, Wait()


# --- booking --------------------------------------------------------------------------------------


def _asked_for(command: CreateDelivery, sequence: int, now: datetime) -> Shipment:
    return Shipment(
        workflow_id=command.workflow_id,
        state=State.REQUESTED,
        sequence=sequence,
        requested_at=now,
        attempt=command.attempt,
        create_key=command.command_id,
    )


def _booking(shipment: Shipment, learned: Learned, now: datetime) -> tuple[Shipment, Move]:
    key = shipment.create_key
    match learned:
        case Booked() if learned.key == key:
            booked = _in_the_books(shipment, learned)
            return told(booked, created(booked, learned.key, now))
        case BookingRefused() if learned.key == key:
            turned_down = _turned_down(shipment, learned.code, now)
            return told(turned_down, refused(turned_down, learned.key, learned.code, now))
    return shipment, Book()


def _in_the_books(shipment: Shipment, booked: Booked) -> Shipment:
    return replace(
        shipment,
        state=State.BOOKED,
        shipment_id=booked.shipment_id,
        tracking_number=booked.tracking_number,
        label_url=booked.label_url,
    )


def _turned_down(shipment: Shipment, code: str, now: datetime) -> Shipment:
    return replace(shipment, state=State.REFUSED, refusal=code, ended_at=now)


def _too_late(
    shipment: Shipment, command: CreateDelivery, learned: Learned, now: datetime
) -> tuple[Shipment, Move]:
    """A cancellation or a newer attempt came first: leave nothing booked under this key, and refuse."""
    key = command.command_id
    if learned is Begun.AGAIN:
        return shipment, LookUp(key)
    if isinstance(learned, Booked) and learned.shipment_id != shipment.shipment_id:
        return shipment, Stop(learned.shipment_id, str(uuid5(UUID(key), "give up")))
    # When the shipment is known, the cancellation that made the fence stops it.
    reason = "fenced" if shipment.state == State.CANCELLED else "superseded"
    return told(shipment, refused(shipment, key, reason, now))


# --- cancelling -----------------------------------------------------------------------------------


def _fenced(shipment: Shipment, key: str, now: datetime) -> tuple[Shipment, Move]:
    """Nothing is booked, and nothing will be."""
    fence = replace(shipment, state=State.CANCELLED, cancel_key=key, ended_at=now)
    return told(fence, cancelled(fence, key, State.CANCELLED, now))


def _cancel_unknown(shipment: Shipment, key: str, learned: Learned, now: datetime) -> tuple[Shipment, Move]:
    """Nobody knows whether it is booked, and a silence is not a no: ask for it first."""
    assert shipment.create_key is not None
    match learned:
        case Booked() if learned.key == shipment.create_key:
            return replace(_in_the_books(shipment, learned), cancel_key=key), Stop(learned.shipment_id, key)
        case BookingRefused() if learned.key == shipment.create_key:
            return _fenced(replace(shipment, refusal=learned.code), key, now)
        case Unheard() if learned.key == shipment.create_key:
            return _fenced(shipment, key, now)
    return replace(shipment, cancel_key=key), LookUp(shipment.create_key)


def _stopping(shipment: Shipment, key: str, learned: Learned, now: datetime) -> tuple[Shipment, Move]:
    assert shipment.shipment_id is not None
    match learned:
        case Stopped(status) if status == State.CANCELLED:
            over = replace(shipment, state=State.CANCELLED, cancel_key=key, ended_at=now)
            return told(over, cancelled(over, key, State.CANCELLED, now))
        case Stopped():
            back = replace(shipment, intercepted=True, cancel_key=key)
            return told(back, cancelled(back, key, "returning", now))
        case NotStopped(status=status) if status in ENDS and status != Status.DELIVERED:
            # Its own update, which is on its way here, ends the shipment.
            return told(shipment, cancelled(shipment, key, status, now))
        case NotStopped(code, status):
            reason = status if status == Status.DELIVERED else code
            return told(shipment, not_cancelled(shipment, key, reason, now))
    return replace(shipment, cancel_key=key), Stop(shipment.shipment_id, key)


# --- the courier's updates ------------------------------------------------------------------------


def news(
    shipment: Shipment, updates: Iterable[Update], waiting: Sequence[str], now: datetime
) -> tuple[Shipment, list[Answer]]:
    """What ``updates`` make of a shipment, and what the commands that wait for its end are told meanwhile."""
    events: list[Answer] = []
    for update in sorted(updates, key=lambda each: each.sequence):
        progress = follow(shipment.progress, update)
        if progress == shipment.progress:
            continue
        shipment = shipment.at(progress)
        if update.status == Status.EXCEPTION:
            for key in waiting:
                event = delayed(shipment, key, update.reason or "exception", now)
                shipment = replace(shipment, sequence=event.sequence)
                events.append(event)
    return shipment, events


def settle(shipment: Shipment, waiting: Sequence[str], now: datetime) -> tuple[Shipment, list[Answer]]:
    """Tell every command that waits for the end of a shipment how it ended."""
    answers: list[Answer] = []
    for key in waiting:
        event = ended(shipment, key, now)
        shipment = replace(shipment, sequence=event.sequence)
        answers.append(event)
    return shipment, answers
