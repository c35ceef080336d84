"""Any event with plausible content, for tests that do not care what exactly it says."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from intents import WORKFLOW

from fulcrum.saga.messages import Event, Line

START = datetime(2026, 1, 1, tzinfo=UTC)
_LINES = (Line("tea-01", 2),)
_VALUES: dict[str, Any] = {
    "event_id": "event",
    "workflow_id": WORKFLOW,
    "sequence": 1,
    "occurred_at": START,
    "command_id": "c",
    "authorization_id": "auth-1",
    "amount_minor": 1999,
    "refunded_minor": 1999,
    "currency": "EUR",
    "reauthorized": False,
    "reason": "r",
    "actor": "someone",
    "lines": _LINES,
    "released": (),
    "short": (),
    "expires_at": None,
    "waits_until": START,
    "pack_job_id": "job-1",
    "parcels": 1,
    "handed_over": False,
    "delivery_id": "delivery-1",
    "tracking_number": "T1",
    "label_url": "https://courier.test/T1",
    "state": "cancelled",
    "delivered_at": START,
    "undamaged": True,
    "asked_command_id": "asked",
    "step": None,
    "deadline_at": START,
    "finished_at": START,
    "verb": "terminate",
    "result": None,
    "seconds": None,
    "name": "hold",
    "payload": '{"hold": "address"}',
}


def plausible(kind: type[Event], **given: Any) -> Event:
    """An event of ``kind``; what is not ``given`` is plausible."""
    return kind(**{f.name: {**_VALUES, **given}[f.name] for f in fields(kind)})
