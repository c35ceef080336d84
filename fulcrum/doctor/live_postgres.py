"""Do the services' tables agree, on a system that is at work? Few rows, short statements, no locks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psycopg2

from fulcrum.doctor.findings import Fault, Finding, State, found, unknown
from fulcrum.doctor.in_postgres import BY_HAND
from fulcrum.doctor.questions import LOOKED_AT, PICKS, QUESTIONS, SKUS, TO_ADD_UP, Over, Question
from fulcrum.errors import Unavailable

#: Milliseconds after which Postgres breaks off a statement of ours, and seconds for a connection.
_STATEMENT_MS, _LOCK_MS, _CONNECT_WITHIN = 3000, 500, 5
#: Sums are only made of so many rows: about 0.1 s of one core.
MOST_TO_ADD_UP = 200_000

Cursor = Any


@dataclass(frozen=True, slots=True)
class Scope:
    """How old a thing must be to count (seconds), and how many of a kind are looked at."""

    grace: float
    sample: int

    def parameters(self, **more: object) -> dict[str, object]:
        """What the statements are given."""
        return {"grace": self.grace, "limit": self.sample, "half": (self.sample + 1) // 2, **more}


def connect(dsn: str) -> Any:
    """A connection that cannot write and gives up soon; ``Unavailable`` when there is none."""
    options = (
        f"-c statement_timeout={_STATEMENT_MS} -c lock_timeout={_LOCK_MS}"
        " -c default_transaction_read_only=on -c max_parallel_workers_per_gather=0"
    )
    try:
        connection = psycopg2.connect(
            dsn, connect_timeout=_CONNECT_WITHIN, options=options, application_name="fulcrum-doctor"
        )
    except psycopg2.OperationalError as error:
        raise Unavailable(
            f"Postgres does not answer ({_first_line(error)}); check FULCRUM_POSTGRES_DSN"
        ) from error
    # No snapshot is kept between the statements: it would hold back the cleaning of the tables.
    connection.autocommit = True
    return connection


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def pick(cursor: Cursor, over: Over, scope: Scope) -> list[str]:
    """The workflows to look at."""
    cursor.execute(PICKS[over], scope.parameters(point=str(uuid4())))
    return sorted({row[0] for row in cursor.fetchall()})


def look(cursor: Cursor, scope: Scope, questions: Sequence[Question] = QUESTIONS) -> list[Finding]:
    """Ask every question; one that takes too long or fails is unknown and does not stop the others."""
    picked: dict[Over, list[str]] = {}

    def subjects(over: Over) -> list[str]:
        if over not in picked:
            picked[over] = pick(cursor, over, scope)
        return picked[over]

    return [_asked(cursor, question, scope, subjects) for question in questions]


def _asked(
    cursor: Cursor, question: Question, scope: Scope, subjects: Callable[[Over], Sequence[str]]
) -> Finding:
    try:
        if question.over is Over.STOCK:
            rows = _number(cursor, TO_ADD_UP)
            if rows > MOST_TO_ADD_UP:
                note = f"about {rows} rows would have to be added up, more than {MOST_TO_ADD_UP}"
                return Finding(question.check, question.invariant, State.SKIPPED, note=note)
            looked_at, more = _number(cursor, SKUS), scope.parameters()
        elif question.over in PICKS:
            ids = subjects(question.over)
            looked_at, more = len(ids), scope.parameters(ids=list(ids))
        else:
            looked_at, more = LOOKED_AT[question.over], scope.parameters()
        cursor.execute(question.sql, more)
        faults = [Fault(*(str(each) for each in row)) for row in cursor.fetchall()]
    except psycopg2.Error as error:
        return unknown(question.check, question.invariant, error)
    return found(question.check, question.invariant, looked_at, faults, question.bad)


def _number(cursor: Cursor, query: str) -> int:
    cursor.execute(query)
    (number,) = cursor.fetchone()
    return int(number)


def runs_of(cursor: Cursor, ids: Sequence[str], grace: float) -> Mapping[str, Mapping[str, Any]]:
    """Status, version, amount and whether it changed lately, of each run of ``ids`` that is stored."""
    cursor.execute(
        f"""SELECT workflow_id::text, status, version, amount_minor, currency,
                  updated_at >= now() - make_interval(secs => %s) AS fresh, {BY_HAND} AS by_hand
           FROM read_model.workflow_runs r WHERE workflow_id = ANY(%s::uuid[])""",  # noqa: S608 - both parts are constants
        (grace, list(ids)),
    )
    names = ("workflow_id", "status", "version", "amount_minor", "currency", "fresh", "by_hand")
    return {row[0]: dict(zip(names, row, strict=True)) for row in cursor.fetchall()}
