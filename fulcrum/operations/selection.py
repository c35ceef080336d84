"""What does an operation take? Looked at, or frozen as its items in the same statement.

Here are the parked messages; workflows have a room of their own.
"""

from __future__ import annotations

from typing import Any

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
)

from fulcrum.commands.parking import Filter, known_id
from fulcrum.operations.accounting import ENDED, PENDING
from fulcrum.operations.kinds import KINDS, Kind
from fulcrum.operations.plan import IN_ANOTHER, MOST, NO_BODY, UNKNOWN, Plan, plan_of
from fulcrum.operations.relations import ITEMS, OPERATIONS
from fulcrum.operations.requests import Request, edited_id
from fulcrum.operations.workflow_selection import planned_workflows
from fulcrum.store.database import Transaction
from fulcrum.store.relations import PARKED_MESSAGES as PARKED


async def planned(tx: Transaction, request: Request, operation: str | None) -> Plan:
    """Look at what is selected; with ``operation`` freeze what it takes, in the same statement."""
    if request.workflows is not None:
        return await planned_workflows(tx, request, request.workflows, operation)
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
