"""How an operation is planned, stored, read, and held up or given up by a person."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Text,
    and_,
    case,
    func,
    insert,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert

from fulcrum.commands.parking import Filter, known_id, read_cursor, write_cursor
from fulcrum.errors import Conflict, NotFound
from fulcrum.operations.accounting import ENDED, PENDING, SKIPPED
from fulcrum.operations.kinds import KINDS, Kind
from fulcrum.operations.plan import IN_ANOTHER, MOST, NO_BODY, Plan, plan_of
from fulcrum.operations.relations import ITEMS, OPERATIONS
from fulcrum.operations.requests import Request, edited_id, operation_id
from fulcrum.store.database import Database, Row, Transaction
from fulcrum.store.relations import PARKED_MESSAGES as PARKED

UNKNOWN = "does not exist"
_LISTED = tuple(c for c in OPERATIONS.c if c.name != "fingerprint" and not c.name.startswith("lease_"))
#: What a person may do to an operation: from which states, and to which.
_CONTROLS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "pause": (("pending", "running"), "paused"),
    "resume": (("paused", "stopped"), "running"),
    "abort": (("pending", "running", "paused", "stopped"), "aborted"),
}


class KeyReused(Conflict):
    """The key of the operation came before with another request."""


async def plan(db: Database, request: Request) -> Plan:
    """What ``request`` would take, without doing anything."""
    request.check()
    async with db.transaction() as tx:
        return await _planned(tx, request, None)


async def create(db: Database, request: Request, key: str | None = None) -> tuple[Row, bool]:
    """Store an operation with its messages frozen: the operation, and whether ``key`` had made it before.

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
        planned = await _planned(tx, request, chosen)
        if not planned.included:
            raise Conflict(f"there is nothing to {request.kind}: {_told(planned)}")
        counted = {
            "matched": planned.matched, "excluded": dict(planned.excluded),
            "total": planned.included, "pending": planned.included,
        }  # fmt: skip
        stored = update(OPERATIONS).where(OPERATIONS.c.id == chosen).values(counted).returning(*_LISTED)
        row = await tx.one(stored)
        assert row is not None
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


async def _planned(tx: Transaction, request: Request, operation: str | None) -> Plan:
    """Look at what is selected; with ``operation`` freeze what it takes, in the same statement."""
    kind = KINDS[request.kind]
    classified = _classified(request, kind).cte("classified")
    summary = select(classified.c.kept_out, func.count().label("n")).group_by(classified.c.kept_out)
    if operation is not None:
        summary = summary.add_cte(_frozen(request, operation, classified).cte("frozen"))
    found: dict[str | None, int] = {row["kept_out"]: row["n"] for row in await tx.all(summary)}
    missing = len(set(request.ids)) - sum(found.values())
    if missing > 0 and request.filter == Filter():
        found[UNKNOWN] = missing
    return plan_of(found, request.limit)


def _classified(request: Request, kind: Kind) -> Select[Any]:
    """Every selected message with what keeps it out, or null."""
    wanted = request.filter
    conditions = wanted.conditions()
    if request.ids:
        conditions.append(PARKED.c.id.in_([known_id(each) for each in request.ids]))
    elif wanted.status is None:
        conditions.append(PARKED.c.status == kind.source)
    open_elsewhere = (
        select(ITEMS.c.number)
        .join(OPERATIONS, OPERATIONS.c.id == ITEMS.c.operation_id)
        .where(ITEMS.c.parked_id == PARKED.c.id, ITEMS.c.state == PENDING, OPERATIONS.c.state.not_in(ENDED))
        .exists()
    )
    # One that is being replayed by no operation was left by a release that knew none.
    fit = [kind.source, "replaying"] if kind.sends else [kind.source]
    kept_out = case(
        (open_elsewhere, IN_ANOTHER),
        (PARKED.c.status.not_in(fit), func.concat("already ", PARKED.c.status)),
        (and_(PARKED.c.body_deleted_at.is_not(None), literal(kind.name != "discard")), NO_BODY),
        else_=None,
    )
    return select(
        PARKED.c.id, PARKED.c.service, PARKED.c.message_id, PARKED.c.parked_at, PARKED.c.origin,
        kept_out.label("kept_out"),
    ).where(*conditions)  # fmt: skip


def _frozen(request: Request, operation: str, classified: Any) -> Any:
    """Oldest first; events in the order of their log."""
    place = classified.c.origin
    order = (
        classified.c.parked_at,
        place["partition"].astext.cast(Integer),
        place["offset"].astext.cast(BigInteger),
        classified.c.id,
    )
    message_id: ColumnElement[Any] = classified.c.message_id
    if request.kind == "edit":
        (parked_id,) = request.ids
        message_id = literal(edited_id(operation, known_id(parked_id)), Text())
    number = func.row_number().over(order_by=order)
    chosen = (
        select(
            literal(operation, ITEMS.c.operation_id.type), number, classified.c.id, classified.c.service,
            message_id,
        )
        .where(classified.c.kept_out.is_(None))
        .order_by(*order)
        .limit(min(request.limit or MOST, MOST))
    )  # fmt: skip
    columns = ["operation_id", "number", "parked_id", "service", "message_id"]
    return insert(ITEMS).from_select(columns, chosen).returning(ITEMS.c.number)


async def get_operation(db: Database | Transaction, operation: str) -> Row:
    """One operation. NotFound when there is none."""
    row = await db.one(select(*_LISTED).where(OPERATIONS.c.id == _known(operation)))
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
        ITEMS.c.operation_id == _known(operation), ITEMS.c.number > after
    )
    if state is not None:
        query = query.where(ITEMS.c.state == state)
    rows = await db.all(query.order_by(ITEMS.c.number).limit(limit + 1))
    return rows[:limit], rows[limit - 1]["number"] if len(rows) > limit else None


async def control(db: Database, operation: str, act: str, actor: str, reason: str) -> Row:
    """Pause, resume or abort. NotFound; Conflict when it does not stand where that can be done.

    Who resumes an operation that stopped by itself has seen why: its canaries and its ratio no longer count.
    What is aborted leaves the messages that were not begun as they are; one that was begun is finished.
    """
    sources, target = _CONTROLS[act]
    async with db.transaction() as tx:
        locked = select(OPERATIONS.c.state).where(OPERATIONS.c.id == _known(operation)).with_for_update()
        found = await tx.one(locked)
        if found is None:
            raise NotFound(f"operation {operation} does not exist")
        if found["state"] == target:
            return await get_operation(tx, operation)
        if found["state"] not in sources:
            raise Conflict(f"operation {operation} is {found['state']}, so there is nothing to {act}")
        changed: dict[str, Any] = {
            "state": target,
            "why": None if act == "resume" else f"{act} by {actor}: {reason}",
            "history": OPERATIONS.c.history.op("||")(literal([entry(act, actor, reason)], JSONB)),
        }
        if found["state"] in ("paused", "stopped") and act == "resume":
            changed |= {"canary": 0, "stop_ratio": None} if found["state"] == "stopped" else {}
            changed |= {"canary_until": None}
        if act == "abort":
            changed |= await _give_up(tx, operation)
        await tx.execute(update(OPERATIONS).where(OPERATIONS.c.id == operation).values(changed))
        return await get_operation(tx, operation)


async def _give_up(tx: Transaction, operation: str) -> dict[str, Any]:
    """Skip what was not begun; what that changes in the operation."""
    skipped = await tx.execute(
        update(ITEMS)
        .where(ITEMS.c.operation_id == operation, ITEMS.c.state == PENDING, ITEMS.c.begun_at.is_(None))
        .values(state=SKIPPED, outcome="aborted", ended_at=func.clock_timestamp())
    )
    return {
        "pending": OPERATIONS.c.pending - skipped,
        "skipped": OPERATIONS.c.skipped + skipped,
        "finished_at": func.clock_timestamp(),
    }


def entry(act: str, actor: str, reason: str) -> dict[str, str]:
    """What a person did, as the history of an operation keeps it."""
    return {"at": datetime.now(UTC).isoformat(), "act": act, "actor": actor, "reason": reason}


def _known(operation: str) -> str:
    try:
        return str(UUID(operation))
    except ValueError as error:
        raise NotFound(f"operation {operation!r} does not exist: ids are UUIDs") from error
