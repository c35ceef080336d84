"""Decisions as the orchestrator records them, for tests of what becomes of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from fulcrum.saga.messages import Cause, DecisionMade, Line, StepView

WORKFLOW = "6f0c1d9e-1111-5222-8333-444455556666"
NOON = datetime(2026, 3, 1, 12, 0, 0, 250, tzinfo=UTC)


def step(name: str = "reserve_stock", **changes: Any) -> StepView:
    """A step that is done."""
    done = StepView(
        name=name,
        status="done",
        attempt=1,
        command_id="c0ffee00-0000-5000-8000-000000000001",
        deadline_at=None,
        finished_at=NOON,
        reason=None,
    )
    return replace(done, **changes)


def decision(version: int = 3, **changes: Any) -> DecisionMade:
    """The decision that completes a workflow."""
    cause = Cause(
        event_id="e0000000-0000-5000-8000-000000000001",
        type="StockReserved",
        stream="inventory",
        sequence=1,
        occurred_at=NOON,
        topic="fulcrum.inventory",
        partition=4,
        offset=17,
    )
    made = DecisionMade(
        decision_id="d0000000-0000-5000-8000-000000000003",
        workflow_id=WORKFLOW,
        version=version,
        decided_at=NOON,
        cause=cause,
        step="reserve_stock",
        status_before="running",
        status="completed",
        reason=None,
        ignored=None,
        commands=(),
        intent_id="a0000000-0000-5000-8000-000000000001",
        tenant="acme",
        customer_ref="customer-7",
        correlation_id="order-1",
        definition="fulfillment.v1",
        lines=(Line("tea-01", 2), Line("cup", 1)),
        amount_minor=1250,
        currency="EUR",
        started_at=NOON - timedelta(seconds=2),
        steps=(step("authorize_payment", finished_at=NOON - timedelta(seconds=1)), step()),
    )
    return replace(made, **changes)


def history(workflow_id: str | None = None, **changes: Any) -> list[DecisionMade]:
    """The three decisions of a workflow that completes: asked for payment, asked for stock, done."""
    told = {"workflow_id": workflow_id or str(uuid4()), **changes}
    return [
        decision(1, status="running", status_before=None, decided_at=NOON - timedelta(seconds=2), **told),
        decision(2, status="running", decided_at=NOON - timedelta(seconds=1), **told),
        decision(3, **told),
    ]
