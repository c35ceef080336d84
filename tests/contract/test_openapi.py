"""The OpenAPI document: valid, complete, and true to the code that answers requests."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel
from schemathesis.specs.openapi.definitions import OPENAPI_31

from fulcrum.readmodel.view import Freshness, answer
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.run import Status
from fulcrum.saga.verbs import Verb
from fulcrum.settings import Settings
from fulcrum.web import answers, bodies, intent_bodies, workflows
from fulcrum.web.app import build_app
from fulcrum.web.openapi import document
from fulcrum.web.operation import Operation
from fulcrum.web.problem import KINDS
from fulcrum.web.routes import ROUTES
from fulcrum.web.services import Services

DOCUMENT = document(ROUTES)
#: Served beside the API, and by every role.
UNDOCUMENTED = {"/openapi.json", "/healthz", "/readyz", "/metrics"}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and description of every operation of the document."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def named(row: Operation) -> str:
    """How a test of one route is called."""
    return f"{row.method} {row.path}"


def test_document_is_valid_openapi_3_1() -> None:
    """The document holds to the specification's own schema."""
    assert DOCUMENT["openapi"] == "3.1.0"
    errors = [f"{e.json_path}: {e.message}" for e in Draft202012Validator(OPENAPI_31).iter_errors(DOCUMENT)]
    assert errors == []


def test_schemas_are_valid_json_schema() -> None:
    """Each component is a JSON Schema 2020-12 by itself."""
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_references_resolve() -> None:
    """Every ``$ref`` names a component that exists, and no component is there for nothing."""
    wanted = {
        part.partition('"')[0] for part in json.dumps(DOCUMENT).split('"$ref": "#/components/schemas/')[1:]
    }
    assert wanted == set(DOCUMENT["components"]["schemas"])


async def test_every_url_is_documented() -> None:
    """The server answers at the documented paths and at no other."""
    services = Services(Settings())
    served = {
        (route.resource.canonical, route.method.lower())
        for route in build_app(services).router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    await services.close()
    documented = {(path, method) for path, method, _ in operations()}
    assert {pair for pair in served if pair[0] not in UNDOCUMENTED} == documented
    assert {path for path, _ in served} >= UNDOCUMENTED


@pytest.mark.parametrize("row", ROUTES, ids=named)
def test_row_and_handler_agree(row: Operation) -> None:
    """A handler takes exactly what its row parses for it, in the types that the row names."""
    declared = {"path": row.path_model, "query": row.query_model, "body": row.body_model}
    expected = {name: model.__name__ for name, model in declared.items() if model is not None}
    if row.keyed:
        expected["key"] = "str | None" if row.key_optional else "str"
    if row.acted:
        expected["actor"] = "str | None"
    if row.streamed:
        expected["last"] = "int | None"
    taken = {
        name: parameter.annotation
        for name, parameter in inspect.signature(row.handler).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    assert taken == expected


@pytest.mark.parametrize("row", ROUTES, ids=named)
def test_row_is_documented_with_all_it_may_answer(row: Operation) -> None:
    """Statuses and content types of the row are those of the document; failures are problems."""
    responses = DOCUMENT["paths"][row.path][row.method.lower()]["responses"]
    statuses = {*row.answers, *(KINDS[code].status for code in row.problems), 500}
    assert set(responses) == {str(status) for status in statuses}
    success = "text/event-stream" if row.streamed else "application/json"
    for status, response in responses.items():
        kind = success if int(status) < 400 else "application/problem+json"
        assert list(response.get("content", ())) == ([] if status == "204" else [kind])
    assert "Retry-After" in responses.get("503", {"headers": ["Retry-After"]})["headers"]


def test_operations_have_names_of_their_own_and_a_summary() -> None:
    """Generated clients get one function per operation."""
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)
    assert all(operation["summary"].endswith(".") for _, _, operation in operations())


def test_optional_parameters_are_never_null() -> None:
    """A parameter is left out or has a value, so its schema speaks of no null."""
    parameters = [p for _, _, operation in operations() for p in operation["parameters"]]
    assert "null" not in json.dumps(parameters)
    statuses = next(p for p in parameters if p["name"] == "status" and "completed" in p["schema"]["enum"])
    assert statuses["schema"]["enum"] == [str(status) for status in Status]


def test_bodies_refuse_unknown_fields() -> None:
    """What the server refuses, the document forbids."""
    schemas = DOCUMENT["components"]["schemas"]
    models = (
        intent_bodies.IntentBody,
        intent_bodies.LineBody,
        bodies.ReceiptBody,
        bodies.OperatorBody,
        bodies.CancelBody,
        bodies.RequestBody,
        bodies.StepBody,
        bodies.SkipBody,
        bodies.ExtendBody,
        bodies.SignalBody,
    )
    for model in models:
        assert schemas[model.__name__]["additionalProperties"] is False


@pytest.mark.parametrize("verb", [*Verb, "signals/{name}"])
def test_every_verb_is_a_path_with_a_key_and_both_answers(verb: str) -> None:
    """The observed result, or that there is none yet; a key is needed, for a repeat is no second request."""
    row = DOCUMENT["paths"][f"/v1/workflows/{{workflow_id}}/{verb}"]["post"]
    headers = {p["name"]: p.get("required", False) for p in row["parameters"] if p["in"] == "header"}
    assert headers == {"Idempotency-Key": True, "X-Actor": False, "X-Correlation-Id": False}
    assert {"200", "202", "404", "409", "422"} <= row["responses"].keys()


def test_who_cancels_and_why_is_documented() -> None:
    """The reason's bounds are in the document; key and actor are headers that may be left out."""
    reason = DOCUMENT["components"]["schemas"]["CancelBody"]["properties"]["reason"]
    assert (reason["minLength"], reason["maxLength"]) == (1, 500)
    cancel = DOCUMENT["paths"]["/v1/workflows/{workflow_id}/cancel"]["post"]
    headers = {p["name"]: p.get("required", False) for p in cancel["parameters"] if p["in"] == "header"}
    assert headers == {"Idempotency-Key": False, "X-Actor": False, "X-Correlation-Id": False}
    assert "already-completed" in cancel["responses"]["409"]["description"]


def test_bounds_are_documented() -> None:
    """A client can see every limit before it meets one."""
    fields = DOCUMENT["components"]["schemas"]["IntentBody"]["properties"]
    assert (fields["lines"]["minItems"], fields["lines"]["maxItems"]) == (1, 100)
    assert (fields["amount_minor"]["exclusiveMinimum"], fields["amount_minor"]["maximum"]) == (
        0,
        bodies.LARGEST,
    )
    assert {"EUR", "JPY"} <= set(fields["currency"]["enum"])
    assert fields["definition"]["enum"] == sorted(DEFINITIONS)
    for name in ("tenant", "customer_ref", "payment_method", "ship_to"):
        assert fields[name]["pattern"]
    line = DOCUMENT["components"]["schemas"]["LineBody"]["properties"]
    assert (line["quantity"]["minimum"], line["quantity"]["maximum"]) == (1, bodies.MOST_UNITS)


def _fields(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields)


#: Fields of a step that only an operator brings about; they are left out until then.
_OPERATED = {"held", "skipped_by", "result", "passed_over", "left_standing"}


def test_workflow_that_is_only_accepted_has_the_documented_shape() -> None:
    """The one answer that is put together by hand has every field of its model and no other."""
    intent = {
        "workflow_id": "6f0c1d9e-1111-5222-8333-444455556666",
        "intent_id": "a0000000-0000-5000-8000-000000000001",
        "tenant": "acme",
        "customer_ref": "customer-7",
        "definition": "fulfillment.v1",
        "lines": [{"sku": "tea-01", "quantity": 2}],
        "amount_minor": 1250,
        "currency": "EUR",
        "correlation_id": "order-1",
        "accepted_at": datetime(2026, 3, 1, tzinfo=UTC),
    }
    view = workflows.accepted_view(intent)
    shown = json.loads(answer(view, Freshness("intake", intent["accepted_at"])))
    assert set(shown) == _fields(answers.Workflow)
    assert set(shown["steps"][0]) == _fields(answers.Step) - _OPERATED
    assert set(shown["freshness"]) == _fields(answers.Freshness)
    answers.Workflow.model_validate_json(json.dumps(shown))
