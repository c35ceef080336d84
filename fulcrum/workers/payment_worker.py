"""A payment command from inbox to answer: each move is decided and stored, and only then performed.

The provider is never asked inside a transaction. A crash between two moves leaves a row that says what may
have been asked, and the command among the open ones. It is delivered again, or taken up by the sweeper, and
the first move is then to look that up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import bindparam, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from fulcrum import crashpoint
from fulcrum.commands.delivery import Delivery
from fulcrum.errors import Rejected
from fulcrum.saga.messages import AuthorizePayment, QueryPayment, StepCommand
from fulcrum.store import inbox, outbox
from fulcrum.store.bulk import insert_rows, rows_of
from fulcrum.store.database import Database, Transaction
from fulcrum.store.outbox import OutboxRow
from fulcrum.store.relations import uuid_column
from fulcrum.store.statements import lasting
from fulcrum.telemetry.metrics import commands_duplicate
from fulcrum.wire.codec import Codec
from fulcrum.wire.topics import Topics
from fulcrum.workers import open_commands
from fulcrum.workers.answers import answer_row, inbox_key
from fulcrum.workers.handlers import PAYMENT_HANDLERS
from fulcrum.workers.payment_moves import (
    Ask,
    Authorize,
    Begun,
    Capture,
    Learned,
    LookUp,
    Payment,
    Reauthorize,
    Refund,
    Reply,
    TellAndAsk,
    Unheard,
    Void,
)
from fulcrum.workers.payment_relations import PAYMENT, PAYMENTS
from fulcrum.workers.provider import Provider
from fulcrum.workers.together import Together
from fulcrum.workers.transact import transact
from fulcrum.workers.turns import Turns

SERVICE = "payment"

#: Commands whose next moves are stored in one transaction, and such transactions side by side.
_TOGETHER, _AT_ONCE = 50, 2

_FIELDS = tuple(Payment.__dataclass_fields__)
# The primary key serves it. The lock orders the moves of one workflow across processes.
_LOCK = lasting(
    select(*[PAYMENT.c[name] for name in _FIELDS])
    .where(PAYMENT.c.workflow_id == bindparam("ids", type_=ARRAY(uuid_column())).any_())
    .order_by(PAYMENT.c.workflow_id)
    .with_for_update()
)
# It meets an existing row only when another transaction has just made it: the moves are then decided again.
_INSERT = lasting(insert_rows(PAYMENT, _FIELDS, order_by=("workflow_id",)))
_moved = rows_of(PAYMENT, _FIELDS)
_UPDATE = lasting(
    update(PAYMENT)
    .values({name: _moved.c[name] for name in _FIELDS if name != "workflow_id"})
    .where(PAYMENT.c.workflow_id == _moved.c.workflow_id)
)
_CREATED = frozenset({"payments_pkey"})


@dataclass(frozen=True, slots=True)
class _Case:
    """A command, and what was learned since its last move; None before its first."""

    delivery: Delivery
    command: StepCommand
    learned: Learned | None = None


@dataclass(frozen=True, slots=True)
class _Step:
    """What is stored, emitted and asked next. ``answers``: the commands whose first answer is emitted.

    ``opens`` is set when the command's first call follows.
    """

    command: StepCommand
    payment: Payment | None = None
    ask: Ask | None = None
    emitted: Sequence[OutboxRow] = ()
    answers: Collection[str] = ()
    opens: Delivery | None = None


class PaymentWorker:
    """Carries out payment commands. Those that come side by side share their transactions.

    A command that is open for ``sweep_after`` seconds may be taken up by the sweeper.
    """

    def __init__(
        self, db: Database, codec: Codec, topics: Topics, provider: Provider, sweep_after: float = 30.0
    ) -> None:
        self._db = db
        self._codec = codec
        self._topics = topics
        self._provider = provider
        self._sweep_after = sweep_after
        self._in_hand: Counter[str] = Counter()
        self._turns = Turns()
        self._next_ask = Together(self._next_asks, _TOGETHER, _AT_ONCE)

    async def handle(self, batch: Sequence[Delivery]) -> None:
        """Carry out each command of ``batch`` to its answer; a repeat gets its first one.

        Raises what the provider's client raises, Rejected when a command makes no sense, Corrupt when its id
        was seen with another body.
        """
        for delivery in batch:
            command = delivery.command
            assert isinstance(command, StepCommand)
            with self._held(command.command_id):
                async with self._turns.of(command.workflow_id):
                    ask = await self._next_ask(_Case(delivery, command))
                    while ask is not None:
                        crashpoint.reached("provider.asking")
                        learned = await self._perform(ask, command)
                        crashpoint.reached("provider.asked")
                        ask = await self._next_ask(_Case(delivery, command, learned))

    def in_hand(self, command_id: str) -> bool:
        """Whether the command is being carried out here."""
        return command_id in self._in_hand

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
        """What to ask of the provider next, for each case; None when its command is answered.

        No two cases are of one workflow: each has its turn.
        """

        async def work(tx: Transaction, _: int) -> list[Ask | None]:
            new = [inbox_key(case.delivery) for case in cases if case.learned is None]
            seen = {case.command.command_id for case in cases}
            seen -= await inbox.claim(tx, PAYMENTS, SERVICE, new)
            seen |= {c.command.asked_command_id for c in cases if isinstance(c.command, QueryPayment)}
            rows = await tx.all(_LOCK, {"ids": sorted(case.command.workflow_id for case in cases)})
            # Under the lock: a copy that was answering in another process has committed.
            stored = await inbox.outcomes(tx, PAYMENTS, SERVICE, seen)
            known = {row["workflow_id"]: Payment(**row) for row in rows}
            steps = [self._step(case, known.get(case.command.workflow_id), stored) for case in cases]
            _save(tx, known, [step.payment for step in steps if step.payment is not None])
            answers = {answered: step.emitted for step in steps for answered in step.answers}
            await inbox.record(tx, PAYMENTS, SERVICE, answers)
            opened = [step.opens for step in steps if step.opens is not None]
            open_commands.note(tx, opened, self._sweep_after)
            open_commands.close(tx, _closed(cases, steps, stored))
            await outbox.add(tx, PAYMENTS, [row for step in steps for row in step.emitted])
            for step in steps:
                if step.emitted and not step.answers:
                    tx.after_commit(commands_duplicate.labels(SERVICE, type(step.command).__name__).inc)
            return [step.ask for step in steps]

        return await transact(self._db, work, _CREATED)

    def _step(
        self, case: _Case, known: Payment | None, stored: Mapping[str, Sequence[OutboxRow] | None]
    ) -> _Step:
        """The next move of a command, and what is stored and emitted before it.

        Even a command that is answered is decided upon: its copy may have made the provider hold something
        after that. Once nothing is left to do, it gets the answer it got. A query gets the answer of the
        command that it asks about, and when it learns that answer first, it is kept for both.
        """
        command = case.command
        learned = case.learned or (Begun.AGAIN if command.command_id in stored else Begun.FRESH)
        payment, move = PAYMENT_HANDLERS[type(command)](known, command, learned, datetime.now(UTC))
        changed = None if payment == known else payment
        opens = case.delivery if learned is Begun.FRESH else None
        if isinstance(move, Ask):
            return _Step(command, changed, ask=move, opens=opens)
        if isinstance(move, TellAndAsk):
            row = answer_row(self._codec, self._topics, SERVICE, move.event, case.delivery)
            told = {move.event.command_id}
            return _Step(command, changed, ask=move.ask, emitted=[row], answers=told, opens=opens)
        answer = stored.get(command.command_id)
        if answer is not None:
            return _Step(command, emitted=answer)
        if isinstance(command, QueryPayment):
            answer = stored.get(command.asked_command_id)
            if answer is not None:
                return _Step(command, emitted=answer, answers=(command.command_id,))
        if not isinstance(move, Reply):
            raise Rejected("this payment was answered for before, and its answer is no longer kept")
        row = answer_row(self._codec, self._topics, SERVICE, move.event, case.delivery)
        return _Step(command, changed, emitted=[row], answers={command.command_id, move.event.command_id})

    async def _perform(self, ask: Ask, command: StepCommand) -> Learned:
        match ask:
            case LookUp(key):
                return await self._provider.outcome_of(key) or Unheard(key)
            case Void(authorization_id, key):
                return await self._provider.void(authorization_id, key)
            case Reauthorize(authorization_id, key):
                return await self._provider.reauthorize(authorization_id, key)
            case Capture(authorization_id, amount_minor, key):
                return await self._provider.capture(authorization_id, amount_minor, key)
            case Refund(authorization_id, amount_minor, key):
                return await self._provider.refund(authorization_id, amount_minor, key)
            case Authorize():
                assert isinstance(command, AuthorizePayment)
                return await self._provider.authorize(
                    command.command_id,
                    command.amount_minor,
                    command.currency,
                    command.payment_method,
                    command.workflow_id,
                )


def _closed(
    cases: Sequence[_Case], steps: Sequence[_Step], stored: Mapping[str, Sequence[OutboxRow] | None]
) -> list[str]:
    """The commands that are answered, out of those that may be open: all but the new ones."""
    closed = set()
    for case, step in zip(cases, steps, strict=True):
        own = case.command.command_id
        closed |= set(step.answers) - {own}
        if step.ask is None and (case.learned is not None or own in stored):
            closed.add(own)
    return sorted(closed)


def _save(tx: Transaction, known: Mapping[str, Payment], changed: Sequence[Payment]) -> None:
    for statement, payments in (
        (_INSERT, [each for each in changed if each.workflow_id not in known]),
        (_UPDATE, [each for each in changed if each.workflow_id in known]),
    ):
        if payments:
            tx.at_commit(
                statement, {f"{name}_array": [getattr(each, name) for each in payments] for name in _FIELDS}
            )
