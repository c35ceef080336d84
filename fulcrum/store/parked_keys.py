"""Which keys of an outbox have stopped because one of their rows can never be sent.

A later event of such a key must not reach its readers before the one that is missing, so it is parked too.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Text, bindparam, delete, insert, select
from sqlalchemy.dialects.postgresql import BYTEA

from fulcrum.store.database import Database, Row
from fulcrum.store.lease import Held
from fulcrum.store.relations import ServiceRelations

_MOVED = ("shard", "id", "event_id", "topic", "key", "headers", "value", "created_at")


class ParkedKeys:
    """The parked keys of one outbox, as its relay knows them."""

    def __init__(self, db: Database, relations: ServiceRelations) -> None:
        self._db = db
        self._keys: frozenset[bytes] = frozenset()
        outbox, parked, lease = relations.outbox, relations.outbox_parked, relations.lease
        self._load = select(parked.c.key).distinct()
        moved = (
            delete(outbox)
            .where(
                lease.c.shard == 0,
                lease.c.epoch == bindparam("held_epoch"),
                outbox.c.shard == 0,
                outbox.c.key == bindparam("parked_key", type_=BYTEA),
            )
            .returning(*[outbox.c[name] for name in _MOVED])
            .cte("moved")
        )
        self._park = insert(parked).from_select(
            [*_MOVED, "error"], select(moved, bindparam("reason", type_=Text))
        )

    async def load(self) -> None:
        """Learn which keys are parked: after a start, or when an operator let one go."""
        self._keys = frozenset(row["key"] for row in await self._db.all(self._load))

    def among(self, rows: Sequence[Row]) -> frozenset[bytes]:
        """The parked keys that ``rows`` belong to."""
        return self._keys.intersection(row["key"] for row in rows) if self._keys else self._keys

    async def park(self, held: Held, key: bytes, reason: str) -> int:
        """Set aside every row of ``key``; returns how many. Nothing happens once the lease is lost."""
        moved = await self._db.execute(
            self._park, {"held_epoch": held.epoch, "parked_key": key, "reason": reason}
        )
        self._keys |= {key}
        return moved
