"""How far an order has come in the customer's words, and how late it is."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from decisions import NOON, decision, step
from fulfilment import FORWARD, Fulfilment
from intents import intent_created

from fulcrum.agents import journal
from fulcrum.readmodel.milestones import late_by, milestones
from fulcrum.readmodel.projection import project, project_run, timestamp, to_json
from fulcrum.readmodel.view import Freshness, View, answer
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.messages import ParcelDelivered, ParcelNotDelivered, PaymentCaptured
from fulcrum.wire.codec import offline_codec

ORDER = ["accepted", "paid", "reserved", "packed", "shipped", "delivered"]
PROMISED = NOON + timedelta(days=1)


def shown(run: Fulfilment) -> dict[str, Any]:
    """The run as readers see it; which event came last is of no account."""
    place: dict[str, Any] = {"topic": "t", "partition": 0, "offset": 0}
    made = journal.record(run.decisions[-1], intent_created(), offline_codec().encode, **place)
    found: dict[str, Any] = json.loads(json.dumps(project(made).run))
    return found


def reached(run: Fulfilment) -> list[str]:
    """The milestones up to now."""
    return [name for name, at in milestones(shown(run)).items() if at is not None]


def test_every_milestone_is_reached_on_the_way() -> None:
    """In their order, each at the time at which its step was done."""
    assert reached(Fulfilment()) == ORDER[:1]
    assert reached(Fulfilment().through(PaymentCaptured)) == ORDER[:4]
    run = Fulfilment().through(FORWARD[-1])
    run.answer(ParcelDelivered)
    found = milestones(shown(run))
    assert list(found) == ORDER
    assert found["accepted"] == timestamp(run.run.started_at)
    assert found["packed"] == timestamp(run.step("pack_order").finished_at or NOON)
    assert found["delivered"] == timestamp(run.run.finished_at or NOON)


def test_what_is_undone_is_not_reached_any_more() -> None:
    """Who was given their money back has not paid, and what is written off is not shipped."""
    run = Fulfilment().through(FORWARD[-1])
    run.answer(ParcelNotDelivered, reason="lost", undamaged=False)
    undoing = {row.undo: row.undone for row in DEFINITIONS[run.run.definition].steps}
    while run.run.finished_at is None:
        answer_of_undo = undoing[type(run.asked)]
        assert answer_of_undo is not None
        run.answer(answer_of_undo)
    assert run.run.status == "cancelled"
    assert reached(run) == ["accepted"]


@pytest.mark.parametrize("name", sorted(DEFINITIONS))
def test_milestones_are_words_that_readers_know(name: str) -> None:
    """Each at one step at most."""
    named = [each.milestone for each in DEFINITIONS[name].steps if each.milestone is not None]
    assert set(named) <= set(ORDER[1:])
    assert len(set(named)) == len(named)


def run_row(status: str, delivered: timedelta | None = None, **changes: Any) -> dict[str, Any]:
    """A run of fulfillment.v2; ``delivered`` counts from the promise."""
    at = None if delivered is None else PROMISED + delivered
    steps = (step("deliver", status="requested" if at is None else "done", finished_at=at),)
    made = decision(
        status=status,
        definition="fulfillment.v2",
        steps=steps,
        finished_at=at,
        **{"promised_at": PROMISED, **changes},
    )
    return dict(project_run(made))


@pytest.mark.parametrize(
    ("run", "late"),
    [
        (run_row("running"), 60),
        (run_row("paused"), 60),
        (run_row("completed", timedelta(seconds=7.9)), 7),
        (run_row("completed", timedelta(hours=-1)), 0),
        (run_row("running", timedelta(seconds=9)), 9),
        (run_row("cancelled"), None),
        (run_row("terminated"), None),
        (run_row("running", promised_at=None), None),
    ],
)
def test_lateness_counts_against_the_delivery_or_now(run: dict[str, Any], late: int | None) -> None:
    """And not at all when nothing was promised, or nothing will arrive."""
    assert late_by(run, PROMISED + timedelta(seconds=60)) == late


def test_in_a_list_the_end_counts_as_the_delivery() -> None:
    """A list reads no steps."""
    run = run_row("completed", timedelta(seconds=30))
    del run["steps"]
    assert late_by(run, PROMISED + timedelta(days=9)) == 30


def test_early_is_in_time() -> None:
    """Before the promise nobody is late."""
    assert late_by(run_row("running"), NOON) == 0


def test_answer_tells_milestones_promise_and_holds() -> None:
    """Beside the run as it is stored."""
    made = decision(holds=("fraud",), promised_at=PROMISED, status="paused", intercept="changed their mind")
    view = View(made.workflow_id, 3, "paused", to_json(project_run(made)))
    told = json.loads(answer(view, Freshness("database", NOON), now=PROMISED + timedelta(seconds=5)))
    assert (told["late_by"], told["holds"], told["promised_at"]) == (5, ["fraud"], timestamp(PROMISED))
    assert told["intercept"] == "changed their mind"
    assert [each["name"] for each in told["milestones"]] == ["accepted", "paid", "reserved"]
    assert told["milestones"][1]["at"] == timestamp(NOON - timedelta(seconds=1))
