"""What became of a message that was sent again? It is looked for in the inbox and among the parked ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import bindparam, func, or_, select, true
from sqlalchemy.dialects.postgresql import ARRAY

from fulcrum.operations.accounting import FAILED, SUCCEEDED
from fulcrum.operations.moves import SENT, move_item
from fulcrum.operations.relations import ITEMS, OPERATIONS
from fulcrum.store.database import Database, Row
from fulcrum.store.relations import ANSWER_LATER, SCHEMA_OF, messaging, uuid_column
from fulcrum.store.relations import PARKED_MESSAGES as PARKED

PARKED_AGAIN = "parked again"
TAKEN = "taken"
#: Items looked at in one go, and for how long after they were sent: longer than all retries together.
_BATCH = 500
_WATCHED = timedelta(hours=3)

# Only a copy that was kept after the item was begun is a second parking.
_AGAIN = (
    select(PARKED.c.id)
    .where(
        PARKED.c.message_id == ITEMS.c.message_id,
        PARKED.c.service == ITEMS.c.service,
        PARKED.c.kept_at > ITEMS.c.begun_at,
        # The row of an edited message is not the parking of one.
        PARKED.c.edited_from.is_(None),
        PARKED.c.id != ITEMS.c.parked_id,
    )
    .exists()
)
_UNOBSERVED = (
    select(ITEMS, _AGAIN.label("again"))
    .where(
        ITEMS.c.outcome == SENT,
        ITEMS.c.ended_at > func.clock_timestamp() - _WATCHED,
        or_(
            bindparam("operation", type_=uuid_column()).is_(None),
            ITEMS.c.operation_id == bindparam("operation", type_=uuid_column()),
        ),
    )
    .order_by(ITEMS.c.ended_at)
    .limit(_BATCH)
)


async def observe(db: Database, operation: str | None = None) -> int:
    """Look at the items that were sent, of one operation or of all; returns how many have an outcome now."""
    items = await db.all(_UNOBSERVED, {"operation": operation})
    taken = await _taken(db, [item for item in items if not item["again"]])
    seen = 0
    for item in items:
        if item["again"]:
            seen += await _settle(db, item, FAILED, PARKED_AGAIN)
        elif (item["service"], item["message_id"]) in taken:
            seen += await _settle(db, item, SUCCEEDED, TAKEN)
    return seen


async def _settle(db: Database, item: Row, state: str, outcome: str) -> bool:
    locked = select(OPERATIONS.c.id).where(OPERATIONS.c.id == item["operation_id"]).with_for_update()
    async with db.transaction() as tx:
        await tx.one(locked)
        return await move_item(tx, item, SUCCEEDED, state, outcome)


async def _taken(db: Database, items: Sequence[Row]) -> set[tuple[str, str]]:
    """Service and message id of those that took effect."""
    found: set[tuple[str, str]] = set()
    for service, schema in SCHEMA_OF.items():
        ids = [item["message_id"] for item in items if item["service"] == service]
        ids = [each for each in ids if _is_uuid(each)]
        if not ids:
            continue
        inbox = messaging(schema).inbox
        settled = select(inbox.c.message_id).where(
            inbox.c.consumer == service,
            inbox.c.message_id == bindparam("ids", type_=ARRAY(uuid_column())).any_(),
            true() if service in ANSWER_LATER else inbox.c.outcome.is_not(None),
        )
        found |= {(service, row["message_id"]) for row in await db.all(settled, {"ids": ids})}
    return found


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
