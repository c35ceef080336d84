"""The OpenAPI 3.1 document, made of the route table and the models that parse and answer requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from apispec import APISpec
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import fulcrum
from fulcrum.web import problem
from fulcrum.web.answers import Problem
from fulcrum.web.bodies import REFERENCE_PATTERN
from fulcrum.web.operation import (
    ACTOR_HEADER,
    EVENT_STREAM,
    JSON,
    KEY_HEADER,
    KEY_PATTERN,
    LAST_HEADER,
    Operation,
)

_REF = "#/components/schemas/{model}"
#: Problems that any operation may answer with.
_ALWAYS = ("internal",)
_DESCRIPTION = (
    "Post an intent, follow its workflow, receive stock, handle parked messages. "
    "Every failure is a problem (RFC 9457) that says which field is at fault and what to do."
)
_HEADERS: Mapping[str, Any] = {
    "X-Correlation-Id": {
        "description": "Finds the request and all that it caused in the logs.",
        "schema": {"type": "string"},
    },
    "Location": {"description": "Where to read on.", "schema": {"type": "string"}},
    "Idempotency-Replayed": {
        "description": "`true` when the key came before and this is the first answer again.",
        "schema": {"type": "string", "const": "true"},
    },
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
}


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The OpenAPI document of ``operations``."""
    rows = list(operations)
    spec = APISpec(
        title="Fulcrum",
        version=fulcrum.__version__,
        openapi_version="3.1.0",
        info={"description": _DESCRIPTION, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
    )
    for name, schema in _schemas(rows).items():
        spec.components.schema(name, schema)
    for row in rows:
        spec.path(row.path, operations={row.method.lower(): _operation(row)})
    return spec.to_dict()


def _schemas(rows: Iterable[Operation]) -> dict[str, Any]:
    """Every model of a body or an answer, by name."""
    models: dict[type[BaseModel], Any] = {Problem: "serialization"}
    for row in rows:
        models |= {model: "serialization" for model in row.answers.values() if model is not None}
        if row.body_model is not None:
            models[row.body_model] = "validation"
    _, definitions = models_json_schema(list(models.items()), ref_template=_REF)
    return dict(definitions["$defs"])


def _operation(row: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": row.name,
        "summary": row.summary,
        "parameters": _parameters(row),
        "responses": {**_successes(row), **_problems(row)},
    }
    if row.description:
        told["description"] = row.description
    if row.body_model is not None:
        told["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref(row.body_model)}}}
    return told


def _parameters(row: Operation) -> list[dict[str, Any]]:
    parameters = [*_of_model(row.path_model, "path"), *_of_model(row.query_model, "query")]
    if row.keyed:
        parameters.append(
            {
                "name": KEY_HEADER,
                "in": "header",
                "required": not row.key_optional,
                "description": _KEY_OPTIONAL if row.key_optional else _KEY,
                "schema": {"type": "string", "pattern": KEY_PATTERN},
            }
        )
        parameters.append(dict(_CORRELATION))
    if row.acted:
        parameters.append(dict(_ACTOR))
    if row.streamed:
        parameters.append(dict(_LAST))
    return parameters


_KEY = "A new one for each new request. A repeat gets the first answer again."
_KEY_OPTIONAL = "A new one for each new request. Without one, the same actor with the same body is a repeat."
_ACTOR: Mapping[str, Any] = {
    "name": ACTOR_HEADER,
    "in": "header",
    "required": False,
    "description": (
        "Who asks, as timeline and audit will show it. Without it: the tenant of a workflow, else `unnamed`."
    ),
    "schema": {"type": "string", "pattern": REFERENCE_PATTERN},
}

_LAST: Mapping[str, Any] = {
    "name": LAST_HEADER,
    "in": "header",
    "required": False,
    "description": "The id of the last event that was seen: go on behind it.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,9}$"},
}

_CORRELATION: Mapping[str, Any] = {
    "name": "X-Correlation-Id",
    "in": "header",
    "description": (
        "Joins all that the request causes. Up to 128 letters, digits and `._:-`; anything else is replaced."
    ),
    "schema": {"type": "string"},
}


def _of_model(model: type[BaseModel] | None, where: str) -> list[dict[str, Any]]:
    if model is None:
        return []
    schema = model.model_json_schema()
    required = schema.get("required", [])
    return [
        _parameter(name, where, name in required, dict(part)) for name, part in schema["properties"].items()
    ]


def _parameter(name: str, where: str, required: bool, schema: dict[str, Any]) -> dict[str, Any]:
    """Optional parameters are left out, never null, so the null in their schema goes."""
    for option in schema.pop("anyOf", []):
        if option != {"type": "null"}:
            schema |= option
    if schema.get("default", "") is None:
        del schema["default"]
    description = schema.pop("description", "")
    return {"name": name, "in": where, "required": required, "description": description, "schema": schema}


def _successes(row: Operation) -> dict[str, Any]:
    headers = ["X-Correlation-Id"]
    if row.keyed:
        headers += ["Location", "Idempotency-Replayed"]
    content = EVENT_STREAM if row.streamed else JSON
    told: dict[str, Any] = {}
    for status, model in row.answers.items():
        told[str(status)] = {
            "description": (model.__doc__ or "").strip().splitlines()[0] if model else "Nothing more.",
            "headers": {name: _HEADERS[name] for name in headers},
        }
        if model is not None:
            # Of a stream: the data of each event that has an id.
            told[str(status)]["content"] = {content: {"schema": _ref(model)}}
    return told


def _problems(row: Operation) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for code in (*row.problems, *_ALWAYS):
        by_status.setdefault(problem.KINDS[code].status, []).append(code)
    return {
        str(status): {
            "description": f"{HTTPStatus(status).phrase}: {', '.join(codes)}.",
            "headers": {
                name: _HEADERS[name]
                for name in ("X-Correlation-Id", *(("Retry-After",) if status == 503 else ()))
            },
            "content": {problem.CONTENT_TYPE: {"schema": _ref(Problem)}},
        }
        for status, codes in sorted(by_status.items())
    }


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}
