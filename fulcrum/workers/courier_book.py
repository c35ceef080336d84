"""What really happened at the simulated courier, and what happens next? Pure.

A key stands for one request for ever, and gets the same answer for ever: a refusal, too, is written down.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from fulcrum.workers.courier_tokens import Script, script
from fulcrum.workers.tracking import ENDS, Status

_SHIPMENTS = UUID("0a6d8a5e-51f8-5b0e-9c47-6f1f2f0d9b21")
_UPDATES = UUID("5f4e3b51-0c8e-5c1b-8a53-1f7a0c8f6d32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Something that really happened, once.

    ``kind`` is book, refuse, move, cancel, intercept or refuse_stop; ``id`` counts from 1. ``key`` is the
    idempotency key that made it happen, for a move the update's id. What moved the shipment has a ``status``
    and a ``sequence``, which counts those of the shipment from 1. Only a refusal has a ``code``.
    """

    id: int
    at: str
    kind: str
    key: str
    reference: str
    ship_to: str
    parcels: int
    shipment_id: str | None = None
    status: str | None = None
    sequence: int | None = None
    code: str | None = None
    reason: str | None = None
    undamaged: bool | None = None


class KeyReused(Exception):
    """The idempotency key was used for another request."""


class NoSuchShipment(Exception):
    """Nothing was ever booked under this id."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a booking is asked for."""

    reference: str
    ship_to: str
    parcels: int


class Book:
    """All effects, in order. What a key or a shipment stands at follows from them."""

    def __init__(self, effects: Iterable[Effect] = ()) -> None:
        self.effects: list[Effect] = []
        self._by_key: dict[str, Effect] = {}
        self._shipments: dict[str, list[Effect]] = {}
        self._returning: dict[str, Effect] = {}
        for effect in effects:
            self._add(effect)

    def operation(self, key: str) -> Effect | None:
        """What happened under ``key``."""
        return self._by_key.get(key)

    def since(self, last: int, reference: str | None = None) -> list[Effect]:
        """The effects after number ``last``, of one reference or of all."""
        return [e for e in self.effects[last:] if reference is None or e.reference == reference]

    def history(self, shipment_id: str) -> list[Effect]:
        """What moved the shipment, in order. Raises NoSuchShipment."""
        try:
            return self._shipments[shipment_id]
        except KeyError:
            raise NoSuchShipment(shipment_id) from None

    def status(self, shipment_id: str) -> Status:
        """Where the shipment stands."""
        return Status(self.history(shipment_id)[-1].status or "")

    def script(self, shipment_id: str) -> Script:
        """What the shipment's address says about it."""
        return script(self.history(shipment_id)[0].ship_to)

    def under_way(self) -> list[str]:
        """The shipments that will move on by themselves."""
        return [shipment for shipment in self._shipments if self.due(shipment) is not None]

    def due(self, shipment_id: str) -> Status | None:
        """Where the shipment moves next; None when it stays where it is."""
        status = self.status(shipment_id)
        if status in ENDS:
            return None
        if shipment_id in self._returning:
            return Status.RETURNED
        way = (Status.BOOKED, *self.script(shipment_id).way)
        following = way[way.index(status) + 1 :]
        return following[0] if following else None

    # --- what is asked for ------------------------------------------------------------------------

    def book(self, key: str, request: Request, now: datetime) -> tuple[Effect, bool]:
        """Take the shipment into the books, or refuse; False when it is an earlier answer again."""
        before = self._by_key.get(key)
        if before is not None:
            if before.kind not in ("book", "refuse") or _request(before) != request:
                raise KeyReused(key)
            return before, False
        if script(request.ship_to).refused:
            return self._happen("refuse", key, request, now, code="unknown_address"), True
        shipment = f"shp_{uuid5(_SHIPMENTS, key).hex[:20]}"
        return self._happen("book", key, request, now, shipment, Status.BOOKED), True

    def stop(self, key: str, shipment_id: str, now: datetime) -> tuple[Effect, bool]:
        """Do not fetch it, or bring it back, or refuse; False when it is an earlier answer again."""
        before = self._by_key.get(key)
        if before is not None:
            if before.kind not in ("cancel", "intercept", "refuse_stop") or before.shipment_id != shipment_id:
                raise KeyReused(key)
            return before, False
        history = self.history(shipment_id)
        status, request = self.status(shipment_id), _request(history[0])
        if status == Status.CANCELLED:
            return history[-1], False
        if status in ENDS:
            return self._happen("refuse_stop", key, request, now, shipment_id, code="over"), True
        if status == Status.BOOKED:
            return self._happen("cancel", key, request, now, shipment_id, Status.CANCELLED), True
        if shipment_id in self._returning:
            return self._returning[shipment_id], False
        if not self.script(shipment_id).stoppable:
            return self._happen("refuse_stop", key, request, now, shipment_id, code="cannot_be_stopped"), True
        return self._happen("intercept", key, request, now, shipment_id), True

    def move(self, shipment_id: str, now: datetime) -> Effect | None:
        """Move the shipment on; None when it stays where it is."""
        status = self.due(shipment_id)
        if status is None:
            return None
        history = self.history(shipment_id)
        key = f"upd_{uuid5(_UPDATES, f'{shipment_id}/{len(history) + 1}').hex}"
        undamaged = self.script(shipment_id).undamaged if status == Status.RETURNED else None
        reason = "address_not_found" if status == Status.EXCEPTION else None
        return self._happen(
            "move", key, _request(history[0]), now, shipment_id, status, reason=reason, undamaged=undamaged
        )

    def _happen(
        self,
        kind: str,
        key: str,
        request: Request,
        now: datetime,
        shipment_id: str | None = None,
        status: Status | None = None,
        *,
        code: str | None = None,
        reason: str | None = None,
        undamaged: bool | None = None,
    ) -> Effect:
        sequence = None
        if status is not None and shipment_id is not None:
            sequence = len(self._shipments.get(shipment_id, ())) + 1
        effect = Effect(
            id=len(self.effects) + 1,
            at=now.isoformat(),
            kind=kind,
            key=key,
            reference=request.reference,
            ship_to=request.ship_to,
            parcels=request.parcels,
            shipment_id=shipment_id,
            status=None if status is None else str(status),
            sequence=sequence,
            code=code,
            reason=reason,
            undamaged=undamaged,
        )
        self._add(effect)
        return effect

    def _add(self, effect: Effect) -> None:
        self.effects.append(effect)
        self._by_key[effect.key] = effect
        if effect.shipment_id is None:
            return
        if effect.sequence is not None:
            self._shipments.setdefault(effect.shipment_id, []).append(effect)
        if effect.kind == "intercept":
            self._returning[effect.shipment_id] = effect


def _request(effect: Effect) -> Request:
    return Request(effect.reference, effect.ship_to, effect.parcels)


def update_body(effect: Effect) -> dict[str, Any]:
    """What the courier says of a move, in a webhook and in the history of the shipment."""
    body: dict[str, Any] = {
        "update_id": effect.key if effect.kind == "move" else f"upd_{uuid5(_UPDATES, effect.key).hex}",
        "shipment_id": effect.shipment_id,
        "sequence": effect.sequence,
        "status": effect.status,
        "at": effect.at,
    }
    if effect.reason is not None:
        body["reason"] = effect.reason
    if effect.undamaged is not None:
        body["undamaged"] = effect.undamaged
    return body
