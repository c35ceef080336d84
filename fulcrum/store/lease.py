"""Who may send a service's outbox: one process at a time, and a late one is fenced.

The lease is a row. Its ``epoch`` grows whenever it changes hands, and every delete names the epoch it was
sent under, so that a process that slept through its time removes nothing. Only the database's clock counts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import bindparam, func, or_, text, update

from fulcrum.store.database import Database
from fulcrum.store.relations import ServiceRelations

#: Seconds. Sending stops while the lease still has TTL - SAFE left, for what is on its way.
TTL = 3.0
RENEW_EVERY = 1.0
_SAFE = 2.0


@dataclass(slots=True)
class Held:
    """A lease as its holder sees it. ``renewed`` is the monotonic time before the last renewal was asked."""

    epoch: int
    renewed: float

    @property
    def safe(self) -> bool:
        """Whether nobody else can have taken it."""
        return time.monotonic() - self.renewed < _SAFE


class Lease:
    """The lease of one outbox, for the process called ``owner``."""

    def __init__(self, db: Database, relations: ServiceRelations, owner: str) -> None:
        self._db = db
        lease = relations.lease
        expires = {"expires_at": func.clock_timestamp() + timedelta(seconds=TTL)}
        # Its own lease it takes over at once: a process of that name died, and only one is started.
        free = or_(lease.c.expires_at < func.clock_timestamp(), lease.c.owner == owner)
        mine = (lease.c.shard == 0, lease.c.owner == owner, lease.c.epoch == bindparam("held_epoch"))
        taken = update(lease).where(lease.c.shard == 0, free)
        self._take = taken.values(owner=owner, epoch=lease.c.epoch + 1, **expires).returning(lease.c.epoch)
        self._renew = update(lease).where(*mine).values(**expires)
        self._release = update(lease).where(*mine).values(expires_at=text("'-infinity'"))

    async def take(self) -> Held | None:
        """The lease, or None while another process holds it."""
        asked = time.monotonic()
        row = await self._db.one(self._take)
        return None if row is None else Held(row["epoch"], asked)

    async def renew(self, held: Held) -> bool:
        """Keep ``held`` for another TTL; False when it has changed hands."""
        asked = time.monotonic()
        kept = await self._db.execute(self._renew, {"held_epoch": held.epoch}) == 1
        if kept:
            held.renewed = asked
        return kept

    async def release(self, held: Held) -> None:
        """Let the next process begin at once."""
        await self._db.execute(self._release, {"held_epoch": held.epoch})
