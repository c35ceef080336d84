"""What the audit is asked and what it answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from fulcrum.web.answers import Shape
from fulcrum.web.bodies import PAGE, Cursor, Limit, Moment, Parameters, Reference


class AuditQuery(Parameters):
    """Which entries of the audit, and which page of them."""

    actor: Annotated[Reference | None, Field(description="Only what they did.")] = None
    target: Annotated[
        str | None,
        StringConstraints(pattern=r"^[!-~]{1,400}$"),
        Field(description="Only what was done to it: an id, a SKU, a fingerprint, or OUTBOX/KEY."),
    ] = None
    since: Annotated[Moment | None, Field(description="Only what was entered then or later.")] = None
    cursor: Cursor | None = None
    limit: Limit = PAGE


class AuditEntry(Shape):
    """Something that was done, or began, or was refused."""

    id: str
    act: str
    """Joins the entries of one act."""
    at: datetime
    actor: str
    """Who says they did it; `unnamed` when they did not say."""
    source: Literal["api", "cli"]
    action: str
    """What was done, such as workflow.retry."""
    target_kind: str
    target: str
    reason: str | None
    outcome: Literal["began", "done", "refused", "failed"]
    detail: str | None
    """Why it was refused or failed."""
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    request_id: str
    """The correlation id of the request."""


class AuditPage(Shape):
    """Entries of the audit, newest first."""

    items: list[AuditEntry]
    next_cursor: str | None
    """Give it as ``cursor`` to get the next page; null on the last one."""
