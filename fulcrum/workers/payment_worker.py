"""A payment command from inbox to answer: each move is decided and stored, and only then performed.

The provider is never asked inside a transaction. A crash between two moves leaves a row that says what may
have been asked; the command is delivered again, and the first move is then to look that up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import BindParameter, bindparam, select, update
from sqlalchemy.dialects.postgresql import insert

from fulcrum.commands.delivery import Delivery
from fulcrum.saga.messages import AuthorizePayment, StepCommand
from fulcrum.store import inbox, outbox
from fulcrum.store.database import Database, Transaction
from fulcrum.store.failures import SerializationFailure
from fulcrum.telemetry.metrics import commands_duplicate
from fulcrum.wire.codec import Codec
from fulcrum.wire.topics import Topics
from fulcrum.workers.answers import answer_row, inbox_key
from fulcrum.workers.handlers import PAYMENT_HANDLERS
from fulcrum.workers.payment_moves import (
    Ask,
    Authorize,
    Begun,
    Learned,
    LookUp,
    Payment,
    Repeat,
    Reply,
    Unheard,
    Void,
)
from fulcrum.workers.payment_relations import PAYMENT, PAYMENTS
from fulcrum.workers.provider import Provider

log = structlog.get_logger()

SERVICE = "payment"

_FIELDS = tuple(Payment.__dataclass_fields__)
# The primary key serves it. The lock orders the moves of one workflow.
_READ = (
    select(*[PAYMENT.c[name] for name in _FIELDS])
    .where(PAYMENT.c.workflow_id == bindparam("id"))
    .with_for_update()
)
_VALUES: dict[str, BindParameter[Any]] = {name: bindparam(f"new_{name}") for name in _FIELDS}
_INSERT = insert(PAYMENT).values(_VALUES).on_conflict_do_nothing()
_UPDATE = update(PAYMENT).where(PAYMENT.c.workflow_id == bindparam("id")).values(_VALUES)


class PaymentWorker:
    """Carries out payment commands, one at a time each."""

    def __init__(self, db: Database, codec: Codec, topics: Topics, provider: Provider) -> None:
        self._db = db
        self._codec = codec
        self._topics = topics
        self._provider = provider

    async def handle(self, batch: Sequence[Delivery]) -> None:
        """Carry out each command of ``batch`` to its answer."""
        for delivery in batch:
            ask = await self._begin(delivery)
            while ask is not None:
                ask = await self._go_on(delivery, await self._perform(ask, delivery.command))

    async def _begin(self, delivery: Delivery) -> Ask | None:
        """Claim the command and decide its first move; a repeat gets the stored answer."""
        async with self._db.transaction() as tx:
            fresh = await inbox.claim(tx, PAYMENTS, SERVICE, [inbox_key(delivery)])
            if not fresh and await self._repeat(tx, delivery):
                return None
            return await self._decide(tx, delivery, Begun.FRESH if fresh else Begun.AGAIN)

    async def _go_on(self, delivery: Delivery, learned: Learned) -> Ask | None:
        async with self._db.transaction() as tx:
            return await self._decide(tx, delivery, learned)

    async def _decide(self, tx: Transaction, delivery: Delivery, learned: Learned) -> Ask | None:
        command = delivery.command
        assert isinstance(command, StepCommand)
        row = await tx.one(_READ, {"id": command.workflow_id})
        known = None if row is None else Payment(**row)
        payment, move = PAYMENT_HANDLERS[type(command)](known, command, learned, datetime.now(UTC))
        if isinstance(move, Repeat):
            if not await self._repeat(tx, delivery):
                raise SerializationFailure("a copy of this command is being answered by another worker")
            return None
        if isinstance(move, Reply) and _only_counted(known, payment) and await self._repeat(tx, delivery):
            return None
        await _write(tx, known, payment)
        if isinstance(move, Reply):
            rows = [answer_row(self._codec, self._topics, SERVICE, move.event, delivery)]
            await inbox.record(tx, PAYMENTS, SERVICE, {delivery.message_id: rows})
            await outbox.add(tx, PAYMENTS, rows)
            return None
        asked: Ask = move
        return asked

    async def _repeat(self, tx: Transaction, delivery: Delivery) -> bool:
        """Emit the stored answer again; False when there is none yet."""
        stored = await inbox.outcomes(tx, PAYMENTS, SERVICE, [delivery.message_id])
        rows = stored.get(delivery.message_id)
        if rows is None:
            return False
        await outbox.add(tx, PAYMENTS, rows)
        commands_duplicate.labels(SERVICE, type(delivery.command).__name__).inc()
        return True

    async def _perform(self, ask: Ask, command: object) -> Learned:
        assert isinstance(command, StepCommand)
        match ask:
            case LookUp(key):
                return await self._provider.outcome_of(key) or Unheard(key)
            case Void(authorization_id, key):
                return await self._provider.void(authorization_id, key)
            case Authorize():
                assert isinstance(command, AuthorizePayment)
                return await self._provider.authorize(
                    command.command_id,
                    command.amount_minor,
                    command.currency,
                    command.payment_method,
                    command.workflow_id,
                )


def _only_counted(known: Payment | None, payment: Payment) -> bool:
    """Whether the answer moves nothing: then a copy that was asked at the same time may have given it."""
    return known is not None and payment == replace(known, sequence=payment.sequence)


async def _write(tx: Transaction, known: Payment | None, payment: Payment) -> None:
    if payment == known:
        return
    values = {f"new_{name}": value for name, value in asdict(payment).items()}
    if known is not None:
        await tx.execute(_UPDATE, {**values, "id": payment.workflow_id})
    elif not await tx.execute(_INSERT, values):
        raise SerializationFailure("another command began this payment meanwhile")
