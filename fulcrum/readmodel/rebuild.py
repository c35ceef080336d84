"""How does a new generation come to hold the whole journal, while the live one goes on?

It writes nothing but that generation's relations, so no side effect is repeated. How far it has read is
stored with the rows: whatever stops it, it goes on from there. While one batch is written, the next is read.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from threading import Event

from sqlalchemy import Connection, text

from fulcrum.errors import Conflict, NotFound
from fulcrum.readmodel import generation_tables as tables
from fulcrum.readmodel import generations
from fulcrum.readmodel.control import remove, working
from fulcrum.readmodel.decision_log import DecisionLog
from fulcrum.readmodel.folding import FoldError, Reader, fold, reading, write
from fulcrum.readmodel.generations import Generation, Wanted
from fulcrum.readmodel.relations import WORKFLOWS
from fulcrum.settings import Settings

_BATCH = 4000
#: A generation that is this close to the end of the journal is ready: a swap reads the rest.
_NEAR = 1000


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rebuild is: decisions read and to be read in all, and decisions a second since it started."""

    generation: int
    phase: str
    done: int
    total: int
    rate: float

    @property
    def eta(self) -> float | None:
        """Seconds to the end at this rate; None before anything is known."""
        return (self.total - self.done) / self.rate if self.rate else None


def rebuild(
    settings: Settings,
    since: datetime | None,
    tell: Callable[[Progress], None],
    stopping: Event,
    skip: tuple[int, int] | None = None,
) -> Generation:
    """Build a new generation, or go on with the one in work; returns it ready, paused or dropped.

    With ``since``, what was decided before is copied from the live generation instead of being folded again.
    ``skip`` (partition, offset) leaves out the one decision at which the generation in work stands.
    Raises FoldError when it stopped at a decision, Conflict when another process is at it, Unavailable when a
    server does not answer; it can be started again after each.
    """
    # Rows and offsets are lost together or not at all, so nothing needs to reach the disk before the end.
    with _uncollected(), working(settings, {"synchronous_commit": "off"}) as connection:
        with reading(settings) as (log, reader), ThreadPoolExecutor(1) as writer:
            generation = _begin(connection, log, since)
            if skip is not None:
                _skip(connection, generation, (log.topic, skip[0]), skip[1])
            try:
                _Work(connection, generation, log, reader, writer, tell, stopping).run()
            except _StoppedError as stop:
                _stop(connection, generation, stop.wanted)
            except FoldError as error:
                with connection.begin():
                    generations.note(connection, generation.generation, status="failed", error=str(error))
                raise
        with connection.begin():
            return generations.find(connection, generation.generation)


def _begin(connection: Connection, log: DecisionLog, since: datetime | None) -> Generation:
    """The generation in work, or a new one that is empty or holds what was decided before ``since``."""
    with connection.begin():
        try:
            found = generations.find(connection)
        except NotFound:
            found = generations.begin(connection, since)
            tables.create(connection, found.schema)
            start = {place: low for place, (low, _) in log.bounds().items()}
            if since is not None:
                tables.copy_before(connection, found.schema, since)
                start = log.at(since)
            generations.keep_offsets(connection, found.generation, start)
        else:
            if since is not None and since != found.replay_from:
                began = found.replay_from or "the start"
                raise Conflict(
                    f"--from {since}: generation {found.generation} is in work from {began}; "
                    f"abort it first: `fulcrum projection abort {WORKFLOWS}`"
                )
            generations.note(connection, found.generation, status="building", wanted="run", error=None)
    return found


def _skip(connection: Connection, generation: Generation, place: tuple[str, int], offset: int) -> None:
    """Go past one decision, and only if it is the very one that comes next."""
    with connection.begin():
        stands = generations.offsets_of(connection, generation.generation).get(place)
        if stands != offset:
            raise Conflict(
                f"--skip {place[1]}:{offset}: generation {generation.generation} stands at offset {stands} "
                "of that partition; only the decision that it stopped at can be left out"
            )
        generations.keep_offsets(connection, generation.generation, {place: offset + 1})


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection: decisions hold no cycles, and looking for some takes a sixth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _stop(connection: Connection, generation: Generation, wanted: Wanted) -> None:
    with connection.begin():
        if wanted == "abort":
            remove(connection, generation)
        else:
            generations.note(connection, generation.generation, status="paused")


class _StoppedError(Exception):
    """Somebody wants the rebuild to pause or to be given up."""

    def __init__(self, wanted: Wanted) -> None:
        super().__init__(wanted)
        self.wanted = wanted


class _Work:
    """One rebuild at work."""

    def __init__(
        self,
        connection: Connection,
        generation: Generation,
        log: DecisionLog,
        reader: Reader,
        writer: ThreadPoolExecutor,
        tell: Callable[[Progress], None],
        stopping: Event,
    ) -> None:
        self._connection = connection
        self._generation = generation
        self._log = log
        self._reader = reader
        self._writer = writer
        self._tell = tell
        self._stopping = stopping
        self._done = self._total = self._read = 0
        self._began = time.monotonic()

    def run(self) -> None:
        """Read to the end of the journal, index, and read what has come meanwhile."""
        self._catch_up()
        if not self._generation.indexed:
            self._report("indexing")
            with self._connection.begin():
                tables.index(self._connection, self._generation.schema)
                generations.note(self._connection, self._generation.generation, indexed=True)
        while self._catch_up() > _NEAR:
            pass
        with self._connection.begin():
            # With this commit all those before it reach the disk too.
            self._connection.execute(text("SET LOCAL synchronous_commit = on"))
            generations.note(self._connection, self._generation.generation, status="ready")
        self._report("ready")

    def _catch_up(self) -> int:
        """Read up to what is the end of the journal now; returns how many offsets that were."""
        bounds = self._log.bounds()
        end = {place: high for place, (_, high) in bounds.items()}
        with self._connection.begin():
            start = generations.offsets_of(self._connection, self._generation.generation)
        due = sum(max(0, offset - start.get(place, 0)) for place, offset in end.items())
        self._total = sum(high - low for low, high in bounds.values())
        self._done = self._total - due
        pending: Future[Wanted] | None = None
        for records in self._log.read(start, end, _BATCH):
            folded, fault = fold(self._reader, records)
            self._heed(pending)
            pending = self._writer.submit(write, self._connection, self._generation, self._reader, folded)
            self._done += len(folded.records)
            self._read += len(folded.records)
            if fault is not None:
                pending.result()
                raise fault
            self._report("reading")
        self._heed(pending)
        with self._connection.begin():
            generations.keep_offsets(self._connection, self._generation.generation, end)
        return due

    def _heed(self, pending: Future[Wanted] | None) -> None:
        """Wait for the batch before, and do what is wanted."""
        wanted = "run" if pending is None else pending.result()
        if wanted != "run":
            raise _StoppedError(wanted)
        if self._stopping.is_set():
            raise _StoppedError("pause")

    def _report(self, phase: str) -> None:
        took = time.monotonic() - self._began
        number = self._generation.generation
        self._tell(Progress(number, phase, self._done, self._total, self._read / took if took else 0.0))
