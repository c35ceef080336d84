"""How is a stockroom read from Postgres, and written back under the versions it was read with?

Nothing needs a lock: a stock row is written under its version, a reservation under its sequence, and what is
new under its key. Whoever changed one in between makes the write fail on a constraint of ``MET``, and the
batch is decided again. Where others are about, the rows are locked as they are read, so that none is in vain.
Locks are taken in one order: messages, reservations, stock; each by its key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ScalarSelect,
    Select,
    Text,
    any_,
    bindparam,
    case,
    func,
    select,
    union_all,
    update,
)

from fulcrum.saga.messages import Command, ConsumeStock, HoldStock, ReceiveStock, ReserveStock, StepCommand
from fulcrum.store import inbox
from fulcrum.store.array_text import array_of
from fulcrum.store.bulk import arrays, insert_rows, rows_of
from fulcrum.store.database import Transaction
from fulcrum.store.relations import uuid_column
from fulcrum.store.statements import lasting
from fulcrum.workers.inventory_relations import INVENTORY, LEDGER, RESERVATION_LINES, RESERVATIONS, STOCK
from fulcrum.workers.stockroom import GONE, HOLDING, Reservation, Stock, Stockroom

SERVICE = "inventory"

#: Violated when another transaction changed or made what ours did not know of.
MET = frozenset(
    {
        "stock_version_check",
        "stock_pkey",
        "reservations_sequence_check",
        "reservations_pkey",
        "inbox_pkey",
    }
)

_COUNTED = ("sku", "available", "reserved", "consumed", "version")
_RESERVED = (
    "workflow_id",
    "state",
    "sequence",
    "command_id",
    "attempt",
    "reason",
    "expires_at",
    "closed",
    "changed_at",
)
_NAMING = (ReserveStock, HoldStock, ConsumeStock)
_HELD = ("workflow_id", "sku", "quantity")
_LEFT = ("workflow_id", "sku", "consumed")
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

# --- reading --------------------------------------------------------------------------------------

_WORKFLOWS = any_(array_of("workflows", uuid_column()))
#: What the batch names, and what the reservations it names hold.
_SKUS = union_all(
    select(func.unnest(array_of("skus", Text()))),
    select(RESERVATION_LINES.c.sku).where(RESERVATION_LINES.c.workflow_id == _WORKFLOWS),
)
_LOCK_RESERVATIONS = lasting(
    select(RESERVATIONS.c.workflow_id)
    .where(RESERVATIONS.c.workflow_id == _WORKFLOWS)
    .order_by(RESERVATIONS.c.workflow_id)
    .with_for_update()
)
_LAPSED = lasting(
    select(RESERVATIONS.c.workflow_id, RESERVATIONS.c.command_id)
    .where(RESERVATIONS.c.expires_at <= func.clock_timestamp())
    .order_by(RESERVATIONS.c.expires_at)
    .limit(bindparam("most", type_=BigInteger))
    .with_for_update(skip_locked=True)
)
_LOCK_STOCK = lasting(
    select(STOCK.c.sku).where(STOCK.c.sku.in_(_SKUS)).order_by(STOCK.c.sku).with_for_update()
)


def _json(rows: Select[Any]) -> ScalarSelect[Any]:
    """The rows as one value, so that one statement brings several kinds of them."""
    given = rows.subquery()
    return select(func.json_agg(given.table_valued())).scalar_subquery()


_lines, _left = (
    select(func.json_object_agg(RESERVATION_LINES.c.sku, quantity))
    .where(RESERVATION_LINES.c.workflow_id == RESERVATIONS.c.workflow_id, quantity > 0)
    .scalar_subquery()
    for quantity in (RESERVATION_LINES.c.quantity, RESERVATION_LINES.c.consumed)
)
_READ = lasting(
    select(
        func.clock_timestamp().label("now"),
        _json(inbox.seen(INVENTORY)).label("messages"),
        _json(
            select(
                *[RESERVATIONS.c[name] for name in _RESERVED if name != "changed_at"],
                case(
                    (RESERVATIONS.c.state.in_(sorted(HOLDING)), _lines),
                    (RESERVATIONS.c.state.in_(sorted(GONE)), _left),
                ).label("lines"),
            ).where(RESERVATIONS.c.workflow_id == _WORKFLOWS)
        ).label("reservations"),
        _json(select(*[STOCK.c[name] for name in _COUNTED]).where(STOCK.c.sku.in_(_SKUS))).label("stock"),
    )
)


@dataclass(frozen=True, slots=True)
class Found:
    """What a batch touches, and the messages of it that are in the inbox."""

    room: Stockroom
    seen: Mapping[str, inbox.Seen]


async def read(
    tx: Transaction,
    commands: Sequence[Command],
    bodies: Mapping[str, bytes],
    ttl: timedelta | None,
    *,
    lock: bool,
) -> Found:
    """Read it in one round trip. With ``lock``, the messages are claimed and the rows locked before."""
    workflows = sorted({c.workflow_id for c in commands if isinstance(c, StepCommand)})
    skus = {line.sku for c in commands if isinstance(c, _NAMING) for line in c.lines}
    skus |= {c.sku for c in commands if isinstance(c, ReceiveStock)}
    given: dict[str, Any] = {"workflows": workflows, "skus": sorted(skus)}
    if lock:
        inbox.claim_ahead(tx, INVENTORY, SERVICE, bodies)
        tx.ahead(_LOCK_RESERVATIONS, {"workflows": workflows})
        tx.ahead(_LOCK_STOCK, given)
    return await _found(tx, given, list(bodies), ttl)


async def read_lapsed(tx: Transaction, most: int) -> Found:
    """Lock and read reservations that have lapsed by the database's clock, the oldest first.

    Those that another transaction is at are left to it. What is seen are the commands that made the holds.
    """
    lapsed = await tx.all(_LAPSED, {"most": most})
    workflows = sorted(row["workflow_id"] for row in lapsed)
    if not workflows:
        return Found(Stockroom((), (), datetime.now(UTC)), {})
    given: dict[str, Any] = {"workflows": workflows, "skus": []}
    tx.ahead(_LOCK_STOCK, given)
    return await _found(tx, given, sorted({row["command_id"] for row in lapsed}), None)


async def _found(
    tx: Transaction, given: Mapping[str, Any], messages: Sequence[str], ttl: timedelta | None
) -> Found:
    row = await tx.one(_READ, {**given, "consumer": SERVICE, "messages": messages})
    assert row is not None
    room = Stockroom(
        [Stock(**each) for each in row["stock"] or ()],
        [_reservation(each) for each in row["reservations"] or ()],
        row["now"],
        ttl,
    )
    return Found(room, inbox.read_seen(row["messages"]))


def _reservation(row: Mapping[str, Any]) -> Reservation:
    lapses = row["expires_at"]
    return Reservation(
        workflow_id=row["workflow_id"],
        state=row["state"],
        sequence=row["sequence"],
        command_id=row["command_id"],
        attempt=row["attempt"],
        lines=dict(sorted((row["lines"] or {}).items())),
        reason=row["reason"],
        stored=row["sequence"],
        expires_at=None if lapses is None else datetime.fromisoformat(lapses),
        closed=row["closed"],
    )


# --- writing --------------------------------------------------------------------------------------

# An UPDATE takes its rows in no order, and two batches that take them in different orders would deadlock. So
# several rows are locked before, in order. A number that another transaction has moved on becomes 0, which
# the column's check refuses: that ends the transaction inside its last round trip.
_counted = rows_of(STOCK, _COUNTED)
_WRITE_STOCK = lasting(
    update(STOCK)
    .values(
        available=_counted.c.available,
        reserved=_counted.c.reserved,
        consumed=_counted.c.consumed,
        version=case((STOCK.c.version == _counted.c.version, STOCK.c.version + 1), else_=0),
    )
    .where(STOCK.c.sku == _counted.c.sku)
)
_moved = rows_of(RESERVATIONS, _RESERVED, stored=BigInteger())
_WRITE_RESERVATIONS = lasting(
    update(RESERVATIONS)
    .values(
        {
            **{name: _moved.c[name] for name in _RESERVED if name not in ("workflow_id", "sequence")},
            "sequence": case((RESERVATIONS.c.sequence == _moved.c.stored, _moved.c.sequence), else_=0),
        }
    )
    .where(RESERVATIONS.c.workflow_id == _moved.c.workflow_id)
)
_NEW_STOCK = lasting(insert_rows(STOCK, _COUNTED, order_by=("sku",)))
_NEW_RESERVATIONS = lasting(insert_rows(RESERVATIONS, _RESERVED, order_by=("workflow_id",)))
_NEW_LINES = lasting(insert_rows(RESERVATION_LINES, _HELD))
_gone = rows_of(RESERVATION_LINES, _LEFT)
# Whoever changes a line has changed its reservation before, and so holds its lock.
_CONSUMED_LINES = lasting(
    update(RESERVATION_LINES)
    .values(consumed=_gone.c.consumed)
    .where(RESERVATION_LINES.c.workflow_id == _gone.c.workflow_id, RESERVATION_LINES.c.sku == _gone.c.sku)
)
_NEW_ENTRIES = lasting(insert_rows(LEDGER, _ENTERED))


def write(tx: Transaction, room: Stockroom) -> None:
    """Write back what changed when ``tx`` commits."""
    _write_reservations(tx, room)
    _write_stock(tx, [room.stock[sku] for sku in sorted(room.changed_stock)])
    _write_lines(tx, room)
    if room.entries:
        tx.at_commit(_NEW_ENTRIES, arrays(_ENTERED, _values(_ENTERED, room.entries, at=room.now)))


def _write_reservations(tx: Transaction, room: Stockroom) -> None:
    changed = [room.reservations[workflow] for workflow in sorted(room.changed_reservations)]
    known = [each for each in changed if each.stored]
    if known:
        if len(known) > 1:
            tx.at_commit(_LOCK_RESERVATIONS, {"workflows": [each.workflow_id for each in known]})
        names = (*_RESERVED, "stored")
        tx.at_commit(_WRITE_RESERVATIONS, arrays(names, _values(names, known, changed_at=room.now)))
    new = [each for each in changed if not each.stored]
    if new:
        tx.at_commit(_NEW_RESERVATIONS, arrays(_RESERVED, _values(_RESERVED, new, changed_at=room.now)))


def _write_stock(tx: Transaction, changed: Sequence[Stock]) -> None:
    known = [stock for stock in changed if stock.version > 0]
    if known:
        if len(known) > 1:
            tx.at_commit(_LOCK_STOCK, {"skus": [stock.sku for stock in known], "workflows": []})
        tx.at_commit(_WRITE_STOCK, arrays(_COUNTED, _values(_COUNTED, known)))
    new = [stock for stock in changed if stock.version == 0]
    if new:
        tx.at_commit(_NEW_STOCK, arrays(_COUNTED, _values(_COUNTED, new, version=1)))


def _write_lines(tx: Transaction, room: Stockroom) -> None:
    for statement, names, changed in (
        (_NEW_LINES, _HELD, room.new_holds),
        (_CONSUMED_LINES, _LEFT, room.new_consumptions),
    ):
        lines = [
            dict(zip(names, (workflow, sku, quantity), strict=True))
            for workflow, held in sorted(changed.items())
            for sku, quantity in held.items()
        ]
        if lines:
            tx.at_commit(statement, arrays(names, lines))


def _values(names: Sequence[str], things: Iterable[object], **rest: Any) -> list[dict[str, Any]]:
    return [
        {**{name: getattr(thing, name) for name in names if name not in rest}, **rest} for thing in things
    ]
