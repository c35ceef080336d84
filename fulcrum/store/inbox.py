"""Whether a message already took effect here, and what it was answered with."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Select, Update, any_, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY, Insert
from sqlalchemy.sql.dml import ReturningInsert

from fulcrum.errors import Corrupt
from fulcrum.store.array_text import array_of
from fulcrum.store.bulk import arrays, insert_rows, rows_of
from fulcrum.store.database import Transaction
from fulcrum.store.outbox import OutboxRow
from fulcrum.store.relations import ServiceRelations, messaging, uuid_column
from fulcrum.store.statements import lasting

_UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
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
    return lasting(claim.returning(table.c.message_id))


@cache
def _lookup(schema: str) -> Select[tuple[str, bytes, object]]:
    table = messaging(schema).inbox
    ids = bindparam("ids", type_=ARRAY(uuid_column()))
    return lasting(
        select(table.c.message_id, table.c.fingerprint, table.c.outcome).where(
            table.c.consumer == bindparam("consumer"), table.c.message_id == ids.any_()
        )
    )


@cache
def _recording(schema: str) -> Update:
    table = messaging(schema).inbox
    given = rows_of(table, _RECORDED)
    return lasting(
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
    given = bodies(keys)
    if not given:
        return set()
    claimed = {row["message_id"] for row in await tx.all(_claim(relations.schema), _claims(consumer, given))}
    repeated = given.keys() - claimed
    if repeated:
        for row in await tx.all(_lookup(relations.schema), {"consumer": consumer, "ids": sorted(repeated)}):
            _check_body(row["message_id"], row["fingerprint"], given[row["message_id"]])
    return claimed


def bodies(keys: Iterable[InboxKey]) -> dict[str, bytes]:
    """Fingerprints by id. Raises Corrupt when an id is no UUID, or stands for two bodies."""
    given: dict[str, bytes] = {}
    for key in keys:
        _check_body(_uuid(key.message_id), given.setdefault(key.message_id, key.fingerprint), key.fingerprint)
    return given


def _claims(consumer: str, given: Mapping[str, bytes]) -> dict[str, list[Any]]:
    return arrays(
        _CLAIMED, [{"consumer": consumer, "message_id": i, "fingerprint": f} for i, f in given.items()]
    )


def _uuid(text: str) -> str:
    if _UUID.fullmatch(text) is None:
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


# --- in one round trip with other work --------------------------------------------------------------
#
# Whoever needs an answer in two round trips reads what was ``seen`` beside its own rows, and writes the
# inbox last. A message that was taken meanwhile violates the key, and all is done again.

_KEPT = ("consumer", "message_id", "fingerprint", "outcome")


@dataclass(frozen=True, slots=True)
class Seen:
    """A message in the inbox; ``outcome`` is None when this very transaction has claimed it."""

    fingerprint: bytes
    outcome: Sequence[OutboxRow] | None


def seen(relations: ServiceRelations) -> Select[Any]:
    """The rows of the messages given as ``messages``, as part of another statement; see ``read_seen``."""
    table = relations.inbox
    return select(
        table.c.message_id, func.encode(table.c.fingerprint, "hex").label("fingerprint"), table.c.outcome
    ).where(
        table.c.consumer == bindparam("consumer"),
        table.c.message_id == any_(array_of("messages", uuid_column())),
    )


def read_seen(rows: Iterable[Mapping[str, Any]] | None) -> dict[str, Seen]:
    """The rows of ``seen`` that came as JSON, by message."""
    return {
        row["message_id"]: Seen(
            bytes.fromhex(row["fingerprint"]),
            None if row["outcome"] is None else [OutboxRow.from_json(stored) for stored in row["outcome"]],
        )
        for row in rows or ()
    }


def repeated(seen: Mapping[str, Seen], given: Mapping[str, bytes]) -> dict[str, Sequence[OutboxRow]]:
    """What the messages of ``given`` that took effect before were answered with.

    Raises Corrupt when one came with another body then.
    """
    for message, known in seen.items():
        _check_body(message, known.fingerprint, given[message])
    return {message: known.outcome for message, known in seen.items() if known.outcome is not None}


def claim_ahead(
    tx: Transaction, relations: ServiceRelations, consumer: str, given: Mapping[str, bytes]
) -> None:
    """Claim the messages of ``given`` in the round trip of the next statement; keep the outcomes by
    ``record``."""
    tx.ahead(_claim(relations.schema), _claims(consumer, given))


@cache
def _adding(schema: str) -> Insert:
    return lasting(insert_rows(messaging(schema).inbox, _KEPT, order_by=("message_id",)))


def add(
    tx: Transaction,
    relations: ServiceRelations,
    consumer: str,
    given: Mapping[str, bytes],
    answers: Mapping[str, Sequence[OutboxRow]],
) -> None:
    """Claim the messages of ``answers`` and keep their outcomes, when ``tx`` commits.

    One that was taken meanwhile violates ``inbox_pkey``.
    """
    rows = [
        {
            "consumer": consumer,
            "message_id": message,
            "fingerprint": given[message],
            "outcome": [row.to_json() for row in sent],
        }
        for message, sent in answers.items()
    ]
    if rows:
        tx.at_commit(_adding(relations.schema), arrays(_KEPT, rows))
