"""What a message says about itself besides its body: attempts, errors, and who is concerned."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aio_pika.abc import AbstractIncomingMessage

from fulcrum.commands.retry import is_bug
from fulcrum.saga.messages import Command
from fulcrum.wire.headers import Envelope

ATTEMPT = "fulcrum-attempt"
FIRST_AT = "fulcrum-first-at"
ERROR = "fulcrum-error"
ERROR_CLASS = "fulcrum-error-class"
PARKED_AT = "fulcrum-parked-at"
REASON = "fulcrum-reason"
TRACEBACK = "fulcrum-traceback"

#: What we add on the way; a replayed command starts without.
OWN_HEADERS = frozenset({ATTEMPT, FIRST_AT, ERROR, ERROR_CLASS, PARKED_AT, REASON, TRACEBACK})

# Headers must fit into one AMQP frame of 128 KiB together.
_ERROR_LIMIT, _TRACEBACK_LIMIT = 1_000, 8_000


@dataclass(frozen=True, slots=True)
class Delivery:
    """A command to handle. ``attempt`` counts from 1; ``message_id`` is the command's id."""

    command: Command
    headers: dict[str, str]
    message_id: str
    attempt: int
    body: bytes


def plain_headers(headers: Mapping[str, Any] | None) -> dict[str, str]:
    """Headers as text, without the ``x-*`` ones that brokers put there and interpret."""
    return {
        name: _text(value) for name, value in (headers or {}).items() if not name.lower().startswith("x-")
    }


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes | bytearray) else str(value)


def redeliveries(message: AbstractIncomingMessage) -> int:
    """How often the broker handed this message out before."""
    count = (message.headers or {}).get("x-delivery-count")
    return count if isinstance(count, int) else int(bool(message.redelivered))


def attempt_of(headers: Mapping[str, str]) -> int:
    """Which attempt this is, from 1."""
    text = headers.get(ATTEMPT, "")
    return max(1, int(text)) if text.isdecimal() and len(text) < 10 else 1


def headers_after(headers: Mapping[str, str], error: BaseException) -> dict[str, str]:
    """The headers for the next attempt after this one failed with ``error``."""
    return {
        **headers,
        ATTEMPT: str(attempt_of(headers) + 1),
        FIRST_AT: headers.get(FIRST_AT) or datetime.now(UTC).isoformat(),
        ERROR_CLASS: type(error).__name__,
        ERROR: str(error)[:_ERROR_LIMIT],
    }


def headers_parked(headers: Mapping[str, str], error: BaseException, reason: str) -> dict[str, str]:
    """The headers with which a message is parked: why, when, and the traceback of a bug."""
    parked = {**headers_after(headers, error), ATTEMPT: str(attempt_of(headers))}
    parked |= {PARKED_AT: datetime.now(UTC).isoformat(), REASON: reason}
    if is_bug(error):
        parked[TRACEBACK] = "".join(traceback.format_exception(error))[-_TRACEBACK_LIMIT:]
    return parked


def log_context(headers: Mapping[str, str], command: Command | None) -> dict[str, Any]:
    """The keys of every log line about this message."""
    envelope = Envelope.from_amqp(headers)
    return {
        "message_id": getattr(command, "command_id", None) or envelope.message_id,
        "workflow_id": getattr(command, "workflow_id", None) or envelope.workflow_id,
        "step": getattr(command, "step", None),
        "correlation_id": envelope.correlation_id or None,
        "traceparent": envelope.traceparent,
    }
