"""Which attempts of a command failed, when, why and where? Kept in ``ops.attempts``, in groups.

The message itself carries the count, so a retry needs none of this: while Postgres is away rows wait here in
memory, and only a process that dies meanwhile loses those it has.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from fulcrum.commands.delivery import attempt_of, round_of
from fulcrum.commands.parker import storable
from fulcrum.commands.retry import Kind, pause_before_try
from fulcrum.errors import Retryable
from fulcrum.store.bulk import arrays, insert_rows
from fulcrum.store.database import Database
from fulcrum.store.relations import ATTEMPTS
from fulcrum.telemetry.metrics import attempts_dropped, attempts_waiting

log = structlog.get_logger()

_COLUMNS = tuple(column.name for column in ATTEMPTS.c)
_INSERT = insert_rows(ATTEMPTS, _COLUMNS).on_conflict_do_nothing()
#: Rows in one statement, and rows that may wait for Postgres.
_GROUP, _MOST_WAITING = 200, 10_000
#: Seconds that a command may wait until its attempt is kept, and the log until its last rows are.
_PATIENCE, _LAST_PATIENCE = 1.0, 2.0
_ERROR_LIMIT = 1_000
#: What an integer of Postgres holds; a clock that was set back or forth must not cost a row.
_LONGEST = 2**31 - 1

Attempt = dict[str, Any]


def attempt_row(
    headers: dict[str, str],
    *,
    command_id: str,
    workflow_id: str | None,
    service: str,
    type: str,  # noqa: A002
    step: str | None,
    worker: str,
    outcome: str,
    started_at: datetime,
    error: BaseException | None = None,
    kind: Kind | None = None,
    due_in: float | None = None,
) -> Attempt:
    """The row of an attempt that has just ended; ``due_in`` seconds from now the next one comes."""
    now = datetime.now(UTC)
    return {
        "command_id": storable(command_id),
        "round": round_of(headers),
        "attempt": attempt_of(headers),
        "started_at": started_at,
        "workflow_id": _uuid(workflow_id),
        "service": service,
        "type": storable(type),
        "step": step,
        "outcome": outcome,
        "kind": None if kind is None else kind.value,
        "error_class": None if error is None else error.__class__.__name__,
        "error": None if error is None else storable(str(error)[:_ERROR_LIMIT]),
        "duration_ms": min(max(0, round((now - started_at).total_seconds() * 1000)), _LONGEST),
        "worker": worker,
        "next_due": None if due_in is None else now + timedelta(seconds=due_in),
    }


def _uuid(text: str | None) -> str | None:
    try:
        return str(UUID(text)) if text else None
    except ValueError:
        return None


class AttemptLog:
    """Writes attempts. Whoever comes while a statement is under way goes with the next one."""

    def __init__(self, db: Database | None, service: str) -> None:
        self._db = db
        self._service = service
        self._waiting: deque[tuple[Attempt, asyncio.Future[None]]] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._failing = False

    async def keep(self, attempts: Sequence[Attempt]) -> None:
        """Return once ``attempts`` are stored; at once, or after a second, when Postgres does not take them.

        Then they are written later. Never raises because of Postgres.
        """
        if self._db is None or not attempts:
            return
        loop = asyncio.get_running_loop()
        mine = [(attempt, loop.create_future()) for attempt in attempts]
        self._waiting.extend(mine)
        while len(self._waiting) > _MOST_WAITING:
            _, dropped = self._waiting.popleft()
            dropped.cancel()
            attempts_dropped.labels(self._service).inc()
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(self._db))
        if not self._failing:
            await asyncio.wait([future for _, future in mine], timeout=_PATIENCE)

    async def _write(self, db: Database) -> None:
        tries = 0
        while self._waiting:
            group = [self._waiting[n] for n in range(min(_GROUP, len(self._waiting)))]
            attempts_waiting.labels(self._service).set(len(self._waiting))
            try:
                await db.execute(_INSERT, arrays(_COLUMNS, [attempt for attempt, _ in group]))
            except Exception as error:
                self._failing = True
                tries += 1
                pause = pause_before_try(tries, random.random())  # noqa: S311
                log.warning("attempts.unwritten", waiting=len(self._waiting), error=str(error))
                if not isinstance(error, Retryable):
                    self._drop(group)  # no later try will do better
                await asyncio.sleep(pause)
                continue
            self._failing, tries = False, 0
            self._forget(group)
        attempts_waiting.labels(self._service).set(0)

    def _drop(self, group: Sequence[tuple[Attempt, asyncio.Future[None]]]) -> None:
        attempts_dropped.labels(self._service).inc(len(group))
        self._forget(group)

    def _forget(self, group: Sequence[tuple[Attempt, asyncio.Future[None]]]) -> None:
        for entry in group:
            with suppress(ValueError):  # dropped meanwhile, to make room
                self._waiting.remove(entry)
            if not entry[1].done():
                entry[1].set_result(None)

    async def close(self) -> None:
        """Write what still waits, for two seconds at most."""
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=_LAST_PATIENCE)
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        if self._waiting:
            attempts_dropped.labels(self._service).inc(len(self._waiting))
