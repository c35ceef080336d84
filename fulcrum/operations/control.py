"""How does a person hold an operation up, let it go on, or end it?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, literal, select, update
from sqlalchemy.dialects.postgresql import JSONB

from fulcrum.errors import Conflict, NotFound
from fulcrum.operations.accounting import PENDING, SKIPPED
from fulcrum.operations.relations import ITEMS, OPERATIONS
from fulcrum.operations.store import entry, get_operation, known_operation
from fulcrum.store.audit import Act, enter
from fulcrum.store.database import Database, Row, Transaction

#: What a person may do to an operation: from which states, and to which.
_CONTROLS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "pause": (("pending", "running"), "paused"),
    "resume": (("paused", "stopped"), "running"),
    "abort": (("pending", "running", "paused", "stopped"), "aborted"),
}


async def control(
    db: Database, operation: str, act: str, actor: str, reason: str, audited: Act | None = None
) -> Row:
    """Pause, resume or abort. NotFound; Conflict when it does not stand where that can be done.

    Who resumes an operation that stopped by itself has seen why: its canaries and its ratio no longer count.
    What is aborted leaves the messages that were not begun as they are; one that was begun is finished.
    """
    sources, target = _CONTROLS[act]
    async with db.transaction() as tx:
        locked = (
            select(OPERATIONS.c.state).where(OPERATIONS.c.id == known_operation(operation)).with_for_update()
        )
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
        await enter(tx, audited, "done", before={"state": found["state"]}, after={"state": target})
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
