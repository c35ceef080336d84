"""Every URL of the API on one screen. ``/openapi.json`` is made of this table.

Beside it the process serves ``/openapi.json`` itself, ``/healthz``, ``/readyz`` and ``/metrics``.
"""

from __future__ import annotations

from fulcrum.web import answers, bodies
from fulcrum.web.cancel import cancel_workflow
from fulcrum.web.description import show_problem
from fulcrum.web.events import follow_workflow
from fulcrum.web.intents import create_intent
from fulcrum.web.operation import Handler, Operation
from fulcrum.web.operators import (
    compensate_workflow,
    extend_deadline,
    pause_workflow,
    resume_workflow,
    retry_step,
    skip_step,
    terminate_workflow,
)
from fulcrum.web.parked import discard_parked, list_parked, replay_parked, show_parked
from fulcrum.web.stock import receive_stock, show_stock
from fulcrum.web.workflows import list_workflows, show_workflow

_BODY = ("malformed-json", "body-too-large", "unsupported-media-type", "invalid-body")
_KEYED = (*_BODY, "idempotency-key", "key-reused", "unavailable")
_PATH = ("invalid-parameter", "not-found", "unavailable")


def _verb(verb: str, handler: Handler, body: type[bodies.RequestBody]) -> Operation:
    """What operators may ask of one workflow."""
    return Operation(
        "POST", f"/v1/workflows/{{workflow_id}}/{verb}", handler,
        {200: answers.Requested, 202: answers.Requested}, (*_PATH, *_BODY, "idempotency-key", "key-reused"),
        path_model=bodies.WorkflowPath, body_model=body, keyed=True, acted=True,
    )  # fmt: skip


ROUTES: tuple[Operation, ...] = (
    Operation(
        "POST", "/v1/intents", create_intent, {202: answers.IntentAccepted}, _KEYED,
        body_model=bodies.IntentBody, keyed=True,
    ),
    Operation(
        "GET", "/v1/workflows", list_workflows, {200: answers.WorkflowPage},
        ("invalid-parameter", "unavailable"), query_model=bodies.WorkflowsQuery,
    ),
    Operation(
        "GET", "/v1/workflows/{workflow_id}", show_workflow, {200: answers.Workflow}, (*_PATH, "not-yet"),
        path_model=bodies.WorkflowPath, query_model=bodies.WorkflowQuery,
    ),
    Operation(
        "GET", "/v1/workflows/{workflow_id}/events", follow_workflow, {200: answers.Entry, 204: None},
        (*_PATH, "too-many-watchers"), path_model=bodies.WorkflowPath, query_model=bodies.EventsQuery,
        streamed=True,
    ),
    Operation(
        "POST", "/v1/workflows/{workflow_id}/cancel", cancel_workflow,
        {200: answers.Requested, 202: answers.Cancellation},
        (*_PATH, *_BODY, "idempotency-key", "key-reused", "already-completed", "already-terminated"),
        path_model=bodies.WorkflowPath, body_model=bodies.CancelBody,
        keyed=True, key_optional=True, acted=True,
    ),
    _verb("retry", retry_step, bodies.StepBody),
    _verb("skip", skip_step, bodies.SkipBody),
    _verb("pause", pause_workflow, bodies.RequestBody),
    _verb("resume", resume_workflow, bodies.RequestBody),
    _verb("compensate", compensate_workflow, bodies.StepBody),
    _verb("extend", extend_deadline, bodies.ExtendBody),
    _verb("terminate", terminate_workflow, bodies.RequestBody),
    Operation(
        "GET", "/v1/stock/{sku}", show_stock, {200: answers.Stock}, _PATH,
        path_model=bodies.SkuPath,
    ),
    Operation(
        "POST", "/v1/stock/{sku}/receipts", receive_stock, {202: answers.ReceiptAccepted},
        ("invalid-parameter", *_KEYED), path_model=bodies.SkuPath, body_model=bodies.ReceiptBody, keyed=True,
    ),
    Operation(
        "GET", "/v1/parked", list_parked, {200: answers.ParkedPage}, ("invalid-parameter", "unavailable"),
        query_model=bodies.ParkedQuery,
    ),
    Operation(
        "GET", "/v1/parked/{parked_id}", show_parked, {200: answers.ParkedMessage}, _PATH,
        path_model=bodies.ParkedPath,
    ),
    Operation(
        "POST", "/v1/parked/{parked_id}/replay", replay_parked, {200: answers.ParkedMessage},
        (*_PATH, *_BODY, "conflict"), path_model=bodies.ParkedPath, body_model=bodies.OperatorBody,
    ),
    Operation(
        "POST", "/v1/parked/{parked_id}/discard", discard_parked, {200: answers.ParkedMessage},
        (*_PATH, *_BODY, "conflict"), path_model=bodies.ParkedPath, body_model=bodies.OperatorBody,
    ),
    Operation(
        "GET", "/problems/{code}", show_problem, {200: answers.ProblemKind},
        ("invalid-parameter", "not-found"), path_model=bodies.ProblemPath,
    ),
)  # fmt: skip
