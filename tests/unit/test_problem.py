"""Problem details: every failure as something that a client can act on."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from fulcrum.errors import Conflict, Corrupt, FulcrumError, NotFound, OutcomeUnknown, Rejected, Unavailable
from fulcrum.web import problem
from fulcrum.web.answers import Problem as ProblemShape
from fulcrum.web.bodies import WorkflowsQuery
from fulcrum.web.intent_bodies import IntentBody
from fulcrum.web.problem import KINDS, FieldError, Problem


def from_body(raw: bytes) -> Problem:
    """The problem with the body ``raw``."""
    with pytest.raises(ValidationError) as caught:
        IntentBody.model_validate_json(raw)
    return problem.from_body(caught.value)


@pytest.mark.parametrize("code", sorted(KINDS))
def test_every_kind_says_what_to_do(code: str) -> None:
    """A kind has an error status, a title and a remedy that ends as a sentence."""
    kind = KINDS[code]
    assert 400 <= kind.status <= 599
    assert kind.title
    assert kind.remedy.endswith(".")
    assert kind.retryable == (kind.status == 503)


def test_body_follows_the_documented_shape() -> None:
    """What is sent is what ``/openapi.json`` says, and errors keep only the place that they have."""
    errors = [FieldError("header", "Idempotency-Key", "is missing")]
    body = Problem("idempotency-key", "It is missing.", errors).to_dict("/v1/intents", "abc")
    assert body["type"] == "/problems/idempotency-key"
    assert (body["status"], body["instance"], body["correlation_id"]) == (400, "/v1/intents", "abc")
    assert body["errors"] == [{"header": "Idempotency-Key", "detail": "is missing"}]
    ProblemShape.model_validate(body, strict=True)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFound("x"), "not-found"),
        (Conflict("x"), "conflict"),
        (Rejected("x"), "invalid-body"),
        (Unavailable("x"), "unavailable"),
        (OutcomeUnknown("x"), "unavailable"),
        (Corrupt("x"), "internal"),
        (FulcrumError("x"), "internal"),
    ],
)
def test_errors_of_the_layers_below_have_a_kind(error: FulcrumError, code: str) -> None:
    """Each branch of the error tree has its answer."""
    assert problem.from_error(error).code == code


def test_unavailable_says_when_to_try_again() -> None:
    """503 carries Retry-After."""
    assert problem.from_error(Unavailable("Postgres is away")).headers == {"Retry-After": "1"}


def test_internal_error_tells_nothing_of_the_inside() -> None:
    """The text of an unexpected error stays in the log."""
    assert "secret" not in problem.from_error(Corrupt("secret")).detail


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"\xff", b'{"tenant": "\xff"}', b'{"tenant": "\\ud800"}', b"[" * 9999]
)
def test_what_is_no_json_is_malformed(raw: bytes) -> None:
    """Bytes that do not parse are one problem without fields."""
    found = from_body(raw)
    assert (found.code, list(found.errors)) == ("malformed-json", [])


@pytest.mark.parametrize("raw", [b"[]", b'"text"', b"null", b"1"])
def test_json_that_is_no_object_is_an_invalid_body(raw: bytes) -> None:
    """The error points at the whole body."""
    found = from_body(raw)
    assert (found.code, [error.name for error in found.errors]) == ("invalid-body", ["#"])


def test_long_values_are_cut() -> None:
    """An answer does not send a long value back."""
    found = from_body(b'{"tenant": "' + b"x" * 5000 + b'"}')
    assert all(len(error.detail) < 300 for error in found.errors)


def test_huge_numbers_are_told() -> None:
    """A number of hundreds of digits is a fault like any other."""
    found = from_body(b'{"amount_minor": ' + b"9" * 4000 + b"}")
    assert "#/amount_minor" in [error.name for error in found.errors]


def test_parameters_are_named() -> None:
    """Faults of a query carry the names of the parameters."""
    with pytest.raises(ValidationError) as caught:
        WorkflowsQuery.model_validate({"limit": "x", "staus": "running"})
    found = problem.from_parameters(caught.value)
    assert found.code == "invalid-parameter"
    assert {(error.where, error.name) for error in found.errors} == {
        ("parameter", "limit"),
        ("parameter", "staus"),
    }
    assert found.detail.endswith("(1 more in `errors`)")
