"""An intent comes in: it is stored together with the event that starts its workflow, or recognised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Select, bindparam, select
from sqlalchemy.dialects.postgresql import insert

from fulcrum import crashpoint
from fulcrum.saga import identity
from fulcrum.saga.terms import terms_of
from fulcrum.store import outbox
from fulcrum.store.database import Row
from fulcrum.store.statements import lasting
from fulcrum.telemetry import metrics
from fulcrum.web.answers import IntentAccepted
from fulcrum.web.intent_bodies import IntentBody
from fulcrum.web.operation import Answer, Call
from fulcrum.web.problem import FieldError, Problem
from fulcrum.web.relations import INTAKE, intents
from fulcrum.web.services import Services

REPLAYED = "Idempotency-Replayed"
_INSERT = lasting(insert(intents).on_conflict_do_nothing())
_FIRST = select(intents.c.fingerprint, intents.c.accepted_at).where(
    intents.c.workflow_id == bindparam("workflow_id")
)


async def create_intent(services: Services, call: Call, *, body: IntentBody, key: str) -> Answer:
    """Accept an intent and start its workflow.

    The ids are computed from tenant and key, so of two requests with one key the second waits for the
    first to commit, then finds its row.
    """
    intent = _columns(services, body, key, call)
    call.workflow_id = intent["workflow_id"]
    row = services.stream.created(intent, call.traceparent)
    async with services.db.transaction() as tx:
        fresh = await tx.execute(_INSERT, intent)
        if fresh:
            await outbox.add(tx, INTAKE, [row])
    if fresh:
        crashpoint.reached("intake.committed")
        metrics.intents_accepted.labels(body.definition).inc()
        return _accepted(intent, intent["accepted_at"])
    first = await find_first(services, _FIRST, {"workflow_id": intent["workflow_id"]})
    refuse_other_body(first["fingerprint"], intent["fingerprint"], "tenant and")
    return _accepted(intent, first["accepted_at"], {REPLAYED: "true"})


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


def _columns(services: Services, body: IntentBody, key: str, call: Call) -> dict[str, Any]:
    """The row of a new intent."""
    intent_id = identity.intent_id(body.tenant, key)
    now = datetime.now(UTC)
    return {
        "workflow_id": identity.workflow_id(intent_id),
        "intent_id": intent_id,
        "tenant": body.tenant,
        "idempotency_key": key,
        "fingerprint": body.fingerprint(),
        "customer_ref": body.customer_ref,
        "lines": [{"sku": line.sku, "quantity": line.quantity} for line in body.lines],
        "amount_minor": body.amount_minor,
        "currency": body.currency,
        "payment_method": body.payment_method,
        "ship_to": body.ship_to,
        "definition": body.definition,
        "correlation_id": call.correlation_id,
        "accepted_at": now,
        "last_sequence": 1,
        "check_at": now + timedelta(seconds=services.settings.reconcile_grace),
        "repairs": 0,
        "terms": [asdict(term) for term in terms_of(body.agreed)] or None,
        "promised_at": body.promised_at,
        "holds": list(body.holds) or None,
    }


def _accepted(intent: Mapping[str, Any], at: datetime, headers: dict[str, str] | None = None) -> Answer:
    accepted = IntentAccepted(
        intent_id=intent["intent_id"], workflow_id=intent["workflow_id"], accepted_at=at
    )
    location = {"Location": f"/v1/workflows/{intent['workflow_id']}"}
    return Answer(accepted, 202, {**location, **(headers or {})})
