"""May a run go on under another definition?"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from fulfilment import V2, Fulfilment

from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.messages import (
    OrderPacked,
    PaymentAuthorized,
    PaymentReversed,
    StockConsumed,
    StockReleased,
    StockReserved,
)
from fulcrum.saga.migrate import common
from fulcrum.saga.run import Status, StepStatus
from fulcrum.saga.step import Definition

FAR = "fulfillment.far"
SHORT = "fulfillment.short"
STEPS = DEFINITIONS[V2].steps


@pytest.fixture(autouse=True)
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two more definitions: one packs with more patience, one ends with the reservation."""
    packing = replace(STEPS[2], deadline=timedelta(days=1))
    monkeypatch.setitem(DEFINITIONS, FAR, Definition(FAR, (*STEPS[:2], packing, *STEPS[3:])))
    monkeypatch.setitem(DEFINITIONS, SHORT, Definition(SHORT, STEPS[:2]))


def to(name: str) -> str:
    """What the request says."""
    return json.dumps({"definition": name})


def test_a_run_before_the_first_difference_goes_on_under_the_new_definition() -> None:
    """What it has done stays; what it has not begun is asked for as the new rows say."""
    run = Fulfilment()
    run.answer(PaymentAuthorized)
    reserve = run.step("reserve_stock")
    moved = run.ask("migrate", result=to(FAR))
    assert (moved.ignored, moved.commands, moved.run.definition) == (None, (), FAR)
    assert moved.run.step("reserve_stock") == reserve
    run.answer(StockReserved)
    assert run.step("pack_order").deadline_at == run.run.updated_at + timedelta(days=1)
    run.answer(OrderPacked)
    assert run.names[-1] == "CapturePayment"


def test_a_run_past_the_first_difference_stays() -> None:
    """It has begun what the other definition does otherwise."""
    run = Fulfilment().through(StockReserved)
    refused = run.ask("migrate", result=to(FAR))
    assert (refused.ignored, refused.run.definition) == ("past_the_difference", V2)


def test_steps_may_be_fewer_and_more() -> None:
    """Pending steps are replaced, whatever their number."""
    run = Fulfilment()
    run.ask("migrate", result=to(SHORT))
    assert [step.name for step in run.run.steps] == ["authorize_payment", "reserve_stock"]
    run.ask("migrate", result=to(V2))
    assert [step.status for step in run.run.steps] == [StepStatus.REQUESTED, *[StepStatus.PENDING] * 7]


def test_a_run_moved_to_a_shorter_definition_completes_there() -> None:
    """Its last step is the run's."""
    run = Fulfilment()
    run.ask("migrate", result=to(SHORT))
    run.answer(PaymentAuthorized)
    assert run.answer(StockReserved).run.status == Status.COMPLETED


def test_a_moved_run_is_undone_as_any_other() -> None:
    """The rows of what it did are the same in both."""
    run = Fulfilment()
    run.answer(PaymentAuthorized)
    run.ask("migrate", result=to(FAR))
    run.cancel()
    run.answer(StockReleased)
    assert run.answer(PaymentReversed).run.status == Status.CANCELLED


def test_a_held_run_moves_and_stays_held() -> None:
    """The release asks for what the new definition says."""
    run = Fulfilment(holds=("fraud",))
    moved = run.ask("migrate", result=to(FAR))
    assert (moved.run.status, moved.run.holds, moved.run.definition) == (Status.PAUSED, ("fraud",), FAR)
    run.signal("release", '{"hold": "fraud"}')
    assert run.names == ["AuthorizePayment"]


@pytest.mark.parametrize("result", [None, "?", "[]", "{}", '{"definition": 2}'])
def test_a_request_that_names_no_definition_is_ignored(result: str | None) -> None:
    """With its reason."""
    assert Fulfilment().ask("migrate", result=result).ignored == "unusable_result"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fulfillment.v9", "unknown_definition"),
        (V2, "same_definition"),
        ("fulfillment.v1", "past_the_difference"),
    ],
)
def test_where_a_run_cannot_go(name: str, reason: str) -> None:
    """No such definition, its own, or one that begins otherwise."""
    assert Fulfilment().ask("migrate", result=to(name)).ignored == reason


def test_a_run_that_is_undone_stays() -> None:
    """It has no steps before it."""
    run = Fulfilment()
    run.cancel()
    assert run.ask("migrate", result=to(FAR)).ignored == "already_compensating"


@pytest.mark.parametrize("status", [status for status in Status if status.final])
def test_a_run_that_has_ended_stays(status: Status) -> None:
    """It is final under the definition it had."""
    run = Fulfilment().through(StockConsumed)
    run._run = replace(run.run, status=status)
    assert run.ask("migrate", result=to(FAR)).ignored == "already_final"


def test_the_steps_that_two_definitions_share() -> None:
    """Up to the first row that differs in anything."""
    assert common(DEFINITIONS[V2], DEFINITIONS[FAR]) == ("authorize_payment", "reserve_stock")
    assert common(DEFINITIONS[V2], DEFINITIONS["fulfillment.v1"]) == ()
    assert common(DEFINITIONS[SHORT], DEFINITIONS[V2]) == ("authorize_payment", "reserve_stock")
