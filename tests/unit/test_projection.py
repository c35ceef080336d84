"""The projection: what a decision looks like to people."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from decisions import NOON, WORKFLOW, decision, step

from fulcrum.readmodel.projection import project, timestamp, to_json
from fulcrum.readmodel.view import Freshness, View, answer
from fulcrum.saga.messages import IssuedCommand
from fulcrum.telemetry.trace import new_traceparent
from fulcrum.web import answers


def test_run_holds_all_that_the_decision_says_of_it() -> None:
    """The row of the run is the view that the decision carries."""
    run = project(decision()).run
    assert run["workflow_id"] == WORKFLOW
    assert (run["status"], run["version"], run["definition"]) == ("completed", 3, "fulfillment.v1")
    assert run["lines"] == [{"sku": "tea-01", "quantity": 2}, {"sku": "cup", "quantity": 1}]
    assert run["started_at"] == "2026-03-01T11:59:58.000250Z"
    assert run["updated_at"] == "2026-03-01T12:00:00.000250Z"
    assert [s["name"] for s in run["steps"]] == ["authorize_payment", "reserve_stock"]


def test_entry_holds_cause_and_commands_without_their_bodies() -> None:
    """The timeline shows what happened and what was sent, not the encoded bytes."""
    command = IssuedCommand(
        command_id="c0ffee00-0000-5000-8000-000000000002",
        type="ReserveStock",
        service="inventory",
        step="reserve_stock",
        attempt=1,
        deadline_at=NOON + timedelta(seconds=30),
        body=b"\x00bytes",
    )
    entry = project(decision(2, status="running", commands=(command,))).entry
    assert entry["commands"] == [
        {
            "command_id": "c0ffee00-0000-5000-8000-000000000002",
            "type": "ReserveStock",
            "service": "inventory",
            "step": "reserve_stock",
            "attempt": 1,
            "deadline_at": "2026-03-01T12:00:30.000250Z",
        }
    ]
    assert entry["cause"]["topic"] == "fulcrum.inventory"
    assert (entry["cause"]["partition"], entry["cause"]["offset"]) == (4, 17)


def test_entry_names_who_asked_and_why() -> None:
    """A cancellation shows its actor in the cause and its reason; an event of a machine has no actor."""
    made = decision(4, status="compensating", reason="cancelled: called off")
    by_ana = replace(made, cause=replace(made.cause, type="CancelRequested", stream="intents", actor="ana"))
    entry = project(by_ana).entry
    assert (entry["cause"]["actor"], entry["reason"]) == ("ana", "cancelled: called off")
    assert project(made).entry["cause"]["actor"] is None


@pytest.mark.parametrize(
    ("traceparent", "shown"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "0af7651916cd43dd8448eb211c80319c"),
        ("garbage", None),
        (None, None),
    ],
)
def test_entry_names_the_trace_of_its_cause(traceparent: str | None, shown: str | None) -> None:
    """A trace can be looked up by its id; a header that is broken or missing names none."""
    made = decision()
    entry = project(replace(made, cause=replace(made.cause, traceparent=traceparent))).entry
    assert entry["cause"].get("trace_id") == shown


@pytest.mark.parametrize(
    ("status", "steps", "awaited"),
    [
        ("running", ("done", "requested"), "reserve_stock"),
        ("compensating", ("undo_requested", "refused"), "authorize_payment"),
        ("paused", ("done", "pending"), None),
        ("terminated", ("done", "requested"), None),
    ],
)
def test_run_names_the_step_that_it_waits_for(
    status: str, steps: tuple[str, str], awaited: str | None
) -> None:
    """The one whose command or undo is out; a run that has ended waits for nothing."""
    names = ("authorize_payment", "reserve_stock")
    told = tuple(step(name, status=each) for name, each in zip(names, steps, strict=True))
    assert project(decision(status=status, steps=told)).run["step"] == awaited


def test_step_shows_how_late_it_is_and_when_its_hold_lapses() -> None:
    """Both come from the decision; a step that nobody waits for has neither."""
    asked = step("authorize_payment", status="requested", late=2)
    held = step(expires_at=NOON + timedelta(minutes=15))
    steps = project(decision(steps=(asked, held))).run["steps"]
    assert [(s["late"], s["expires_at"]) for s in steps] == [(2, None), (0, "2026-03-01T12:15:00.000250Z")]


def test_projected_rows_have_the_documented_shape() -> None:
    """What is projected is what the API's document promises: no field less, none more."""
    operated = step(held=True, skipped_by="ana", result="{}", passed_over=True)
    made = decision(steps=(operated,), standing=(operated.name,))
    asked = {"actor": "ana", "verb": "skip", "reason": "because", "traceparent": new_traceparent()}
    rows = project(replace(made, cause=replace(made.cause, **asked)))
    assert set(rows.run["steps"][0]) == set(answers.Step.model_fields)
    told_with_the_timeline = {"answered", "since_command_ms", "since_previous_ms"}
    assert set(rows.entry) == set(answers.Entry.model_fields) - told_with_the_timeline
    assert set(rows.entry["cause"]) == set(answers.Cause.model_fields)


def test_what_no_operator_brought_about_is_left_out() -> None:
    """A row that was projected before operators could ask for anything is still the projection."""
    rows = project(decision())
    operated = {"held", "skipped_by", "result", "passed_over", "left_standing"}
    assert set(rows.run["steps"][0]) == set(answers.Step.model_fields) - operated
    assert set(rows.entry["cause"]) == set(answers.Cause.model_fields) - {"verb", "reason", "trace_id"}


def test_end_is_what_the_decision_says() -> None:
    """An operator may end a run long after its steps; older decisions do not say when."""
    ended = decision(4, status="terminated", finished_at=NOON + timedelta(hours=2))
    assert project(ended).run["finished_at"] == timestamp(NOON + timedelta(hours=2))


def test_running_workflow_is_not_finished() -> None:
    """Only a final status has an end."""
    assert project(decision(status="running")).run["finished_at"] is None
    assert project(decision(status="needs_attention")).run["finished_at"] is None


def test_end_stays_when_a_later_event_is_ignored() -> None:
    """A decision that only notes what it ignores does not move the end of a finished run."""
    end = project(decision()).run["finished_at"]
    late = decision(4, status_before="completed", ignored="late", decided_at=NOON + timedelta(days=1))
    assert project(late).run["finished_at"] == end == timestamp(NOON)
    assert project(late).run["updated_at"] == timestamp(NOON + timedelta(days=1))


def test_end_of_a_run_without_finished_steps_is_its_decision() -> None:
    """A run that ends before any step does has ended when that was decided."""
    assert project(decision(status="cancelled", steps=())).run["finished_at"] == timestamp(NOON)


def test_status_of_a_newer_release_is_shown_as_it_is() -> None:
    """A status unknown here is passed on and counts as not final."""
    run = project(decision(status="paused")).run
    assert (run["status"], run["finished_at"]) == ("paused", None)


@pytest.mark.parametrize(
    "moment",
    [NOON, NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))],
    ids=["utc", "elsewhere"],
)
def test_times_are_utc_and_of_one_width(moment: datetime) -> None:
    """Text of two times compares as the times do."""
    assert timestamp(moment) == "2026-03-01T12:00:00.000250Z"
    assert timestamp(moment) < timestamp(moment + timedelta(microseconds=1))
    assert len(timestamp(moment.replace(microsecond=0))) == len(timestamp(moment))


def view(version: int, *entries: int) -> View:
    """A view at ``version`` that has the given entries."""
    rows = project(decision(version))
    return View(
        WORKFLOW,
        version,
        "completed",
        to_json(rows.run),
        {n: to_json(project(decision(n)).entry) for n in entries},
    )


def test_answer_joins_run_timeline_and_freshness() -> None:
    """The parts, each JSON text already, make one JSON object, entries by version."""
    whole = json.loads(answer(view(3, 2, 1, 3), Freshness("cache", NOON)))
    assert whole["version"] == 3
    assert [entry["version"] for entry in whole["timeline"]] == [1, 2, 3]
    assert whole["freshness"] == {"source": "cache", "version": 3, "as_of": timestamp(NOON)}


def test_answer_leaves_out_entries_newer_than_the_run() -> None:
    """A timeline read a moment after its run does not run ahead of it."""
    whole = json.loads(answer(view(2, 1, 2, 3), Freshness("database", NOON)))
    assert [entry["version"] for entry in whole["timeline"]] == [1, 2]


def test_answer_of_an_empty_timeline_is_json() -> None:
    """An accepted intent has no timeline yet."""
    assert json.loads(answer(view(3), Freshness("intake", NOON)))["timeline"] == []


@pytest.mark.parametrize("attempts", [[], [{"attempt": 1, "error": 'a "quote"'}], None])
def test_answer_has_the_attempts(attempts: list[dict[str, object]] | None) -> None:
    """What the workers kept stands beside the timeline; null says that it is not known now."""
    assert json.loads(answer(view(1, 1), Freshness("cache", NOON), attempts))["attempts"] == attempts


def test_view_with_a_hole_is_not_complete() -> None:
    """Versions are dense, so a missing entry shows."""
    assert view(3, 1, 2, 3).complete
    assert not view(3, 1, 3).complete
    assert not view(3, 1, 2).complete
