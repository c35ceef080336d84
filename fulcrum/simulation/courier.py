"""The courier worker: a shipment takes its own way, and tells how it ended once it is asked to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fulcrum.saga.messages import (
    CancelDelivery,
    CreateDelivery,
    DeliveryCancelled,
    DeliveryCreated,
    DeliveryDelayed,
    DeliveryNotCancelled,
    DeliveryRefused,
    ParcelDelivered,
    ParcelNotDelivered,
    StepCommand,
    TrackDelivery,
)
from fulcrum.simulation.environment import Environment
from fulcrum.simulation.invariants import Invariants
from fulcrum.simulation.logs import Log
from fulcrum.simulation.participant import Handling, Participant

_STORE, _CALL = 0.004, 0.05  # seconds
_WAY = 900.0  # seconds, on average
_NEVER = 14400.0  # seconds that it waits for a parcel
_POLL = 3600.0  # seconds until a poller finds out what no webhook told

#: Where nothing can happen to the parcel any more.
ENDED = ("delivered", "returned", "returned_damaged", "lost")
#: What the first word of the address makes of the parcel; anything else is delivered.
FATES = ("returned", "returned_damaged", "lost", "exception", "silent", "unknown", "nocancel")


@dataclass(slots=True)
class Shipment:
    """``state`` is requested, in_transit, cancelled, returning, refused, none, or one of ``ENDED``.

    ``tracked`` is who wants to know how it ends.
    """

    state: str
    fate: str = "delivered"
    tracked: TrackDelivery | None = None


class CourierWorker(Participant):
    """Books, stops and watches shipments; the courier itself fetches what the warehouse hands over."""

    def __init__(self, env: Environment, logs: Sequence[Log], invariants: Invariants) -> None:
        super().__init__(env, "courier", logs, invariants)
        self.shipments: dict[str, Shipment] = {}

    def handle(self, command: StepCommand) -> Handling:
        """A call to the courier, and what came of it in one transaction."""
        yield _CALL
        if self.repeat(command) or command.command_id in self.inbox:
            return
        yield _STORE
        if self.repeat(command):
            return
        self.inbox[command.command_id] = None
        match command:
            case CreateDelivery():
                self._create(command)
            case CancelDelivery():
                self._cancel(command)
            case TrackDelivery():
                self._track(command)

    def fetched(self, key: str) -> None:
        """The parcel is on its way, if anybody wants it to be."""
        shipment = self.shipments.get(key)
        if shipment is None or shipment.state != "requested":
            return
        shipment.state = "in_transit"
        way = self.env.about(_WAY) + (_POLL if shipment.fate == "silent" else 0.0)
        if shipment.fate == "exception":
            self.env.after(way / 2, self._delay, shipment)
        self.env.after(way, self._end, shipment)

    def _create(self, command: CreateDelivery) -> None:
        key = command.workflow_id
        if key in self.shipments:
            self.answer(command, DeliveryRefused, reason="fenced")
            return
        fate = command.ship_to.partition("-")[0]
        shipment = self.shipments[key] = Shipment("requested", fate if fate in FATES else "delivered")
        if fate == "unknown":
            shipment.state = "refused"
            self.answer(command, DeliveryRefused, reason="unknown_address")
            return
        self.invariants.effect(command.command_id, "ship", key)
        number = f"T{key[:8]}"
        self.answer(command, DeliveryCreated, delivery_id=key, tracking_number=number, label_url="label")

    def _cancel(self, command: CancelDelivery) -> None:
        key = command.workflow_id
        known = self.shipments.get(key)
        shipment = self.shipments.setdefault(key, Shipment("none"))
        if shipment.state == "delivered" or (shipment.state == "in_transit" and shipment.fate == "nocancel"):
            self.answer(command, DeliveryNotCancelled, reason=shipment.state)
            return
        if shipment.state in ("requested", "in_transit"):
            shipment.state = "cancelled" if shipment.state == "requested" else "returning"
        self.answer(command, DeliveryCancelled, delivery_id=key if known else None, state=shipment.state)

    def _track(self, command: TrackDelivery) -> None:
        shipment = self.shipments.setdefault(command.workflow_id, Shipment("none"))
        shipment.tracked = command
        if shipment.state == "requested":
            self.env.after(_NEVER, self._give_up, shipment)
        elif shipment.state != "in_transit":
            self._tell_end(shipment)

    def _give_up(self, shipment: Shipment) -> None:
        """Nobody has handed the parcel over."""
        if shipment.state == "requested":
            shipment.state = "cancelled"
            self._tell_end(shipment)

    def _delay(self, shipment: Shipment) -> None:
        if shipment.state == "in_transit" and shipment.tracked is not None:
            self.tell(shipment.tracked, DeliveryDelayed, reason="exception")

    def _end(self, shipment: Shipment) -> None:
        if shipment.state != "in_transit":
            return
        shipment.state = shipment.fate if shipment.fate in ENDED else "delivered"
        self._tell_end(shipment)

    def _tell_end(self, shipment: Shipment) -> None:
        command, state = shipment.tracked, shipment.state
        if command is None:
            return
        if state == "delivered":
            number = f"T{command.workflow_id[:8]}"
            self.answer(command, ParcelDelivered, tracking_number=number, delivered_at=self.env.moment())
            return
        reason = "returned" if state in ("returned", "returned_damaged", "cancelled", "returning") else "lost"
        undamaged = state in ("returned", "cancelled")
        self.answer(command, ParcelNotDelivered, reason=reason, undamaged=undamaged)
