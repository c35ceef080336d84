"""Workflows that wait, in the shape in which the read model shows them, for tests of why they do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fulcrum.readmodel.projection import timestamp

WORKFLOW = "6f0c1d9e-1111-5222-8333-444455556666"
COMMAND = "c0ffee00-0000-5000-8000-000000000001"
NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> str:
    """So many seconds after noon, as the API shows it."""
    return timestamp(NOON + timedelta(seconds=seconds))


def step(name: str = "authorize_payment", status: str = "requested", **changes: Any) -> dict[str, Any]:
    """A step whose answer is due a minute after noon."""
    waits = status.endswith("requested")
    return {
        "name": name,
        "status": status,
        "attempt": 0 if status == "pending" else 1,
        "command_id": None if status == "pending" else COMMAND,
        "deadline_at": at(60) if waits else None,
        "finished_at": None if waits or status == "pending" else at(-5),
        "reason": None,
        "late": 0,
        "expires_at": None,
        **changes,
    }


def run(status: str = "running", *steps: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A workflow that started ten seconds before noon; without ``steps`` its first one is asked for."""
    known = {each["name"]: each for each in steps or (step(),)}
    return {
        "workflow_id": WORKFLOW,
        "definition": "fulfillment.v1",
        "status": status,
        "version": 1,
        "reason": None,
        "started_at": at(-10),
        "updated_at": at(-3),
        "finished_at": at(-3) if status in ("completed", "cancelled", "terminated") else None,
        "steps": [known.get(name, step(name, "pending")) for name in ("authorize_payment", "reserve_stock")],
        **changes,
    }


def attempt(number: int = 2, outcome: str = "retried", **changes: Any) -> dict[str, Any]:
    """An attempt of the payment's command; the next one is due five seconds after noon."""
    failed = outcome != "succeeded"
    return {
        "command_id": COMMAND,
        "round": 1,
        "attempt": number,
        "started_at": at(-4),
        "workflow_id": WORKFLOW,
        "service": "payment",
        "type": "AuthorizePayment",
        "step": "authorize_payment",
        "outcome": outcome,
        "error_class": "Unavailable" if failed else None,
        "error": "HTTP 503" if failed else None,
        "next_due": at(5) if outcome == "retried" else None,
        **changes,
    }


def parked(**changes: Any) -> dict[str, Any]:
    """A command of the workflow that waits for a person."""
    return {
        "id": "d0000000-0000-4000-8000-000000000001",
        "workflow_id": WORKFLOW,
        "service": "payment",
        "message_id": COMMAND,
        "type": "AuthorizePayment",
        "reason": "rejected",
        "error_class": "Rejected",
        "error": "unknown currency",
        "parked_at": at(-4),
        **changes,
    }


def entry(version: int, status: str, before: str | None, seconds: float, **changes: Any) -> dict[str, Any]:
    """A transition so many seconds after noon."""
    return {
        "version": version,
        "at": at(seconds),
        "status_before": before,
        "status": status,
        "step": None,
        "cause": {"type": "OperatorRequested", "stream": "intents", "sequence": version, "actor": None},
        "commands": [],
        "ignored": None,
        "reason": None,
        **changes,
    }
