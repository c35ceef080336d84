"""How do people read the attempts of a command, between the transitions of its workflow?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fulcrum.cli.client import clock


def together(
    entries: Iterable[Mapping[str, Any]], attempts: Iterable[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Transitions and attempts in the order of their times."""
    return sorted((*entries, *attempts), key=lambda each: str(each.get("at") or each["started_at"]))


def attempt_line(attempt: Mapping[str, Any]) -> str:
    """What one attempt came to."""
    what = f"{attempt['type']:<18}  {_number(attempt)} "
    if attempt["outcome"] == "succeeded":
        return f"{what}succeeded after {attempt['duration_ms']} ms on {attempt['worker']}"
    after = f", next {clock(attempt['next_due'])}" if attempt["next_due"] else f", {attempt['outcome']}"
    return (
        f"{what}failed ({attempt['kind']}) after {attempt['duration_ms']} ms on {attempt['worker']}: "
        f"{_error(attempt)}{after}"
    )


def waiting_for(step: Mapping[str, Any], attempts: Sequence[Mapping[str, Any]]) -> str:
    """What the step waits for when its last attempt failed; nothing when it did not, or is over."""
    mine = [each for each in attempts if each["step"] == step["name"]]
    if not mine or mine[-1]["outcome"] == "succeeded" or not step["status"].endswith("requested"):
        return ""
    last = mine[-1]
    due = f"next attempt due {clock(last['next_due'])}" if last["next_due"] else "see `fulcrum parked list`"
    return f"waiting: {last['type']} {_number(last)} {last['outcome']}: {_error(last)}; {due}"


def _number(attempt: Mapping[str, Any]) -> str:
    again = f" of round {attempt['round']}" if attempt["round"] > 1 else ""
    return f"attempt {attempt['attempt']}{again}"


def _error(attempt: Mapping[str, Any]) -> str:
    return f"{attempt['error_class']}: {attempt['error']}"
