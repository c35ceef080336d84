"""Which generations of the read model are there, what state is each in, and how far has it read?

A generation is ``building`` (until it has the whole journal and its indexes), ``paused``, ``failed`` (the
error says at which decision), ``ready`` (to be verified and swapped in), ``live``, ``kept`` (was live; a
rollback goes back to it) or ``dropped``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, func, insert, select, text, update
from sqlalchemy.sql.elements import ColumnElement

from fulcrum.errors import Conflict, NotFound
from fulcrum.readmodel.relations import LIVE_SCHEMA, WORKFLOWS, generation_offsets, generations, projections
from fulcrum.readmodel.store import Offsets, offset_rows, store_offsets

Wanted = Literal["run", "pause", "abort"]

IN_WORK = ("building", "paused", "failed", "ready")
#: Held by the process that changes generations. Any fixed number will do.
_CLAIM = 7_350_118_202


@dataclass(frozen=True, slots=True)
class Generation:
    """One row of ``read_model.generations``; ``decisions`` is how many it has folded."""

    projection: str
    generation: int
    status: str
    wanted: str
    indexed: bool
    replay_from: datetime | None
    decisions: int
    error: str | None
    created_at: datetime
    updated_at: datetime

    @property
    def schema(self) -> str:
        """Where its relations are."""
        return LIVE_SCHEMA if self.status == "live" else schema_of(self.generation)


def schema_of(generation: int) -> str:
    """The schema of a generation that is not live."""
    return f"{LIVE_SCHEMA}_g{generation}"


def require_known(projection: str) -> None:
    """NotFound unless there is a projection of that name."""
    if projection != WORKFLOWS:
        raise NotFound(f"projection {projection!r} is unknown; there is {WORKFLOWS}")


def all_of(connection: Connection) -> list[Generation]:
    """Every generation that was ever begun, oldest first."""
    rows = connection.execute(_ALL).mappings()
    return [Generation(**row) for row in rows]


def find(connection: Connection, number: int | None = None) -> Generation:
    """Generation ``number``, or the one in work; NotFound when there is none."""
    for generation in all_of(connection):
        wanted = generation.status in IN_WORK if number is None else generation.generation == number
        if wanted:
            return generation
    if number is None:
        raise NotFound(
            f"no generation of {WORKFLOWS} is in work: `fulcrum projection rebuild {WORKFLOWS}` begins one"
        )
    raise NotFound(f"there is no generation {number} of {WORKFLOWS}: see `fulcrum projection status`")


def live(connection: Connection) -> Generation:
    """The generation that people read."""
    return find(connection, connection.execute(_PROJECTION).mappings().one()["live"])


def previous(connection: Connection) -> Generation:
    """The generation that a rollback goes back to; Conflict when there is none."""
    number = connection.execute(_PROJECTION).mappings().one()["previous"]
    if number is None:
        raise Conflict(f"{WORKFLOWS} has no generation to go back to: none was swapped out, or it is dropped")
    return find(connection, number)


def begin(connection: Connection, replay_from: datetime | None) -> Generation:
    """A new generation in status ``building``."""
    number = connection.execute(_NEXT).scalar_one()
    row = {"projection": WORKFLOWS, "generation": number, "status": "building", "replay_from": replay_from}
    connection.execute(insert(generations).values(row))
    return find(connection, number)


def note(connection: Connection, generation: int, decisions: int = 0, **changes: Any) -> Wanted:
    """Store ``changes`` to the row, and ``decisions`` more of them; returns what is wanted of the process."""
    statement = (
        update(generations)
        .where(*_is(generation))
        .values(decisions=generations.c.decisions + decisions, updated_at=func.now(), **changes)
        .returning(generations.c.wanted)
    )
    wanted: Wanted = connection.execute(statement).scalar_one()
    return wanted


def ask(connection: Connection, generation: int, wanted: Wanted) -> None:
    """Tell the process that builds ``generation`` what to do; it looks after each batch."""
    connection.execute(update(generations).where(*_is(generation)).values(wanted=wanted))


def offsets_of(connection: Connection, generation: int) -> dict[tuple[str, int], int]:
    """The first offset that ``generation`` has not read, by topic and partition."""
    rows = connection.execute(_OFFSETS, {"number": generation})
    return {(row.topic, row.partition): row.next_offset for row in rows}


def keep_offsets(connection: Connection, generation: int, offsets: Offsets) -> None:
    """Store how far ``generation`` has read; one never goes back."""
    if offsets:
        connection.execute(_KEEP, {"number": generation, **offset_rows(offsets)})


def make_live(connection: Connection, new: Generation, old: Generation) -> int:
    """Record that ``new`` has taken the place of ``old``; returns the epoch that begins."""
    note(connection, old.generation, status="kept")
    note(connection, new.generation, status="live")
    statement = (
        update(projections)
        .where(projections.c.name == WORKFLOWS)
        .values(live=new.generation, previous=old.generation, epoch=projections.c.epoch + 1)
        .returning(projections.c.epoch)
    )
    return int(connection.execute(statement).scalar_one())


def forget(connection: Connection, generation: int) -> None:
    """Record that the relations of ``generation`` are gone."""
    note(connection, generation, status="dropped")
    statement = update(projections).where(projections.c.previous == generation).values(previous=None)
    connection.execute(statement)


def claim(connection: Connection) -> None:
    """Let no other process change generations while ``connection`` is open; Conflict when one does already.

    The claim ends with the connection, so a killed process lets go.
    """
    claimed = connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _CLAIM}).scalar_one()
    connection.commit()
    if not claimed:
        raise Conflict(f"another process works on {WORKFLOWS}: see `fulcrum projection status {WORKFLOWS}`")


def worked_on(connection: Connection) -> bool:
    """Whether a process holds the claim."""
    return bool(connection.execute(_CLAIMED, {"high": _CLAIM >> 32, "low": _CLAIM & 0xFFFFFFFF}).scalar_one())


def _is(generation: int) -> tuple[ColumnElement[bool], ...]:
    return generations.c.projection == WORKFLOWS, generations.c.generation == generation


_ALL = select(generations).where(generations.c.projection == WORKFLOWS).order_by(generations.c.generation)
_PROJECTION = select(projections).where(projections.c.name == WORKFLOWS)
_NEXT = select(func.max(generations.c.generation) + 1).where(generations.c.projection == WORKFLOWS)
_OFFSETS = select(generation_offsets).where(
    generation_offsets.c.projection == WORKFLOWS, generation_offsets.c.generation == bindparam("number")
)
_KEEP = store_offsets(bindparam("number", type_=generation_offsets.c.generation.type))
_CLAIMED = text(
    """
    SELECT EXISTS (
        SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
        WHERE datname = current_database() AND locktype = 'advisory'
          AND classid::bigint = :high AND objid::bigint = :low AND granted
    )
    """
)
