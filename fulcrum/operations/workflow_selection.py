"""Which workflows does an operation take? Looked at, or frozen as its items in the same statement."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Exists,
    Interval,
    Select,
    Text,
    and_,
    case,
    func,
    insert,
    literal,
    select,
)

from fulcrum.operations.accounting import ENDED, PENDING
from fulcrum.operations.kinds import CANCEL, verb_of
from fulcrum.operations.plan import IN_ANOTHER, MOST, UNKNOWN, Plan, plan_of
from fulcrum.operations.relations import ITEMS, OPERATIONS
from fulcrum.operations.requests import Request, WorkflowFilter
from fulcrum.readmodel.relations import workflow_runs as runs
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.migrate import common
from fulcrum.saga.run import Status, StepStatus
from fulcrum.saga.verbs import MIGRATE, Verb
from fulcrum.store.database import Transaction

#: The service of an item that is a workflow.
WORKFLOWS = "workflows"
_AWAITED = (StepStatus.REQUESTED, StepStatus.UNDO_REQUESTED)
_UNDONE = (Status.COMPENSATING, Status.NEEDS_ATTENTION)


async def planned_workflows(
    tx: Transaction, request: Request, wanted: WorkflowFilter, operation: str | None
) -> Plan:
    """Look at what is selected; with ``operation`` freeze what it takes, in the same statement."""
    classified = _classified(request, wanted).cte("classified")
    summary = select(classified.c.kept_out, func.count().label("n")).group_by(classified.c.kept_out)
    if operation is not None:
        summary = summary.add_cte(_frozen(request, operation, classified).cte("frozen"))
    found: dict[str | None, int] = {row["kept_out"]: row["n"] for row in await tx.all(summary)}
    missing = len(set(request.ids)) - sum(found.values())
    if missing > 0 and wanted == WorkflowFilter():
        found[UNKNOWN] = missing
    return plan_of(found, request.limit)


def kept_out(verb: str, arguments: Mapping[str, Any]) -> list[tuple[ColumnElement[bool], Any]]:
    """What ``verb`` cannot be asked of, with the reason: the SQL of conditions on a run.

    Only what is certain to be refused. The workflow itself decides upon the rest.
    """
    status = runs.c.status
    ended = and_(
        status.in_((Status.COMPLETED, Status.CANCELLED)), ~_has_step(None, StepStatus.UNDO_REQUESTED)
    )
    found: list[tuple[ColumnElement[bool], Any]] = [
        (status == Status.TERMINATED, func.concat("already ", status)),
        (ended, func.concat("already ", status)),
    ]
    if verb == Verb.RESUME:
        found.append((status != Status.PAUSED, literal("not paused", Text())))
    if verb == Verb.PAUSE:
        found.append((status == Status.PAUSED, literal("already paused", Text())))
    if verb == MIGRATE:
        found += _not_moved(json.loads(arguments["result"])["definition"])
    if verb == CANCEL:
        found.append((status.in_(_UNDONE), func.concat("already ", status)))
    return found


def _not_moved(target: str) -> Iterator[tuple[ColumnElement[bool], Any]]:
    """What cannot go on under ``target``: what is being undone, is under it, or has gone too far."""
    yield runs.c.status.in_(_UNDONE), func.concat("already ", runs.c.status)
    yield runs.c.definition == target, literal("under it already", Text())
    for name, definition in DEFINITIONS.items():
        same = common(definition, DEFINITIONS[target])
        beyond = [step.name for step in definition.steps[len(same) :]]
        yield (
            and_(runs.c.definition == name, _has_begun(beyond)),
            literal("past_the_difference", Text()),
        )


def _classified(request: Request, wanted: WorkflowFilter) -> Select[Any]:
    """Every selected workflow with what keeps it out, or null."""
    verb = verb_of(request.kind)
    assert verb is not None, request.kind
    in_another = (
        select(ITEMS.c.number)
        .join(OPERATIONS, OPERATIONS.c.id == ITEMS.c.operation_id)
        .where(
            ITEMS.c.workflow_id == runs.c.workflow_id,
            ITEMS.c.state == PENDING,
            OPERATIONS.c.state.not_in(ENDED),
        )
        .exists()
    )
    reason = case((in_another, literal(IN_ANOTHER, Text())), *kept_out(verb, request.arguments), else_=None)
    query = select(runs.c.workflow_id, runs.c.started_at, reason.label("kept_out"))
    return query.where(*_conditions(request, wanted))


def _conditions(request: Request, wanted: WorkflowFilter) -> list[ColumnElement[bool]]:
    same = {"status": wanted.status, "definition": wanted.definition, "tenant": wanted.tenant}
    found: list[ColumnElement[bool]] = [
        runs.c[name] == value for name, value in same.items() if value is not None
    ]
    if request.ids:
        found.append(runs.c.workflow_id.in_(request.ids))
    if wanted.step is not None:
        found.append(_has_step(wanted.step, *_AWAITED))
    if wanted.older_than is not None:
        age = func.make_interval(0, 0, 0, 0, 0, 0, wanted.older_than, type_=Interval)
        found.append(runs.c.started_at <= func.now() - age)
    return found


def _has_step(name: str | None, *statuses: StepStatus) -> Exists:
    """Whether a run has a step in one of ``statuses``, of that name if it is given."""
    # Not called as a column of the relation is: the column would be meant.
    step: ColumnElement[Any] = func.json_array_elements(runs.c.steps, type_=JSON).column_valued("each_step")
    part = step.op("->>", return_type=Text())
    found = select(literal(1)).where(part("status").in_([str(status) for status in statuses]))
    return (found if name is None else found.where(part("name") == name)).exists()


def _has_begun(names: Sequence[str]) -> Exists:
    """Whether a run has asked for one of the steps."""
    step: ColumnElement[Any] = func.json_array_elements(runs.c.steps, type_=JSON).column_valued("each_step")
    part = step.op("->>", return_type=Text())
    return select(literal(1)).where(part("name").in_(names), part("status") != StepStatus.PENDING).exists()


def _frozen(request: Request, operation: str, classified: Any) -> Any:
    """Oldest first."""
    order = (classified.c.started_at, classified.c.workflow_id)
    chosen = (
        select(
            literal(operation, ITEMS.c.operation_id.type),
            func.row_number().over(order_by=order),
            classified.c.workflow_id,
            literal(WORKFLOWS, Text()),
        )
        .where(classified.c.kept_out.is_(None))
        .order_by(*order)
        .limit(min(request.limit or MOST, MOST))
    )
    columns = ["operation_id", "number", "workflow_id", "service"]
    return insert(ITEMS).from_select(columns, chosen).returning(ITEMS.c.number)
