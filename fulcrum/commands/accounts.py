"""Which commands were published?

A command is entered when the projector sees its decision, or when RabbitMQ has confirmed it if no decision
asked for it. It is taken out once its service has answered it, or a person has given it up: see
``fulcrum.commands.standing``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, Integer, Table, Text
from sqlalchemy.dialects.postgresql import Insert

from fulcrum.store.bulk import arrays, insert_rows
from fulcrum.store.database import Database, Transaction
from fulcrum.store.relations import METADATA, SCHEMA_OF, time_column, uuid_column
from fulcrum.store.statements import lasting

PUBLISHED = Table(
    "commands_published",
    METADATA,
    Column("command_id", uuid_column(), primary_key=True),
    Column("service", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("workflow_id", uuid_column()),
    Column("decided_at", time_column(), nullable=False),
    # Where the decision lies that asked for it. The bridge has published it once its offset is past that.
    Column("journal_partition", Integer),
    Column("journal_offset", BigInteger),
    # When it was first known that RabbitMQ has it.
    Column("published_at", time_column()),
    schema="ops",
)


@dataclass(frozen=True, slots=True)
class Issued:
    """A command that left, or is about to: with the place of its decision, or the time of its confirm."""

    command_id: str
    service: str
    type: str
    workflow_id: str | None
    decided_at: datetime
    journal_partition: int | None = None
    journal_offset: int | None = None
    published_at: datetime | None = None


_ENTERED = tuple(column.name for column in PUBLISHED.c)
_ENTER = lasting(insert_rows(PUBLISHED, _ENTERED, order_by=("command_id",)).on_conflict_do_nothing())


@cache
def _enter_again() -> Insert:
    statement = insert_rows(PUBLISHED, _ENTERED, order_by=("command_id",))
    return statement.on_conflict_do_update(
        index_elements=[PUBLISHED.c.command_id], set_={"published_at": statement.excluded.published_at}
    )


def enter(tx: Transaction, issued: Iterable[Issued]) -> None:
    """Enter what decisions asked for when ``tx`` commits, in its round trip; once, however often told."""
    if rows := _rows(issued):
        tx.at_commit(_ENTER, arrays(_ENTERED, rows))


async def enter_published(
    db: Database,
    command_id: str,
    service: str,
    type: str,  # noqa: A002
    workflow_id: str | None,
) -> None:
    """Enter a command that RabbitMQ has just confirmed: a receipt's, or one that a person sent again.

    A message that was parked because nobody can read it may have no id to account by; it is left out.
    """
    if not _is_uuid(command_id):
        return
    now = datetime.now(UTC)
    issued = Issued(command_id, service, type, workflow_id, now, published_at=now)
    if rows := _rows([issued]):
        await db.execute(_enter_again(), arrays(_ENTERED, rows))


def _rows(issued: Iterable[Issued]) -> list[dict[str, Any]]:
    """As rows, each command once: one statement may not touch a row twice."""
    return list({each.command_id: asdict(each) for each in issued if each.service in SCHEMA_OF}.values())


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
