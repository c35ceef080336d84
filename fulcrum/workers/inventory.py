"""A batch of inventory commands as one transaction: read, decide in memory, write back.

Stock rows are written under the version they were read with. Somebody else's change in between fails the
whole transaction (``SerializationFailure``), and the batch is tried again on what is there then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import BigInteger, Text, bindparam, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from fulcrum.commands.delivery import Delivery
from fulcrum.saga.messages import ReceiveStock, ReleaseStock, ReserveStock
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
from fulcrum.workers.stockroom import Reservation, Stock, Stockroom

SERVICE = "inventory"

_COUNTED = ("sku", "available", "reserved", "consumed", "version")
_RESERVED = ("workflow_id", "state", "sequence", "command_id", "attempt", "reason", "changed_at")
_HELD = ("workflow_id", "sku", "quantity")
_ENTERED = ("command_id", "sku", "kind", "available", "reserved", "workflow_id", "reference", "at")

# The primary keys serve these; nothing is locked while the batch is decided.
_READ_STOCK = select(*[STOCK.c[name] for name in _COUNTED]).where(
    STOCK.c.sku == bindparam("skus", type_=ARRAY(Text)).any_()
)
_READ_RESERVATIONS = select(RESERVATIONS).where(
    RESERVATIONS.c.workflow_id == bindparam("ids", type_=ARRAY(uuid_column())).any_()
)
_READ_LINES = (
    select(RESERVATION_LINES)
    .where(RESERVATION_LINES.c.workflow_id == bindparam("ids", type_=ARRAY(uuid_column())).any_())
    .order_by(RESERVATION_LINES.c.sku)
)
_NEW_STOCK = insert_rows(STOCK, _COUNTED, order_by=("sku",)).on_conflict_do_nothing()
# Two batches that touch the same SKUs would deadlock if they wrote them in different orders, and an
# UPDATE ... FROM has no order: so the rows are locked in SKU order first, under the version read.
_given = rows_of(STOCK, _COUNTED)
_LOCK_STOCK = (
    select(STOCK.c.sku)
    .join(_given, (STOCK.c.sku == _given.c.sku) & (STOCK.c.version == _given.c.version))
    .order_by(STOCK.c.sku)
    .with_for_update(of=STOCK)
)
_WRITE_STOCK = (
    update(STOCK)
    .values(
        available=_given.c.available,
        reserved=_given.c.reserved,
        consumed=_given.c.consumed,
        version=STOCK.c.version + 1,
    )
    .where(STOCK.c.sku == _given.c.sku, STOCK.c.version == _given.c.version)
)
_insert_reservations = insert_rows(RESERVATIONS, _RESERVED, order_by=("workflow_id",))
# The sequence is the reservation's version: a row that is not where it was read is not overwritten.
_WRITE_RESERVATIONS = _insert_reservations.on_conflict_do_update(
    index_elements=[RESERVATIONS.c.workflow_id],
    set_={name: _insert_reservations.excluded[name] for name in _RESERVED if name != "workflow_id"},
    where=RESERVATIONS.c.sequence
    == _insert_reservations.excluded.sequence - bindparam("answers", type_=BigInteger),
)
_NEW_LINES = insert_rows(RESERVATION_LINES, _HELD)
_NEW_ENTRIES = insert_rows(LEDGER, _ENTERED)


class InventoryWorker:
    """Carries out inventory commands in batches."""

    def __init__(self, db: Database, codec: Codec, topics: Topics) -> None:
        self._db = db
        self._codec = codec
        self._topics = topics

    async def handle(self, batch: Sequence[Delivery]) -> None:
        """All of ``batch`` in one transaction: inbox, effects, answers; repeats get their first answer."""
        async with self._db.transaction() as tx:
            fresh = await inbox.claim(tx, INVENTORY, SERVICE, [inbox_key(delivery) for delivery in batch])
            repeated = {d.message_id for d in batch} - fresh
            stored = await inbox.outcomes(tx, INVENTORY, SERVICE, repeated)
            answers = await self._carry_out(tx, [d for d in batch if d.message_id in fresh])
            await inbox.record(tx, INVENTORY, SERVICE, answers)
            again = {message_id: rows or [] for message_id, rows in stored.items()}
            await outbox.add(tx, INVENTORY, [row for rows in {**again, **answers}.values() for row in rows])
        for delivery in batch:
            if delivery.message_id in repeated:
                commands_duplicate.labels(SERVICE, type(delivery.command).__name__).inc()

    async def _carry_out(
        self, tx: Transaction, batch: Sequence[Delivery]
    ) -> Mapping[str, Sequence[OutboxRow]]:
        if not batch:
            return {}
        now = datetime.now(UTC)
        room = await _open(tx, batch, now)
        answers: dict[str, Sequence[OutboxRow]] = {}
        for delivery in batch:
            event = INVENTORY_HANDLERS[type(delivery.command)](room, delivery.command)
            answers[delivery.message_id] = (
                [] if event is None else [answer_row(self._codec, self._topics, SERVICE, event, delivery)]
            )
        await _write(tx, room, now)
        return answers


async def _open(tx: Transaction, batch: Sequence[Delivery], now: datetime) -> Stockroom:
    """Read what the batch touches: its SKUs, its reservations, and the SKUs those hold."""
    commands = [delivery.command for delivery in batch]
    ids = sorted({c.workflow_id for c in commands if isinstance(c, ReserveStock | ReleaseStock)})
    lines: dict[str, dict[str, int]] = {}
    reservations: list[Reservation] = []
    if ids:
        for row in await tx.all(_READ_LINES, {"ids": ids}):
            lines.setdefault(row["workflow_id"], {})[row["sku"]] = row["quantity"]
        for row in await tx.all(_READ_RESERVATIONS, {"ids": ids}):
            held = lines.get(row["workflow_id"], {}) if row["state"] == "held" else {}
            reservations.append(
                Reservation(
                    row["workflow_id"],
                    row["state"],
                    row["sequence"],
                    row["command_id"],
                    row["attempt"],
                    held,
                    row["reason"],
                )
            )
    skus = {sku for reservation in reservations for sku in reservation.lines}
    skus |= {line.sku for c in commands if isinstance(c, ReserveStock) for line in c.lines}
    skus |= {c.sku for c in commands if isinstance(c, ReceiveStock)}
    stock = [Stock(**row) for row in await tx.all(_READ_STOCK, {"skus": sorted(skus)})]
    return Stockroom(stock, reservations, now)


async def _write(tx: Transaction, room: Stockroom, now: datetime) -> None:
    """Reservations first (they are the fence), then the stock in SKU order, then the ledger."""
    await _write_reservations(tx, room, now)
    changed = [room.stock[sku] for sku in sorted(room.changed_stock)]
    await _write_stock(tx, changed)
    if room.entries:
        rows = [{**{n: getattr(e, n) for n in _ENTERED if n != "at"}, "at": now} for e in room.entries]
        await tx.execute(_NEW_ENTRIES, arrays(_ENTERED, rows))


async def _write_reservations(tx: Transaction, room: Stockroom, now: datetime) -> None:
    kept = [room.reservations[workflow] for workflow in sorted(room.changed_reservations)]
    if not kept:
        return
    # Almost always one statement: a workflow seldom has two commands in a batch.
    for answers in sorted(set(room.changed_reservations.values())):
        same = [r for r in kept if room.changed_reservations[r.workflow_id] == answers]
        rows = [{**{n: getattr(r, n) for n in _RESERVED[:-1]}, "changed_at": now} for r in same]
        written = await tx.execute(_WRITE_RESERVATIONS, {**arrays(_RESERVED, rows), "answers": answers})
        if written != len(rows):
            raise SerializationFailure("a reservation was changed by another transaction meanwhile")
    lines = [
        {"workflow_id": r.workflow_id, "sku": sku, "quantity": quantity}
        for r in kept
        if r.workflow_id in room.new_holds
        for sku, quantity in r.lines.items()
    ]
    if lines:
        await tx.execute(_NEW_LINES, arrays(_HELD, lines))


async def _write_stock(tx: Transaction, changed: Sequence[Stock]) -> None:
    rows = [{name: getattr(stock, name) for name in _COUNTED} for stock in changed]
    new = [{**row, "version": 1} for row in rows if row["version"] == 0]
    known = [row for row in rows if row["version"] > 0]
    written = await tx.execute(_NEW_STOCK, arrays(_COUNTED, new)) if new else 0
    if known:
        await tx.all(_LOCK_STOCK, arrays(_COUNTED, known))
        written += await tx.execute(_WRITE_STOCK, arrays(_COUNTED, known))
    if written != len(rows):
        raise SerializationFailure("stock was changed by another transaction meanwhile")
