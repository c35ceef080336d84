"""What an operator can see of parked messages: found by service, type, cause, workflow, status and time."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, literal, select, tuple_

from fulcrum.commands.parker import Parker as Parker
from fulcrum.errors import NotFound, Rejected
from fulcrum.store.database import Database, Row, Transaction
from fulcrum.store.relations import PARKED_MESSAGES as PARKED

STATUSES = ("parked", "replaying", "replayed", "edited", "discarded")

_HIDDEN = ("body", "headers", "decoded", "origin", "kept_at")
_LISTED = tuple(column for column in PARKED.c if column.name not in _HIDDEN)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which parked messages: all that is given must hold. ``group`` is a fingerprint, ``until`` excludes."""

    status: str | None = None
    service: str | None = None
    type: str | None = None
    group: str | None = None
    workflow_id: str | None = None
    message_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """As SQL. Rejected for a status that does not exist."""
        if self.status is not None and self.status not in STATUSES:
            raise Rejected(f"status {self.status!r} does not exist: one of {', '.join(STATUSES)}")
        same = {
            "status": self.status,
            "service": self.service,
            "type": self.type,
            "fingerprint": self.group,
            "workflow_id": self.workflow_id,
            "message_id": self.message_id,
        }
        found: list[ColumnElement[bool]] = [
            PARKED.c[name] == value for name, value in same.items() if value is not None
        ]
        if self.since is not None:
            found.append(PARKED.c.parked_at >= self.since)
        if self.until is not None:
            found.append(PARKED.c.parked_at < self.until)
        return found


ALL = Filter()


async def list_parked(
    db: Database, wanted: Filter = ALL, cursor: str | None = None, limit: int = 50
) -> tuple[list[Row], str | None]:
    """Newest first, without bodies and headers, and the cursor of the next page (None: this was the last).

    Rejected for a status or a cursor that does not exist.
    """
    query: Select[Any] = select(*_LISTED).order_by(PARKED.c.parked_at.desc(), PARKED.c.id.desc())
    query = query.where(*wanted.conditions())
    if cursor is not None:
        at, last = read_cursor(cursor)
        place = tuple_(literal(at, PARKED.c.parked_at.type), literal(last, PARKED.c.id.type))
        query = query.where(tuple_(PARKED.c.parked_at, PARKED.c.id) < place)
    rows = await db.all(query.limit(limit + 1))
    more = len(rows) > limit
    last_row = rows[limit - 1] if more else {}
    return rows[:limit], write_cursor(last_row["parked_at"], last_row["id"]) if more else None


def write_cursor(at: datetime, last: str) -> str:
    """Where a page ended, as the next one is asked for."""
    return base64.urlsafe_b64encode(json.dumps([at.isoformat(), last]).encode()).decode()


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """What ``write_cursor`` was given. Rejected for any other text."""
    try:
        at, last = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        return datetime.fromisoformat(at), str(UUID(last))
    except (ValueError, TypeError, AttributeError) as error:
        raise Rejected(f"cursor {cursor!r} is none that this list gave out") from error


async def get_parked(db: Database | Transaction, parked_id: str) -> Row:
    """Everything kept of one message. NotFound when there is none."""
    row = await db.one(select(PARKED).where(PARKED.c.id == known_id(parked_id)))
    if row is None:
        raise NotFound(f"parked message {parked_id} does not exist")
    return row


def known_id(parked_id: str) -> str:
    """``parked_id`` in its usual form; NotFound when no message can have it."""
    try:
        return str(UUID(parked_id))
    except ValueError as error:
        raise NotFound(f"parked message {parked_id!r} does not exist: ids are UUIDs") from error
