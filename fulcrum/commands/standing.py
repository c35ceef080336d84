"""Where do the published commands stand: handled, parked, or expected on a queue?

A command is handled when its row in its service's inbox has an outcome, or, for a service that answers later,
when it has a row there. A parked message that a person has given up settles its command too. What is left in
the accounts is parked, queued, or lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Delete,
    Float,
    Select,
    Text,
    Update,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.sql.selectable import LateralFromClause

from fulcrum.commands.accounts import PUBLISHED
from fulcrum.store.bulk import arrays, rows_of
from fulcrum.store.database import Database, Row
from fulcrum.store.relations import ANSWER_LATER, PARKED_MESSAGES, SCHEMA_OF, messaging

#: Statuses of a parked message that waits for a person, and of one that was sent to its service again.
_WAITS = ("parked", "replaying")
_SENT_AGAIN = "replayed"
#: Rows that one statement takes out, so that none holds locks for long.
_CHUNK = 5000
#: Commands that a look names or reads one by one; more are only counted.
MOST_NAMED = 10_000


@dataclass(frozen=True, slots=True)
class Standing:
    """How many commands of a service are neither handled nor given up.

    ``open`` are expected on a queue or in a worker's hands, ``parked`` wait for a person. ``overdue`` are
    those open for longer than the grace since they were published; ``unconfirmed`` were decided longer ago
    than half of it and are not yet known to be published.
    """

    open: int
    parked: int
    overdue: int
    unconfirmed: int


# --- taking out --------------------------------------------------------------------------------------


def _latest_parking() -> LateralFromClause:
    """The parked message that tells where a command stands: one that waits, else the one changed last."""
    parked = PARKED_MESSAGES
    return (
        select(parked.c.status, parked.c.status_at)
        .where(
            parked.c.message_id == cast(PUBLISHED.c.command_id, Text), parked.c.service == PUBLISHED.c.service
        )
        .order_by(parked.c.status.in_(_WAITS).desc(), parked.c.status_at.desc())
        .limit(1)
        .lateral("parking")
    )


def _answer(service: str) -> LateralFromClause:
    """One row when the service has answered a command, or taken it for good and answers later.

    The limit keeps the planner from joining the whole inbox, which has all of history, with a few commands.
    """
    inbox = messaging(SCHEMA_OF[service]).inbox
    done = true() if service in ANSWER_LATER else inbox.c.outcome.is_not(None)
    return (
        select(inbox.c.message_id)
        .where(inbox.c.consumer == service, inbox.c.message_id == PUBLISHED.c.command_id, done)
        .limit(1)
        .lateral("answer")
    )


def _take_out(chosen: Select[Any]) -> Delete:
    # Every projector settles the accounts: none waits for, or deadlocks with, another.
    few = chosen.limit(_CHUNK).with_for_update(of=PUBLISHED, skip_locked=True)
    return delete(PUBLISHED).where(PUBLISHED.c.command_id.in_(few))


@cache
def _take_out_handled(service: str) -> Delete:
    return _take_out(
        select(PUBLISHED.c.command_id)
        .select_from(PUBLISHED.join(_answer(service), true()))
        .where(PUBLISHED.c.service == service)
    )


@cache
def _take_out_given_up() -> Delete:
    parking = _latest_parking()
    return _take_out(
        select(PUBLISHED.c.command_id)
        .select_from(PUBLISHED.join(parking, true()))
        .where(parking.c.status.not_in((*_WAITS, _SENT_AGAIN)))
    )


async def settle(db: Database) -> int:
    """Take out what was handled or given up by a person; returns how many commands that were."""
    settled = 0
    for statement in (*(_take_out_handled(service) for service in SCHEMA_OF), _take_out_given_up()):
        while True:
            taken = await db.execute(statement)
            settled += taken
            if taken < _CHUNK:
                break
    return settled


def _confirm() -> Update:
    given = rows_of(PUBLISHED, ("journal_partition", "journal_offset"))
    return (
        update(PUBLISHED)
        .values(published_at=func.now())
        .where(
            PUBLISHED.c.published_at.is_(None),
            PUBLISHED.c.journal_partition == given.c.journal_partition,
            PUBLISHED.c.journal_offset < given.c.journal_offset,
        )
    )


_CONFIRM = _confirm()


async def confirm(db: Database, bridge_at: Mapping[int, int]) -> None:
    """Note what the bridge has published: ``bridge_at`` is its committed offset by partition."""
    columns = ("journal_partition", "journal_offset")
    rows = [{"journal_partition": number, "journal_offset": offset} for number, offset in bridge_at.items()]
    if rows:
        await db.execute(_CONFIRM, arrays(columns, rows))


# --- looking ----------------------------------------------------------------------------------------


@cache
def _standing(service: str) -> Select[int, int, int, int]:
    answer, parking = _answer(service), _latest_parking()
    is_open, since = _open(parking)
    waits_for_bridge = and_(is_open, since.is_(None), PUBLISHED.c.decided_at < _past(0.5))
    return (
        select(
            func.count().filter(is_open).label("open"),
            func.count().filter(parking.c.status.in_(_WAITS)).label("parked"),
            func.count().filter(and_(is_open, since < _past())).label("overdue"),
            func.count().filter(waits_for_bridge).label("unconfirmed"),
        )
        .select_from(PUBLISHED.outerjoin(answer, true()).outerjoin(parking, true()))
        .where(PUBLISHED.c.service == service, answer.c.message_id.is_(None))
    )


@cache
def overdue_statement(service: str) -> Select[Any]:
    """The commands of ``service`` that are open for longer than the parameter ``grace`` (s), oldest first.

    Those that are not known to be published are among them, with ``since`` None.
    """
    answer, parking = _answer(service), _latest_parking()
    is_open, since = _open(parking)
    return (
        select(
            PUBLISHED.c.command_id,
            PUBLISHED.c.type,
            PUBLISHED.c.workflow_id,
            PUBLISHED.c.journal_partition,
            PUBLISHED.c.journal_offset,
            PUBLISHED.c.decided_at,
            since.label("since"),
        )
        .select_from(PUBLISHED.outerjoin(answer, true()).outerjoin(parking, true()))
        .where(
            PUBLISHED.c.service == service,
            answer.c.message_id.is_(None),
            is_open,
            func.coalesce(since, PUBLISHED.c.decided_at) < _past(),
        )
        .order_by(func.coalesce(since, PUBLISHED.c.decided_at), PUBLISHED.c.command_id)
        .limit(MOST_NAMED)
    )


def _open(parking: LateralFromClause) -> tuple[ColumnElement[bool], ColumnElement[Any]]:
    """Whether a command is expected on a queue, and since when it was known to be published."""
    again = parking.c.status == _SENT_AGAIN
    since = func.greatest(PUBLISHED.c.published_at, case((again, parking.c.status_at)))
    return or_(parking.c.status.is_(None), again), since


def _past(share: float = 1.0) -> ColumnElement[Any]:
    """The moment ``share`` of the parameter ``grace`` (seconds) ago."""
    seconds = bindparam("grace", type_=Float) * share
    return func.now() - func.make_interval(0, 0, 0, 0, 0, 0, seconds)


async def standing(db: Database, service: str, grace: float) -> Standing:
    """Where the commands of ``service`` stand; ``grace`` in seconds."""
    row = await db.one(_standing(service), {"grace": grace})
    assert row is not None
    return Standing(**row)


async def overdue(db: Database, service: str, grace: float) -> list[Row]:
    """The overdue commands of ``service``, oldest first, see ``overdue_statement``."""
    return await db.all(overdue_statement(service), {"grace": grace})
