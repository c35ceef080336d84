"""Every URL of the API on one screen. ``/openapi.json`` is made of this table.

Beside it the process serves ``/openapi.json`` itself, ``/healthz``, ``/readyz`` and ``/metrics``.
"""

from __future__ import annotations

from fulcrum.web import (
    answers,
    attention,
    audit_shapes,
    bodies,
    counts,
    intent_bodies,
    parked_answers,
    parked_bodies,
)
from fulcrum.web.attention import list_attention
from fulcrum.web.audit import list_audit
from fulcrum.web.cancel import cancel_workflow
from fulcrum.web.counts import count_workflows
from fulcrum.web.description import show_problem
from fulcrum.web.events import follow_workflow
from fulcrum.web.intents import create_intent
from fulcrum.web.lists import list_workflows
from fulcrum.web.operation import Handler, Operation
from fulcrum.web.operations import (
    abort_operation,
    create_operation,
    list_items,
    list_operations,
    pause_operation,
    resume_operation,
    show_operation,
)
from fulcrum.web.operators import (
    compensate_workflow,
    extend_deadline,
    pause_workflow,
    resume_workflow,
    retry_step,
    signal_workflow,
    skip_step,
    terminate_workflow,
)
from fulcrum.web.parked import (
    discard_parked,
    edit_parked,
    list_groups,
    list_parked,
    note_group,
    replay_parked,
    restore_parked,
    show_parked,
)
from fulcrum.web.parked_keys import list_parked_keys, release_parked_key
from fulcrum.web.search import search
from fulcrum.web.stock import receive_stock, show_stock
from fulcrum.web.workflows import explain_workflow, show_workflow

_BODY = ("malformed-json", "body-too-large", "unsupported-media-type", "invalid-body")
_KEYED = (*_BODY, "idempotency-key", "key-reused", "unavailable")
_PATH = ("invalid-parameter", "not-found", "unavailable")


def _verb(verb: str, handler: Handler, body: type[bodies.RequestBody]) -> Operation:
    """What operators may ask of one workflow."""
    return Operation(
        "POST", f"/v1/workflows/{{workflow_id}}/{verb}", handler,
        {200: answers.Requested, 202: answers.Requested}, (*_PATH, *_BODY, "idempotency-key", "key-reused"),
        path_model=bodies.WorkflowPath, body_model=body, keyed=True, acted=True, audited=f"workflow.{verb}",
    )  # fmt: skip


ROUTES: tuple[Operation, ...] = (
    Operation(
        "POST", "/v1/intents", create_intent, {202: answers.IntentAccepted}, _KEYED,
        body_model=intent_bodies.IntentBody, keyed=True,
    ),
    Operation(
        "GET", "/v1/workflows", list_workflows, {200: answers.WorkflowPage},
        ("invalid-parameter", "unavailable", "too-slow"), query_model=bodies.WorkflowsQuery,
    ),
    Operation(
        "GET", "/v1/workflows/counts", count_workflows, {200: counts.WorkflowCounts},
        ("invalid-parameter", "unavailable", "too-slow"), query_model=counts.CountsQuery,
    ),
    Operation(
        "GET", "/v1/search", search, {200: answers.SearchResult},
        ("invalid-parameter", "unavailable", "too-slow"), query_model=bodies.SearchQuery,
    ),
    Operation(
        "GET", "/v1/workflows/{workflow_id}", show_workflow, {200: answers.Workflow}, (*_PATH, "not-yet"),
        path_model=bodies.WorkflowPath, query_model=bodies.WorkflowQuery,
    ),
    Operation(
        "GET", "/v1/workflows/{workflow_id}/why", explain_workflow, {200: answers.WorkflowWhy}, _PATH,
        path_model=bodies.WorkflowPath,
    ),
    Operation(
        "GET", "/v1/attention", list_attention, {200: attention.AttentionPage},
        ("invalid-parameter", "unavailable"), query_model=attention.AttentionQuery,
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
        keyed=True, key_optional=True, acted=True, audited="workflow.cancel",
    ),
    _verb("retry", retry_step, bodies.StepBody),
    _verb("skip", skip_step, bodies.SkipBody),
    _verb("pause", pause_workflow, bodies.RequestBody),
    _verb("resume", resume_workflow, bodies.RequestBody),
    _verb("compensate", compensate_workflow, bodies.StepBody),
    _verb("extend", extend_deadline, bodies.ExtendBody),
    _verb("terminate", terminate_workflow, bodies.RequestBody),
    Operation(
        "POST", "/v1/workflows/{workflow_id}/signals/{name}", signal_workflow,
        {200: answers.Requested, 202: answers.Requested}, (*_PATH, *_BODY, "idempotency-key", "key-reused"),
        path_model=bodies.SignalPath, body_model=bodies.SignalBody,
        keyed=True, acted=True, audited="workflow.signal",
    ),
    Operation(
        "GET", "/v1/stock/{sku}", show_stock, {200: answers.Stock}, _PATH,
        path_model=bodies.SkuPath,
    ),
    Operation(
        "POST", "/v1/stock/{sku}/receipts", receive_stock, {202: answers.ReceiptAccepted},
        ("invalid-parameter", *_KEYED), path_model=bodies.SkuPath, body_model=bodies.ReceiptBody, keyed=True,
        acted=True, audited="stock.receive",
    ),
    Operation(
        "GET", "/v1/parked", list_parked, {200: parked_answers.ParkedPage},
        ("invalid-parameter", "unavailable"), query_model=parked_bodies.ParkedQuery,
    ),
    Operation(
        "GET", "/v1/parked/{parked_id}", show_parked, {200: parked_answers.ParkedMessage}, _PATH,
        path_model=parked_bodies.ParkedPath,
    ),
    Operation(
        "POST", "/v1/parked/{parked_id}/replay", replay_parked, {200: parked_answers.ParkedMessage},
        (*_PATH, *_BODY, "conflict"), path_model=parked_bodies.ParkedPath, body_model=bodies.OperatorBody,
        audited="parked.replay",
    ),
    Operation(
        "POST", "/v1/parked/{parked_id}/discard", discard_parked, {200: parked_answers.ParkedMessage},
        (*_PATH, *_BODY, "conflict"), path_model=parked_bodies.ParkedPath, body_model=bodies.OperatorBody,
        audited="parked.discard",
    ),
    Operation(
        "POST", "/v1/parked/{parked_id}/restore", restore_parked, {200: parked_answers.ParkedMessage},
        (*_PATH, *_BODY, "conflict"), path_model=parked_bodies.ParkedPath, body_model=bodies.OperatorBody,
        audited="parked.restore",
    ),
    Operation(
        "POST", "/v1/parked/{parked_id}/edit", edit_parked, {200: parked_answers.ParkedMessage},
        (*_PATH, *_BODY, "conflict", "switched-off"),
        path_model=parked_bodies.ParkedPath, body_model=parked_bodies.EditBody, audited="parked.edit",
    ),
    Operation(
        "GET", "/v1/parked-groups", list_groups, {200: parked_answers.ParkedGroups},
        ("invalid-parameter", "unavailable"), query_model=parked_bodies.GroupsQuery,
    ),
    Operation(
        "POST", "/v1/parked-groups/{group}/note", note_group, {200: parked_answers.ParkedGroup},
        (*_PATH, *_BODY), path_model=parked_bodies.GroupPath, body_model=parked_bodies.NoteBody,
        audited="group.note",
    ),
    Operation(
        "GET", "/v1/parked-keys", list_parked_keys, {200: parked_answers.ParkedKeys},
        ("invalid-parameter", "unavailable"), query_model=parked_bodies.KeysQuery,
    ),
    Operation(
        "POST", "/v1/parked-keys/{outbox}/{key}/release", release_parked_key, {200: parked_answers.Operation},
        (*_PATH, *_BODY), path_model=parked_bodies.KeyPath, body_model=bodies.OperatorBody,
        audited="key.release",
    ),
    Operation(
        "POST", "/v1/operations", create_operation,
        {200: parked_answers.OperationPlan, 202: parked_answers.Operation},
        (*_KEYED, "conflict"), body_model=parked_bodies.OperationBody, keyed=True, key_optional=True,
        audited="operation.create",
    ),
    Operation(
        "GET", "/v1/operations", list_operations, {200: parked_answers.OperationPage},
        ("invalid-parameter", "unavailable"), query_model=parked_bodies.OperationsQuery,
    ),
    Operation(
        "GET", "/v1/operations/{operation_id}", show_operation, {200: parked_answers.Operation}, _PATH,
        path_model=parked_bodies.OperationPath,
    ),
    Operation(
        "GET", "/v1/operations/{operation_id}/items", list_items, {200: parked_answers.OperationItems}, _PATH,
        path_model=parked_bodies.OperationPath, query_model=parked_bodies.ItemsQuery,
    ),
    *(
        Operation(
            "POST", f"/v1/operations/{{operation_id}}/{act}", handler, {200: parked_answers.Operation},
            (*_PATH, *_BODY, "conflict"),
            path_model=parked_bodies.OperationPath, body_model=bodies.OperatorBody,
            audited=f"operation.{act}",
        )
        for act, handler in (
            ("pause", pause_operation), ("resume", resume_operation), ("abort", abort_operation),
        )
    ),
    Operation(
        "GET", "/v1/audit", list_audit, {200: audit_shapes.AuditPage}, ("invalid-parameter", "unavailable"),
        query_model=audit_shapes.AuditQuery,
    ),
    Operation(
        "GET", "/problems/{code}", show_problem, {200: answers.ProblemKind},
        ("invalid-parameter", "not-found"), path_model=bodies.ProblemPath,
    ),
)  # fmt: skip
