"""What travels beside a message? One envelope, as Kafka and as RabbitMQ headers.

CloudEvents in binary mode (``ce_*``), our correlation and causation ids, and W3C ``traceparent``. What
logic needs lies in the message itself as well: a reader never fails on a missing or broken header.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_ID = "ce_id"
_TYPE = "ce_type"
_SOURCE = "ce_source"
_SUBJECT = "ce_subject"
_TIME = "ce_time"
_SPECVERSION = "ce_specversion"
_CORRELATION = "fulcrum-correlation-id"
_CAUSATION = "fulcrum-causation-id"
_TRACEPARENT = "traceparent"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every message carries beside its bytes.

    ``message_id`` is the event, command or decision id; ``workflow_id`` travels as the CloudEvents
    subject; ``causation_id`` is the id of the message that caused this one. ``time`` is None only on an
    envelope read from headers that lack it or hold no time.
    """

    message_id: str
    type: str
    source: str
    workflow_id: str | None
    time: datetime | None
    correlation_id: str
    causation_id: str | None
    traceparent: str | None

    def to_amqp(self) -> dict[str, str]:
        """Headers for RabbitMQ; what is None or empty is left out."""
        headers = {
            _ID: self.message_id,
            _TYPE: self.type,
            _SOURCE: self.source,
            _SUBJECT: self.workflow_id,
            _TIME: None if self.time is None else self.time.astimezone(UTC).isoformat(),
            _SPECVERSION: "1.0",
            _CORRELATION: self.correlation_id,
            _CAUSATION: self.causation_id,
            _TRACEPARENT: self.traceparent,
        }
        return {name: value for name, value in headers.items() if value}

    def to_kafka(self) -> list[tuple[str, bytes]]:
        """The same headers as Kafka takes them."""
        return [(name, value.encode()) for name, value in self.to_amqp().items()]

    @classmethod
    def from_amqp(cls, headers: Mapping[str, Any] | None) -> Envelope:
        """Read RabbitMQ headers; foreign ones are ignored."""
        return cls._read({name: _text(value) for name, value in (headers or {}).items()})

    @classmethod
    def from_kafka(cls, headers: Iterable[tuple[str, Any]] | Mapping[str, Any] | None) -> Envelope:
        """Read Kafka headers, as pairs or as a mapping; of a repeated header the last counts."""
        pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
        return cls._read({name: _text(value) for name, value in pairs})

    @classmethod
    def _read(cls, headers: Mapping[str, str]) -> Envelope:
        return cls(
            message_id=headers.get(_ID, ""),
            type=headers.get(_TYPE, ""),
            source=headers.get(_SOURCE, ""),
            workflow_id=headers.get(_SUBJECT) or None,
            time=_time(headers.get(_TIME)),
            correlation_id=headers.get(_CORRELATION, ""),
            causation_id=headers.get(_CAUSATION) or None,
            traceparent=headers.get(_TRACEPARENT) or None,
        )


def lineage(headers: Mapping[str, str]) -> tuple[str, str | None]:
    """The correlation id and traceparent of RabbitMQ headers: what an answer needs of its command's."""
    return headers.get(_CORRELATION, ""), headers.get(_TRACEPARENT) or None


def _text(value: Any) -> str:
    if isinstance(value, bytes | bytearray):
        return value.decode(errors="replace")
    return "" if value is None else str(value)


def _time(text: str | None) -> datetime | None:
    """An aware time, or None when the text is none."""
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time
