"""What an operator can see of parked messages, and do about them."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, literal, select, tuple_, update

from fulcrum.commands import accounts
from fulcrum.commands.delivery import OWN_HEADERS
from fulcrum.commands.parker import Parker as Parker
from fulcrum.commands.parker import storable
from fulcrum.commands.publisher import CommandPublisher
from fulcrum.errors import Conflict, NotFound, Rejected
from fulcrum.store.database import Database, Row
from fulcrum.store.relations import PARKED_MESSAGES as PARKED

STATUSES = ("parked", "replaying", "replayed", "discarded")

_LISTED = tuple(column for column in PARKED.c if column.name not in ("body", "headers", "decoded"))


async def list_parked(
    db: Database, status: str | None = None, cursor: str | None = None, limit: int = 50
) -> tuple[list[Row], str | None]:
    """Newest first, without bodies and headers, and the cursor of the next page (None: this was the last).

    Rejected for a status or a cursor that does not exist.
    """
    if status is not None and status not in STATUSES:
        raise Rejected(f"status {status!r} does not exist: one of {', '.join(STATUSES)}")
    query: Select[Any] = select(*_LISTED).order_by(PARKED.c.parked_at.desc(), PARKED.c.id.desc())
    if status is not None:
        query = query.where(PARKED.c.status == status)
    if cursor is not None:
        at, last = _read_cursor(cursor)
        place = tuple_(literal(at, PARKED.c.parked_at.type), literal(last, PARKED.c.id.type))
        query = query.where(tuple_(PARKED.c.parked_at, PARKED.c.id) < place)
    rows = await db.all(query.limit(limit + 1))
    more = len(rows) > limit
    return rows[:limit], _write_cursor(rows[limit - 1]) if more else None


def _write_cursor(row: Row) -> str:
    return base64.urlsafe_b64encode(json.dumps([row["parked_at"].isoformat(), row["id"]]).encode()).decode()


def _read_cursor(cursor: str) -> tuple[datetime, str]:
    try:
        at, parked_id = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        return datetime.fromisoformat(at), str(UUID(parked_id))
    except (ValueError, TypeError, AttributeError) as error:
        raise Rejected(f"cursor {cursor!r} is none that this list gave out") from error


async def get_parked(db: Database, parked_id: str) -> Row:
    """Everything kept of one message. NotFound when there is none."""
    row = await db.one(select(PARKED).where(PARKED.c.id == _id(parked_id)))
    if row is None:
        raise NotFound(f"parked message {parked_id} does not exist")
    return row


async def replay(db: Database, publisher: CommandPublisher, parked_id: str, actor: str, reason: str) -> Row:
    """Send the message to its service again: same id, same body, attempts counted anew.

    A replay whose end was not seen (Unavailable) stays ``replaying`` and may be asked for again: the inbox
    makes a second copy harmless. NotFound; Conflict when it was replayed or discarded before.
    """
    row = await _move(db, parked_id, ("parked", "replaying"), "replaying", actor, reason)
    headers = {name: value for name, value in row["headers"].items() if name not in OWN_HEADERS}
    await publisher.publish(row["service"], row["body"], headers, row["message_id"], row["type"])
    await accounts.enter_published(
        db, row["message_id"], row["service"], row["type"], workflow_id=row["workflow_id"]
    )
    return await _move(db, parked_id, ("replaying", "replayed"), "replayed", actor, reason)


async def discard(db: Database, parked_id: str, actor: str, reason: str) -> Row:
    """Decide that the message is not needed. NotFound; Conflict when it was replayed or discarded before."""
    return await _move(db, parked_id, ("parked",), "discarded", actor, reason)


async def _move(
    db: Database, parked_id: str, expected: tuple[str, ...], status: str, actor: str, reason: str
) -> Row:
    for name, value in (("actor", actor), ("reason", reason)):
        if not value.strip():
            raise Rejected(f"{name} is empty: say who decides this and why")
    moved = await db.one(
        update(PARKED)
        .where(PARKED.c.id == _id(parked_id), PARKED.c.status.in_(expected))
        .values(status=status, status_at=func.now(), actor=storable(actor), note=storable(reason))
        .returning(PARKED)
    )
    if moved is None:
        found = await get_parked(db, parked_id)
        raise Conflict(
            f"parked message {parked_id} is {found['status']} by {found['actor']}: {found['note']}"
        )
    return moved


def _id(parked_id: str) -> str:
    try:
        return str(UUID(parked_id))
    except ValueError as error:
        raise NotFound(f"parked message {parked_id!r} does not exist: ids are UUIDs") from error
