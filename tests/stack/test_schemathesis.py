"""The running API against its own document: requests made up from the schemas, good ones and bad ones."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import hypothesis
import pytest
import requests
import schemathesis
from decisions import history
from intake import intake_process
from intents import intent_body
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError
from schemathesis import Case
from sqlalchemy import text

from fulcrum.operations import store as operations
from fulcrum.operations.kinds import WORKFLOW_KINDS, verb_of
from fulcrum.operations.requests import Request
from fulcrum.readmodel import store
from fulcrum.readmodel.lists import INDEXES
from fulcrum.saga.definitions import DEFAULT_DEFINITION
from fulcrum.saga.messages import DecisionMade
from fulcrum.saga.terms import OnShort, keepers
from fulcrum.saga.verbs import MIGRATE
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.web.bodies import LARGEST, Body, Moment, WorkflowsQuery
from fulcrum.web.intent_bodies import INTENT_ADDED, LINE_ADDED
from fulcrum.web.openapi import document
from fulcrum.web.parked_bodies import SelectionBody
from fulcrum.web.problem import KINDS
from fulcrum.web.routes import ROUTES
from fulcrum.web.workflow_bodies import TAKES, VerbArguments, WorkflowSelection

DOCUMENT = document(ROUTES)
schema = schemathesis.openapi.from_dict(DOCUMENT)
INTENT = Draft202012Validator(
    {"$ref": "#/components/schemas/IntentBody", "components": DOCUMENT["components"]}
)

#: So many requests an operation, made up anew from the same seed in each run.
EXAMPLES = 50


def spell_out(case: Case) -> None:
    """Make good input keep the rules that JSON Schema has no words for."""
    if isinstance(case.query, dict):
        # A cursor cannot be made up, only handed out.
        cursor = case.query.get("cursor")
        if isinstance(cursor, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,200}={0,2}", cursor):
            del case.query["cursor"]
        if case.operation.path == "/v1/workflows":
            _go_together(case.query)
    if isinstance(case.body, dict):
        case.body = _as_integers(case.body)
        if "kind" in case.body and "selection" in case.body:
            _fit(case.body)
        # A patch has no NUL at any depth; it would be one in the text that Postgres keeps.
        if "patch" in case.body:
            case.body["patch"] = json.loads(json.dumps(case.body["patch"]).replace("\\u0000", "\\u0001"))
        # One line a SKU.
        lines = case.body.get("lines")
        if isinstance(lines, list) and all(isinstance(line, dict) for line in lines):
            case.body["lines"] = list({json.dumps(line.get("sku")): line for line in lines}.values())
            if INTENT.is_valid(case.body) and _is_moment(case.body.get("promised_at")):
                _agree(case.body)


def _agree(intent: dict[str, Any]) -> None:
    """Terms need a definition that keeps them, a price where a line may go, and a sum that is paid."""
    if intent.get("definition", DEFAULT_DEFINITION) not in keepers():
        for name in INTENT_ADDED:
            intent.pop(name, None)
        for line in intent["lines"]:
            for name in LINE_ADDED:
                line.pop(name, None)
    for line in intent["lines"]:
        if line.get("on_short") == OnShort.CANCEL_LINE and line.get("unit_price_minor") is None:
            line["unit_price_minor"] = 1
    if sum((line.get("unit_price_minor") or 0) * line["quantity"] for line in intent["lines"]) > LARGEST:
        for line in intent["lines"]:
            line["unit_price_minor"] = 0
    priced = sum((line.get("unit_price_minor") or 0) * line["quantity"] for line in intent["lines"])
    intent["amount_minor"] = max(intent["amount_minor"], priced)


def _is_moment(value: Any) -> bool:
    """Whether a promise, which JSON Schema only knows as a format, is a time or none."""
    try:
        TypeAdapter(Moment | None).validate_json(json.dumps(value), strict=True)
    except ValidationError:
        return False
    return True


def _fit(body: dict[str, Any]) -> None:
    """The kind of an operation says which selection and which arguments it has."""
    if not isinstance(body["kind"], str) or not _good(VerbArguments, body.get("arguments", {})):
        return
    of_workflows, of_messages = (
        _good(each, body["selection"]) for each in (WorkflowSelection, SelectionBody)
    )
    if body["kind"] in WORKFLOW_KINDS and of_messages and not of_workflows:
        body["kind"] = "replay"
    elif body["kind"] in ("replay", "discard", "restore") and of_workflows and not of_messages:
        body["kind"] = "workflow.pause"
    verb = verb_of(body["kind"])
    if verb is not None and of_workflows and not any(body["selection"].values()):
        body["selection"]["status"] = "paused"
    takes = TAKES.get(verb or "", ())
    body["arguments"] = {name: part for name, part in body.get("arguments", {}).items() if name in takes}
    if verb == "extend" and body["arguments"].get("seconds") is None:
        body["arguments"]["seconds"] = 60
    if verb == MIGRATE and body["arguments"].get("definition") is None:
        body["arguments"]["definition"] = DEFAULT_DEFINITION


def _good(model: type[Body], value: object) -> bool:
    try:
        model.model_validate_json(json.dumps(value))
    except ValidationError:
        return False
    return True


def _go_together(query: dict[str, Any]) -> None:
    """Leave filters out of a good query until an index answers what remains."""
    try:
        WorkflowsQuery.model_validate(query)
    except ValidationError:
        return
    flags = [name for name in ("status", "paused", "attention") if name in query]
    for name in flags[1:]:
        del query[name]
    status = {"status"} if flags else set()
    for name in ("sku", "definition", "tenant"):
        if frozenset(status | (query.keys() & {"sku", "definition", "tenant", "step"})) not in INDEXES:
            query.pop(name, None)


def _as_integers(value: Any) -> Any:
    """An integer is written without a decimal point."""
    if isinstance(value, dict):
        return {name: _as_integers(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_as_integers(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@pytest.fixture(scope="module")
def address(settings: Settings) -> Iterator[str]:
    """A running intake."""
    with intake_process(settings) as url:
        yield url


@schema.parametrize()
@hypothesis.settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_answers_are_as_documented(case: Case, address: str) -> None:
    """No server error; status, headers, type and body of each answer are documented; bad input is refused."""
    spell_out(case)
    case.call_and_validate(base_url=address)


async def _store(settings: Settings, told: list[DecisionMade], sku: str, parked_id: str) -> str:
    """Put one of each there; returns the id of an operation."""
    db = await Database.open(settings.postgres_dsn, size=1)
    async with db.transaction() as tx:
        await store.apply(tx, told)
    await db.execute(text("INSERT INTO inventory.stock VALUES (:sku, 5, 3, 2, 9)"), {"sku": sku})
    parked = text(
        "INSERT INTO ops.parked_messages (id, service, message_id, type, workflow_id, queue, reason,"
        " error_class, error, fingerprint, attempts, headers, body, decoded)"
        " VALUES (:id, 'inventory', 'm', 'ReserveStock', :workflow, 'q', 'corrupt', 'Corrupt', 'e', 'f', 1,"
        """ '{"ce_type": "ReserveStock"}', 'x', '{"quantity": 1}')"""
    )
    await db.execute(parked, {"id": parked_id, "workflow": told[0].workflow_id})
    made, _ = await operations.create(db, Request("discard", "ana", "not needed", ids=[parked_id]))
    await db.close()
    return str(made["id"])


def test_answers_about_stored_things_are_as_documented(address: str, settings: Settings) -> None:
    """Ids cannot be made up, so what is behind them is asked for here: from intake, database and cache."""
    told, sku, parked_id = history(), f"sku-{uuid4()}", str(uuid4())
    operation = asyncio.run(_store(settings, told, sku, parked_id))
    accepted = requests.post(
        f"{address}/v1/intents", json=intent_body(), headers={"Idempotency-Key": str(uuid4())}, timeout=5
    ).json()["workflow_id"]
    asked: list[tuple[str, dict[str, str]]] = [
        ("/v1/workflows/{workflow_id}", {"workflow_id": accepted}),
        ("/v1/workflows/{workflow_id}", {"workflow_id": told[0].workflow_id}),
        ("/v1/workflows/{workflow_id}", {"workflow_id": told[0].workflow_id}),
        ("/v1/workflows", {}),
        ("/v1/search", {"q": told[0].workflow_id}),
        ("/v1/stock/{sku}", {"sku": sku}),
        ("/v1/parked", {}),
        ("/v1/parked/{parked_id}", {"parked_id": parked_id}),
        ("/v1/parked-groups", {}),
        ("/v1/operations", {}),
        ("/v1/audit", {}),
        ("/v1/operations/{operation_id}", {"operation_id": operation}),
        ("/v1/operations/{operation_id}/items", {"operation_id": operation}),
        *(("/problems/{code}", {"code": code}) for code in KINDS),
    ]
    sources = []
    for path, parameters in asked:
        place = {"query": parameters} if path == "/v1/search" else {"path_parameters": parameters}
        response = schema[path]["GET"].Case(**place).call_and_validate(base_url=address)
        assert response.status_code == 200, response.text
        sources.append(response.json().get("freshness", {}).get("source"))
    assert sources[:3] == ["intake", "database", "cache"]
    cancel = schema["/v1/workflows/{workflow_id}/cancel"]["POST"]
    for workflow_id, status in ((accepted, 202), (told[0].workflow_id, 409)):
        case = cancel.Case(
            path_parameters={"workflow_id": workflow_id},
            body={"reason": "called off"},
            media_type="application/json",
        )
        assert case.call_and_validate(base_url=address).status_code == status
