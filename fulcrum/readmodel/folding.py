"""What does a stretch of the journal make of a generation? Reads records, folds them, writes them.

A record that cannot be folded stops the generation before it: what comes after it in the journal must not be
read as if it had been seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import psycopg2
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from fulcrum.errors import Corrupt, FulcrumError
from fulcrum.readmodel import generations, store
from fulcrum.readmodel.decision_log import DecisionLog, Record
from fulcrum.readmodel.relations import WORKFLOWS
from fulcrum.readmodel.view import View
from fulcrum.saga.messages import DecisionMade
from fulcrum.settings import Settings
from fulcrum.wire.codec import Codec, UnknownSchema, open_codec

_SHOWN = 2000


class FoldError(FulcrumError):
    """A decision cannot be folded; the generation stands before it."""


@dataclass(frozen=True, slots=True)
class Folded:
    """Records as one statement a relation takes them, and how far they reach."""

    records: Sequence[Record]
    views: dict[str, View]
    offsets: dict[tuple[str, int], int]


class Reader:
    """Reads records of the journal; asks the registry only for schemas that it did not know at its start."""

    def __init__(self, settings: Settings) -> None:
        self._runner = asyncio.Runner()
        self._codec: Codec = self._runner.run(open_codec(settings, (DecisionMade,)))

    def decision(self, record: Record) -> DecisionMade:
        """The decision in ``record``; Corrupt when it holds none."""
        value = record.value
        if value is None:
            raise Corrupt("the record has no value")
        try:
            message = self._codec.decode(value)
        except UnknownSchema as error:
            self._runner.run(self._codec.learn(error.schema_id))
            message = self._codec.decode(value)
        if not isinstance(message, DecisionMade):
            raise Corrupt(f"{type(message).__name__} is no decision")
        return message

    def encoded(self, decision: DecisionMade) -> bytes:
        """``decision`` as it lies in the journal."""
        return self._codec.encode(decision)

    def close(self) -> None:
        """End the loop that asks the registry."""
        self._runner.close()


@contextmanager
def reading(settings: Settings) -> Iterator[tuple[DecisionLog, Reader]]:
    """The journal, and what is needed to understand it."""
    group = f"{settings.namespace}-rebuild-{WORKFLOWS}"
    with closing(Reader(settings)) as reader, closing(DecisionLog(settings, group)) as log:
        yield log, reader


def fold(reader: Reader, records: Sequence[Record]) -> tuple[Folded, FoldError | None]:
    """Fold ``records``, or those before the first that cannot be read, and say why that one cannot."""
    decisions, fault = [], None
    for record in records:
        try:
            decisions.append(reader.decision(record))
        except Corrupt as error:
            fault = unfoldable(reader, record, error)
            break
    taken = records[: len(decisions)]
    return Folded(taken, store.newest(decisions), _offsets(taken)), fault


def write(
    connection: Connection, generation: generations.Generation, reader: Reader, folded: Folded
) -> generations.Wanted:
    """Write ``folded`` and how far it reaches in one transaction; returns what is wanted of the process.

    Rows that Postgres refuses are halved until the culprit stands alone: FoldError, all before it is written.
    """
    into = store.statements(generation.schema)
    try:
        with connection.begin():
            if folded.records:
                connection.execute(into.upsert_runs, store.run_rows(folded.views))
                connection.execute(into.insert_entries, store.entry_rows(folded.views))
                generations.keep_offsets(connection, generation.generation, folded.offsets)
            return generations.note(connection, generation.generation, len(folded.records))
    except DBAPIError as error:
        if not isinstance(error.orig, psycopg2.DataError | psycopg2.IntegrityError):
            raise
        if len(folded.records) == 1:
            raise unfoldable(reader, folded.records[0], error) from error
    middle = len(folded.records) // 2
    for half in (folded.records[:middle], folded.records[middle:]):
        wanted = write(connection, generation, reader, fold(reader, half)[0])
    return wanted


def unfoldable(reader: Reader, record: Record, error: Exception) -> FoldError:
    """The error that names the place of ``record`` and shows what is in it."""
    key = (record.key or b"").decode(errors="replace")
    reason = str(error.orig if isinstance(error, DBAPIError) else error).strip()
    return FoldError(
        f"{record.topic} [{record.partition}] offset {record.offset} key {key}: "
        f"{type(error).__name__}: {reason}; the event: {_shown(reader, record)}"
    )


def _shown(reader: Reader, record: Record) -> str:
    """The decision, or the bytes of what is none."""
    try:
        shown: Any = asdict(reader.decision(record))
    except FulcrumError:
        shown = record.value
    return repr(shown)[:_SHOWN]


def _offsets(records: Sequence[Record]) -> dict[tuple[str, int], int]:
    return {(record.topic, record.partition): record.offset + 1 for record in records}
