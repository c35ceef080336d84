"""How does another generation become the one that people read, without a decision lost on the way?

The projector is held up for a moment, between two of its batches. The other generation reads the journal up
to the very offsets that the live one has reached; then both change places in one transaction. The projector's
next batch goes into the new one. The old one is kept: a rollback is the same swap back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, text

from fulcrum.errors import Conflict, Unavailable
from fulcrum.readmodel import generation_tables as tables
from fulcrum.readmodel import generations
from fulcrum.readmodel.cache import Cache
from fulcrum.readmodel.control import working
from fulcrum.readmodel.decision_log import DecisionLog
from fulcrum.readmodel.folding import Reader, fold, reading, write
from fulcrum.readmodel.generations import Generation
from fulcrum.readmodel.relations import LIVE_SCHEMA
from fulcrum.readmodel.store import Offsets
from fulcrum.settings import Settings
from fulcrum.store.plain import connected

_BATCH = 1000
_LIVE_WITHIN = 30.0
_LOOK_SECONDS = 0.1
_TRIES = 5
#: Readers wait as long as the swap waits for readers before them.
_LOCK_TIMEOUT = "1s"
_HELD_MOST = "20s"


@dataclass(frozen=True, slots=True)
class Swapped:
    """What is live now and was before. ``cache_told`` is False when Redis did not hear of it: what it holds
    from before may be shown until it expires."""

    live: int
    previous: int
    epoch: int
    cache_told: bool


def swap(settings: Settings) -> Swapped:
    """Make the generation in work live; Conflict when it is not ready."""

    def chosen(connection: Connection) -> Generation:
        found = generations.find(connection)
        if found.status != "ready":
            raise Conflict(f"generation {found.generation} is {found.status}: only a ready one is swapped in")
        return found

    return _swap(settings, chosen)


def rollback(settings: Settings) -> Swapped:
    """Make the generation live again that was swapped out last; Conflict when there is none."""
    return _swap(settings, generations.previous)


@contextmanager
def aligned(
    settings: Settings, connection: Connection, generation: Generation, exactly: bool
) -> Iterator[tuple[Connection, Generation]]:
    """Hold the projector up with ``generation`` where the live one is, or (not ``exactly``) not behind it.

    Yields the connection in whose transaction the projector is held up, and the live generation. Unavailable
    when the live generation stays behind, FoldError when a decision between them cannot be folded.
    """
    # Should this process be stopped in the middle, Postgres lets the projector go on.
    limits = {"idle_in_transaction_session_timeout": _HELD_MOST}
    with (
        reading(settings) as (log, reader),
        connected(settings.postgres_dsn, "fulcrum-projection", limits) as holder,
    ):
        group = f"{settings.namespace}-projector"
        _catch_up(connection, generation, log, reader, _position(holder, log, group))
        holder.rollback()
        if exactly:
            _wait_for_live(holder, generation, log, group)
        with holder.begin():
            holder.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
            relations = ", ".join(f"{LIVE_SCHEMA}.{name}" for name in tables.RELATIONS)
            holder.execute(text(f"LOCK TABLE {relations} IN SHARE ROW EXCLUSIVE MODE"))
            live = generations.live(holder)
            position = _position(holder, log, group)
            _catch_up(connection, generation, log, reader, position)
            # What the live one has read without a row to show for it is known to Kafka alone until now.
            generations.keep_offsets(holder, live.generation, position)
            yield holder, live


def _swap(settings: Settings, chosen: Callable[[Connection], Generation]) -> Swapped:
    with working(settings) as connection:
        with connection.begin():
            generation = chosen(connection)
            tables.require_alike(connection, generation.schema)
        for left in reversed(range(_TRIES)):
            try:
                with aligned(settings, connection, generation, exactly=False) as (holder, live):
                    tables.exchange(holder, generation.schema, generations.schema_of(live.generation))
                    epoch = generations.make_live(holder, generation, live)
                break
            except Unavailable:
                # Somebody reads for longer than readers should have to wait for us.
                if not left:
                    raise
        told = asyncio.run(_tell_cache(settings, epoch))
    return Swapped(generation.generation, live.generation, epoch, told)


async def _tell_cache(settings: Settings, epoch: int) -> bool:
    cache = Cache.open(settings)
    try:
        return await cache.begin_epoch(epoch)
    finally:
        await cache.close()


def _position(connection: Connection, log: DecisionLog, group: str) -> dict[tuple[str, int], int]:
    """How far the live generation has read: what it stored, or what the projector has committed beyond that
    because it left no row."""
    stored = generations.offsets_of(connection, generations.live(connection).generation)
    return {place: max(offset, stored.get(place, 0)) for place, offset in log.committed(group).items()}


def _catch_up(
    connection: Connection, generation: Generation, log: DecisionLog, reader: Reader, end: Offsets
) -> None:
    with connection.begin():
        start = generations.offsets_of(connection, generation.generation)
    for records in log.read(start, end, _BATCH):
        folded, fault = fold(reader, records)
        write(connection, generation, reader, folded)
        if fault is not None:
            raise fault
    with connection.begin():
        generations.keep_offsets(connection, generation.generation, end)


def _wait_for_live(holder: Connection, generation: Generation, log: DecisionLog, group: str) -> None:
    """Return once the live generation has read what ``generation`` has."""
    deadline = time.monotonic() + _LIVE_WITHIN
    while True:
        with holder.begin():
            ours = generations.offsets_of(holder, generation.generation)
            theirs = _position(holder, log, group)
        behind = sum(max(0, offset - theirs.get(place, 0)) for place, offset in ours.items())
        if not behind:
            return
        if time.monotonic() > deadline:
            raise Unavailable(f"the live generation is {behind} decisions behind: is the projector running?")
        time.sleep(_LOOK_SECONDS)
