"""Who changed what: the audit, read page by page."""

from __future__ import annotations

from fulcrum.commands.parking import read_cursor, write_cursor
from fulcrum.errors import Rejected
from fulcrum.store import audit
from fulcrum.web.audit_shapes import AuditEntry, AuditPage, AuditQuery
from fulcrum.web.operation import Answer, Call
from fulcrum.web.problem import FieldError, Problem
from fulcrum.web.services import Services


async def list_audit(services: Services, call: Call, *, query: AuditQuery) -> Answer:
    """List what people and programs changed, newest first.

    An act that takes longer has two entries with one `act`: `began`, and its end. Rows are never changed.
    """
    try:
        place = read_cursor(query.cursor) if query.cursor else None
    except Rejected as error:
        raise Problem(
            "invalid-parameter", str(error), [FieldError("parameter", "cursor", str(error))]
        ) from error
    rows = await services.db.all(
        audit.page_of(
            actor=query.actor, target=query.target, since=query.since, place=place, limit=query.limit + 1
        )
    )
    items = rows[: query.limit]
    cursor = write_cursor(items[-1]["at"], items[-1]["id"]) if len(rows) > query.limit else None
    return Answer(AuditPage(items=[AuditEntry(**row) for row in items], next_cursor=cursor))
