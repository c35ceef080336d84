"""What a decision looks like to people: one row for the run, one for its timeline. Pure.

The rows hold only what JSON can say, with the names of the columns: they go to Postgres, to the cache
and to the client in one and the same form.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict

from fulcrum.saga.messages import Cause, DecisionMade, IssuedCommand, StepView
from fulcrum.saga.run import Status, StepStatus
from fulcrum.telemetry.trace import trace_id

#: Statuses that no later decision changes.
FINAL = frozenset(str(status) for status in Status if status.final)
_AWAITED = frozenset({str(StepStatus.REQUESTED), str(StepStatus.UNDO_REQUESTED)})


class RunRow(TypedDict):
    """A row of ``read_model.workflow_runs``."""

    workflow_id: str
    intent_id: str
    tenant: str
    customer_ref: str
    definition: str
    status: str
    version: int
    reason: str | None
    lines: list[dict[str, Any]]
    amount_minor: int
    currency: str
    correlation_id: str
    started_at: str
    updated_at: str
    finished_at: str | None
    steps: list[dict[str, Any]]
    step: str | None
    promised_at: str | None
    holds: list[str]
    intercept: str | None


class EntryRow(TypedDict):
    """A row of ``read_model.timeline``, without the workflow that it belongs to."""

    version: int
    at: str
    status_before: str | None
    status: str
    step: str | None
    cause: dict[str, Any]
    commands: list[dict[str, Any]]
    ignored: str | None
    reason: str | None


#: Any value as compact JSON text. One encoder for all: ``json.dumps`` would make one for each call.
compact = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class ProjectedRows:
    """What one decision adds: the run as it is now, and one entry of its timeline."""

    run: RunRow
    entry: EntryRow


def project(decision: DecisionMade) -> ProjectedRows:
    """The rows of ``decision``."""
    return ProjectedRows(project_run(decision), project_entry(decision))


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds, always of one width, so that text sorts as time does."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def to_json(row: RunRow | EntryRow) -> str:
    """The row as compact JSON text."""
    return compact(row)


def project_run(decision: DecisionMade) -> RunRow:
    """The run as it is after ``decision``."""
    return RunRow(
        workflow_id=decision.workflow_id,
        intent_id=decision.intent_id,
        tenant=decision.tenant,
        customer_ref=decision.customer_ref,
        definition=decision.definition,
        status=decision.status,
        version=decision.version,
        reason=decision.reason,
        lines=[{"sku": line.sku, "quantity": line.quantity} for line in decision.lines],
        amount_minor=decision.amount_minor,
        currency=decision.currency,
        correlation_id=decision.correlation_id,
        started_at=timestamp(decision.started_at),
        updated_at=timestamp(decision.decided_at),
        finished_at=_finished_at(decision),
        steps=[_step(step, step.name in decision.standing) for step in decision.steps],
        step=_awaited(decision),
        promised_at=_optional(decision.promised_at),
        holds=list(decision.holds),
        intercept=decision.intercept,
    )


def _awaited(decision: DecisionMade) -> str | None:
    """The step whose command or undo is out, or held; None when nobody's answer is awaited."""
    if decision.status in FINAL:
        return None
    return next((step.name for step in decision.steps if step.status in _AWAITED), None)


def _finished_at(decision: DecisionMade) -> str | None:
    """When a finished run ended.

    Decisions did not always say it. For those that do not, the steps' own times stay, while that of a later
    decision is no answer.
    """
    if decision.finished_at is not None or decision.status not in FINAL:
        return _optional(decision.finished_at)
    ended = [step.finished_at for step in decision.steps if step.finished_at is not None]
    return timestamp(max(ended, default=decision.decided_at))


def _step(step: StepView, left_standing: bool) -> dict[str, Any]:
    told = {
        "held": step.held,
        "skipped_by": step.skipped_by,
        "result": step.result,
        "passed_over": step.passed_over,
        "left_standing": left_standing,
    }
    return {
        "name": step.name,
        "status": step.status,
        "attempt": step.attempt,
        "command_id": step.command_id,
        "deadline_at": _optional(step.deadline_at),
        "finished_at": _optional(step.finished_at),
        "reason": step.reason,
        "late": step.late,
        "expires_at": _optional(step.expires_at),
        **_said(told),
    }


def _said(told: dict[str, Any]) -> dict[str, Any]:
    """Only what is there, so that a run that operators left alone reads as it always did."""
    return {name: value for name, value in told.items() if value}


def project_entry(decision: DecisionMade) -> EntryRow:
    """What ``decision`` adds to the timeline."""
    return EntryRow(
        version=decision.version,
        at=timestamp(decision.decided_at),
        status_before=decision.status_before,
        status=decision.status,
        step=decision.step,
        cause=_cause(decision.cause),
        commands=[_command(command) for command in decision.commands],
        ignored=decision.ignored,
        reason=decision.reason,
    )


def _cause(cause: Cause) -> dict[str, Any]:
    return {
        "type": cause.type,
        "event_id": cause.event_id,
        "stream": cause.stream,
        "sequence": cause.sequence,
        "occurred_at": timestamp(cause.occurred_at),
        "topic": cause.topic,
        "partition": cause.partition,
        "offset": cause.offset,
        "actor": cause.actor,
        **_said({"verb": cause.verb, "reason": cause.reason, "trace_id": trace_id(cause.traceparent)}),
    }


def _command(command: IssuedCommand) -> dict[str, Any]:
    return {
        "command_id": command.command_id,
        "type": command.type,
        "service": command.service,
        "step": command.step,
        "attempt": command.attempt,
        "deadline_at": _optional(command.deadline_at),
    }


def _optional(moment: datetime | None) -> str | None:
    return None if moment is None else timestamp(moment)
