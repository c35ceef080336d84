"""Which payment commands may have asked the provider and have no recorded outcome?

A row is written in the transaction that records the first intent to ask, and deleted in the one that
records the answer, both in the round trip of the COMMIT. In good times it is never updated, and there are as
many rows as commands in progress. A command that is answered without a call leaves no row.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import BigInteger, Interval, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from fulcrum.commands.delivery import Delivery
from fulcrum.store.bulk import arrays, rows_of
from fulcrum.store.database import Database, Row, Transaction
from fulcrum.store.relations import uuid_column
from fulcrum.store.statements import lasting
from fulcrum.workers.payment_relations import OPEN_COMMAND

_GIVEN = ("command_id", "type", "headers", "body")
_given = rows_of(OPEN_COMMAND, _GIVEN)
_NOTE = lasting(
    insert(OPEN_COMMAND).from_select(
        [*_GIVEN, "begun_at", "due_at"],
        select(
            *[_given.c[name] for name in _GIVEN],
            func.clock_timestamp(),
            func.clock_timestamp() + bindparam("sweep_after", type_=Interval),
        ).order_by(_given.c.command_id),
    )
)
_IDS = bindparam("ids", type_=ARRAY(uuid_column()))
_CLOSE = lasting(delete(OPEN_COMMAND).where(OPEN_COMMAND.c.command_id == _IDS.any_()))
# Locked rows are those that another sweeper takes, or that are being answered just now.
_due = (
    select(OPEN_COMMAND.c.command_id)
    .where(OPEN_COMMAND.c.due_at <= func.clock_timestamp())
    .order_by(OPEN_COMMAND.c.due_at)
    .limit(bindparam("most", type_=BigInteger))
    .with_for_update(skip_locked=True)
)
_TAKE = (
    update(OPEN_COMMAND)
    .where(OPEN_COMMAND.c.command_id.in_(_due))
    .values(due_at=func.clock_timestamp() + bindparam("sweep_after", type_=Interval))
    .returning(OPEN_COMMAND)
)


def note(tx: Transaction, deliveries: Sequence[Delivery], sweep_after: float) -> None:
    """Keep new commands until they are answered; due for the sweeper after so many seconds."""
    if not deliveries:
        return
    rows = [
        {
            "command_id": each.message_id,
            "type": type(each.command).__name__,
            "headers": each.headers,
            "body": each.body,
        }
        for each in deliveries
    ]
    tx.at_commit(_NOTE, {**arrays(_GIVEN, rows), "sweep_after": timedelta(seconds=sweep_after)})


def close(tx: Transaction, command_ids: Sequence[str]) -> None:
    """Forget commands that are answered; those that were never open do no harm."""
    if command_ids:
        tx.at_commit(_CLOSE, {"ids": list(command_ids)})


async def take_due(db: Database, most: int, sweep_after: float) -> list[Row]:
    """At most so many commands that are due; each is due again after so many seconds."""
    return await db.all(_TAKE, {"most": most, "sweep_after": timedelta(seconds=sweep_after)})


async def forget(db: Database, command_id: str) -> None:
    """Take a command up no more: its own delivery is parked, where people see it."""
    await db.execute(_CLOSE, {"ids": [command_id]})
