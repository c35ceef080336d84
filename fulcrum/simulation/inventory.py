"""The inventory worker: every line or none, and a release leaves a fence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from fulcrum.saga.messages import (
    ConfirmStock,
    ConsumeStock,
    HoldStock,
    Line,
    ReleaseStock,
    ReserveStock,
    RestockStock,
    ShortLine,
    StepCommand,
    StockConfirmed,
    StockConsumed,
    StockExpired,
    StockNotConfirmed,
    StockNotConsumed,
    StockRejected,
    StockReleased,
    StockReserved,
    StockRestocked,
)
from fulcrum.simulation.environment import Environment
from fulcrum.simulation.invariants import Invariants
from fulcrum.simulation.logs import Log
from fulcrum.simulation.participant import Handling, Participant
from fulcrum.simulation.provider import lifetime_of_hold

_STORE = 0.004  # seconds
_SWEEP = 5.0  # seconds, on average, until the sweeper sees what has lapsed

#: In these states the lines are counted as reserved.
HOLDING = ("held", "confirmed")


@dataclass(slots=True)
class Reservation:
    """What a workflow holds; ``state`` is held, confirmed, rejected, released, expired, consumed, back, gone.

    What was consumed is back when it was restocked, gone when it is lost or damaged. ``was_held``: it was
    held once. ``returned``: nothing may be consumed any more.
    """

    state: str
    lines: tuple[Line, ...] = ()
    expires_at: datetime | None = None
    was_held: bool = False
    returned: bool = False


@dataclass(slots=True)
class Stock:
    """One SKU."""

    received: int
    available: int
    reserved: int = field(default=0)
    consumed: int = field(default=0)


class InventoryWorker(Participant):
    """Carries out each command in one transaction, as ``fulcrum/workers/stockroom.py`` does."""

    def __init__(
        self, env: Environment, logs: Sequence[Log], invariants: Invariants, received: Mapping[str, int]
    ) -> None:
        super().__init__(env, "inventory", logs, invariants)
        self.stock = {sku: Stock(units, units) for sku, units in received.items()}
        self.reservations: dict[str, Reservation] = {}

    def handle(self, command: StepCommand) -> Handling:
        """The whole command in one transaction."""
        yield _STORE
        if self.repeat(command):
            return
        self.inbox[command.command_id] = None
        match command:
            case ReserveStock() | HoldStock():
                self._reserve(command)
            case ConfirmStock():
                self._confirm(command)
            case ReleaseStock():
                self._release(command)
            case ConsumeStock():
                self._consume(command)
            case RestockStock():
                self._restock(command)

    def _reserve(self, command: ReserveStock | HoldStock) -> None:
        key = command.workflow_id
        if key in self.reservations:
            self.answer(command, StockRejected, reason="fenced", short=())
            return
        short = tuple(
            ShortLine(line.sku, line.quantity, self.stock[line.sku].available)
            for line in command.lines
            if self.stock[line.sku].available < line.quantity
        )
        if short:
            self.reservations[key] = Reservation("rejected")
            self.answer(command, StockRejected, reason="out_of_stock", short=short)
            return
        self.invariants.effect(command.command_id, "reserve", key)
        held = self.reservations[key] = Reservation("held", command.lines, was_held=True)
        self._move(key, command.lines, reserved=1)
        lifetime = lifetime_of_hold(self.env) if isinstance(command, HoldStock) else None
        if lifetime is not None:
            held.expires_at = self.env.moment(lifetime)
            # The sweeper may be late by any time.
            self.env.after(lifetime + self.env.about(_SWEEP), self._expire, command)
        self.answer(command, StockReserved, lines=command.lines, expires_at=held.expires_at)

    def _release(self, command: ReleaseStock) -> None:
        key = command.workflow_id
        known = self.reservations.setdefault(key, Reservation("released"))
        lines = known.lines if known.state in HOLDING else ()
        if known.state not in ("consumed", "back", "gone"):
            known.state = "released"
        if lines:
            self.invariants.effect(command.command_id, "release", key)
            self._move(key, lines, reserved=-1)
        self.answer(command, StockReleased, lines=lines)

    def _confirm(self, command: ConfirmStock) -> None:
        known = self.reservations.setdefault(command.workflow_id, Reservation("rejected"))
        if known.state not in HOLDING:
            self.answer(command, StockNotConfirmed, reason=known.state)
            return
        known.state = "confirmed"
        self.answer(command, StockConfirmed, lines=known.lines)

    def _expire(self, command: HoldStock) -> None:
        known = self.reservations[command.workflow_id]
        if known.state == "held":
            known.state = "expired"
            self._move(command.workflow_id, known.lines, reserved=-1)
            self.tell(command, StockExpired, lines=known.lines, expires_at=known.expires_at)

    def _consume(self, command: ConsumeStock) -> None:
        key = command.workflow_id
        known = self.reservations.setdefault(key, Reservation("rejected"))
        kept = Counter({line.sku: line.quantity for line in known.lines})
        kept.subtract({line.sku: line.quantity for line in command.lines})
        if known.returned or known.state not in HOLDING or min(kept.values()) < 0:
            self.answer(command, StockNotConsumed, reason=known.state)
            return
        self.invariants.effect(command.command_id, "consume", key)
        released = tuple(Line(sku, units) for sku, units in kept.items() if units)
        self._move(key, command.lines, reserved=-1, consumed=1)
        self._move(key, released, reserved=-1)
        known.state, known.lines = "consumed", command.lines
        self.answer(command, StockConsumed, lines=command.lines, released=released)

    def _restock(self, command: RestockStock) -> None:
        key = command.workflow_id
        known = self.reservations.setdefault(key, Reservation("rejected"))
        known.returned = True
        lines: tuple[Line, ...] = ()
        if known.state == "consumed":
            known.state = "back" if command.undamaged else "gone"
            if command.undamaged:
                lines = known.lines
                self.invariants.effect(command.command_id, "restock", key)
                self._move(key, lines, consumed=-1)
        self.answer(command, StockRestocked, lines=lines)

    def _move(self, key: str, lines: Sequence[Line], *, reserved: int = 0, consumed: int = 0) -> None:
        """Count so many of each unit more as reserved and as consumed; the rest of a SKU is available."""
        for line in lines:
            stock = self.stock[line.sku]
            stock.reserved += reserved * line.quantity
            stock.consumed += consumed * line.quantity
            stock.available -= (reserved + consumed) * line.quantity
            self.invariants.stock(
                line.sku, stock.received, stock.available, stock.reserved, stock.consumed, key
            )
