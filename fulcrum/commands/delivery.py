"""What a message says about itself besides its body: attempts, errors, and who is concerned."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

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
ALONE = "fulcrum-alone"
GIVEN_UP = "fulcrum-given-up"

#: What we add on the way; a replayed command starts without. GIVEN_UP is not among them: it says how often
#: the command was parked, so that its attempts after a replay are those of another round.
OWN_HEADERS = frozenset({ATTEMPT, FIRST_AT, ERROR, ERROR_CLASS, PARKED_AT, REASON, TRACEBACK, ALONE})

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


def attempt_of(headers: Mapping[str, str]) -> int:
    """Which attempt this is, from 1."""
    return max(1, _count(headers, ATTEMPT))


def round_of(headers: Mapping[str, str]) -> int:
    """Which round of attempts this is, from 1: one more each time the command was parked and replayed."""
    return _count(headers, GIVEN_UP) + 1


def _count(headers: Mapping[str, str], name: str) -> int:
    text = headers.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


def headers_after(headers: Mapping[str, str], error: BaseException, spoiled: bool = False) -> dict[str, str]:
    """The headers for the next attempt after this one failed with ``error``.

    From then on a command that ``spoiled`` a batch, or met a bug, is handled alone.
    """
    alone = {ALONE: "1"} if spoiled or is_bug(error) else {}
    return {
        **headers,
        **alone,
        ATTEMPT: str(attempt_of(headers) + 1),
        FIRST_AT: headers.get(FIRST_AT) or datetime.now(UTC).isoformat(),
        ERROR_CLASS: type(error).__name__,
        ERROR: str(error)[:_ERROR_LIMIT],
    }


def headers_parked(headers: Mapping[str, str], error: BaseException, reason: str) -> dict[str, str]:
    """The headers with which a message is parked: why, when, and the traceback of a bug."""
    parked = {**headers_after(headers, error), ATTEMPT: str(attempt_of(headers))}
    parked |= {PARKED_AT: datetime.now(UTC).isoformat(), REASON: reason, GIVEN_UP: str(round_of(headers))}
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
