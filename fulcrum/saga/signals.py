"""What may people tell a workflow while it runs? The names of signals, and what each has to say. Pure.

A signal is checked where it comes in and again where it arrives: what lies in Kafka may be older than
the rules.
"""

from __future__ import annotations

import json
from enum import StrEnum


class Signal(StrEnum):
    """What a workflow can be told."""

    HOLD = "hold"  #: let nothing leave, for a reason: its payload names one
    RELEASE = "release"  #: the reason is gone; the workflow goes on when it was the last one


class Hold(StrEnum):
    """Why a workflow waits. Several may hold at once."""

    ADDRESS = "address"  #: the address has to be looked at
    FRAUD = "fraud"  #: the payment has to be looked at
    OPERATOR = "operator"  #: an operator paused it


SIGNALS: tuple[str, ...] = tuple(Signal)
HOLDS: tuple[str, ...] = tuple(Hold)


def check(name: str, payload: str) -> str | None:
    """Why ``payload``, a JSON object as text, cannot come with the signal ``name``; None when it can."""
    if name not in SIGNALS:
        return f"there is no signal {name!r}; use one of {', '.join(SIGNALS)}"
    try:
        given = json.loads(payload)
    except (ValueError, RecursionError):
        return "the payload is not JSON; give a JSON object"
    if not isinstance(given, dict):
        return "the payload is not a JSON object"
    if unknown := sorted(given.keys() - {"hold"}):
        return f"{name} has no field {unknown[0]!r}; use hold"
    if given.get("hold") not in HOLDS:
        return f"hold is {json.dumps(given.get('hold'))[:80]}; use one of {', '.join(HOLDS)}"
    return None


def payload_of(hold: str) -> str:
    """The payload that names ``hold``; equal payloads are equal text."""
    return json.dumps({"hold": hold}, separators=(",", ":"))
