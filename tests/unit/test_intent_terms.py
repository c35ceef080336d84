"""What may be agreed about an intent beyond its lines and its amount, and how a fault in it is told."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from intents import intent_body
from pydantic import ValidationError

from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.messages import LineTerms
from fulcrum.saga.terms import keepers, terms_of
from fulcrum.web import problem
from fulcrum.web.intent_bodies import IntentBody

V2 = "fulfillment.v2"


def line(sku: str = "tea-01", quantity: int = 2, **terms: Any) -> dict[str, Any]:
    """One line of an intent."""
    return {"sku": sku, "quantity": quantity, **terms}


def parse(**changes: Any) -> IntentBody:
    """The body with ``changes``, as the API parses it."""
    return IntentBody.model_validate_json(json.dumps(intent_body(**{"definition": V2, **changes})))


def faults(**changes: Any) -> dict[str, str]:
    """Pointer and detail of every fault in the body with ``changes``."""
    with pytest.raises(ValidationError) as caught:
        parse(**changes)
    return {error.name: error.detail for error in problem.from_body(caught.value).errors}


def test_what_was_agreed_is_kept_line_by_line() -> None:
    """A line about which nothing was agreed has no price, and undoes the order when it comes short."""
    body = parse(
        lines=[line(unit_price_minor=300, on_short="cancel_line"), line("cup", 1)],
        promised_at="2026-03-04T12:00:00+02:00",
        holds=["fraud", "address"],
    )
    assert terms_of(body.agreed) == (LineTerms(300, "cancel_line"), LineTerms(0, "cancel_order"))
    assert body.promised_at is not None
    assert body.promised_at.isoformat() == "2026-03-04T10:00:00+00:00"
    assert body.holds == ("address", "fraud")


def test_nothing_agreed_is_no_terms() -> None:
    """Then the event is what it always was."""
    assert terms_of(parse(lines=[line(), line("cup", on_short="cancel_order")]).agreed) == ()
    assert terms_of([(None, "wait")]) == (LineTerms(0, "wait"),)


@pytest.mark.parametrize(
    ("change", "pointer", "told"),
    [
        ({"lines": [line(unit_price_minor=-1)]}, "#/lines/0/unit_price_minor", "is -1"),
        ({"lines": [line(on_short="shrug")]}, "#/lines/0/on_short", "use one of cancel_line, wait"),
        (
            {"lines": [line("cup"), line(on_short="cancel_line")]},
            "#/lines/1/unit_price_minor",
            "lines[1].unit_price_minor is null: give the price of a unit, or another on_short.",
        ),
        (
            {"lines": [line(unit_price_minor=600), line("cup", 1, unit_price_minor=51)]},
            "#/amount_minor",
            "amount_minor is 1250: it is less than the prices of the lines, 1251 in all; correct one",
        ),
        ({"promised_at": "2026-03-04"}, "#/promised_at", "use a time with its zone"),
        ({"holds": ["mood"]}, "#/holds/0", "use one of address, fraud, operator"),
        ({"holds": ["fraud", "fraud"]}, "#/holds", "name each hold once"),
    ],
)
def test_fault_in_what_was_agreed_is_named(change: dict[str, Any], pointer: str, told: str) -> None:
    """One error with its JSON pointer, the value and the remedy."""
    found = faults(**change)
    assert list(found) == [pointer]
    assert told in found[pointer]


def test_prices_may_add_up_to_the_amount() -> None:
    """And to less: there are costs that belong to no line."""
    parse(lines=[line(unit_price_minor=625)])
    parse(lines=[line(unit_price_minor=0, on_short="cancel_line")])


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"lines": [line(unit_price_minor=3)]}, "#/lines/0/unit_price_minor"),
        ({"lines": [line(on_short="wait")]}, "#/lines/0/on_short"),
        ({"promised_at": "2026-03-04T12:00:00Z"}, "#/promised_at"),
        ({"holds": ["fraud"]}, "#/holds"),
    ],
)
@pytest.mark.parametrize("name", sorted(set(DEFINITIONS) - set(keepers())))
def test_what_a_definition_does_not_keep_is_refused(name: str, change: dict[str, Any], pointer: str) -> None:
    """Nobody should believe that an earlier workflow waits or takes less money."""
    found = faults(definition=name, **change)
    assert list(found) == [pointer]
    assert f"{name} does not keep it; leave it out, or use definition {V2}" in found[pointer]


def test_body_without_the_later_fields_has_the_fingerprint_it_always_had() -> None:
    """A key from before still recognises its body; saying nothing in so many words is the same."""
    before = intent_body(definition="fulfillment.v1")
    text = json.dumps(before, sort_keys=True, separators=(",", ":"))
    plain = parse(definition="fulfillment.v1")
    assert plain.fingerprint() == hashlib.sha256(text.encode()).digest()
    silent = parse(
        definition="fulfillment.v1",
        lines=[line(unit_price_minor=None, on_short="cancel_order")],
        promised_at=None,
        holds=[],
    )
    assert silent.fingerprint() == plain.fingerprint()


def test_whatever_is_agreed_makes_another_fingerprint() -> None:
    """The order of holds does not."""
    bodies = [
        parse(),
        parse(lines=[line(unit_price_minor=0)]),
        parse(lines=[line(on_short="wait")]),
        parse(promised_at="2026-03-04T12:00:00Z"),
        parse(holds=["fraud"]),
        parse(holds=["fraud", "address"]),
    ]
    assert len({body.fingerprint() for body in bodies}) == len(bodies)
    assert parse(holds=["address", "fraud"]).fingerprint() == bodies[-1].fingerprint()
