"""Who changed what, when and why? Rows that are only ever added.

What is written in one transaction has one row, in that transaction. What takes longer has two with one
``act``: ``began``, before or with what it begins, and its end. So a crash leaves a row that says ``began``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import uuid4

from sqlalchemy import Column, Select, Table, Text, func, literal, select, tuple_
from sqlalchemy.dialects.postgresql import JSONB, Insert, insert

from fulcrum.store.database import Database, Transaction
from fulcrum.store.relations import METADATA, time_column, uuid_column

Outcome = Literal["began", "done", "refused", "failed"]
Source = Literal["api", "cli"]

AUDIT = Table(
    "audit",
    METADATA,
    Column("id", uuid_column(), primary_key=True, server_default=func.gen_random_uuid()),
    Column("act", uuid_column(), nullable=False),
    Column("at", time_column(), nullable=False, server_default=func.clock_timestamp()),
    Column("actor", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target_kind", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("reason", Text),
    Column("outcome", Text, nullable=False),
    Column("detail", Text),
    Column("before", JSONB),
    Column("after", JSONB),
    Column("request_id", Text, nullable=False),
    schema="ops",
)


@dataclass(frozen=True, slots=True)
class Act:
    """Something that somebody does to one target.

    ``request_id`` is the correlation id under which logs and messages have it; ``id`` joins its rows.
    """

    actor: str
    source: Source
    action: str
    target_kind: str
    target: str
    reason: str | None
    request_id: str
    id: str = field(default_factory=lambda: str(uuid4()))

    def row(
        self,
        outcome: Outcome,
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
        detail: str | None = None,
    ) -> Insert:
        """The statement that adds a row; ``detail`` says why it was refused or failed.

        An act begins once and ends once: a second row of the same sort is not added.
        """
        told = {
            "act": self.id, "actor": self.actor, "source": self.source, "action": self.action,
            "target_kind": self.target_kind, "target": self.target, "reason": self.reason,
            "outcome": outcome, "detail": detail, "request_id": self.request_id,
        }  # fmt: skip
        states = {"before": before, "after": after}
        given = told | {name: dict(value) for name, value in states.items() if value is not None}
        return insert(AUDIT).values(given).on_conflict_do_nothing()


async def enter(
    db: Database | Transaction,
    act: Act | None,
    outcome: Outcome,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    detail: str | None = None,
) -> None:
    """Add a row about ``act``; nothing when nobody is accountable for it, as for what runs by itself."""
    if act is not None:
        await db.execute(act.row(outcome, before=before, after=after, detail=detail))


def page_of(
    *,
    actor: str | None,
    target: str | None,
    since: datetime | None,
    place: tuple[datetime, str] | None,
    limit: int,
) -> Select[Any]:
    """Rows, newest first: of ``actor``, about ``target``, from ``since`` on, behind ``place``."""
    query = select(AUDIT).order_by(AUDIT.c.at.desc(), AUDIT.c.id.desc()).limit(limit)
    if actor is not None:
        query = query.where(AUDIT.c.actor == actor)
    if target is not None:
        query = query.where(AUDIT.c.target == target)
    if since is not None:
        query = query.where(AUDIT.c.at >= since)
    if place is not None:
        at, last = place
        found = tuple_(literal(at, AUDIT.c.at.type), literal(last, AUDIT.c.id.type))
        query = query.where(tuple_(AUDIT.c.at, AUDIT.c.id) < found)
    return query
