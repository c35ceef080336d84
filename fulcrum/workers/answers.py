"""How a service's answer becomes an outbox row, with the headers that join it to its command."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from fulcrum.commands.delivery import Delivery
from fulcrum.saga.messages import Answer
from fulcrum.store.inbox import InboxKey
from fulcrum.store.outbox import OutboxRow
from fulcrum.telemetry.trace import child_of
from fulcrum.wire.codec import Codec
from fulcrum.wire.headers import Envelope, lineage
from fulcrum.wire.topics import Topics


def inbox_key(delivery: Delivery) -> InboxKey:
    """What the inbox knows a command by."""
    return InboxKey(delivery.message_id, hashlib.sha256(delivery.body).digest())


def answer_row(codec: Codec, topics: Topics, service: str, event: Answer, delivery: Delivery) -> OutboxRow:
    """``event`` as it will leave for Kafka, keyed by its workflow."""
    return event_row(codec, topics, service, event, delivery.headers)


def event_row(
    codec: Codec, topics: Topics, service: str, event: Answer, headers: Mapping[str, str]
) -> OutboxRow:
    """The same for an event that nobody asked for just now; ``headers`` are those of what led to it."""
    correlation, traceparent = lineage(headers)
    envelope = Envelope(
        message_id=event.event_id,
        type=type(event).__name__,
        source=service,
        workflow_id=event.workflow_id,
        time=event.occurred_at,
        correlation_id=correlation,
        causation_id=event.command_id,
        traceparent=child_of(traceparent),
    )
    return OutboxRow(
        event_id=event.event_id,
        topic=topics.stream(event.stream),
        key=event.workflow_id.encode(),
        value=codec.encode(event),
        headers=envelope.to_amqp(),
    )
