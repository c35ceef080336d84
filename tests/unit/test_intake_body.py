"""What an intent's body may hold, and how a fault in it is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from intents import intent_body
from pydantic import ValidationError

from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.web import problem
from fulcrum.web.bodies import LARGEST, CancelBody, ReceiptBody, WorkflowPath, WorkflowsQuery
from fulcrum.web.intent_bodies import IntentBody


def parse(body: object) -> IntentBody:
    """The body as the API parses it."""
    return IntentBody.model_validate_json(json.dumps(body))


def faults(body: object) -> dict[str, str]:
    """Pointer and detail of every fault in ``body``."""
    with pytest.raises(ValidationError) as caught:
        parse(body)
    return {error.name: error.detail for error in problem.from_body(caught.value).errors}


def test_whole_body_is_accepted() -> None:
    """Every field arrives as it was sent, and the definition has a default."""
    body = parse(intent_body())
    assert body.lines[0].sku == "tea-01"
    assert body.definition == "fulfillment.v1"


@pytest.mark.parametrize("name", sorted(DEFINITIONS))
def test_every_definition_can_be_asked_for(name: str) -> None:
    """An intent may name any workflow that exists."""
    assert parse(intent_body(definition=name)).definition == name


@pytest.mark.parametrize("field", [name for name in intent_body() if name != "definition"])
def test_missing_field_is_named(field: str) -> None:
    """Each field but the definition is required."""
    body = intent_body()
    del body[field]
    assert faults(body) == {f"#/{field}": f"{field} is missing; add it."}


@pytest.mark.parametrize(
    ("change", "pointer", "told"),
    [
        ({"tenant": "Acme!"}, "#/tenant", '"Acme!"'),
        ({"tenant": "a" * 64}, "#/tenant", "pattern"),
        ({"customer_ref": ""}, "#/customer_ref", '""'),
        ({"customer_ref": "a\u0000b"}, "#/customer_ref", "pattern"),
        ({"customer_ref": "a\n"}, "#/customer_ref", "pattern"),
        ({"customer_ref": 7}, "#/customer_ref", "valid string"),
        ({"lines": []}, "#/lines", "at least 1 item"),
        ({"lines": [{"sku": "a", "quantity": 0}]}, "#/lines/0/quantity", "is 0"),
        ({"lines": [{"sku": "a", "quantity": 1_000_001}]}, "#/lines/0/quantity", "1000000"),
        ({"lines": [{"sku": "a", "quantity": "1"}]}, "#/lines/0/quantity", 'is "1"'),
        ({"lines": [{"sku": "a", "quantity": 1.0}]}, "#/lines/0/quantity", "valid integer"),
        ({"lines": [{"sku": "a", "quantity": True}]}, "#/lines/0/quantity", "valid integer"),
        ({"lines": [{"sku": "a b", "quantity": 1}]}, "#/lines/0/sku", '"a b"'),
        ({"lines": [{"sku": "a", "quantity": 1, "colour": "red"}]}, "#/lines/0/colour", "unknown"),
        ({"amount_minor": 0}, "#/amount_minor", "is 0"),
        ({"amount_minor": LARGEST + 1}, "#/amount_minor", str(LARGEST)),
        ({"currency": "eur"}, "#/currency", "ISO 4217"),
        ({"currency": "XXX"}, "#/currency", '"XXX"'),
        ({"definition": "fulfillment.v9"}, "#/definition", "fulfillment.v1, fulfillment.v2"),
        ({"a/b~c": 1}, "#/a~1b~0c", "a/b~c is unknown"),
    ],
)
def test_fault_names_field_value_and_remedy(change: dict[str, Any], pointer: str, told: str) -> None:
    """One bad field gives one error with its JSON pointer."""
    found = faults(intent_body(**change))
    assert list(found) == [pointer]
    assert told in found[pointer]


def test_all_faults_are_told_at_once() -> None:
    """A client corrects its body in one go."""
    assert set(faults(intent_body(tenant="", currency="?", lines=[{"sku": "a"}]))) == {
        "#/tenant",
        "#/currency",
        "#/lines/0/quantity",
    }


def test_second_line_of_a_sku_is_refused() -> None:
    """Two lines of one SKU are refused, and the error points at the second."""
    found = faults(
        intent_body(
            lines=[{"sku": "a", "quantity": 1}, {"sku": "b", "quantity": 1}, {"sku": "a", "quantity": 2}]
        )
    )
    assert list(found) == ["#/lines/2/sku"]
    assert 'lines[2].sku is "a": lines[0] has it too' in found["#/lines/2/sku"]


def test_lines_are_bounded() -> None:
    """A hundred lines are accepted, one more is not."""
    lines = [{"sku": f"sku-{n}", "quantity": 1} for n in range(101)]
    assert len(parse(intent_body(lines=lines[:100])).lines) == 100
    assert "at most 100" in faults(intent_body(lines=lines))["#/lines"]


def test_payment_method_is_not_repeated() -> None:
    """What a client puts there by mistake may be a card number."""
    found = faults(intent_body(payment_method="4111 1111 1111 1111"))
    assert "4111" not in found["#/payment_method"]


def test_faults_are_bounded() -> None:
    """A body of nothing but unknown fields gives a short answer."""
    assert len(faults({f"field{n}": n for n in range(5000)})) == 100


def test_fingerprint_is_of_the_meaning() -> None:
    """Order of fields, white space and a default that is spelled out change nothing; a value does."""
    plain = parse(intent_body()).fingerprint()
    assert parse(dict(reversed(intent_body(definition="fulfillment.v1").items()))).fingerprint() == plain
    assert parse(intent_body(amount_minor=1251)).fingerprint() != plain
    lines = [{"sku": "a", "quantity": 1}, {"sku": "b", "quantity": 1}]
    assert (
        parse(intent_body(lines=lines)).fingerprint() != parse(intent_body(lines=lines[::-1])).fingerprint()
    )


def test_receipt_of_nothing_is_refused() -> None:
    """A receipt has at least one unit."""
    with pytest.raises(ValidationError):
        ReceiptBody.model_validate_json('{"quantity": 0, "reference": "r"}')


@pytest.mark.parametrize(
    "text",
    ["", "1", "{6f0c1d9e-1111-5222-8333-444455556666}", "6F0C1D9E-1111-5222-8333-444455556666", "x" * 36],
)
def test_only_a_canonical_uuid_names_a_workflow(text: str) -> None:
    """Other spellings of a UUID are refused, so that one workflow has one address."""
    with pytest.raises(ValidationError):
        WorkflowPath(workflow_id=text)


def test_query_is_converted_and_checked() -> None:
    """Text of a query becomes numbers; unknown names and statuses are refused."""
    assert WorkflowsQuery.model_validate({"limit": "10"}).limit == 10
    for bad in (
        {"limit": "0"},
        {"limit": "201"},
        {"status": "done"},
        {"staus": "running"},
        {"cursor": "a b"},
    ):
        with pytest.raises(ValidationError):
            WorkflowsQuery.model_validate(bad)


@pytest.mark.parametrize("reason", ["x", "the customer called it off", "Kundin rief an: zurück", "x" * 500])
def test_reason_to_cancel_is_one_line_in_any_language(reason: str) -> None:
    """What a person writes on one line is kept as it is."""
    assert CancelBody.model_validate_json(json.dumps({"reason": reason})).reason == reason


@pytest.mark.parametrize(
    "reason", ["", " ", " x", "x ", "x\n", "a\nb", "a\x00b", "\u00a0x", "x" * 501, 1, None]
)
def test_reason_that_says_nothing_or_too_much_is_refused(reason: object) -> None:
    """No empty reason, no control characters, no blanks around it, no more than 500 characters."""
    with pytest.raises(ValidationError) as caught:
        CancelBody.model_validate_json(json.dumps({"reason": reason}))
    (fault,) = problem.from_body(caught.value).errors
    assert (fault.where, fault.name) == ("pointer", "#/reason")


def test_missing_reason_to_cancel_is_named() -> None:
    """Nobody cancels without saying why."""
    with pytest.raises(ValidationError) as caught:
        CancelBody.model_validate_json("{}")
    assert problem.from_body(caught.value).errors[0].detail == "reason is missing; add it."
