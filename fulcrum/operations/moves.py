"""How one item of an operation moves, with the message it stands for and the counts, in one transaction.

Whoever moves an item holds the operation's row, under the epoch of its lease: two runners never move one
item, and one that slept through its lease moves nothing.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, bindparam, func, insert, or_, select, update

from fulcrum.operations.accounting import (
    FAILED,
    PENDING,
    SKIPPED,
    SUCCEEDED,
    Counts,
    Gate,
    canary_gate,
    over_ratio,
)
from fulcrum.operations.kinds import KINDS
from fulcrum.operations.relations import ITEMS, OPERATIONS
from fulcrum.store.database import Database, Row, Transaction
from fulcrum.store.relations import PARKED_MESSAGES as PARKED
from fulcrum.telemetry.metrics import operation_items

#: The outcome of an item whose message left and has shown nothing yet.
SENT = "sent"
#: The service under which events are parked: nothing but a second parking shows what became of one.
EVENTS = "events"


@dataclass(frozen=True, slots=True)
class Work:
    """A message to send for an item that was begun."""

    operation: Row
    item: Row
    message: Row


class Next(enum.Enum):
    """What a step that gives no work means."""

    MOVED = "moved"
    WAIT = "wait"
    OVER = "over"


async def begin(db: Database, operation: str, epoch: int, canary_wait: float) -> Work | Next:
    """Begin the next item. Items of kinds that send nothing are moved at once.

    OVER: it ended, was held up, or is in other hands. WAIT: the canaries have shown nothing yet.
    """
    async with db.transaction() as tx:
        found = await tx.one(LOCK, {"operation": operation, "epoch": epoch})
        if found is None:
            return Next.OVER
        item = await tx.one(_NEXT_ITEM, {"operation": operation})
        if item is None:
            if found["state"] in ("pending", "running"):
                await set_state(tx, operation, "done", None)
            return Next.OVER
        if found["state"] not in ("pending", "running") and item["begun_at"] is None:
            return Next.OVER
        if item["begun_at"] is None and (held := await held_up(tx, found, item, canary_wait)) is not None:
            return held
        return await _take(tx, found, item)


async def held_up(tx: Transaction, operation: Row, item: Row, canary_wait: float) -> Next | None:
    """What keeps the next item from being begun, written down; None when nothing does."""
    counts = Counts.of(operation)
    if over_ratio(counts, operation["stop_ratio"]):
        judged, ratio = counts.succeeded + counts.failed, operation["stop_ratio"]
        told = f"{counts.failed} of {judged} failed, more than {ratio:g}"
        await set_state(tx, operation["id"], "stopped", told)
        return Next.OVER
    if not 0 < operation["canary"] < item["number"]:
        return None
    if operation["canary_until"] is None:
        await tx.execute(_ARM_CANARY, {"operation": operation["id"], "seconds": canary_wait})
        return Next.WAIT
    seen = await tx.one(_CANARIES, {"operation": operation["id"], "canaries": operation["canary"]})
    assert seen is not None
    gate = canary_gate(seen["failed"], seen["unseen"], seen["unseeable"], over=operation["canary_over"])
    if gate is Gate.STOP:
        told = f"{seen['failed']} of {operation['canary']} canaries failed or parked again"
        await set_state(tx, operation["id"], "stopped", told)
        return Next.OVER
    if gate is Gate.ASK:
        told = f"{seen['unseen']} of {operation['canary']} canaries have shown no outcome in time"
        await set_state(tx, operation["id"], "paused", told)
        return Next.OVER
    return Next.WAIT if gate is Gate.WAIT else None


async def _take(tx: Transaction, operation: Row, item: Row) -> Work | Next:
    kind = KINDS[operation["kind"]]
    status = "replaying" if kind.sends else kind.target
    message = await tx.one(
        _CLAIM,
        {
            "parked": item["parked_id"], "source": kind.source, "sends": kind.sends, "target": status,
            "operation": operation["id"], "by": operation["actor"], "why": operation["reason"],
        },
    )  # fmt: skip
    if message is None:
        now = await tx.one(select(PARKED.c.status).where(PARKED.c.id == item["parked_id"]))
        await move_item(tx, item, PENDING, SKIPPED, f"already {now['status'] if now else 'gone'}")
        return Next.MOVED
    if not kind.sends:
        await move_item(tx, item, PENDING, SUCCEEDED, kind.target)
        return Next.MOVED
    await tx.execute(_BEGIN_ITEM, {"operation": operation["id"], "item_number": item["number"]})
    return Work(operation, item, message)


async def sent(db: Database, work: Work, epoch: int, edited: Row | None = None) -> bool:
    """Record that the message of ``work`` left; ``edited`` is the new row of one that was edited.

    False when the lease is lost: another runner sends it again, under the same id.
    """
    kind = KINDS[work.operation["kind"]]
    async with db.transaction() as tx:
        if await tx.one(LOCK, {"operation": work.operation["id"], "epoch": epoch}) is None:
            return False
        if edited is not None:
            await tx.execute(insert(PARKED).values(edited))
        changed = {"status": kind.target, "status_at": func.clock_timestamp()}
        if edited is not None:
            changed["edited_as"] = edited["id"]
        await tx.execute(update(PARKED).where(PARKED.c.id == work.message["id"]).values(changed))
        await move_item(tx, work.item, PENDING, SUCCEEDED, SENT)
        return True


async def refused(db: Database, work: Work, epoch: int, reason: str) -> bool:
    """Record that the message of ``work`` can never be sent; it is parked as before."""
    async with db.transaction() as tx:
        if await tx.one(LOCK, {"operation": work.operation["id"], "epoch": epoch}) is None:
            return False
        back = {"status": "parked", "status_at": func.clock_timestamp()}
        await tx.execute(update(PARKED).where(PARKED.c.id == work.message["id"]).values(back))
        await move_item(tx, work.item, PENDING, FAILED, reason)
        return True


async def move_item(tx: Transaction, item: Row, before: str, after: str, outcome: str) -> bool:
    """Give ``item`` its outcome, once, and count it. Nothing happens when it is not ``before`` any more."""
    moved = await tx.execute(
        _MOVE_ITEM,
        {
            "operation": item["operation_id"], "item_number": item["number"], "before": before,
            "after": after, "told": outcome, "known": item["outcome"],
        },
    )  # fmt: skip
    if moved and before != after:
        counted = {
            OPERATIONS.c[before]: OPERATIONS.c[before] - 1,
            OPERATIONS.c[after]: OPERATIONS.c[after] + 1,
        }
        counting = update(OPERATIONS).where(OPERATIONS.c.id == item["operation_id"]).values(counted)
        operation = await tx.one(counting.returning(OPERATIONS.c.kind))
        assert operation is not None
        tx.after_commit(operation_items.labels(operation["kind"], after).inc)
    return bool(moved)


async def set_state(tx: Transaction, operation: str, state: str, why: str | None) -> None:
    """Let the operation, whose row the caller holds, stand at ``state``."""
    changed: dict[str, Any] = {"state": state, "why": why}
    if state == "done":
        changed["finished_at"] = func.clock_timestamp()
    await tx.execute(update(OPERATIONS).where(OPERATIONS.c.id == operation).values(changed))


LOCK = (
    select(OPERATIONS, (OPERATIONS.c.canary_until < func.clock_timestamp()).label("canary_over"))
    .where(OPERATIONS.c.id == bindparam("operation"), OPERATIONS.c.lease_epoch == bindparam("epoch"))
    .with_for_update()
)
# One that was begun comes first: after a crash nobody knows whether its message left.
_NEXT_ITEM = (
    select(ITEMS)
    .where(ITEMS.c.operation_id == bindparam("operation"), ITEMS.c.state == PENDING)
    .order_by(ITEMS.c.begun_at.nulls_last(), ITEMS.c.number)
    .limit(1)
)
_CLAIM = (
    update(PARKED)
    .where(
        PARKED.c.id == bindparam("parked"),
        or_(
            and_(PARKED.c.status == bindparam("source"), PARKED.c.body_deleted_at.is_(None)),
            and_(PARKED.c.status == bindparam("source"), bindparam("target") == "discarded"),
            and_(
                PARKED.c.status == "replaying",
                bindparam("sends"),
                func.coalesce(PARKED.c.operation_id, bindparam("operation")) == bindparam("operation"),
            ),
        ),
    )
    .values(
        status=bindparam("target"),
        status_at=func.clock_timestamp(),
        operation_id=bindparam("operation"),
        actor=bindparam("by"),
        note=bindparam("why"),
    )
    .returning(PARKED)
)
_BEGIN_ITEM = (
    update(ITEMS)
    .where(ITEMS.c.operation_id == bindparam("operation"), ITEMS.c.number == bindparam("item_number"))
    .values(begun_at=func.coalesce(ITEMS.c.begun_at, func.clock_timestamp()))
)
_MOVE_ITEM = (
    update(ITEMS)
    .where(
        ITEMS.c.operation_id == bindparam("operation"),
        ITEMS.c.number == bindparam("item_number"),
        ITEMS.c.state == bindparam("before"),
        ITEMS.c.outcome.is_not_distinct_from(bindparam("known")),
    )
    .values(state=bindparam("after"), outcome=bindparam("told"), ended_at=func.clock_timestamp())
)
_ARM_CANARY = (
    update(OPERATIONS)
    .where(OPERATIONS.c.id == bindparam("operation"))
    .values(canary_until=func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, bindparam("seconds")))
)
_CANARIES = select(
    func.count().filter(ITEMS.c.state == FAILED).label("failed"),
    func.count()
    .filter(or_(ITEMS.c.state == PENDING, and_(ITEMS.c.outcome == SENT, ITEMS.c.service != EVENTS)))
    .label("unseen"),
    func.count().filter(and_(ITEMS.c.outcome == SENT, ITEMS.c.service == EVENTS)).label("unseeable"),
).where(ITEMS.c.operation_id == bindparam("operation"), ITEMS.c.number <= bindparam("canaries"))
