"""How is an operation stored, and what is known of it?"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Select,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from fulcrum.commands.parking import read_cursor, write_cursor
from fulcrum.errors import Conflict, NotFound
from fulcrum.operations.plan import Plan
from fulcrum.operations.relations import ITEMS, OPERATIONS
from fulcrum.operations.requests import Request, operation_id
from fulcrum.operations.selection import planned
from fulcrum.store.audit import Act, Outcome, enter
from fulcrum.store.database import Database, Row, Transaction

_LISTED = tuple(c for c in OPERATIONS.c if c.name != "fingerprint" and not c.name.startswith("lease_"))


class KeyReused(Conflict):
    """The key of the operation came before with another request."""


async def plan(db: Database, request: Request) -> Plan:
    """What ``request`` would take, without doing anything."""
    request.check()
    async with db.transaction() as tx:
        return await planned(tx, request, None)


async def create(
    db: Database,
    request: Request,
    key: str | None = None,
    audited: Act | None = None,
    outcome: Outcome = "done",
) -> tuple[Row, bool]:
    """Store an operation with its items frozen: the operation, and whether ``key`` had made it before.

    ``audited`` with ``outcome`` is what the audit keeps of it; without a target it is about the operation.
    Conflict when it would have nothing to do, and KeyReused when the key came with another request.
    """
    request.check()
    chosen = operation_id(key)
    values = {
        "id": chosen, "fingerprint": request.fingerprint(), "kind": request.kind, "state": "pending",
        "actor": request.actor, "reason": request.reason, "selection": request.selection(),
        "arguments": dict(request.arguments), "rate": request.rate, "canary": request.canary,
        "stop_ratio": request.stop_ratio, "matched": 0, "excluded": {}, "total": 0, "pending": 0,
        "history": [entry("create", request.actor, request.reason)],
    }  # fmt: skip
    async with db.transaction() as tx:
        made = upsert(OPERATIONS).values(values).on_conflict_do_nothing().returning(OPERATIONS.c.id)
        if await tx.one(made) is None:
            return await _first(tx, chosen, request), True
        found = await planned(tx, request, chosen)
        if not found.included:
            raise Conflict(f"there is nothing to {request.kind}: {_told(found)}")
        counted = {
            "matched": found.matched, "excluded": dict(found.excluded),
            "total": found.included, "pending": found.included,
        }  # fmt: skip
        stored = update(OPERATIONS).where(OPERATIONS.c.id == chosen).values(counted).returning(*_LISTED)
        row = await tx.one(stored)
        assert row is not None
        if audited is not None:
            told = {"operation": chosen, "kind": request.kind, **counted}
            about = audited if audited.target else replace(audited, target=chosen)
            await enter(tx, about, outcome, after=told)
    return row, False


async def _first(tx: Transaction, chosen: str, request: Request) -> Row:
    row = await tx.one(select(*_LISTED, OPERATIONS.c.fingerprint).where(OPERATIONS.c.id == chosen))
    assert row is not None
    if row.pop("fingerprint") != request.fingerprint():
        raise KeyReused(f"this key made operation {chosen} from another request; use a new key")
    return row


def _told(planned: Plan) -> str:
    told = ", ".join(f"{number} {reason}" for reason, number in sorted(planned.excluded.items()))
    return f"{planned.matched} matched" + (f" ({told})" if told else "")


async def get_operation(db: Database | Transaction, operation: str) -> Row:
    """One operation. NotFound when there is none."""
    row = await db.one(select(*_LISTED).where(OPERATIONS.c.id == known_operation(operation)))
    if row is None:
        raise NotFound(f"operation {operation} does not exist")
    return row


async def list_operations(
    db: Database, state: str | None = None, cursor: str | None = None, limit: int = 50
) -> tuple[list[Row], str | None]:
    """Newest first, and the cursor of the next page. Rejected for a cursor that was not given out."""
    query: Select[Any] = select(*_LISTED).order_by(OPERATIONS.c.created_at.desc(), OPERATIONS.c.id.desc())
    if state is not None:
        query = query.where(OPERATIONS.c.state == state)
    if cursor is not None:
        at, last = read_cursor(cursor)
        place = tuple_(literal(at, OPERATIONS.c.created_at.type), literal(last, OPERATIONS.c.id.type))
        query = query.where(tuple_(OPERATIONS.c.created_at, OPERATIONS.c.id) < place)
    rows = await db.all(query.limit(limit + 1))
    more = len(rows) > limit
    last_row = rows[limit - 1] if more else {}
    return rows[:limit], write_cursor(last_row["created_at"], last_row["id"]) if more else None


async def list_items(
    db: Database, operation: str, state: str | None = None, after: int = 0, limit: int = 50
) -> tuple[list[Row], int | None]:
    """Items in their order behind number ``after``, and the number that the next page begins behind."""
    await get_operation(db, operation)
    query: Select[Any] = select(ITEMS).where(
        ITEMS.c.operation_id == known_operation(operation), ITEMS.c.number > after
    )
    if state is not None:
        query = query.where(ITEMS.c.state == state)
    rows = await db.all(query.order_by(ITEMS.c.number).limit(limit + 1))
    return rows[:limit], rows[limit - 1]["number"] if len(rows) > limit else None


def entry(act: str, actor: str, reason: str) -> dict[str, str]:
    """What a person did, as the history of an operation keeps it."""
    return {"at": datetime.now(UTC).isoformat(), "act": act, "actor": actor, "reason": reason}


def known_operation(operation: str) -> str:
    """The id in its usual form; NotFound when no operation can have it."""
    try:
        return str(UUID(operation))
    except ValueError as error:
        raise NotFound(f"operation {operation!r} does not exist: ids are UUIDs") from error
