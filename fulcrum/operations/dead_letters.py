"""What is kept of a record of a dead-letter topic? Its id is computed from its place. Pure."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from confluent_kafka import Message

from fulcrum.commands.fingerprint import fingerprint
from fulcrum.commands.parker import storable, told_time, told_uuid
from fulcrum.operations.moves import EVENTS
from fulcrum.operations.sending import DLQ_HEADERS
from fulcrum.wire.headers import Envelope

_ROOT = UUID("b1a6f0de-0a53-5b0f-9a1e-3f1c8f0b6a21")


def parked_event(message: Message, decoded: dict[str, Any] | None, now: datetime) -> dict[str, Any]:
    """What is kept of a record of a dead-letter topic."""
    pairs = _headers(message)
    told = {name: storable(value.decode(errors="replace")) for name, value in pairs}
    envelope = Envelope.from_kafka(pairs)
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    came_from = told.get(f"{DLQ_HEADERS}topic") or str(topic).removesuffix(".dlq")
    error = told.get(f"{DLQ_HEADERS}error") or "its dead-letter topic does not say why"
    error_class, _, rest = error.partition(": ")
    if not rest or not error_class.isidentifier():
        error_class, rest = "Undeliverable", error
    key, value = message.key(), message.value()
    own = [(name, raw) for name, raw in pairs if not name.startswith(DLQ_HEADERS)]
    kind = storable(envelope.type) or "unknown"
    return {
        "id": str(uuid5(_ROOT, f"{topic}/{partition}/{offset}")),
        "parked_at": told_time(told.get(f"{DLQ_HEADERS}at", "")) or now,
        "service": EVENTS,
        "message_id": storable(envelope.message_id) or "unknown",
        "type": kind,
        "workflow_id": told_uuid(envelope.workflow_id) or told_uuid((key or b"").decode(errors="replace")),
        "queue": came_from,
        "reason": f"refused by {told.get(f'{DLQ_HEADERS}consumer', 'an agent')}",
        "error_class": error_class,
        "error": rest,
        "fingerprint": fingerprint(kind, error_class, rest),
        "attempts": 1,
        "headers": {name: value for name, value in told.items() if not name.startswith(DLQ_HEADERS)},
        "body": value or b"",
        "decoded": decoded,
        "origin": {
            "topic": came_from,
            "partition": _number(told.get(f"{DLQ_HEADERS}partition"), partition),
            "offset": _number(told.get(f"{DLQ_HEADERS}offset"), offset),
            "key": None if key is None else base64.b64encode(key).decode(),
            "null": value is None,
            "headers": [[name, base64.b64encode(raw).decode()] for name, raw in own],
        },
    }


def _headers(message: Message) -> list[tuple[str, bytes]]:
    found: Any = message.headers() or ()
    return [(name, b"" if value is None else bytes(value)) for name, value in found]


def _number(text: str | None, otherwise: int | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 19 else otherwise or 0
