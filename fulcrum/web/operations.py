"""Operations over HTTP: planned, started, watched item by item, paused, resumed and aborted."""

from __future__ import annotations

from fulcrum.commands.parking import Filter
from fulcrum.errors import Rejected
from fulcrum.operations import store
from fulcrum.operations.control import control
from fulcrum.operations.kinds import verb_of
from fulcrum.operations.requests import Request, WorkflowFilter
from fulcrum.operations.store import KeyReused
from fulcrum.web import parked_answers as answers
from fulcrum.web.bodies import OperatorBody
from fulcrum.web.intents import REPLAYED
from fulcrum.web.operation import KEY_HEADER, Answer, Call
from fulcrum.web.parked_bodies import ItemsQuery, OperationBody, OperationPath, OperationsQuery
from fulcrum.web.problem import FieldError, Problem
from fulcrum.web.services import Services


async def create_operation(services: Services, call: Call, *, body: OperationBody, key: str | None) -> Answer:
    """Replay, discard or restore the parked messages of a selection, or ask the same of many workflows.

    The items are fixed now. With `dry_run` nothing is stored: the answer tells how many would be taken,
    and why others would not. A repeat under the same key starts nothing new.
    """
    request = _request(body)
    if body.dry_run:
        planned = await store.plan(services.db, request)
        told = answers.OperationPlan(
            kind=body.kind, matched=planned.matched, total=planned.included, excluded=dict(planned.excluded)
        )
        return Answer(told)
    try:
        row, replayed = await store.create(services.db, request, key, call.act)
    except KeyReused as error:
        detail = f"This {KEY_HEADER} came before with another operation; repeat that one, or use a new key."
        raise Problem("key-reused", detail, [FieldError("header", KEY_HEADER, detail)]) from error
    services.wake()
    headers = {"Location": f"/v1/operations/{row['id']}", **({REPLAYED: "true"} if replayed else {})}
    return Answer(answers.Operation(**row), 202, headers)


def _request(body: OperationBody) -> Request:
    chosen = body.selection.model_dump()
    ids = chosen.pop("ids")
    of_workflows = verb_of(body.kind) is not None
    return Request(
        body.kind,
        body.actor,
        body.reason,
        ids=ids,
        filter=Filter() if of_workflows else Filter(**chosen),
        workflows=WorkflowFilter(**chosen) if of_workflows else None,
        arguments=body.arguments.as_wished(),
        limit=body.limit,
        rate=body.rate,
        canary=body.canary,
        stop_ratio=body.stop_ratio,
    )


async def list_operations(services: Services, call: Call, *, query: OperationsQuery) -> Answer:
    """List operations, newest first."""
    try:
        rows, cursor = await store.list_operations(services.db, query.state, query.cursor, query.limit)
    except Rejected as error:
        raise Problem(
            "invalid-parameter", str(error), [FieldError("parameter", "cursor", str(error))]
        ) from error
    return Answer(answers.OperationPage(items=[answers.Operation(**row) for row in rows], next_cursor=cursor))


async def show_operation(services: Services, call: Call, *, path: OperationPath) -> Answer:
    """Show an operation with its counts."""
    return Answer(answers.Operation(**await store.get_operation(services.db, path.operation_id)))


async def list_items(services: Services, call: Call, *, path: OperationPath, query: ItemsQuery) -> Answer:
    """List what became of each message of an operation."""
    rows, after = await store.list_items(
        services.db, path.operation_id, query.state, query.after, query.limit
    )
    return Answer(
        answers.OperationItems(items=[answers.OperationItem(**row) for row in rows], next_after=after)
    )


async def pause_operation(
    services: Services, call: Call, *, path: OperationPath, body: OperatorBody
) -> Answer:
    """Hold an operation up. The message in hand is finished."""
    return await _control(services, call, path, "pause", body)


async def resume_operation(
    services: Services, call: Call, *, path: OperationPath, body: OperatorBody
) -> Answer:
    """Let an operation go on that is paused or that stopped.

    One that stopped by itself goes on without looking at its canaries and its ratio again.
    """
    return await _control(services, call, path, "resume", body)


async def abort_operation(
    services: Services, call: Call, *, path: OperationPath, body: OperatorBody
) -> Answer:
    """End an operation. Messages that it has not begun stay as they are."""
    return await _control(services, call, path, "abort", body)


async def _control(
    services: Services, call: Call, path: OperationPath, act: str, body: OperatorBody
) -> Answer:
    row = await control(services.db, path.operation_id, act, body.actor, body.reason, call.act)
    services.wake()
    return Answer(answers.Operation(**row))
