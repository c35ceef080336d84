"""How does an item that is a workflow move? It is begun, asked, and ends with what the workflow decided.

Several are open at once, because a decision takes a moment. As with messages, whoever moves an item holds the
operation's row under the epoch of its lease.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sqlalchemy import and_, bindparam, case, func, select, true, update

from fulcrum.operations import moves
from fulcrum.operations.accounting import FAILED, PENDING, SKIPPED, SUCCEEDED
from fulcrum.operations.kinds import verb_of
from fulcrum.operations.moves import Next, Work
from fulcrum.operations.plan import UNKNOWN
from fulcrum.operations.relations import ITEMS
from fulcrum.operations.requests import asked_id
from fulcrum.operations.workflow_selection import kept_out
from fulcrum.readmodel.relations import timeline, workflow_runs
from fulcrum.store.database import Database, Row

#: Puts the verb of an operation to the workflow of an item, under the item's ``message_id``; a second time
#: has no effect. Unavailable when it may be tried again; Rejected when it can never be.
Ask = Callable[[Row, Row], Awaitable[None]]

#: Workflows of one operation that have been asked and have not decided.
MOST_OPEN = 32


async def begin(db: Database, operation: str, epoch: int, canary_wait: float) -> Work | Next:
    """Begin the next item: it is to be asked now.

    OVER: it ended, was held up, or is in other hands. WAIT: enough are open, or the canaries are. One that
    decides nothing any more is skipped. Items that are open are waited for, however the operation stands.
    """
    async with db.transaction() as tx:
        found = await tx.one(moves.LOCK, {"operation": operation, "epoch": epoch})
        if found is None:
            return Next.OVER
        counted = await tx.one(_OPEN, {"operation": operation})
        assert counted is not None
        wait = Next.WAIT if counted["n"] else Next.OVER
        if found["state"] not in ("pending", "running") or counted["n"] >= MOST_OPEN:
            return wait
        item = await tx.one(_NEXT, {"operation": operation})
        if item is None:
            if wait is Next.OVER:
                await moves.set_state(tx, operation, "done", None)
            return wait
        if (held := await moves.held_up(tx, found, item, canary_wait)) is not None:
            return wait if held is Next.OVER else held
        verb = verb_of(found["kind"])
        assert verb is not None, found["kind"]
        workflow_id = item["workflow_id"]
        reason = case(*kept_out(verb, found["arguments"]), else_=None).label("reason")
        run = await tx.one(select(reason).where(workflow_runs.c.workflow_id == workflow_id))
        if run is None or run["reason"] is not None:
            await moves.move_item(tx, item, PENDING, SKIPPED, run["reason"] if run else UNKNOWN)
            return Next.MOVED
        item["message_id"] = asked_id(operation, workflow_id)
        place = {"operation": operation, "item_number": item["number"]}
        await tx.execute(_BEGIN, {**place, "asked": item["message_id"]})
        return Work(found, item, {})


async def begun(db: Database, operation: Row) -> list[Work]:
    """Items that were begun and are open: after a crash nobody knows whether they were asked."""
    rows = await db.all(select(ITEMS).where(*_IS_OPEN), {"operation": operation["id"]})
    return [Work(operation, row, {}) for row in rows]


async def refused(db: Database, work: Work, epoch: int, reason: str) -> bool:
    """Record that the workflow of ``work`` can never be asked; False when the lease is lost."""
    async with db.transaction() as tx:
        if await tx.one(moves.LOCK, {"operation": work.operation["id"], "epoch": epoch}) is None:
            return False
        await moves.move_item(tx, work.item, PENDING, FAILED, reason)
        return True


async def observe(db: Database, operation: str, epoch: int) -> int:
    """End the open items whose workflow has decided: what it is now, or why it refused. How many ended."""
    decided = await db.all(_DECIDED, {"operation": operation})
    if not decided:
        return 0
    async with db.transaction() as tx:
        if await tx.one(moves.LOCK, {"operation": operation, "epoch": epoch}) is None:
            return 0
        for item in decided:
            refusal = item["ignored"]
            after, told = (FAILED, refusal) if refusal else (SUCCEEDED, item["status"])
            await moves.move_item(tx, item, PENDING, after, told)
    return len(decided)


_IS_OPEN = (
    ITEMS.c.operation_id == bindparam("operation"),
    ITEMS.c.state == PENDING,
    ITEMS.c.begun_at.is_not(None),
)
_OPEN = select(func.count().label("n")).where(*_IS_OPEN)
_NEXT = (
    select(ITEMS)
    .where(
        ITEMS.c.operation_id == bindparam("operation"),
        ITEMS.c.state == PENDING,
        ITEMS.c.begun_at.is_(None),
    )
    .order_by(ITEMS.c.number)
    .limit(1)
)
_BEGIN = (
    update(ITEMS)
    .where(ITEMS.c.operation_id == bindparam("operation"), ITEMS.c.number == bindparam("item_number"))
    .values(begun_at=func.clock_timestamp(), message_id=bindparam("asked"))
)
# The first: a run may answer the same event again after a crash, with the same decision.
_ANSWER = (
    select(timeline.c.status, timeline.c.ignored)
    .where(
        timeline.c.workflow_id == ITEMS.c.workflow_id,
        timeline.c.cause["event_id"].astext == ITEMS.c.message_id,
    )
    .order_by(timeline.c.version)
    .limit(1)
    .lateral("answer")
)
_DECIDED = (
    select(ITEMS.c.operation_id, ITEMS.c.number, ITEMS.c.outcome, _ANSWER.c.status, _ANSWER.c.ignored)
    .select_from(ITEMS.join(_ANSWER, true()))
    .where(and_(*_IS_OPEN))
)
