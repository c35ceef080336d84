"""Does a workflow's end agree with what stands in the world? Pure, but for the violation that it raises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fulcrum.saga.definitions import DEFINITIONS, Kind
from fulcrum.saga.run import MAY_STAND, UNDO_REFUSED, Status, StepState, StepStatus
from fulcrum.simulation.invariants import Violation
from fulcrum.simulation.journal import Entry

#: Step -> whether the world holds something for it, or, of a step that keeps another one, holds it for good.
Held = Mapping[str, bool]


def _keepers(entry: Entry) -> set[str]:
    """They have no effect of their own: what stands is that of the step that they keep."""
    return {step.name for step in DEFINITIONS[entry.definition].steps if step.keeps is not None}


def _telling(entry: Entry) -> set[str]:
    """Of these somebody says so when what they held lapses; an authorization does it silently."""
    return {step.name for step in DEFINITIONS[entry.definition].steps if step.lapsed is not None}


def check(last: Entry, entries: Sequence[Entry], held: Held, waits: bool) -> list[str]:
    """Raise Violation when it does not; returns what is worth counting.

    ``waits``: an undo of the workflow lies parked, so that nobody has answered it.
    """
    counted = [f"intercepted.{last.status}"] if any(entry.intercept for entry in entries) else []
    for row in DEFINITIONS[last.definition].steps:
        if row.kind is not Kind.COMPENSATABLE and last.reason == f"{row.name}: no_answer":
            raise Violation("silence undoes nothing behind the pivot", last.reason, last.workflow_id)
    match Status(last.status):
        case Status.COMPLETED:
            return counted + _completed(last, entries, held)
        case Status.CANCELLED:
            return counted + _cancelled(last, held)
        case Status.TERMINATED:
            return counted + _terminated(last, held)
        case Status.NEEDS_ATTENTION:
            return counted + _needs_attention(last, waits)
        case status:
            raise Violation("liveness", f"still {status} when nothing is left to happen", last.workflow_id)


def _completed(last: Entry, entries: Sequence[Entry], held: Held) -> list[str]:
    """What a run holds may lapse once it has completed; nothing else may take it away.

    Of a skipped step the operator answers for what stands, and of the one that it keeps.
    """
    key, counted = last.workflow_id, []
    skipped = {step.name for step in last.steps if step.skipped_by is not None}
    rows = DEFINITIONS[last.definition].steps
    told = skipped | {row.keeps for row in rows if row.name in skipped}
    completed = next(entry for entry in entries if entry.status == Status.COMPLETED)
    for step in last.steps:
        if step.name in told:
            counted.append("skipped.completed")
            continue
        if not held[step.name] and step.expires_at is None:
            raise Violation("everything held for a completed run", f"{step.name} is not", key)
        if not held[step.name]:
            counted.append("lapsed.later")
        if step.expires_at is not None and step.expires_at <= completed.cause.occurred_at:
            lapsed = f"{step.name} lapsed at {step.expires_at}"
            raise Violation("no run completes on a lapsed hold", lapsed, key)
    return counted


def _cancelled(last: Entry, held: Held) -> list[str]:
    """Nothing stands, but for what an operator said they had undone themselves.

    What comes after all is undone; when that is refused the step says so, and waits for a person.
    """
    standing = [step for step in last.steps if held[step.name] and step.name not in _keepers(last)]
    for step in standing:
        refused = step.status == StepStatus.UNDO_REQUESTED and _is_refused(step)
        if step.skipped_by is None or not (refused or step.status == StepStatus.UNDONE):
            raise Violation("nothing held for a cancelled run", f"{step.name} is", last.workflow_id)
    return ["skipped.left"] * len(standing)


def _terminated(last: Entry, held: Held) -> list[str]:
    """The run shows all that it left standing, and nothing of which it was told that it lapsed."""
    standing = [step for step in last.steps if held[step.name] and step.name not in _keepers(last)]
    for step in standing:
        if step.status not in MAY_STAND and step.skipped_by is None:
            told = f"{step.name} is held and called {step.status}"
            raise Violation("a terminated run shows what stands", told, last.workflow_id)
    for step in last.steps:
        if step.name in _telling(last) and step.status == StepStatus.DONE and not held[step.name]:
            told = f"{step.name} has lapsed and is called {step.status}"
            raise Violation("a terminated run shows what stands", told, last.workflow_id)
    return ["terminated.left"] * len(standing)


def _is_refused(step: StepState) -> bool:
    return (step.reason or "").startswith(UNDO_REFUSED)


def _needs_attention(last: Entry, waits: bool) -> list[str]:
    if not last.reason:
        raise Violation("the reason is visible", "needs attention, and does not say why", last.workflow_id)
    passed_over = any(step.status in MAY_STAND - {StepStatus.UNDO_REQUESTED} for step in last.steps)
    if any(_is_refused(step) for step in last.steps):
        return ["undo_refused"]
    if not waits and not passed_over:
        raise Violation("liveness", "needs attention, and every command was answered", last.workflow_id)
    return ["passed_over"] if passed_over else []
