"""How far has an order come, in the customer's words, and how late is it? Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.run import Status, StepStatus

ACCEPTED, DELIVERED = "accepted", "delivered"
_REACHED = frozenset({str(StepStatus.DONE), str(StepStatus.SKIPPED)})
#: Nothing arrives any more.
_UNDONE = frozenset({str(Status.CANCELLED), str(Status.TERMINATED)})

Row = Mapping[str, Any]


def milestones(run: Row) -> dict[str, str | None]:
    """When each milestone of the workflow was reached, in their order; None: not yet, or not any more.

    The first is its acceptance; the others are those that its definition names at a step.
    """
    definition = DEFINITIONS.get(run["definition"])
    named = {step.name: step.milestone for step in definition.steps} if definition else {}
    found: dict[str, str | None] = {ACCEPTED: run["started_at"]}
    for step in run["steps"]:
        if milestone := named.get(step["name"]):
            found[milestone] = step["finished_at"] if step["status"] in _REACHED else None
    return found


def late_by(run: Row, now: datetime) -> int | None:
    """Seconds between the promise and the delivery, or ``now`` while it is not delivered; 0 in time.

    None when nothing was promised, or nothing will be delivered. In a list, where a workflow has no steps,
    its end counts as the delivery.
    """
    if not run.get("promised_at") or run["status"] in _UNDONE:
        return None
    delivered = milestones(run).get(DELIVERED) if "steps" in run else None
    if delivered is None and run["status"] == Status.COMPLETED:
        delivered = run["finished_at"]
    until = now if delivered is None else datetime.fromisoformat(delivered)
    return max(0, int((until - datetime.fromisoformat(run["promised_at"])).total_seconds()))
