"""Does a dry run tell what the orchestrator would decide? The two are compared, state by state."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest
from fulfilment import Fulfilment
from hypothesis import example, given, settings
from hypothesis import strategies as st
from intents import INTENT_ID, WORKFLOW, intent_body, intent_created
from test_decide import START
from test_verbs import Operated

from fulcrum.agents import journal
from fulcrum.readmodel.projection import project
from fulcrum.saga.decide import Decision, decide
from fulcrum.saga.messages import (
    Event,
    PaymentAuthorized,
    PaymentDeclined,
    PaymentNotFound,
    PaymentVoided,
    StockConfirmed,
    StockNotConfirmed,
    StockRejected,
    StockReleased,
    StockReserved,
)
from fulcrum.saga.run import Status
from fulcrum.saga.signals import HOLDS, SIGNALS
from fulcrum.saga.verbs import Verb
from fulcrum.web.rehearsal import rehearse, run_of
from fulcrum.web.stream import request_event
from fulcrum.web.workflows import accepted_view
from fulcrum.wire.codec import offline_codec

CODEC = offline_codec()
NOW = START + timedelta(hours=1)
STEPS = (None, "authorize_payment", "reserve_stock", "confirm_stock")
ANSWERS: dict[str, tuple[type[Event], ...]] = {
    "AuthorizePayment": (PaymentAuthorized, PaymentDeclined),
    "QueryPayment": (PaymentNotFound,),
    "ReserveStock": (StockReserved, StockRejected),
    "HoldStock": (StockReserved, StockRejected),
    "ConfirmStock": (StockConfirmed, StockNotConfirmed),
    "VoidPayment": (PaymentVoided,),
    "ReleaseStock": (StockReleased,),
}
WISHES: list[dict[str, Any]] = [
    {"verb": verb, "step": step, "reason": "x", "actor": "ana", "result": None, "seconds": seconds}
    for verb, seconds in [*((verb, None) for verb in Verb), (Verb.EXTEND, 7200), ("cancel", None)]
    for step in STEPS
]
WISHES += [
    {"verb": "signal", "signal": signal, "payload": f'{{"hold":"{hold}"}}', "reason": "x", "actor": "ana"}
    for signal in SIGNALS
    for hold in HOLDS
]


def intent_row(definition: str) -> dict[str, Any]:
    """Intake's row of the intent."""
    return {
        **intent_body(),
        "workflow_id": WORKFLOW,
        "intent_id": INTENT_ID,
        "definition": definition,
        "correlation_id": "order-1",
        "accepted_at": START,
    }


def shown(decision: Decision, event: Event) -> dict[str, Any]:
    """The run as readers see it after ``decision``."""
    made = journal.record(decision, event, CODEC.encode, topic="t", partition=0, offset=0)
    run: dict[str, Any] = json.loads(json.dumps(project(made).run))
    return run


def told(decision: Decision) -> dict[str, Any]:
    """What a dry run says of a decision."""
    run = decision.run
    return {
        "ignored": decision.ignored,
        "status": (decision.status_before, run.status),
        "step": decision.step,
        "commands": [(type(c).__name__, c.step, c.attempt, c.command_id) for c in decision.commands],
        "steps": [(s.name, s.status, s.attempt, s.held, s.deadline_at, s.skipped_by) for s in run.steps],
        "undo": (run.undo_from, run.reason),
        "held": run.held_by,
    }


class Watched(Operated):
    """A run that is shown after each event."""

    def feed(self, event: Event) -> Decision:
        """Decide, and remember how it looks."""
        decision = super().feed(event)
        self.shown = shown(decision, event)
        return decision


Happening = tuple[str, Any]
HAPPENINGS = st.one_of(
    st.tuples(st.just("answer"), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from([1, 10])),
    st.tuples(st.just("ask"), st.tuples(st.sampled_from(list(Verb)), st.sampled_from(STEPS))),
)
#: The payment is given back and the stock is passed over, at first unanswered.
PASSED_OVER = [("answer", True), ("ask", (Verb.COMPENSATE, "authorize_payment"))]


def move(run: Watched, happening: Happening) -> None:
    """Something happens to the run: an answer, deadlines, a request."""
    what, how = happening
    if what == "answer":
        kinds = ANSWERS[type(run.asked).__name__]
        run.answer(kinds[0 if how else -1])
    elif what == "ask":
        verb, step = how
        run.ask(verb, step=step, seconds=60, occurred_at=START)
    for _ in range(how if what == "wait" else 0):
        waiting = [step.name for step in run.state.steps if step.deadline_at is not None]
        if waiting:
            run.deadline(waiting[0])


@settings(max_examples=100, deadline=None)
@given(happenings=st.lists(HAPPENINGS, max_size=8))
@example(happenings=PASSED_OVER)
@example(happenings=[*PASSED_OVER, ("answer", True)])
@example(happenings=[*PASSED_OVER, ("ask", (Verb.PAUSE, None)), ("answer", True)])
@pytest.mark.parametrize("definition", ["fulfillment.v1", "reserve_first.v1", "reserve_first.v2"])
def test_a_rehearsal_says_what_the_rules_will_say(definition: str, happenings: list[Happening]) -> None:
    """For every verb and step, in whatever state the run has come to: same outcome, same commands."""
    run = Watched(definition)
    for happening in happenings:
        move(run, happening)
    for wish in WISHES:
        event = request_event(
            {
                **wish,
                "event_id": "e",
                "workflow_id": run.state.workflow_id,
                "sequence": run.state.seen["intents"] + 1,
                "requested_at": NOW,
            }
        )
        decided = decide(run.state, event)
        assert isinstance(decided, Decision)
        assert told(rehearse(intent_row(definition), run.shown, wish, NOW)) == told(decided), wish


def test_a_rehearsal_before_the_first_decision_counts_on_it() -> None:
    """The intent comes first on its stream, whatever is asked."""
    view = accepted_view(intent_row("fulfillment.v1"))
    decision = rehearse(intent_row("fulfillment.v1"), json.loads(view.run), WISHES[0], NOW)
    assert (decision.run.version, [type(c).__name__ for c in decision.commands]) == (2, ["QueryPayment"])


@pytest.mark.parametrize("holds", [(), ("fraud",), ("address", "fraud"), ("fraud", "operator")])
def test_a_rehearsal_knows_what_holds_a_run(holds: tuple[str, ...]) -> None:
    """A release of one of several is no resume, and nothing is held twice or released in vain."""
    run = Fulfilment(holds=holds)
    row = intent_row("fulfillment.v2") | {"holds": list(holds)}
    seen = shown(run.decisions[-1], run.run.intent)
    for wish in WISHES:
        common = {"event_id": "e", "workflow_id": WORKFLOW, "sequence": 2, "requested_at": NOW}
        decided = decide(run.run, request_event({**wish, **common}))
        assert isinstance(decided, Decision)
        forecast = rehearse(row, seen, wish, NOW)
        assert (forecast.ignored, forecast.run.status, forecast.run.held_by) == (
            decided.ignored, decided.run.status, decided.run.held_by,
        ), wish  # fmt: skip


def test_the_state_that_is_made_again_has_what_was_shown() -> None:
    """Nothing that readers see is lost on the way back."""
    run = Watched()
    run.ask("pause")
    run.answer(PaymentAuthorized, expires_at=NOW)
    again = run_of(intent_row("fulfillment.v1"), run.shown)
    assert (again.status, again.paused_from) == (Status.PAUSED, Status.RUNNING)
    known = [{**asdict(step), "requested_at": None} for step in run.state.steps]
    assert [asdict(step) for step in again.steps] == known
    assert again.intent == intent_created(occurred_at=START)
