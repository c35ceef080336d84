"""What does a workflow wait for? The sentence for every status, step and attempt, and its parts.

``golden/why.txt`` holds the sentences; ``python tests/unit/test_why.py`` writes it anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from waits import COMMAND, NOON, at, attempt, entry, parked, run, step

from fulcrum.readmodel.awaited import awaited
from fulcrum.readmodel.projection import FINAL
from fulcrum.readmodel.why import Facts, Why, moment, why
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.run import Status, StepStatus

GOLDEN = Path(__file__).parent / "golden" / "why.txt"
TRIES = {"AuthorizePayment": 7, "ReserveStock": 7, "VoidPayment": 11}
STATUSES = ("accepted", *Status)
ATTEMPTS: dict[str, dict[str, Any]] = {
    "untried": {},
    "retried": {"outcome": "retried"},
    "parked": {"outcome": "parked"},
    "succeeded": {"outcome": "succeeded"},
}


def told(*, status: str = "running", steps: Any = (), **facts: Any) -> Why:
    """Why a workflow with these steps waits."""
    shown = run(status, *steps, **facts.pop("changes", {}))
    return why(Facts(now=NOON, run=shown, tries=TRIES, **facts))


def every_case() -> Iterator[str]:
    """A line for each status, status of the first step, and outcome of its last attempt."""
    for status in STATUSES:
        for stands in StepStatus:
            for name, given in ATTEMPTS.items():
                undoing = stands == StepStatus.UNDO_REQUESTED
                kind = "VoidPayment" if undoing else "AuthorizePayment"
                tried = (attempt(type=kind, **given),) if given else ()
                held = (parked(type=kind),) if name == "parked" else ()
                seen = told(status=status, steps=(step(status=stands),), attempts=tried, parked=held)
                yield f"{status} / {stands} / {name}: {seen.sentence}"


def test_sentences_are_the_golden_ones() -> None:
    """Every status, with every status of its step and every outcome of the last attempt."""
    assert list(every_case()) == GOLDEN.read_text().splitlines()


@pytest.mark.parametrize("status", STATUSES)
def test_only_what_is_finished_waits_for_nothing(status: str) -> None:
    """Whatever is not finished says what it waits for, since when, and what happens next."""
    seen = told(status=status)
    finished = status in FINAL
    assert (seen.waits_for is None) == finished
    assert seen.since is not None
    assert (seen.next is None) == finished


def test_a_retry_with_its_error_and_the_others() -> None:
    """The number of the next attempt, when it is due, the last error, and how many wait for the same."""
    seen = told(attempts=(attempt(1), attempt(2)), others=211)
    assert seen.sentence == (
        "waiting on PaymentAuthorized; attempt 3 of 7 due 12:00:05Z; last error HTTP 503; "
        "211 others wait for the same"
    )
    assert (seen.next, seen.due) == ("attempt 3 of AuthorizePayment", moment(at(5)))
    assert (seen.step, seen.command, seen.others) == ("authorize_payment", "AuthorizePayment", 211)


def test_a_deadline_that_comes_before_the_retry_is_next() -> None:
    """What happens first is what happens next."""
    seen = told(attempts=(attempt(next_due=at(600)),))
    assert (seen.next, seen.due) == ("QueryPayment is sent", moment(at(60)))
    assert "attempt 3 of 7 due 12:10:00Z" in seen.sentence


def test_times_of_another_day_have_their_day() -> None:
    """A retry of tomorrow is not mistaken for one of today."""
    assert "due 2026-03-02 12:00:00Z" in told(attempts=(attempt(next_due=at(86400)),)).sentence


def test_what_is_overdue_is_told_as_past() -> None:
    """Neither an attempt nor an answer that is late is announced."""
    late = step(deadline_at=at(-20), late=2)
    assert told(steps=(late,)).sentence == (
        "waiting on PaymentAuthorized; answer was due 11:59:40Z; 2 deadlines passed"
    )
    seen = told(attempts=(attempt(next_due=at(-10)),))
    assert "was due 11:59:50Z" in seen.sentence
    assert (seen.next, seen.due) == ("QueryPayment is sent", moment(at(60)))


@pytest.mark.parametrize(
    ("name", "late", "undoing", "expected"),
    [
        ("authorize_payment", 0, False, "QueryPayment is sent"),
        ("reserve_stock", 0, False, "ReserveStock is sent again"),
        ("reserve_stock", 9, False, "the step counts as failed and is undone"),
        ("authorize_payment", 0, True, "VoidPayment is sent again"),
        ("authorize_payment", 9, True, "it needs attention"),
    ],
)
def test_what_the_deadline_will_bring(name: str, late: int, undoing: bool, expected: str) -> None:
    """As the saga decides it: ask, send again, give up."""
    status = "undo_requested" if undoing else "requested"
    seen = told(status="compensating" if undoing else "running", steps=(step(name, status, late=late),))
    assert seen.next == expected


def test_since_is_when_the_command_first_left() -> None:
    """A repeat of the command does not count, another step's command neither."""
    sent = {"command_id": COMMAND, "type": "AuthorizePayment", "step": "authorize_payment"}
    entries = (
        entry(1, "running", None, -9, commands=[sent]),
        entry(2, "running", "running", -2, commands=[sent]),
    )
    assert told(entries=entries).since == moment(at(-9))


def test_since_without_a_timeline_is_when_the_step_before_ended() -> None:
    """As the detector sees it, which reads no timelines."""
    steps = (step(status="done"), step("reserve_stock"))
    assert told(steps=steps).since == moment(at(-5))
    assert told().since == moment(at(-10))


def test_a_pause_names_who_paused_and_what_is_held() -> None:
    """The command that a resume sends."""
    by_ana = entry(2, "paused", "running", -8)
    by_ana["cause"] |= {"actor": "ana", "verb": "pause"}
    held = (step(status="done"), step("reserve_stock", held=True, deadline_at=None))
    seen = told(status="paused", steps=held, entries=(by_ana,))
    assert seen.sentence == "paused by ana; ReserveStock is held back; nothing leaves until it is resumed"
    assert (seen.since, seen.waits_for) == (moment(at(-8)), "a person")


def test_an_undo_that_was_given_up_waits_for_a_person() -> None:
    """It says what was not answered and what can still move it."""
    given_up = step(status="undo_requested", late=10, deadline_at=None, reason="undo_not_answered")
    seen = told(
        status="needs_attention", steps=(given_up,), attempts=(attempt(type="VoidPayment", error="refused"),)
    )
    assert seen.sentence == (
        "VoidPayment was not answered within 10 deadlines; last error refused; "
        "only PaymentVoided or a person moves it"
    )
    assert seen.next == "a person mends the cause and retries"


def test_a_step_that_was_passed_over_is_for_a_person_to_settle() -> None:
    """A forced compensation left it as it is."""
    steps = (step(status="undone"), step("reserve_stock", "done", passed_over=True))
    assert told(status="needs_attention", steps=steps).sentence == (
        "reserve_stock was passed over and may stand; a person must settle it"
    )


def test_a_request_that_is_not_decided_is_told() -> None:
    """An operator sees that the wish has not been taken up."""
    asked = ({"verb": "retry", "actor": "ana", "requested_at": NOON},)
    assert told(requests=asked).sentence.endswith("; retry asked by ana is not decided yet")


def test_a_terminated_workflow_says_what_stands() -> None:
    """Nothing is awaited, and the effect is named."""
    left = step(status="done", left_standing=True)
    assert told(status="terminated", steps=(left,)).sentence == (
        "terminated; authorize_payment may stand; nothing is awaited"
    )


def test_a_late_effect_of_a_finished_workflow_is_still_undone() -> None:
    """The end is told, and what goes on behind it."""
    seen = told(status="cancelled", steps=(step(status="undo_requested"),))
    assert seen.sentence.startswith("cancelled; a late effect: undoing authorize_payment: waiting on")
    assert seen.waits_for == "PaymentVoided"


def test_a_parked_event_holds_any_step_up() -> None:
    """Later events of the workflow are refused behind it."""
    event = parked(service="events", type="PaymentAuthorized", error="gap in stream payments")
    seen = told(parked=(event,))
    assert "PaymentAuthorized is parked (rejected): gap in stream payments" in seen.sentence


def test_a_long_error_is_cut() -> None:
    """A sentence is no place for a traceback."""
    seen = told(attempts=(attempt(error="x\n" * 500),))
    assert len(seen.sentence) < 300


def test_a_definition_of_a_newer_version_is_no_error() -> None:
    """The run is shown, although nobody here knows its steps."""
    seen = told(changes={"definition": "fulfillment.v99"})
    assert seen.sentence == "no answer is awaited and nothing is scheduled; a person must look"


def shipped(name: str, status: str = "requested", **changes: Any) -> dict[str, Any]:
    """What differs in a run of the whole fulfilment that is at ``name``."""
    run_changes = changes.pop("run", {})
    return {"definition": "fulfillment.v2", "steps": [step(name, status, **changes)], **run_changes}


@pytest.mark.parametrize(("until", "told_so"), [(3600, "waits"), (-60, "waited")])
def test_a_wait_for_goods_says_until_when(until: int, told_so: str) -> None:
    """The warehouse told so, and the deadline lies behind it."""
    result = json.dumps({"waits_until": at(until)})
    clock = "13:00:00Z" if until > 0 else "11:59:00Z"
    seen = told(changes=shipped("pack_order", reason="short", result=result, deadline_at=at(5400)))
    assert seen.sentence == (
        f"waiting on OrderPacked; goods are short; {told_so} for them until {clock}; answer due 13:30:00Z"
    )


def test_a_parcel_that_is_delayed_says_why() -> None:
    """The courier's own word; no deadline turns the run round."""
    seen = told(changes=shipped("deliver", reason="weather", late=30, result='{"reason": "weather"}'))
    assert "deliver is delayed: weather" in seen.sentence
    assert seen.next == "TrackDelivery is sent again"


def test_a_cancellation_that_is_not_answered_is_told() -> None:
    """The run goes on meanwhile, and waits for its parcel."""
    stop = {"intercept": "cancelled: changed their mind"}
    seen = told(changes=shipped("deliver", run=stop))
    assert seen.waits_for == "ParcelDelivered"
    assert seen.sentence.endswith(
        "cancelled: changed their mind; the parcel is to be stopped, and that is not answered yet"
    )


def test_an_undo_that_was_refused_is_told_as_refused() -> None:
    """With what the service said; only a person moves the run."""
    given = {"reason": "undo_refused: card_closed", "late": 10, "deadline_at": None}
    seen = told(status="needs_attention", changes=shipped("authorize_payment", "undo_requested", **given))
    assert (
        seen.sentence == "ReversePayment was refused: card_closed; only PaymentReversed or a person moves it"
    )
    assert seen.next == "a person mends the cause and retries"


@pytest.mark.parametrize("definition", sorted(DEFINITIONS))
def test_every_step_of_every_definition_has_its_answer(definition: str) -> None:
    """Asked for or undone, the event that moves the run on is named."""
    for row in DEFINITIONS[definition].steps:
        asked = run("running", definition=definition, steps=[step(row.name)])
        assert (found := awaited(asked)) is not None
        assert found.event == row.done.__name__
        if row.undo is not None:
            undone = run("compensating", definition=definition, steps=[step(row.name, "undo_requested")])
            assert (found := awaited(undone)) is not None
            assert found.commands == (row.undo.__name__,)


if __name__ == "__main__":
    GOLDEN.write_text("".join(f"{line}\n" for line in every_case()))
