"""A batch of inventory commands as one transaction: read, decide in memory, write back.

Stock rows are read without a lock and written under the version they were read with. When somebody else
changed one in between, the transaction is rolled back and the batch decided again on what is there then;
from the second try on, the stock is locked as it is read, so that a hot SKU costs one vain try and no more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Text, bindparam, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from fulcrum.commands.delivery import Delivery
from fulcrum.saga.messages import Command, ReceiveStock, ReleaseStock, ReserveStock
from fulcrum.store import inbox, outbox
from fulcrum.store.bulk import arrays, insert_rows, rows_of
from fulcrum.store.database import Database, Transaction
from fulcrum.store.failures import SerializationFailure
from fulcrum.store.outbox import OutboxRow
from fulcrum.store.relations import uuid_column
from fulcrum.telemetry.metrics import commands_duplicate
from fulcrum.wire.codec import Codec
from fulcrum.wire.topics import Topics
from fulcrum.workers.answers import answer_row, inbox_key
from fulcrum.workers.handlers import INVENTORY_HANDLERS
from fulcrum.workers.inventory_relations import INVENTORY, LEDGER, RESERVATION_LINES, RESERVATIONS, STOCK
from fulcrum.workers.stockroom import Reservation, State, Stock, Stockroom
from fulcrum.workers.transact import transact

SERVICE = "inventory"

_COUNTED = ("sku", "available", "reserved", "consumed", "version")
_RESERVED = ("workflow_id", "state", "sequence", "command_id", "attempt", "reason", "changed_at")
_HELD = ("workflow_id", "sku", "quantity")
_ENTERED = (
    "command_id",
    "sku",
    "kind",
    "available",
    "reserved",
    "consumed",
    "workflow_id",
    "reference",
    "at",
)

_IDS = bindparam("ids", type_=ARRAY(uuid_column())).any_()

# The reservation is the fence, so it is locked before all else. Its lines are read once the lock is held:
# whoever made them has committed by then.
_LOCK_RESERVATIONS = (
    select(RESERVATIONS)
    .where(RESERVATIONS.c.workflow_id == _IDS)
    .order_by(RESERVATIONS.c.workflow_id)
    .with_for_update()
)
_READ_LINES = (
    select(RESERVATION_LINES).where(RESERVATION_LINES.c.workflow_id == _IDS).order_by(RESERVATION_LINES.c.sku)
)
_READ_STOCK = (
    select(*[STOCK.c[name] for name in _COUNTED])
    .where(STOCK.c.sku == bindparam("skus", type_=ARRAY(Text)).any_())
    .order_by(STOCK.c.sku)
)
_LOCK_STOCK = _READ_STOCK.with_for_update()

# An UPDATE ... FROM takes its rows in no order, and two batches that take them in different orders would
# deadlock. So it takes only those that were locked before, in SKU order, under the version they were read
# with.
_given = rows_of(STOCK, _COUNTED)
_unchanged = (
    select(STOCK.c.sku)
    .join(_given, (STOCK.c.sku == _given.c.sku) & (STOCK.c.version == _given.c.version))
    .order_by(STOCK.c.sku)
    .with_for_update(of=STOCK)
    .cte("unchanged")
)
_WRITE_STOCK = (
    update(STOCK)
    .values(
        available=_given.c.available,
        reserved=_given.c.reserved,
        consumed=_given.c.consumed,
        version=STOCK.c.version + 1,
    )
    .where(STOCK.c.sku == _given.c.sku, STOCK.c.sku == _unchanged.c.sku)
)
# These meet an existing row only when another transaction has just made it: then the key is violated, and
# the batch is decided again.
_NEW_STOCK = insert_rows(STOCK, _COUNTED, order_by=("sku",))
_NEW_RESERVATIONS = insert_rows(RESERVATIONS, _RESERVED, order_by=("workflow_id",))
_NEW_LINES = insert_rows(RESERVATION_LINES, _HELD)
_NEW_ENTRIES = insert_rows(LEDGER, _ENTERED)
_moved = rows_of(RESERVATIONS, _RESERVED)
_WRITE_RESERVATIONS = (
    update(RESERVATIONS)
    .values({name: _moved.c[name] for name in _RESERVED if name != "workflow_id"})
    .where(RESERVATIONS.c.workflow_id == _moved.c.workflow_id)
)
_CREATED = frozenset({"stock_pkey", "reservations_pkey"})


class InventoryWorker:
    """Carries out inventory commands in batches."""

    def __init__(self, db: Database, codec: Codec, topics: Topics) -> None:
        self._db = db
        self._codec = codec
        self._topics = topics

    async def handle(self, batch: Sequence[Delivery]) -> None:
        """All of ``batch`` takes effect, or nothing: inbox, effects, answers; repeats get their first answer.

        Raises Rejected when a command makes no sense, Corrupt when an id was seen with another body.
        """

        async def work(tx: Transaction, tries: int) -> Collection[str]:
            fresh = await inbox.claim(tx, INVENTORY, SERVICE, [inbox_key(delivery) for delivery in batch])
            repeated = {delivery.message_id for delivery in batch} - fresh
            stored = await inbox.outcomes(tx, INVENTORY, SERVICE, repeated)
            answers = await self._carry_out(tx, [d for d in batch if d.message_id in fresh], lock=tries > 0)
            await inbox.record(tx, INVENTORY, SERVICE, answers)
            again = [row for rows in stored.values() for row in rows or ()]
            await outbox.add(tx, INVENTORY, [*again, *(row for rows in answers.values() for row in rows)])
            return repeated

        repeated = await transact(self._db, work, _CREATED)
        for delivery in batch:
            if delivery.message_id in repeated:
                commands_duplicate.labels(SERVICE, type(delivery.command).__name__).inc()

    async def _carry_out(
        self, tx: Transaction, batch: Sequence[Delivery], *, lock: bool
    ) -> Mapping[str, Sequence[OutboxRow]]:
        if not batch:
            return {}
        room = await _open(tx, [delivery.command for delivery in batch], lock=lock)
        answers: dict[str, Sequence[OutboxRow]] = {}
        for delivery in batch:
            event = INVENTORY_HANDLERS[type(delivery.command)](room, delivery.command)
            answers[delivery.message_id] = (
                [] if event is None else [answer_row(self._codec, self._topics, SERVICE, event, delivery)]
            )
        await _write_stock(tx, [room.stock[sku] for sku in sorted(room.changed_stock)])
        _write_reservations(tx, room)
        _write_ledger(tx, room)
        return answers


# --- reading --------------------------------------------------------------------------------------


async def _open(tx: Transaction, commands: Sequence[Command], *, lock: bool) -> Stockroom:
    """Read what the batch touches: its reservations, its SKUs, and the SKUs that are held."""
    ids = sorted({c.workflow_id for c in commands if isinstance(c, ReserveStock | ReleaseStock)})
    reservations = await _reservations(tx, ids) if ids else []
    skus = {sku for reservation in reservations for sku in reservation.lines}
    skus |= {line.sku for c in commands if isinstance(c, ReserveStock) for line in c.lines}
    skus |= {c.sku for c in commands if isinstance(c, ReceiveStock)}
    rows = await tx.all(_LOCK_STOCK if lock else _READ_STOCK, {"skus": sorted(skus)}) if skus else []
    return Stockroom([Stock(**row) for row in rows], reservations, datetime.now(UTC))


async def _reservations(tx: Transaction, ids: Sequence[str]) -> list[Reservation]:
    rows = await tx.all(_LOCK_RESERVATIONS, {"ids": ids})
    held = [row["workflow_id"] for row in rows if row["state"] == State.HELD]
    lines: dict[str, dict[str, int]] = {workflow: {} for workflow in held}
    if held:
        for line in await tx.all(_READ_LINES, {"ids": held}):
            lines[line["workflow_id"]][line["sku"]] = line["quantity"]
    return [
        Reservation(
            workflow_id=row["workflow_id"],
            state=row["state"],
            sequence=row["sequence"],
            command_id=row["command_id"],
            attempt=row["attempt"],
            lines=lines.get(row["workflow_id"], {}),
            reason=row["reason"],
            stored=row["sequence"],
        )
        for row in rows
    ]


# --- writing --------------------------------------------------------------------------------------


async def _write_stock(tx: Transaction, changed: Sequence[Stock]) -> None:
    known = [stock for stock in changed if stock.version > 0]
    given = arrays(_COUNTED, _values(_COUNTED, known))
    if known and await tx.execute(_WRITE_STOCK, given) != len(known):
        raise SerializationFailure("stock was changed by another transaction meanwhile")
    new = _values(_COUNTED, (stock for stock in changed if stock.version == 0))
    if new:
        tx.at_commit(_NEW_STOCK, arrays(_COUNTED, [{**row, "version": 1} for row in new]))


def _write_reservations(tx: Transaction, room: Stockroom) -> None:
    changed = [room.reservations[workflow] for workflow in sorted(room.changed_reservations)]
    for statement, chosen in (
        (_NEW_RESERVATIONS, [each for each in changed if not each.stored]),
        (_WRITE_RESERVATIONS, [each for each in changed if each.stored]),
    ):
        if chosen:
            tx.at_commit(statement, arrays(_RESERVED, _values(_RESERVED, chosen, changed_at=room.now)))
    lines = [
        {"workflow_id": each.workflow_id, "sku": sku, "quantity": quantity}
        for each in changed
        if each.workflow_id in room.new_holds
        for sku, quantity in each.lines.items()
    ]
    if lines:
        tx.at_commit(_NEW_LINES, arrays(_HELD, lines))


def _write_ledger(tx: Transaction, room: Stockroom) -> None:
    if room.entries:
        tx.at_commit(_NEW_ENTRIES, arrays(_ENTERED, _values(_ENTERED, room.entries, consumed=0, at=room.now)))


def _values(names: Sequence[str], things: Iterable[object], **rest: Any) -> list[dict[str, Any]]:
    return [
        {**{name: getattr(thing, name) for name in names if name not in rest}, **rest} for thing in things
    ]
