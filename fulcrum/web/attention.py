"""Which workflows do not move by themselves, and what can be done about each?"""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from fulcrum.attention import store
from fulcrum.attention.rules import NAMES
from fulcrum.attention.store import Position
from fulcrum.readmodel.projection import timestamp
from fulcrum.web.answers import Shape
from fulcrum.web.bodies import PAGE, Cursor, Limit, Parameters, WorkflowPath, one_of
from fulcrum.web.operation import Answer, Call
from fulcrum.web.problem import FieldError, Problem
from fulcrum.web.services import Services

_Rule = Annotated[
    str,
    one_of(NAMES, "use one of {names}"),
    Field(description="Only workflows that match it.", json_schema_extra={"enum": list(NAMES)}),
]


class AttentionQuery(Parameters):
    """Which workflows, and which page of them."""

    rule: _Rule | None = None
    cursor: Cursor | None = None
    limit: Limit = PAGE


class AttentionItem(Shape):
    """A workflow that matches a rule. It may match several, and then stands in the list several times."""

    workflow_id: str
    rule: str
    """past_deadline, unacknowledged, unanswered, outbox_unsent, parked_message, partition_stalled,
    compensation_failed or paused; there may be more one day."""
    since: datetime
    seen_at: datetime
    """When it was last looked at."""
    detail: str
    """What was seen, for people; its wording may change."""
    suggestion: str
    """The command to type."""


class AttentionPage(Shape):
    """Workflows that do not move, the longest-standing first."""

    items: list[AttentionItem]
    next_cursor: str | None
    """Give it as ``cursor`` to get the next page; null on the last one."""


async def list_attention(services: Services, call: Call, *, query: AttentionQuery) -> Answer:
    """List workflows that do not move by themselves, the longest-standing first.

    Looked for every 15 s. Paused workflows are listed under the rule ``paused`` alone.
    """
    after = _position(query.cursor) if query.cursor else None
    rows = await store.page(services.db, query.rule, after, query.limit + 1)
    items = rows[: query.limit]
    more = len(rows) > query.limit
    return Answer(
        AttentionPage(
            items=[AttentionItem(**row) for row in items], next_cursor=_cursor(items[-1]) if more else None
        )
    )


def _cursor(last: dict[str, Any]) -> str:
    place = f"{timestamp(last['since'])} {last['workflow_id']} {last['rule']}"
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _position(cursor: str) -> Position:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        since, workflow_id, rule = text.split(" ")
        return datetime.fromisoformat(since), WorkflowPath(workflow_id=workflow_id).workflow_id, rule
    except (binascii.Error, ValueError) as error:
        fault = FieldError(
            "parameter", "cursor", "cursor is no next_cursor of a page; leave it out to begin."
        )
        raise Problem("invalid-parameter", fault.detail, [fault]) from error
