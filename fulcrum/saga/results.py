"""What did a step's answer say that later steps need? Kept with the step as a JSON object."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from datetime import datetime
from typing import Any

from fulcrum.saga.messages import Answer, Line
from fulcrum.saga.run import StepState, WorkflowRun
from fulcrum.saga.step import Fill, Step


def kept(step: Step, state: StepState, answer: Answer) -> str | None:
    """The step's result once ``answer`` has come. What an operator gave stays: commands were made of it."""
    told = {f.name: _plain(getattr(answer, f.name)) for f in fields(answer) if f.name in step.yields}
    if not told or state.skipped_by is not None:
        return state.result
    return json.dumps({**result_of(state), **told})


def result_of(state: StepState) -> dict[str, Any]:
    """The step's result as an object; empty when there is none."""
    known: dict[str, Any] = json.loads(state.result) if state.result is not None else {}
    return known


def yielded(run: WorkflowRun, step: str, field: str) -> Any:
    """What the step called ``step`` yielded as ``field``; None when it has not."""
    value = next((result_of(state).get(field) for state in run.steps if state.name == step), None)
    return tuple(Line(**line) for line in value) if field == "lines" and value is not None else value


def filled(run: WorkflowRun, fill: Fill) -> Any:
    """The value of a command's field."""
    return fill.of(run) if fill.of is not None else yielded(run, fill.step, fill.field)


def unusable(given: Mapping[str, Any], ordered: Sequence[Line]) -> str | None:
    """Why later commands could not be made of ``given``, what somebody says a step answered; None: they can.

    ``ordered`` are the intent's lines: more than was ordered cannot have been packed.
    """
    if "lines" in given and not _are_lines(given["lines"], ordered):
        return 'lines are no part of what was ordered; give [{"sku": "...", "quantity": 1}]'
    if "parcels" in given and not _is_count(given["parcels"]):
        return "parcels is no number from 1"
    number = given.get("tracking_number", "T1")
    if not isinstance(number, str) or not number:
        return "tracking_number is no text"
    return None


def _are_lines(value: Any, ordered: Sequence[Line]) -> bool:
    if not isinstance(value, list) or not value:
        return False
    left = Counter[str]()
    for line in ordered:
        left[line.sku] += line.quantity
    for line in value:
        if not isinstance(line, dict) or line.keys() != {"sku", "quantity"}:
            return False
        if not isinstance(line["sku"], str) or not _is_count(line["quantity"]):
            return False
        left[line["sku"]] -= line["quantity"]
    return min(left.values()) >= 0


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
