"""Which outbox rows does a relay send next?

What is in the table is unsent, and lower ids go first. Reads begin behind the last id that was read, because
deleted rows stay in the index for a while and a read from the beginning would walk over all of them. Rows
that commit late, below that id, are looked for in the gaps that were passed over (``gaps``), in a snapshot
that is no older than that of the rows behind them: so no row of a key overtakes an earlier one. Now and then
the whole table is looked at, in case the numbering was set back, as after a restore.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import BigInteger, Select, bindparam, column, func, select, table
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.elements import ColumnElement

from fulcrum.errors import Unavailable
from fulcrum.store.database import Database, Row
from fulcrum.store.gaps import Gaps
from fulcrum.store.relations import ServiceRelations
from fulcrum.store.statements import lasting

log = structlog.get_logger()

#: Rows in a window: it doubles while the windows are full. And bytes, of values and headers, passed by one
#: row at most. Two windows are in memory at a time.
_FEWEST, _MOST = 500, 4000
_BYTES = 4_000_000
#: Seconds between two looks at who is writing, while gaps are open, and between looks at the whole table.
_LOOK = 0.2
_SWEEP = 15.0
#: How many rows a look at the whole table takes in.
_SWEPT = 1000

_IDS = ARRAY(BigInteger, dimensions=1)


@dataclass(frozen=True, slots=True)
class Window:
    """Rows to send, in this order. ``full``: there are probably more."""

    rows: Sequence[Row]
    full: bool


class Unsent:
    """The outbox of one service, as its leader reads it: each row once until ``restart``."""

    def __init__(self, db: Database, relations: ServiceRelations) -> None:
        self._db = db
        self._service = relations.schema
        outbox = relations.outbox
        mine = outbox.c.shard == 0
        given = func.unnest(bindparam("lows", type_=_IDS), bindparam("highs", type_=_IDS))
        gap = given.table_valued(column("low", BigInteger), column("high", BigInteger), name="gap")
        gap = gap.render_derived()
        within = (
            select(gap.c.low).where(outbox.c.id.between(gap.c.low, gap.c.high)).correlate(outbox).exists()
        )
        self._behind = _bounded(relations, mine, outbox.c.id > bindparam("last"))
        # The outer bounds are for the planner: the range is short, however long the table is.
        self._between = _bounded(
            relations, mine, outbox.c.id.between(bindparam("lowest"), bindparam("highest")), within
        )
        self._before = (
            select(outbox.c.id)
            .where(mine, outbox.c.id <= bindparam("last"))
            .order_by(outbox.c.id)
            .limit(_SWEPT)
        )
        self._writers = _writers(relations)
        self.restart()

    def restart(self) -> None:
        """Read from the beginning again. Nothing may be under way: it would be read twice."""
        self._gaps = Gaps()
        self._limit = _FEWEST
        self._looked = 0.0
        self._swept = time.monotonic()

    @property
    def sweep_due(self) -> bool:
        """Whether it is time to ``sweep``."""
        return time.monotonic() - self._swept >= _SWEEP

    async def read(self) -> Window:
        """The next rows. Memory is bounded by rows and by bytes."""
        bounds = {"rows": self._limit, "bytes": _BYTES}
        rows = await self._db.all(self._behind, {"last": self._gaps.last, **bounds})
        full = self._full(rows)
        late = await self._read_gaps(bounds) if self._gaps else []
        if self._full(late):
            # What the gaps hold beyond the limit goes before what was read behind them.
            rows, full = [], True
        self._gaps.passed(row["id"] for row in rows)
        if self._gaps.unsettled and time.monotonic() - self._looked >= _LOOK:
            await self._look()
        self._limit = min(self._limit * 2, _MOST) if full else _FEWEST
        return Window([*late, *rows], full)

    def _full(self, rows: Sequence[Row]) -> bool:
        return len(rows) >= self._limit or (bool(rows) and rows[-1]["upto"] >= _BYTES)

    async def _read_gaps(self, bounds: dict[str, int]) -> list[Row]:
        lows, highs = self._gaps.ranges()
        ranges = {"lows": lows, "highs": highs, "lowest": lows[0], "highest": highs[-1]}
        late = await self._db.all(self._between, {**ranges, **bounds})
        if not self._full(late):
            self._gaps.close_settled()
        self._gaps.filled([row["id"] for row in late])
        return late

    async def _look(self) -> None:
        """See who writes to the outbox: a transaction locks it before its first id, until its end."""
        writers = await self._db.all(self._writers)
        self._gaps.looked(frozenset(row["virtualtransaction"] for row in writers))
        self._looked = time.monotonic()

    async def sweep(self) -> None:
        """Begin anew if there are rows that no read from the last id on will find.

        Nothing may be under way: what is read and not deleted yet would be taken for such rows.
        """
        self._swept = time.monotonic()
        try:
            found = await self._db.all(self._before, {"last": self._gaps.last})
        except Unavailable as error:
            log.warning("relay.not_swept", service=self._service, error=str(error))
            return
        if stray := next((row["id"] for row in found if row["id"] not in self._gaps), None):
            log.warning("relay.stray_rows", service=self._service, lowest=stray, last=self._gaps.last)
            self.restart()


def _bounded(relations: ServiceRelations, *conditions: ColumnElement[bool]) -> Select[tuple[object, ...]]:
    """The lowest ``rows`` rows under the conditions, up to the one with which ``bytes`` are reached."""
    outbox = relations.outbox
    size = func.octet_length(outbox.c.value) + func.pg_column_size(outbox.c.headers)
    upto = func.sum(size).over(order_by=outbox.c.id, rows=(None, 0)).label("upto")
    lowest = (
        select(outbox, size.label("size"), upto)
        .where(*conditions)
        .order_by(outbox.c.id)
        .limit(bindparam("rows"))
        .subquery()
    )
    columns = [lowest.c[each.name] for each in outbox.c if each.name != "shard"]
    return lasting(
        select(*columns, lowest.c.upto)
        .where(lowest.c.upto - lowest.c.size < bindparam("bytes"))
        .order_by(lowest.c.id)
    )


def _writers(relations: ServiceRelations) -> Select[tuple[str]]:
    """The transactions that hold the lock which every write to the outbox takes before its first id."""
    locks = table(
        "pg_locks",
        *map(column, ("virtualtransaction", "relation", "database", "mode")),
    )
    databases = table("pg_database", column("oid"), column("datname"))
    here = select(databases.c.oid).where(databases.c.datname == func.current_database()).scalar_subquery()
    return select(locks.c.virtualtransaction).where(
        locks.c.relation == func.to_regclass(f"{relations.schema}.outbox"),
        locks.c.database == here,
        locks.c.mode == "RowExclusiveLock",
    )
