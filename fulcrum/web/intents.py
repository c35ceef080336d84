"""An intent comes in: it is stored together with the event that starts its workflow, or recognised."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, bindparam, select
from sqlalchemy.dialects.postgresql import insert

from fulcrum.saga import identity
from fulcrum.saga.messages import IntentCreated, Line
from fulcrum.store import outbox
from fulcrum.store.database import Row
from fulcrum.store.outbox import OutboxRow
from fulcrum.telemetry import metrics
from fulcrum.web.answers import IntentAccepted
from fulcrum.web.bodies import IntentBody
from fulcrum.web.operation import Answer, Call
from fulcrum.web.problem import FieldError, Problem
from fulcrum.web.relations import INTAKE, intents
from fulcrum.web.services import Services
from fulcrum.wire.headers import Envelope

SOURCE = "intake"
REPLAYED = "Idempotency-Replayed"
_INSERT = insert(intents).on_conflict_do_nothing()
_FIRST = select(intents.c.fingerprint, intents.c.accepted_at).where(
    intents.c.workflow_id == bindparam("workflow_id")
)


async def create_intent(services: Services, call: Call, *, body: IntentBody, key: str) -> Answer:
    """Accept an intent and start its workflow.

    The ids are computed from tenant and key, so of two requests with one key the second waits for the
    first to commit, then finds its row.
    """
    event = _event(body, key, call, datetime.now(UTC))
    call.workflow_id = event.workflow_id
    fingerprint = body.fingerprint()
    row = _outbox_row(services, event, call)
    async with services.db.transaction() as tx:
        fresh = await tx.execute(_INSERT, _columns(event, key, fingerprint))
        if fresh:
            await outbox.add(tx, INTAKE, [row])
    if fresh:
        metrics.intents_accepted.labels(event.definition).inc()
        return _accepted(event, event.occurred_at)
    first = await find_first(services, _FIRST, {"workflow_id": event.workflow_id})
    refuse_other_body(first["fingerprint"], fingerprint, "tenant and")
    return _accepted(event, first["accepted_at"], {REPLAYED: "true"})


async def find_first(services: Services, statement: Select[Any], parameters: dict[str, Any]) -> Row:
    """The row that an earlier request with the same key left; such rows are never deleted."""
    first = await services.db.one(statement, parameters)
    if first is None:
        raise RuntimeError(f"the first request with this key is gone: {parameters}")
    return first


def refuse_other_body(first: bytes, now: bytes, scope: str) -> None:
    """Raise the problem of a key that came before with another body."""
    if first == now:
        return
    detail = (
        f"This {scope} Idempotency-Key came before with another body; repeat that body, or use a new key."
    )
    raise Problem("key-reused", detail, [FieldError("header", "Idempotency-Key", detail)])


def _event(body: IntentBody, key: str, call: Call, now: datetime) -> IntentCreated:
    intent_id = identity.intent_id(body.tenant, key)
    return IntentCreated(
        event_id=identity.event_id(intent_id, IntentCreated.__name__),
        workflow_id=identity.workflow_id(intent_id),
        sequence=1,
        occurred_at=now,
        intent_id=intent_id,
        tenant=body.tenant,
        customer_ref=body.customer_ref,
        lines=tuple(Line(line.sku, line.quantity) for line in body.lines),
        amount_minor=body.amount_minor,
        currency=body.currency,
        payment_method=body.payment_method,
        ship_to=body.ship_to,
        definition=body.definition,
        correlation_id=call.correlation_id,
    )


def _outbox_row(services: Services, event: IntentCreated, call: Call) -> OutboxRow:
    envelope = Envelope(
        message_id=event.event_id,
        type=type(event).__name__,
        source=SOURCE,
        workflow_id=event.workflow_id,
        time=event.occurred_at,
        correlation_id=event.correlation_id,
        causation_id=event.intent_id,
        traceparent=call.traceparent,
    )
    return OutboxRow(
        event_id=event.event_id,
        topic=services.topics.stream(event.stream),
        key=event.workflow_id.encode(),
        value=services.codec.encode(event),
        headers=envelope.to_amqp(),
    )


def _columns(event: IntentCreated, key: str, fingerprint: bytes) -> dict[str, object]:
    return {
        "workflow_id": event.workflow_id,
        "intent_id": event.intent_id,
        "tenant": event.tenant,
        "idempotency_key": key,
        "fingerprint": fingerprint,
        "customer_ref": event.customer_ref,
        "lines": [{"sku": line.sku, "quantity": line.quantity} for line in event.lines],
        "amount_minor": event.amount_minor,
        "currency": event.currency,
        "payment_method": event.payment_method,
        "ship_to": event.ship_to,
        "definition": event.definition,
        "correlation_id": event.correlation_id,
        "accepted_at": event.occurred_at,
    }


def _accepted(event: IntentCreated, at: datetime, headers: dict[str, str] | None = None) -> Answer:
    accepted = IntentAccepted(intent_id=event.intent_id, workflow_id=event.workflow_id, accepted_at=at)
    location = {"Location": f"/v1/workflows/{event.workflow_id}"}
    return Answer(accepted, 202, {**location, **(headers or {})})
