"""What is known of a shipment, what can be learned about it, and what can be done next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from fulcrum.saga.messages import Answer
from fulcrum.workers.tracking import Progress


class State(StrEnum):
    """Where a shipment stands, and who moves it on."""

    REQUESTED = "requested"  #: the courier may have it in its books; its answer or a cancellation moves it
    REFUSED = "refused"  #: the courier does not carry it; a new attempt or a cancellation moves it
    BOOKED = "booked"  #: the courier will fetch it; from here on its updates move it
    PICKED_UP = "picked_up"
    IN_TRANSIT = "in_transit"
    OUT_FOR_DELIVERY = "out_for_delivery"
    EXCEPTION = "exception"
    DELIVERED = "delivered"  #: final
    RETURNED = "returned"  #: final
    LOST = "lost"  #: final
    CANCELLED = "cancelled"  #: final: nothing is on its way, and nothing will be


#: The courier has it and it has not ended.
LIVE = frozenset({State.BOOKED, State.PICKED_UP, State.IN_TRANSIT, State.OUT_FOR_DELIVERY, State.EXCEPTION})
#: Nothing will arrive any more, or it has arrived.
OVER = frozenset({State.REFUSED, State.DELIVERED, State.RETURNED, State.LOST, State.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """What is stored of one workflow. ``sequence`` counts its events on the courier stream.

    ``create_key`` is None on a fence: a cancellation that came before any booking. ``courier_sequence`` is
    the number of the courier's update that ``state`` comes from. ``intercepted``: the courier has stopped it
    on its way and brings it back.
    """

    workflow_id: str
    state: str
    sequence: int
    requested_at: datetime
    attempt: int = 0
    create_key: str | None = None
    cancel_key: str | None = None
    shipment_id: str | None = None
    tracking_number: str | None = None
    label_url: str | None = None
    refusal: str | None = None
    intercepted: bool = False
    courier_sequence: int = 0
    undamaged: bool | None = None
    ended_at: datetime | None = None

    @property
    def progress(self) -> Progress:
        """Where it stands by the courier's updates."""
        return Progress(self.state, self.courier_sequence, self.ended_at, self.undamaged)

    def at(self, progress: Progress) -> Shipment:
        """The shipment once it stands there."""
        return replace(
            self,
            state=str(progress.status),
            courier_sequence=progress.sequence,
            ended_at=progress.ended_at,
            undamaged=progress.undamaged,
        )


# --- what was learned -----------------------------------------------------------------------------


class Begun(StrEnum):
    """How a command starts."""

    FRESH = "fresh"  #: it was never tried here, so nothing was asked for it
    AGAIN = "again"  #: it was tried and left no answer, so anything may have been asked


@dataclass(frozen=True, slots=True)
class Booked:
    """The courier has the shipment in its books under ``key``."""

    key: str
    shipment_id: str
    tracking_number: str
    label_url: str


@dataclass(frozen=True, slots=True)
class BookingRefused:
    """The courier does not carry it, now or later under this key; ``code`` says why."""

    key: str
    code: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The courier stops the shipment: ``status`` is ``cancelled`` (not fetched) or ``returning``."""

    status: str


@dataclass(frozen=True, slots=True)
class NotStopped:
    """The courier cannot stop it. ``code`` says why: ``over`` when it has ended as ``status`` says."""

    code: str
    status: str


@dataclass(frozen=True, slots=True)
class Unheard:
    """The courier was never asked anything under ``key``."""

    key: str


Outcome = Booked | BookingRefused | Stopped | NotStopped
Learned = Begun | Outcome | Unheard


# --- moves ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Book:
    """Ask the courier to carry the command's parcels, under the command's id: a repeat is harmless."""


@dataclass(frozen=True, slots=True)
class LookUp:
    """Ask the courier what became of the booking ``key``."""

    key: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask the courier not to fetch ``shipment_id``, or to bring it back."""

    shipment_id: str
    key: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The command is carried out: this event says so, unless it was answered before."""

    event: Answer


@dataclass(frozen=True, slots=True)
class Wait:
    """The command is answered when the courier tells the end; ``events`` are told meanwhile."""

    events: Sequence[Answer] = ()


Ask = Book | LookUp | Stop
Move = Ask | Reply | Wait
