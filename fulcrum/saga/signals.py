"""What does a signal mean to a run? Holds come and go by signals; whatever else is told is ignored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fulcrum.saga.decision import Decision
from fulcrum.saga.messages import SignalReceived
from fulcrum.saga.pause import hold, release
from fulcrum.saga.run import OPERATOR, WorkflowRun

HOLD = "hold"
RELEASE = "release"
#: Why a run can be held. ``operator`` is the hold of a person who pauses it.
HOLDS = ("address", "fraud", OPERATOR)
#: Which fields the payload of a signal has, and what each may be.
SIGNALS: Mapping[str, Mapping[str, tuple[str, ...]]] = {HOLD: {"hold": HOLDS}, RELEASE: {"hold": HOLDS}}


def signal_received(run: WorkflowRun, event: SignalReceived) -> Decision:
    """What ``event`` means to ``run``, in any status."""
    outcome = _told(run, event)
    return outcome if isinstance(outcome, Decision) else Decision(run, run.status, ignored=outcome)


def unusable_payload(name: str, payload: str) -> str | None:
    """Why ``payload`` cannot be that of a signal called ``name``; None when it can."""
    allowed = SIGNALS.get(name)
    if allowed is None:
        return f"there is no signal {name!r}; use one of {', '.join(SIGNALS)}"
    try:
        given = json.loads(payload)
    except (ValueError, RecursionError):
        return "it is not JSON; give a JSON object"
    if not isinstance(given, dict):
        return "it is not a JSON object"
    if given.keys() != allowed.keys():
        return f"its fields are {', '.join(allowed)}"
    for field, values in allowed.items():
        if given[field] not in values:
            return f"{field} {_shown(given[field])} is unknown; use one of {', '.join(values)}"
    return None


def _told(run: WorkflowRun, event: SignalReceived) -> Decision | str:
    if event.name not in SIGNALS:
        return "unknown_signal"
    if unusable_payload(event.name, event.payload) is not None:
        return "unusable_payload"
    reason: str = json.loads(event.payload)["hold"]
    return hold(run, reason) if event.name == HOLD else release(run, reason, event.occurred_at)


def _shown(value: Any) -> str:
    return repr(value)[:40]
