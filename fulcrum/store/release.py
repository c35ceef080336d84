"""How does a key of an outbox go on that was parked with a row that could not be sent?

Its rows return under their old ids, so that they leave before every later one of their key. The lease changes
hands in the same transaction: whoever sends now deletes nothing any more, learns that the lease is lost, and
begins anew, from the lowest id and with the parked keys read again. Until then it takes the key for parked
and sends nothing of it, so nothing overtakes.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ColumnElement, Select, Text, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from fulcrum.errors import NotFound
from fulcrum.store.database import Database, Row, Transaction
from fulcrum.store.relations import SERVICE_SCHEMAS, ServiceRelations, messaging

_MOVED = "shard, id, event_id, topic, key, headers, value, created_at"


def _parked(relations: ServiceRelations) -> Select[Any]:
    """The parked keys with what stopped them: the error of their first row."""
    parked = relations.outbox_parked

    def first(column: Column[Any]) -> ColumnElement[str]:
        return func.array_agg(aggregate_order_by(column, parked.c.id), type_=ARRAY(Text))[1]

    return select(
        parked.c.key,
        first(parked.c.topic).label("topic"),
        first(parked.c.error).label("error"),
        func.count().label("rows"),
        func.min(parked.c.parked_at).label("parked_at"),
    ).group_by(parked.c.key)


async def list_parked_keys(db: Database, limit: int) -> list[Row]:
    """The parked keys of every outbox, those that wait longest first."""
    found: list[Row] = []
    for schema in SERVICE_SCHEMAS:
        relations = messaging(schema)
        query = _parked(relations).order_by(func.min(relations.outbox_parked.c.parked_at)).limit(limit)
        found += [{"outbox": schema, **row} for row in await db.all(query)]
    return sorted(found, key=lambda row: row["parked_at"])[:limit]


async def release(tx: Transaction, schema: str, key: bytes) -> list[str]:
    """Let ``key`` go on; the ids of its events in their order. NotFound when it is not parked."""
    relations = messaging(schema)
    lease = relations.lease
    await tx.execute(
        update(lease).values(owner=None, epoch=lease.c.epoch + 1, expires_at=text("'-infinity'"))
    )
    # SQLAlchemy has no words for OVERRIDING SYSTEM VALUE. The schema is one of a fixed few.
    moved = text(
        f"WITH moved AS (DELETE FROM {schema}.outbox_parked WHERE key = :key RETURNING {_MOVED}), "  # noqa: S608
        f"back AS (INSERT INTO {schema}.outbox ({_MOVED}) OVERRIDING SYSTEM VALUE "
        f"SELECT {_MOVED} FROM moved ORDER BY id RETURNING id, event_id) "
        "SELECT event_id FROM back ORDER BY id"
    ).bindparams(key=key)
    rows = await tx.all(moved)
    if not rows:
        shown = key.decode(errors="replace")
        raise NotFound(f"key {shown!r} is not parked in the outbox of {schema}")
    return [str(row["event_id"]) for row in rows]
