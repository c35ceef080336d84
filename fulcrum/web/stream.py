"""Which events does intake put on its stream, made of the rows it keeps? The outbox forgets what it has sent.

An event is made of its row and nothing else, the first time as well as when it must be sent again: the same
row gives the same bytes under the same id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fulcrum.saga import identity
from fulcrum.saga.messages import (
    CancelRequested,
    Event,
    IntentCreated,
    Line,
    LineTerms,
    OperatorRequested,
    SignalReceived,
)
from fulcrum.store.outbox import OutboxRow
from fulcrum.wire.codec import Codec
from fulcrum.wire.headers import Envelope
from fulcrum.wire.topics import Topics

SOURCE = "intake"
#: The verbs of requests that have an event of their own.
CANCEL, SIGNAL = "cancel", "signal"


def intent_created(intent: Mapping[str, Any]) -> IntentCreated:
    """The first event of the workflow, from the row of its intent."""
    return IntentCreated(
        event_id=identity.event_id(intent["intent_id"], IntentCreated.__name__),
        workflow_id=intent["workflow_id"],
        sequence=1,
        occurred_at=intent["accepted_at"],
        intent_id=intent["intent_id"],
        tenant=intent["tenant"],
        customer_ref=intent["customer_ref"],
        lines=tuple(Line(line["sku"], line["quantity"]) for line in intent["lines"]),
        amount_minor=intent["amount_minor"],
        currency=intent["currency"],
        payment_method=intent["payment_method"],
        ship_to=intent["ship_to"],
        definition=intent["definition"],
        correlation_id=intent["correlation_id"],
        terms=tuple(LineTerms(term["unit_minor"], term["on_short"]) for term in intent.get("terms") or ()),
        promised_at=intent.get("promised_at"),
        holds=tuple(intent.get("holds") or ()),
    )


def request_event(request: Mapping[str, Any]) -> CancelRequested | OperatorRequested | SignalReceived:
    """A later event of the workflow, from the row of a request."""
    common = {
        "event_id": request["event_id"],
        "workflow_id": request["workflow_id"],
        "sequence": request["sequence"],
        "occurred_at": request["requested_at"],
        "reason": request["reason"],
        "actor": request["actor"],
    }
    if request["verb"] == CANCEL:
        return CancelRequested(**common)
    if request["verb"] == SIGNAL:
        return SignalReceived(**common, name=request["signal"], payload=request["payload"])
    own = {name: request[name] for name in ("verb", "step", "result", "seconds")}
    return OperatorRequested(**common, **own)


class IntakeStream:
    """Intake's events as they leave. All of a workflow have one key, so none overtakes another."""

    def __init__(self, topics: Topics, codec: Codec) -> None:
        self._topics = topics
        self._codec = codec

    def created(self, intent: Mapping[str, Any], traceparent: str | None = None) -> OutboxRow:
        """``IntentCreated`` of the row of an intent."""
        event = intent_created(intent)
        return self._row(event, event.correlation_id, event.intent_id, traceparent)

    def requested(self, request: Mapping[str, Any], traceparent: str | None = None) -> OutboxRow:
        """The event of the row of a request."""
        return self._row(request_event(request), request["correlation_id"], None, traceparent)

    def _row(
        self, event: Event, correlation_id: str, causation_id: str | None, traceparent: str | None
    ) -> OutboxRow:
        envelope = Envelope(
            message_id=event.event_id,
            type=type(event).__name__,
            source=SOURCE,
            workflow_id=event.workflow_id,
            time=event.occurred_at,
            correlation_id=correlation_id,
            causation_id=causation_id,
            traceparent=traceparent,
        )
        return OutboxRow(
            event_id=event.event_id,
            topic=self._topics.stream(event.stream),
            key=event.workflow_id.encode(),
            value=self._codec.encode(event),
            headers=envelope.to_amqp(),
        )
