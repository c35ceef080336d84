"""Which causes have parked messages, how many and since when, and who looks after each?"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Interval, Select, Text, func, literal, or_, select
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by, insert

from fulcrum.errors import NotFound, Rejected
from fulcrum.operations.relations import GROUPS
from fulcrum.store.audit import Act, enter
from fulcrum.store.database import Database, Row
from fulcrum.store.relations import PARKED_MESSAGES as PARKED

WINDOWS = {
    "last_hour": timedelta(hours=1),
    "last_day": timedelta(days=1),
    "last_week": timedelta(days=7),
}
_WAITING = PARKED.c.status.in_(("parked", "replaying"))


_EVERY = PARKED.alias("every")
# Of all its messages, also of those that nobody waits for any more; the index by cause has it at its end.
_FIRST_SEEN = (
    select(func.min(_EVERY.c.parked_at)).where(_EVERY.c.fingerprint == PARKED.c.fingerprint).scalar_subquery()
)


def _since(window: timedelta) -> Any:
    return PARKED.c.parked_at > func.now() - literal(window, Interval)


def _latest(column: Any) -> Any:
    return func.array_agg(aggregate_order_by(column, PARKED.c.parked_at.desc()), type_=ARRAY(Text))[1]


def _groups() -> Select[Any]:
    counted = [func.count().filter(_since(window)).label(name) for name, window in WINDOWS.items()]
    return (
        select(
            PARKED.c.fingerprint,
            _latest(PARKED.c.type).label("type"),
            _latest(PARKED.c.service).label("service"),
            _latest(PARKED.c.error_class).label("error_class"),
            _latest(PARKED.c.error).label("error"),
            func.count().filter(_WAITING).label("waiting"),
            *counted,
            _FIRST_SEEN.label("first_seen"),
            func.max(PARKED.c.parked_at).label("last_seen"),
            GROUPS.c.note,
            GROUPS.c.owner,
            GROUPS.c.actor.label("noted_by"),
            GROUPS.c.updated_at.label("noted_at"),
        )
        .outerjoin(GROUPS, GROUPS.c.fingerprint == PARKED.c.fingerprint)
        # The row of an edited message was never parked.
        .where(PARKED.c.edited_from.is_(None))
        .group_by(
            PARKED.c.fingerprint, GROUPS.c.note, GROUPS.c.owner, GROUPS.c.actor, GROUPS.c.updated_at
        )
    )  # fmt: skip


async def list_groups(db: Database, service: str | None = None, limit: int = 50) -> list[Row]:
    """Groups with messages that wait or were parked within a week, those with the most that wait first."""
    query = _groups().where(or_(_WAITING, _since(WINDOWS["last_week"])))
    if service is not None:
        query = query.where(PARKED.c.service == service)
    waiting = func.count().filter(_WAITING)
    return await db.all(query.order_by(waiting.desc(), PARKED.c.fingerprint).limit(limit))


async def note_group(
    db: Database, group: str, note: str, owner: str | None, actor: str, audited: Act | None = None
) -> Row:
    """Keep what is known about a group, and who looks after it. NotFound when no message belongs to it."""
    if not note.strip() or not actor.strip():
        raise Rejected("note or actor is empty: say what is known, and who says it")
    found = await db.one(select(PARKED.c.id).where(PARKED.c.fingerprint == group).limit(1))
    if found is None:
        raise NotFound(f"group {group} does not exist: no message has this fingerprint")
    told = {"note": note, "owner": owner, "actor": actor, "updated_at": func.now()}
    stored = insert(GROUPS).values(fingerprint=group, **told)
    known = select(GROUPS.c.note, GROUPS.c.owner).where(GROUPS.c.fingerprint == group).with_for_update()
    async with db.transaction() as tx:
        before = await tx.one(known)
        await tx.execute(stored.on_conflict_do_update(index_elements=[GROUPS.c.fingerprint], set_=told))
        await enter(tx, audited, "done", before=before, after={"note": note, "owner": owner})
    row = await db.one(_groups().where(PARKED.c.fingerprint == group))
    assert row is not None
    return row
