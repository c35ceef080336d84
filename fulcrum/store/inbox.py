"""Whether a message already took effect here, and what it was answered with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Update, bindparam, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.dml import ReturningInsert

from fulcrum.errors import Corrupt
from fulcrum.store.bulk import arrays, insert_rows, rows_of
from fulcrum.store.database import Transaction
from fulcrum.store.outbox import OutboxRow
from fulcrum.store.relations import ServiceRelations, messaging, uuid_column

_CLAIMED = ("consumer", "message_id", "fingerprint")
_RECORDED = ("message_id", "outcome")


@dataclass(frozen=True, slots=True)
class InboxKey:
    """A message and a digest of its body: one id stands for one body for ever."""

    message_id: str
    fingerprint: bytes


@cache
def _claim(schema: str) -> ReturningInsert[Any]:
    table = messaging(schema).inbox
    # Sorted: two batches that hold the same ids in another order would deadlock.
    claim = insert_rows(table, _CLAIMED, order_by=("message_id",)).on_conflict_do_nothing()
    return claim.returning(table.c.message_id)


@cache
def _lookup(schema: str) -> Select[tuple[str, bytes, object]]:
    table = messaging(schema).inbox
    ids = bindparam("ids", type_=ARRAY(uuid_column()))
    return select(table.c.message_id, table.c.fingerprint, table.c.outcome).where(
        table.c.consumer == bindparam("consumer"), table.c.message_id == ids.any_()
    )


@cache
def _recording(schema: str) -> Update:
    table = messaging(schema).inbox
    given = rows_of(table, _RECORDED)
    return (
        update(table)
        .values(outcome=given.c.outcome)
        .where(table.c.consumer == bindparam("inbox_consumer"), table.c.message_id == given.c.message_id)
    )


async def claim(
    tx: Transaction, relations: ServiceRelations, consumer: str, keys: Sequence[InboxKey]
) -> set[str]:
    """The ids of ``keys`` that are new; the others took effect before and have an outcome.

    Waits for a transaction that holds one of them. Call it first in the transaction. Raises Corrupt when an
    id is no UUID, or was seen with another body, in these keys or before.
    """
    bodies: dict[str, bytes] = {}
    for key in keys:
        _check_body(
            _uuid(key.message_id), bodies.setdefault(key.message_id, key.fingerprint), key.fingerprint
        )
    if not bodies:
        return set()
    rows = [{"consumer": consumer, "message_id": i, "fingerprint": f} for i, f in bodies.items()]
    claimed = {row["message_id"] for row in await tx.all(_claim(relations.schema), arrays(_CLAIMED, rows))}
    repeated = bodies.keys() - claimed
    if repeated:
        for row in await tx.all(_lookup(relations.schema), {"consumer": consumer, "ids": sorted(repeated)}):
            _check_body(row["message_id"], row["fingerprint"], bodies[row["message_id"]])
    return claimed


def _uuid(text: str) -> str:
    try:
        canonical: str | None = str(UUID(text))
    except ValueError:
        canonical = None
    if canonical != text:
        raise Corrupt(f"message id {text!r} is no UUID in its usual form")
    return text


def _check_body(message_id: str, known: bytes, given: bytes) -> None:
    if known != given:
        raise Corrupt(f"message id {message_id} was seen before with another body")


async def outcomes(
    tx: Transaction, relations: ServiceRelations, consumer: str, ids: Collection[str]
) -> dict[str, list[OutboxRow] | None]:
    """What each of ``ids`` was answered with; None when it was received and its outcome is not yet known."""
    if not ids:
        return {}
    rows = await tx.all(_lookup(relations.schema), {"consumer": consumer, "ids": sorted(ids)})
    return {
        row["message_id"]: None
        if row["outcome"] is None
        else [OutboxRow.from_json(stored) for stored in row["outcome"]]
        for row in rows
    }


async def record(
    tx: Transaction,
    relations: ServiceRelations,
    consumer: str,
    answers: Mapping[str, Sequence[OutboxRow]],
) -> None:
    """Keep what each message was answered with, for its repeats: written when ``tx`` commits."""
    if not answers:
        return
    rows = [{"message_id": i, "outcome": [r.to_json() for r in sent]} for i, sent in answers.items()]
    tx.at_commit(_recording(relations.schema), {**arrays(_RECORDED, rows), "inbox_consumer": consumer})
