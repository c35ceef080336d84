"""Intake's events: made of the rows alone, so that what is sent again is what was sent first."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from intents import intent_body

from fulcrum.saga import identity
from fulcrum.saga.decide import Decision, Duplicate, decide
from fulcrum.saga.messages import (
    CancelRequested,
    IntentCreated,
    LineTerms,
    OperatorRequested,
    SignalReceived,
)
from fulcrum.saga.run import Status
from fulcrum.web.reconciler import LONGEST_WAIT, wait_before
from fulcrum.web.stream import IntakeStream, intent_created, request_event
from fulcrum.wire.codec import offline_codec
from fulcrum.wire.topics import Topics

INTENT_ID = identity.intent_id("acme", "key-1")
WORKFLOW = identity.workflow_id(INTENT_ID)
INTENT: dict[str, Any] = {
    "workflow_id": WORKFLOW,
    "intent_id": INTENT_ID,
    **intent_body(lines=[{"sku": "tea-01", "quantity": 2}, {"sku": "cup", "quantity": 1}]),
    "definition": "fulfillment.v1",
    "correlation_id": "order-1",
    "accepted_at": datetime(2026, 3, 1, 12, 0, 0, 123457, tzinfo=UTC),
}
CANCELLATION: dict[str, Any] = {
    "workflow_id": WORKFLOW,
    "sequence": 2,
    "event_id": identity.cancel_id(WORKFLOW, "k", "ana", "changed my mind"),
    "verb": "cancel",
    "step": None,
    "result": None,
    "seconds": None,
    "reason": "changed my mind",
    "actor": "ana",
    "correlation_id": "call-2",
    "requested_at": datetime(2026, 3, 1, 12, 0, 1, tzinfo=UTC),
}


def stored(row: dict[str, Any]) -> dict[str, Any]:
    """The row after a database that keeps JSON and times in its own form."""
    return {
        name: json.loads(json.dumps(value)) if isinstance(value, list) else value
        for name, value in reversed(row.items())
    }


def test_same_row_gives_the_same_bytes_and_id() -> None:
    """Whatever is not in the row (the trace) is beside the message, not in it."""
    stream = IntakeStream(Topics("t"), offline_codec())
    first = stream.created(INTENT, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    again = stream.created(stored(INTENT))
    assert (again.event_id, again.topic, again.key, again.value) == (
        first.event_id,
        first.topic,
        first.key,
        first.value,
    )
    assert {**first.headers, "traceparent": ""} == {**again.headers, "traceparent": ""}


def test_cancellation_travels_behind_the_intent_under_its_key() -> None:
    """One topic and one key: Kafka keeps their order. Each has the correlation id of its own request."""
    stream = IntakeStream(Topics("t"), offline_codec())
    created, cancelled = stream.created(INTENT), stream.requested(CANCELLATION)
    assert (
        (cancelled.topic, cancelled.key) == (created.topic, created.key) == ("t.intents", WORKFLOW.encode())
    )
    assert cancelled.event_id == CANCELLATION["event_id"]
    assert cancelled.headers["fulcrum-correlation-id"] == "call-2"
    assert cancelled.headers["ce_type"] == "CancelRequested"


def test_request_says_what_its_verb_needs() -> None:
    """Every other verb travels as one event, with its arguments, in the place of a cancellation."""
    row = {**CANCELLATION, "verb": "skip", "step": "reserve_stock", "result": "{}", "seconds": None}
    event = request_event(row)
    assert isinstance(event, OperatorRequested)
    assert (event.verb, event.step, event.result, event.seconds) == ("skip", "reserve_stock", "{}", None)
    assert (event.sequence, event.actor, event.reason) == (2, "ana", "changed my mind")


def test_orchestrator_takes_the_two_in_a_row_and_repeats_as_repeats() -> None:
    """The numbers are those that the saga expects: the intent starts it, the cancellation undoes it."""
    created, cancelled = intent_created(INTENT), request_event(CANCELLATION)
    assert (type(created), type(cancelled)) == (IntentCreated, CancelRequested)
    started = decide(None, created)
    assert isinstance(started, Decision)
    undone = decide(started.run, cancelled)
    assert isinstance(undone, Decision)
    assert (undone.run.status, undone.run.reason) == (Status.COMPENSATING, "cancelled: changed my mind")
    for repeat in (created, cancelled):
        assert isinstance(decide(undone.run, repeat), Duplicate)


def test_request_to_cancel_is_named_by_its_key_or_by_who_says_what() -> None:
    """With a key the key alone counts; without one the actor and the reason do, each for itself."""
    name = identity.cancel_id
    assert name(WORKFLOW, "k", "ana", "x") == name(WORKFLOW, "k", "bo", "y")
    assert name(WORKFLOW, None, "ana", "x") == name(WORKFLOW, None, "ana", "x")
    others = [
        name(WORKFLOW, "k", "ana", "x"),
        name(WORKFLOW, "l", "ana", "x"),
        name(WORKFLOW, None, "ana", "x"),
        name(WORKFLOW, None, "bo", "x"),
        name(WORKFLOW, None, "ana", "y"),
        name(WORKFLOW, None, "a/b", "c"),
        name(WORKFLOW, None, "a", "b/c"),
        name(INTENT_ID, "k", "ana", "x"),
    ]
    assert len(set(others)) == len(others)


@pytest.mark.parametrize("grace", [timedelta(seconds=1), timedelta(seconds=60), timedelta(days=30_000)])
def test_waits_double_up_to_an_hour_or_the_grace(grace: timedelta) -> None:
    """The first is the grace; none is shorter than the one before; after any number it stays bounded."""
    waits = [wait_before(look, grace) for look in range(100)]
    assert waits[0] == grace
    assert waits == sorted(waits)
    assert all(after == 2 * before for before, after in pairwise(waits) if after < waits[-1])
    assert waits[-1] == max(grace, LONGEST_WAIT)
    assert wait_before(10**9, grace) == waits[-1]


def test_terms_of_the_row_are_those_of_the_event() -> None:
    """Line by line; a row from before there were any agrees on nothing."""
    agreed = {
        "terms": [{"unit_minor": 300, "on_short": "cancel_line"}, {"unit_minor": 0, "on_short": "wait"}],
        "promised_at": datetime(2026, 3, 4, tzinfo=UTC),
        "holds": ["address", "fraud"],
    }
    event = intent_created(stored(INTENT | agreed))
    assert event.terms == (LineTerms(300, "cancel_line"), LineTerms(0, "wait"))
    assert (event.promised_at, event.holds) == (agreed["promised_at"], ("address", "fraud"))
    before = intent_created(INTENT | dict.fromkeys(agreed))
    assert (before.terms, before.promised_at, before.holds) == ((), None, ())


def test_signal_travels_behind_the_intent_with_its_payload() -> None:
    """As an event of its own kind, whose id is that of the request."""
    row = {**CANCELLATION, "verb": "signal", "signal": "hold", "payload": '{"hold":"fraud"}'}
    event = request_event(row)
    assert isinstance(event, SignalReceived)
    assert (event.name, event.payload, event.actor) == ("hold", '{"hold":"fraud"}', "ana")
    assert (event.sequence, event.event_id) == (2, CANCELLATION["event_id"])
