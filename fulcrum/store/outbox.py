"""How an event leaves in the transaction that made it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy.dialects.postgresql import Insert

from fulcrum.store.bulk import arrays, insert_rows
from fulcrum.store.database import Transaction
from fulcrum.store.relations import ServiceRelations, messaging
from fulcrum.store.statements import lasting

_COLUMNS = ("event_id", "topic", "key", "value", "headers")


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One Kafka message as it will leave: ``value`` is already encoded, ``event_id`` is computed."""

    event_id: str
    topic: str
    key: bytes
    value: bytes
    headers: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """For the inbox, which keeps what a message was answered with."""
        return {
            "event_id": self.event_id,
            "topic": self.topic,
            "key": base64.b64encode(self.key).decode(),
            "value": base64.b64encode(self.value).decode(),
            "headers": self.headers,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> OutboxRow:
        """The row that ``to_json`` wrote."""
        return cls(
            stored["event_id"],
            stored["topic"],
            base64.b64decode(stored["key"]),
            base64.b64decode(stored["value"]),
            dict(stored["headers"]),
        )


#: Who is told that rows were committed: the relays of this process, by schema.
_listeners: dict[str, list[Callable[[], None]]] = {}


def on_commit(schema: str, listener: Callable[[], None]) -> Callable[[], None]:
    """Call ``listener`` after each commit in this process that added rows; returns how to stop it."""
    listeners = _listeners.setdefault(schema, [])
    listeners.append(listener)
    return lambda: listeners.remove(listener)


@cache
def _insertion(schema: str) -> Insert:
    return lasting(insert_rows(messaging(schema).outbox, _COLUMNS))


async def add(tx: Transaction, relations: ServiceRelations, rows: Sequence[OutboxRow]) -> None:
    """Emit ``rows`` in this order when ``tx`` commits.

    They are inserted in the round trip of the COMMIT, after every row lock was taken, so that for one key
    the order of ids is the order of commits. A value over 900,000 bytes fails the transaction.
    """
    if not rows:
        return
    values = [
        {"event_id": r.event_id, "topic": r.topic, "key": r.key, "value": r.value, "headers": r.headers}
        for r in rows
    ]
    tx.at_commit(_insertion(relations.schema), arrays(_COLUMNS, values))
    for listener in _listeners.get(relations.schema, ()):
        tx.after_commit(listener)
