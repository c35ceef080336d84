"""A courier command from inbox to answer: each move is decided and stored, and only then performed.

The courier is never asked inside a transaction. A crash between two moves leaves the command among the open
ones; it is delivered again, or taken up by the sweeper. A command that waits for the end of its shipment is
open too, until an update or a cancellation brings the end: see ``courier_news``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from fulcrum import crashpoint
from fulcrum.commands.delivery import Delivery
from fulcrum.errors import Corrupt
from fulcrum.saga.messages import CreateDelivery, StepCommand
from fulcrum.settings import Settings
from fulcrum.store import inbox, outbox
from fulcrum.store.database import Database, Transaction
from fulcrum.store.outbox import OutboxRow
from fulcrum.telemetry.metrics import commands_duplicate
from fulcrum.wire.codec import Codec
from fulcrum.wire.topics import Topics
from fulcrum.workers import courier_store
from fulcrum.workers.answers import answer_row, event_row, inbox_key
from fulcrum.workers.courier import settle
from fulcrum.workers.courier_moves import (
    OVER,
    Ask,
    Begun,
    Book,
    Learned,
    LookUp,
    Reply,
    Shipment,
    Stop,
    Unheard,
)
from fulcrum.workers.courier_port import Courier
from fulcrum.workers.courier_relations import COURIER
from fulcrum.workers.handlers import COURIER_HANDLERS
from fulcrum.workers.together import Together
from fulcrum.workers.transact import transact
from fulcrum.workers.turns import Turns

SERVICE = "courier"

#: Commands whose next moves are stored in one transaction, and such transactions side by side.
_TOGETHER, _AT_ONCE = 50, 2


@dataclass(frozen=True, slots=True)
class _Case:
    """A command, and what was learned since its last move; None before its first."""

    delivery: Delivery
    command: StepCommand
    learned: Learned | None = None


@dataclass(slots=True)
class _Step:
    """What is stored, emitted and asked next.

    ``opens`` is set when the command stays open for now. ``answers``: what each command that gets its first
    answer is answered with.
    """

    case: _Case
    shipment: Shipment | None
    emitted: list[OutboxRow]
    ask: Ask | None = None
    answers: Mapping[str, Sequence[OutboxRow]] | None = None
    opens: bool = False


class CourierWorker:
    """Carries out courier commands. Those that come side by side share their transactions."""

    def __init__(
        self, db: Database, codec: Codec, topics: Topics, courier: Courier, settings: Settings
    ) -> None:
        self._db = db
        self._codec = codec
        self._topics = topics
        self._courier = courier
        self._sweep_after = settings.courier_sweep_after
        self._poll = settings.courier_poll
        self._in_hand: Counter[str] = Counter()
        self._turns = Turns()
        self._next_ask = Together(self._next_asks, _TOGETHER, _AT_ONCE)

    async def handle(self, batch: Sequence[Delivery]) -> None:
        """Carry out each command of ``batch``, to its answer or until it waits; a repeat gets its first one.

        Raises what the courier's client raises, Rejected when a command makes no sense, Corrupt when its id
        was seen with another body.
        """
        for delivery in batch:
            command = delivery.command
            assert isinstance(command, StepCommand)
            with self._held(command.command_id):
                async with self._turns.of(command.workflow_id):
                    ask = await self._next_ask(_Case(delivery, command))
                    while ask is not None:
                        crashpoint.reached("courier.asking")
                        learned = await self._perform(ask, command)
                        crashpoint.reached("courier.asked")
                        ask = await self._next_ask(_Case(delivery, command, learned))

    def in_hand(self, command_id: str) -> bool:
        """Whether the command is being carried out here."""
        return self._in_hand[command_id] > 0

    @contextmanager
    def _held(self, command_id: str) -> Iterator[None]:
        self._in_hand[command_id] += 1
        try:
            yield
        finally:
            self._in_hand[command_id] -= 1
            if not self._in_hand[command_id]:
                del self._in_hand[command_id]

    async def _next_asks(self, cases: Sequence[_Case]) -> list[Ask | None]:
        """What to ask of the courier next, for each case; None when there is nothing to ask.

        No two cases are of one workflow: each has its turn.
        """

        async def work(tx: Transaction, _: int) -> list[Ask | None]:
            new = [inbox_key(case.delivery) for case in cases if case.learned is None]
            seen = {case.command.command_id for case in cases}
            seen -= await inbox.claim(tx, COURIER, SERVICE, new)
            known = await courier_store.lock(tx, [case.command.workflow_id for case in cases])
            # Under the lock: whoever was answering in another process has committed.
            stored = await inbox.outcomes(tx, COURIER, SERVICE, seen)
            steps = [self._step(case, known.get(case.command.workflow_id), stored) for case in cases]
            await self._settle(tx, steps, known)
            answers = {key: rows for step in steps for key, rows in (step.answers or {}).items()}
            changed = [step.shipment for step in steps if step.shipment is not None]
            courier_store.save(tx, known, changed, self._poll)
            await inbox.record(tx, COURIER, SERVICE, answers)
            courier_store.note(tx, [step.case.delivery for step in steps if step.opens], self._sweep_after)
            courier_store.close(tx, _closed(steps, answers, stored))
            await outbox.add(tx, COURIER, [row for step in steps for row in step.emitted])
            for step in steps:
                if step.emitted and step.case.command.command_id in stored and not step.answers:
                    tx.after_commit(commands_duplicate.labels(SERVICE, type(step.case.command).__name__).inc)
            return [step.ask for step in steps]

        return await transact(self._db, work, courier_store.MET)

    def _step(
        self, case: _Case, known: Shipment | None, stored: Mapping[str, Sequence[OutboxRow] | None]
    ) -> _Step:
        """The next move of a command, and what is stored and emitted before it.

        Even a command that is answered is decided upon: its copy may have made the courier book something
        after that. Once nothing is left to do, it gets the answer it got.
        """
        command, key = case.command, case.command.command_id
        fresh = case.learned is None and key not in stored
        learned = case.learned or (Begun.FRESH if fresh else Begun.AGAIN)
        shipment, move = COURIER_HANDLERS[type(command)](known, command, learned, datetime.now(UTC))
        changed = None if shipment == known else shipment
        if isinstance(move, Book | LookUp | Stop):
            return _Step(case, changed, [], ask=move, opens=fresh)
        answer = stored.get(key)
        if answer is not None:
            return _Step(case, None, list(answer))
        events = (move.event,) if isinstance(move, Reply) else move.events
        rows = [answer_row(self._codec, self._topics, SERVICE, each, case.delivery) for each in events]
        if isinstance(move, Reply):
            return _Step(case, changed, rows, answers={key: tuple(rows)})
        return _Step(case, changed, rows, opens=fresh)

    async def _settle(self, tx: Transaction, steps: Sequence[_Step], known: Mapping[str, Shipment]) -> None:
        """Answer the commands that wait for the end of a shipment that a step has just ended."""
        ended = {
            step.shipment.workflow_id: step
            for step in steps
            if step.shipment is not None and _just_over(step.shipment, known)
        }
        for workflow, waiting in (await courier_store.waiting(tx, ended)).items():
            step = ended[workflow]
            assert step.shipment is not None
            step.shipment, events = settle(step.shipment, list(waiting), datetime.now(UTC))
            rows = {
                event.command_id: [
                    event_row(self._codec, self._topics, SERVICE, event, waiting[event.command_id])
                ]
                for event in events
            }
            step.answers = {**(step.answers or {}), **rows}
            step.emitted += [row for given in rows.values() for row in given]

    async def _perform(self, ask: Ask, command: StepCommand) -> Learned:
        match ask:
            case LookUp(key):
                return await self._courier.booking_of(key) or Unheard(key)
            case Stop(shipment_id, key):
                return await self._courier.stop(shipment_id, key)
            case Book():
                if not isinstance(command, CreateDelivery):
                    raise Corrupt(f"{type(command).__name__} books no shipment")
                return await self._courier.book(
                    command.command_id, command.workflow_id, command.ship_to, command.parcels
                )


def _just_over(shipment: Shipment, known: Mapping[str, Shipment]) -> bool:
    before = known.get(shipment.workflow_id)
    return shipment.state in OVER and (before is None or before.state not in OVER)


def _closed(
    steps: Sequence[_Step],
    answers: Mapping[str, Sequence[OutboxRow]],
    stored: Mapping[str, Sequence[OutboxRow] | None],
) -> set[str]:
    """The commands that are answered, out of those that may be open: all but the new ones."""
    fresh = {
        step.case.command.command_id
        for step in steps
        if step.case.learned is None and step.case.command.command_id not in stored
    }
    repeated = {key for key, rows in stored.items() if rows is not None}
    asking = {step.case.command.command_id for step in steps if step.ask is not None}
    return (set(answers) | repeated) - fresh - asking
