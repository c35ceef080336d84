"""What a batch of inventory commands does to the stock, decided in memory. Pure.

The stockroom holds what the batch touches as it was read. Each command changes it and gets its answer, in
order of arrival, so that fifty reservations of one hot SKU are one update of one row. Whoever read it writes
it back under the versions it was read with.

Long, because what each command does to a reservation is read against what every other one does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from fulcrum.errors import Rejected
from fulcrum.saga import identity
from fulcrum.saga.messages import (
    Answer,
    ConfirmStock,
    ConsumeStock,
    HoldStock,
    Line,
    ReceiveStock,
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


class State(StrEnum):
    """Where a reservation stands, and who moves it on."""

    HELD = "held"  #: the lines are reserved; a release, a confirmation, a consumption or its expiry moves it
    CONFIRMED = "confirmed"  #: the lines are reserved and do not lapse; a release or a consumption moves it
    REJECTED = "rejected"  #: nothing is held; a new attempt or a release moves it
    EXPIRED = "expired"  #: nothing is held, and nothing will be; a release makes it released
    RELEASED = "released"  #: final: nothing is held, and nothing will be
    CONSUMED = "consumed"  #: the lines have left and are counted as consumed; a restock moves it
    WRITTEN_OFF = "written_off"  #: they will not come back and stay consumed, unless a restock brings them
    RESTOCKED = "restocked"  #: final: they came back and are available again


#: In these states the lines are counted as reserved.
HOLDING = frozenset({State.HELD, State.CONFIRMED})
#: In these states the lines are counted as consumed.
GONE = frozenset({State.CONSUMED, State.WRITTEN_OFF})
#: What comes too late for a reservation in one of these states is refused with this reason.
_FENCES = {
    State.RELEASED: "fenced",
    State.EXPIRED: "expired",
    State.CONSUMED: "consumed",
    State.WRITTEN_OFF: "fenced",
    State.RESTOCKED: "fenced",
}


@dataclass(frozen=True, slots=True)
class Stock:
    """One SKU. ``version`` is the one it was read with; 0 when there is no row yet."""

    sku: str
    available: int = 0
    reserved: int = 0
    consumed: int = 0
    version: int = 0

    def moved(self, available: int, reserved: int, consumed: int = 0) -> Stock:
        """The same after a change."""
        return replace(
            self,
            available=self.available + available,
            reserved=self.reserved + reserved,
            consumed=self.consumed + consumed,
        )


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one workflow holds, or consumed. ``sequence`` counts its events on the inventory stream.

    ``stored`` is the sequence it was read with; 0 when there is no row yet. ``closed``: nothing may be
    consumed any more.
    """

    workflow_id: str
    state: str
    sequence: int
    command_id: str
    attempt: int
    lines: Mapping[str, int] = field(default_factory=dict)
    reason: str | None = None
    stored: int = 0
    expires_at: datetime | None = None
    closed: bool = False

    @property
    def holds(self) -> Mapping[str, int]:
        """The lines that are counted as reserved."""
        return self.lines if self.state in HOLDING else {}


@dataclass(frozen=True, slots=True)
class Entry:
    """One change of one SKU, as the ledger keeps it. Of an expiry, ``command_id`` is the event's id.

    A consumption takes what left out of what was reserved, and makes the rest of the line available.
    """

    command_id: str
    sku: str
    kind: str
    available: int
    reserved: int
    workflow_id: str | None
    reference: str | None
    consumed: int = 0


class Stockroom:
    """The stock and the reservations that a batch touches.

    ``now`` is the database's time. What a HoldStock holds lapses after ``ttl``; None: it does not.
    """

    def __init__(
        self,
        stock: Iterable[Stock],
        reservations: Iterable[Reservation],
        now: datetime,
        ttl: timedelta | None = None,
    ) -> None:
        self.stock = {each.sku: each for each in stock}
        self.reservations = {each.workflow_id: each for each in reservations}
        self.changed_stock: set[str] = set()
        self.changed_reservations: set[str] = set()
        self.new_holds: dict[str, Mapping[str, int]] = {}
        self.new_consumptions: dict[str, Mapping[str, int]] = {}
        self.entries: list[Entry] = []
        self.now = now
        self._ttl = ttl

    def reserve(self, command: ReserveStock | HoldStock) -> Answer:
        """Hold every line, or none; refuse what has ended. Rejected when the lines make no sense."""
        wanted = _summed(command.lines)
        known = self.reservations.get(command.workflow_id)
        if known is not None:
            if known.state in _FENCES:
                return self._refuse(command, known, _FENCES[State(known.state)])
            if command.attempt < known.attempt:
                return self._refuse(command, known, "superseded")
            if known.state in HOLDING:
                return self._hold_on(command, known, wanted)
        short = self._short(wanted)
        if short:
            reservation = self._keep(command, known, State.REJECTED, {}, "out_of_stock")
            return self._rejected(command, reservation, "out_of_stock", short)
        for sku, quantity in wanted.items():
            self._move(command.command_id, command.workflow_id, sku, "reserve", -quantity)
        self.new_holds[command.workflow_id] = wanted
        lapses = self.now + self._ttl if self._ttl and isinstance(command, HoldStock) else None
        return self._reserved(command, self._keep(command, known, State.HELD, wanted, expires_at=lapses))

    def release(self, command: ReleaseStock) -> Answer:
        """Give back what is held, and leave a fence against a reservation that is still on its way.

        What has left is held no more, and is what it is.
        """
        known = self.reservations.get(command.workflow_id)
        if known is not None and known.state in (*GONE, State.RESTOCKED):
            kept = self._next(known)
            return StockReleased(**self._common(command, kept, StockReleased), lines=())
        lines = known.holds if known is not None else {}
        for sku, quantity in lines.items():
            self._move(command.command_id, command.workflow_id, sku, "release", quantity)
        kept = self._keep(command, known, State.RELEASED, {})
        return StockReleased(**self._common(command, kept, StockReleased), lines=_lines(lines))

    def confirm(self, command: ConfirmStock) -> Answer:
        """Keep what is held until it is released. Only what the reservation is counts, not the time."""
        known = self.reservations.get(command.workflow_id)
        if known is None:
            kept = self._keep(command, None, State.REJECTED, {}, "not_reserved")
            return self._not_confirmed(command, kept, "not_reserved")
        kept = replace(known, sequence=known.sequence + 1)
        if known.state not in HOLDING:
            self._change(kept)
            return self._not_confirmed(command, kept, known.state)
        kept = replace(kept, state=State.CONFIRMED, command_id=command.command_id, expires_at=None)
        self._change(kept)
        return StockConfirmed(**self._common(command, kept, StockConfirmed), lines=_lines(kept.lines))

    def consume(self, command: ConsumeStock) -> Answer:
        """Let the lines leave, and give back the rest of the hold; refuse when less is held than that."""
        wanted = _summed(command.lines)
        known = self.reservations.get(command.workflow_id)
        if known is None:
            return self._not_consumed(command, self._not_reserved(command, closed=False), "not_reserved")
        if known.state == State.CONSUMED and known.lines == wanted:
            return self._consumed(command, self._next(known), {})
        reason = _no_consumption(known, wanted)
        if reason is not None:
            return self._not_consumed(command, self._next(known), reason)
        rest = {sku: held - wanted.get(sku, 0) for sku, held in known.lines.items()}
        for sku, held in known.lines.items():
            left = wanted.get(sku, 0)
            kind = "consume" if left else "release"
            self._enter(command.command_id, command.workflow_id, sku, kind, rest[sku], -held, left)
        kept = replace(self._next(known), state=State.CONSUMED, command_id=command.command_id, lines=wanted)
        kept = replace(kept, expires_at=None)
        self._change(kept)
        self.new_consumptions[command.workflow_id] = wanted
        return self._consumed(command, kept, {sku: quantity for sku, quantity in rest.items() if quantity})

    def restock(self, command: RestockStock) -> Answer:
        """Take back what had left, or write it off; refuse a consumption that comes later.

        What was written off and comes back after all is taken back, too.
        """
        known = self.reservations.get(command.workflow_id)
        if known is None:
            return self._restocked(command, self._not_reserved(command, closed=True), {})
        kept = replace(self._next(known), closed=True)
        back: Mapping[str, int] = {}
        if known.state in GONE:
            state = State.RESTOCKED if command.undamaged else State.WRITTEN_OFF
            kept = replace(kept, state=state, command_id=command.command_id)
            if command.undamaged:
                back, kept = known.lines, replace(kept, lines={})
        self._change(kept)
        for sku, quantity in back.items():
            self._enter(command.command_id, command.workflow_id, sku, "restock", quantity, 0, -quantity)
        return self._restocked(command, kept, back)

    def expire(self, workflow_id: str) -> StockExpired:
        """Give back what has lapsed. The reservation must be held and have a time at which it expires."""
        known = self.reservations[workflow_id]
        assert known.state == State.HELD and known.expires_at is not None  # noqa: PT018
        event_id = identity.event_id(known.command_id, StockExpired.__name__)
        for sku, quantity in known.lines.items():
            # The ledger knows a change by its cause and SKU; the command has its own entry already.
            self._move(event_id, workflow_id, sku, "expire", quantity)
        kept = replace(known, state=State.EXPIRED, sequence=known.sequence + 1, expires_at=None)
        self._change(kept)
        return StockExpired(
            event_id=event_id,
            workflow_id=workflow_id,
            sequence=kept.sequence,
            occurred_at=self.now,
            command_id=known.command_id,
            lines=_lines(known.lines),
            expires_at=known.expires_at,
        )

    def receive(self, command: ReceiveStock) -> None:
        """Add what arrived. Nobody waits for an answer."""
        _check_quantity(command.sku, command.quantity)
        self.stock[command.sku] = self._of(command.sku).moved(command.quantity, 0)
        self.changed_stock.add(command.sku)
        self.entries.append(
            Entry(command.command_id, command.sku, "receive", command.quantity, 0, None, command.reference)
        )

    # --- moves ------------------------------------------------------------------------------------

    def _of(self, sku: str) -> Stock:
        return self.stock.get(sku) or Stock(sku)

    def _move(self, cause: str, workflow_id: str, sku: str, kind: str, available: int) -> None:
        """So many units become available; below zero: they are reserved."""
        self._enter(cause, workflow_id, sku, kind, available, -available, 0)

    def _enter(
        self, cause: str, workflow_id: str, sku: str, kind: str, available: int, reserved: int, consumed: int
    ) -> None:
        self.stock[sku] = self._of(sku).moved(available, reserved, consumed)
        self.changed_stock.add(sku)
        self.entries.append(Entry(cause, sku, kind, available, reserved, workflow_id, None, consumed))

    def _next(self, known: Reservation) -> Reservation:
        """The reservation with one more event; whoever changes more of it keeps it once more."""
        kept = replace(known, sequence=known.sequence + 1)
        self._change(kept)
        return kept

    def _short(self, wanted: Mapping[str, int]) -> tuple[ShortLine, ...]:
        """The lines that stock does not cover; a SKU that nobody knows has nothing available."""
        available = {sku: self._of(sku).available for sku in wanted}
        return tuple(
            ShortLine(sku, quantity, available[sku])
            for sku, quantity in wanted.items()
            if available[sku] < quantity
        )

    def _hold_on(
        self, command: ReserveStock | HoldStock, known: Reservation, wanted: Mapping[str, int]
    ) -> Answer:
        """Another attempt of what is held already; it holds no longer than the first."""
        if known.lines != wanted:
            raise Rejected(f"lines {dict(wanted)}: this workflow already holds {dict(known.lines)}")
        kept = self._keep(command, known, State(known.state), known.lines, expires_at=known.expires_at)
        return self._reserved(command, kept)

    def _refuse(self, command: ReserveStock | HoldStock, known: Reservation, reason: str) -> Answer:
        """Answer no and leave what is known as it is: it must outlive this command."""
        kept = replace(known, sequence=known.sequence + 1)
        self._change(kept)
        return self._rejected(command, kept, reason, ())

    def _reserved(self, command: ReserveStock | HoldStock, kept: Reservation) -> Answer:
        common = self._common(command, kept, StockReserved)
        return StockReserved(**common, lines=_lines(kept.lines), expires_at=kept.expires_at)

    def _not_confirmed(self, command: ConfirmStock, kept: Reservation, reason: str) -> Answer:
        return StockNotConfirmed(**self._common(command, kept, StockNotConfirmed), reason=str(reason))

    def _not_consumed(self, command: ConsumeStock, kept: Reservation, reason: str) -> Answer:
        return StockNotConsumed(**self._common(command, kept, StockNotConsumed), reason=str(reason))

    def _consumed(self, command: ConsumeStock, kept: Reservation, rest: Mapping[str, int]) -> Answer:
        common = self._common(command, kept, StockConsumed)
        return StockConsumed(**common, lines=_lines(kept.lines), released=_lines(rest))

    def _restocked(self, command: RestockStock, kept: Reservation, back: Mapping[str, int]) -> Answer:
        return StockRestocked(**self._common(command, kept, StockRestocked), lines=_lines(back))

    def _rejected(
        self, command: ReserveStock | HoldStock, kept: Reservation, reason: str, short: tuple[ShortLine, ...]
    ) -> Answer:
        return StockRejected(**self._common(command, kept, StockRejected), reason=reason, short=short)

    def _keep(
        self,
        command: StepCommand,
        known: Reservation | None,
        state: State,
        lines: Mapping[str, int],
        reason: str | None = None,
        expires_at: datetime | None = None,
    ) -> Reservation:
        kept = Reservation(
            workflow_id=command.workflow_id,
            state=state,
            sequence=(known.sequence if known is not None else 0) + 1,
            command_id=command.command_id,
            attempt=command.attempt,
            lines=lines,
            reason=reason,
            stored=known.stored if known is not None else 0,
            expires_at=expires_at,
            closed=known is not None and known.closed,
        )
        self._change(kept)
        return kept

    def _not_reserved(self, command: StepCommand, *, closed: bool) -> Reservation:
        """A reservation that may still come: no attempt of it is overtaken by ``command``."""
        kept = self._keep(command, None, State.REJECTED, {}, "not_reserved")
        kept = replace(kept, attempt=0, closed=closed)
        self._change(kept)
        return kept

    def _change(self, kept: Reservation) -> None:
        self.reservations[kept.workflow_id] = kept
        self.changed_reservations.add(kept.workflow_id)

    def _common(self, command: StepCommand, kept: Reservation, event: type[Answer]) -> dict[str, Any]:
        return {
            "event_id": identity.event_id(command.command_id, event.__name__),
            "workflow_id": command.workflow_id,
            "sequence": kept.sequence,
            "occurred_at": self.now,
            "command_id": command.command_id,
        }


def _summed(lines: Iterable[Line]) -> dict[str, int]:
    """Units by SKU, in SKU order; a SKU that stands on two lines counts once, with their sum."""
    wanted: dict[str, int] = {}
    for line in lines:
        _check_quantity(line.sku, line.quantity)
        wanted[line.sku] = wanted.get(line.sku, 0) + line.quantity
    if not wanted:
        raise Rejected("lines: none; a reservation needs at least one")
    return dict(sorted(wanted.items()))


def _no_consumption(known: Reservation, wanted: Mapping[str, int]) -> str | None:
    """Why the lines may not leave; None when they may."""
    if known.state not in HOLDING:
        return str(known.state)
    if known.closed:
        return "fenced"
    if any(quantity > known.lines.get(sku, 0) for sku, quantity in wanted.items()):
        return "short"
    return None


def _check_quantity(sku: str, quantity: int) -> None:
    if quantity < 1:
        raise Rejected(f"quantity {quantity} of {sku}: it must be 1 or more")


def _lines(quantities: Mapping[str, int]) -> tuple[Line, ...]:
    return tuple(Line(sku, quantity) for sku, quantity in quantities.items())
