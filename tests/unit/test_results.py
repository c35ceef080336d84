"""Can later commands be made of what a step yielded, or of what an operator gave in its place?"""

from __future__ import annotations

import json

import pytest
from fulfilment import ORDERED, Fulfilment

from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.messages import (
    Answer,
    CapturePayment,
    DeliveryCreated,
    HandOverParcel,
    Line,
    OrderPacked,
    ParcelHandedOver,
    PaymentAuthorized,
    PaymentCaptured,
    StockReserved,
)
from fulcrum.saga.run import Status, StepStatus
from fulcrum.saga.step import Definition, Kind

LINES = [{"sku": "tea-01", "quantity": 2}]


@pytest.mark.parametrize("definition", DEFINITIONS.values(), ids=lambda each: each.name)
def test_every_field_that_is_filled_in_is_yielded_before(definition: Definition) -> None:
    """Commands are made of the intent and of earlier answers only; an undo may look at later ones."""
    names = [step.name for step in definition.steps]
    for step in definition.steps:
        for field, fill in step.fills.items():
            row = definition.step(fill.step)
            assert fill.field in row.yields
            assert field in {
                name for kind in (step.do, step.undo) if kind for name in kind.__dataclass_fields__
            }
            assert not fill.needed or names.index(fill.step) < names.index(step.name)


@pytest.mark.parametrize("definition", DEFINITIONS.values(), ids=lambda each: each.name)
def test_every_step_behind_the_pivot_is_retriable(definition: Definition) -> None:
    """Silence there must not undo what cannot be taken back."""
    kinds = [step.kind for step in definition.steps]
    if Kind.PIVOT in kinds:
        pivot = kinds.index(Kind.PIVOT)
        assert kinds[pivot + 1 :] == [Kind.RETRIABLE] * (len(kinds) - pivot - 1)
        assert set(kinds[:pivot]) == {Kind.COMPENSATABLE}


@pytest.mark.parametrize("definition", DEFINITIONS.values(), ids=lambda each: each.name)
def test_whatever_is_kept_belongs_to_an_earlier_step_with_an_undo(definition: Definition) -> None:
    """Undoing that one undoes the keeper."""
    for number, step in enumerate(definition.steps):
        if step.keeps is not None:
            assert step.undo is None
            assert definition.step(step.keeps) in definition.steps[:number]
            assert definition.step(step.keeps).undo is not None
        assert not step.intercepts or (step.undo and step.undone and step.undo_refused)


def test_a_skipped_pack_job_says_what_was_packed() -> None:
    """The capture and the delivery go by it, and a late answer changes neither."""
    run = Fulfilment().through(StockReserved)
    pack = run.asked
    run.ask("skip", result=json.dumps({"lines": LINES, "parcels": 2}))
    capture = run.asked
    assert isinstance(capture, CapturePayment)
    assert capture.amount_minor == 1350 - 250
    run.answer(OrderPacked, pack, lines=ORDERED)
    assert run.step("pack_order").status == StepStatus.DONE
    run.fire()
    run.ask("retry")
    assert run.answer(PaymentCaptured, capture).commands[0].lines == (Line("tea-01", 2),)  # type: ignore[attr-defined]


def test_a_skipped_delivery_gives_its_tracking_number() -> None:
    """The warehouse hands the parcel over under it."""
    run = Fulfilment().through(PaymentCaptured)
    run.ask("skip", result='{"tracking_number": "T9"}')
    assert isinstance(run.asked, HandOverParcel)
    assert run.asked.tracking_number == "T9"


@pytest.mark.parametrize(
    ("last", "result"),
    [
        (StockReserved, None),
        (StockReserved, "{}"),
        (StockReserved, json.dumps({"lines": LINES})),
        (StockReserved, '{"parcels": 1}'),
        (PaymentCaptured, None),
        (PaymentCaptured, '{"delivery_id": "d"}'),
    ],
)
def test_a_skip_that_leaves_later_commands_unmade_is_refused(last: type[Answer], result: str | None) -> None:
    """Whoever skips must say what the rest of the run goes by."""
    run = Fulfilment().through(last)
    before = run.run.steps
    refused = run.ask("skip", result=result)
    assert (refused.ignored, refused.commands) == ("incomplete_result", ())
    assert run.run.steps == before


@pytest.mark.parametrize(
    "given",
    [
        {"lines": [], "parcels": 1},
        {"lines": "all", "parcels": 1},
        {"lines": [{"sku": "tea-01"}], "parcels": 1},
        {"lines": [{"sku": "tea-01", "quantity": 0}], "parcels": 1},
        {"lines": [{"sku": "tea-01", "quantity": True}], "parcels": 1},
        {"lines": [{"sku": "tea-01", "quantity": 3}], "parcels": 1},
        {"lines": [{"sku": "coal", "quantity": 1}], "parcels": 1},
        {"lines": [*LINES, *LINES], "parcels": 1},
        {"lines": LINES, "parcels": 0},
        {"lines": LINES, "parcels": "two"},
        {"lines": LINES, "parcels": 1, "colour": "red"},
    ],
)
def test_a_skip_with_what_cannot_have_been_packed_is_refused(given: dict[str, object]) -> None:
    """No part of the order, or no number."""
    run = Fulfilment().through(StockReserved)
    assert run.ask("skip", result=json.dumps(given)).ignored == "unusable_result"


@pytest.mark.parametrize("number", ["", 7, None])
def test_a_tracking_number_is_a_text(number: object) -> None:
    """The warehouse would print it."""
    run = Fulfilment().through(PaymentCaptured)
    assert run.ask("skip", result=json.dumps({"tracking_number": number})).ignored == "unusable_result"


@pytest.mark.parametrize("last", [PaymentAuthorized, OrderPacked, DeliveryCreated, ParcelHandedOver])
def test_steps_that_yield_nothing_needed_can_be_skipped_without_a_word(last: type[Answer]) -> None:
    """As ever."""
    run = Fulfilment().through(last)
    assert run.ask("skip").ignored is None
    assert run.run.status == Status.RUNNING
