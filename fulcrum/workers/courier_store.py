"""How are shipments, updates and open commands read from Postgres and written back?

The row of a shipment is locked before anything of its workflow is decided, by commands and updates alike: so
the order of its events is the order of their commits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, Interval, and_, bindparam, case, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from fulcrum.commands.delivery import Delivery
from fulcrum.saga.messages import StepCommand, TrackDelivery
from fulcrum.store.bulk import arrays, insert_rows, rows_of
from fulcrum.store.database import Database, Row, Transaction
from fulcrum.store.relations import uuid_column
from fulcrum.workers.courier_moves import LIVE, Shipment
from fulcrum.workers.courier_relations import DELIVERIES, OPEN_COMMAND, TRACKING_UPDATES
from fulcrum.workers.tracking import Update

#: Violated when another transaction has just made the row: all is then decided again.
MET = frozenset({"deliveries_pkey"})

# --- shipments ------------------------------------------------------------------------------------

_FIELDS = tuple(Shipment.__dataclass_fields__)
_CHOSEN = [DELIVERIES.c[name] for name in _FIELDS]
_WORKFLOWS = bindparam("workflows", type_=ARRAY(uuid_column()))
_LOCK = (
    select(*_CHOSEN)
    .where(DELIVERIES.c.workflow_id == _WORKFLOWS.any_())
    .order_by(DELIVERIES.c.workflow_id)
    .with_for_update()
)
_LOCK_OF = select(*_CHOSEN).where(DELIVERIES.c.shipment_id == bindparam("shipment_id")).with_for_update()
_INSERT = insert_rows(DELIVERIES, _FIELDS, order_by=("workflow_id",))
_moved = rows_of(DELIVERIES, _FIELDS)
# Whatever is written, the courier was heard of just now.
_UPDATE = (
    update(DELIVERIES)
    .values(
        {
            **{name: _moved.c[name] for name in _FIELDS if name != "workflow_id"},
            "poll_at": case(
                (
                    _moved.c.state.in_(sorted(LIVE)),
                    func.clock_timestamp() + bindparam("poll", type_=Interval),
                )
            ),
        }
    )
    .where(DELIVERIES.c.workflow_id == _moved.c.workflow_id)
)
_silent = (
    select(DELIVERIES.c.workflow_id)
    .where(DELIVERIES.c.poll_at <= func.clock_timestamp())
    .order_by(DELIVERIES.c.poll_at)
    .limit(bindparam("most", type_=BigInteger))
    .with_for_update(skip_locked=True)
)
_TAKE_SILENT = (
    update(DELIVERIES)
    .where(DELIVERIES.c.workflow_id.in_(_silent))
    .values(poll_at=func.clock_timestamp() + bindparam("poll", type_=Interval))
    .returning(DELIVERIES.c.shipment_id)
)


async def lock(tx: Transaction, workflows: Iterable[str]) -> dict[str, Shipment]:
    """The shipments of these workflows, as far as there are any; locked until ``tx`` ends."""
    rows = await tx.all(_LOCK, {"workflows": sorted(workflows)})
    return {row["workflow_id"]: Shipment(**row) for row in rows}


async def lock_of(tx: Transaction, shipment_id: str) -> Shipment | None:
    """The shipment that the courier calls so."""
    row = await tx.one(_LOCK_OF, {"shipment_id": shipment_id})
    return None if row is None else Shipment(**row)


def save(tx: Transaction, known: Mapping[str, Shipment], changed: Sequence[Shipment], poll: float) -> None:
    """Write ``changed`` when ``tx`` commits; the courier is asked about them in ``poll`` seconds."""
    new = [each for each in changed if each.workflow_id not in known]
    if new:
        tx.at_commit(_INSERT, arrays(_FIELDS, [asdict(each) for each in new]))
    moved = [each for each in changed if each.workflow_id in known]
    if moved:
        given = arrays(_FIELDS, [asdict(each) for each in moved])
        tx.at_commit(_UPDATE, {**given, "poll": timedelta(seconds=poll)})


async def take_silent(db: Database, most: int, poll: float) -> list[str]:
    """At most so many live shipments that were not heard of in time; each is due again after ``poll`` s.

    Those that another process takes, or that are written just now, are left to it.
    """
    rows = await db.all(_TAKE_SILENT, {"most": most, "poll": timedelta(seconds=poll)})
    return [row["shipment_id"] for row in rows]


# --- updates --------------------------------------------------------------------------------------

_KEPT = ("update_id", "workflow_id", "shipment_id", "sequence", "status", "at", "came_by", "body")
_kept = rows_of(TRACKING_UPDATES, _KEPT)
_ids = bindparam("updates", type_=ARRAY(TRACKING_UPDATES.c.update_id.type))
_SEEN = select(
    TRACKING_UPDATES.c.update_id,
    TRACKING_UPDATES.c.shipment_id,
    TRACKING_UPDATES.c.sequence,
    TRACKING_UPDATES.c.status,
).where(TRACKING_UPDATES.c.update_id == _ids.any_())
_KEEP = insert(TRACKING_UPDATES).from_select(
    [*_KEPT, "received_at"],
    select(*[_kept.c[name] for name in _KEPT], func.clock_timestamp()).order_by(_kept.c.update_id),
)


async def seen(tx: Transaction, update_ids: Iterable[str]) -> dict[str, tuple[str, int, str]]:
    """Shipment, number and status of the updates among these that are kept already."""
    rows = await tx.all(_SEEN, {"updates": sorted(update_ids)})
    return {row["update_id"]: (row["shipment_id"], row["sequence"], row["status"]) for row in rows}


def keep(tx: Transaction, workflow: str, updates: Sequence[tuple[Update, bytes]], came_by: str) -> None:
    """Keep new updates with the bytes that they came as, when ``tx`` commits."""
    rows: list[dict[str, Any]] = [
        {
            "update_id": each.update_id,
            "workflow_id": workflow,
            "shipment_id": each.shipment_id,
            "sequence": each.sequence,
            "status": str(each.status),
            "at": each.at,
            "came_by": came_by,
            "body": body,
        }
        for each, body in updates
    ]
    if rows:
        tx.at_commit(_KEEP, arrays(_KEPT, rows))


# --- open commands --------------------------------------------------------------------------------

_GIVEN = ("command_id", "workflow_id", "type", "headers", "body")
_given = rows_of(OPEN_COMMAND, _GIVEN)
_NOTE = insert(OPEN_COMMAND).from_select(
    [*_GIVEN, "begun_at", "due_at"],
    select(
        *[_given.c[name] for name in _GIVEN],
        func.clock_timestamp(),
        # They that track wait for the courier's updates and not for the answer to a call.
        case(
            (
                _given.c.type != TrackDelivery.__name__,
                func.clock_timestamp() + bindparam("sweep_after", type_=Interval),
            )
        ),
    ).order_by(_given.c.command_id),
)
_COMMANDS = bindparam("ids", type_=ARRAY(uuid_column()))
_CLOSE = delete(OPEN_COMMAND).where(OPEN_COMMAND.c.command_id == _COMMANDS.any_())
_WAITING = (
    select(OPEN_COMMAND.c.command_id, OPEN_COMMAND.c.workflow_id, OPEN_COMMAND.c.headers)
    .where(
        and_(OPEN_COMMAND.c.workflow_id == _WORKFLOWS.any_(), OPEN_COMMAND.c.type == TrackDelivery.__name__)
    )
    .order_by(OPEN_COMMAND.c.begun_at, OPEN_COMMAND.c.command_id)
)
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
    rows: list[dict[str, Any]] = []
    for each in deliveries:
        assert isinstance(each.command, StepCommand)
        rows.append(
            {
                "command_id": each.message_id,
                "workflow_id": each.command.workflow_id,
                "type": type(each.command).__name__,
                "headers": each.headers,
                "body": each.body,
            }
        )
    tx.at_commit(_NOTE, {**arrays(_GIVEN, rows), "sweep_after": timedelta(seconds=sweep_after)})


def close(tx: Transaction, command_ids: Iterable[str]) -> None:
    """Forget commands that are answered; those that were never open do no harm."""
    if ids := sorted(command_ids):
        tx.at_commit(_CLOSE, {"ids": ids})


async def waiting(tx: Transaction, workflows: Iterable[str]) -> dict[str, dict[str, dict[str, str]]]:
    """By workflow: the commands that wait for the end of its shipment, oldest first, with their headers."""
    found: dict[str, dict[str, dict[str, str]]] = {workflow: {} for workflow in workflows}
    if found:
        for row in await tx.all(_WAITING, {"workflows": sorted(found)}):
            found[row["workflow_id"]][row["command_id"]] = row["headers"]
    return found


async def take_due(db: Database, most: int, sweep_after: float) -> list[Row]:
    """At most so many commands that are due; each is due again after so many seconds."""
    return await db.all(_TAKE, {"most": most, "sweep_after": timedelta(seconds=sweep_after)})


async def forget(db: Database, command_id: str) -> None:
    """Take a command up no more: its own delivery is parked, where people see it."""
    await db.execute(_CLOSE, {"ids": [command_id]})
