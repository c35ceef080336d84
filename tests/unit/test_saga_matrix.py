"""What does every event do in every state? The table is the specification; the code is held against it.

What is not in the table is ignored, with the reason that the last test spells out. The steps before the one
that is looked at are done, those behind it are pending, and every time in the state has come. A paused run
was running, or was undoing when its step is refused or has an undo.

The table of the whole fulfilment lies in ``golden/fulfillment_v2.json``.

Long, because it is one table: every status of the run by every status of the step.
"""

from __future__ import annotations

import json
from functools import cache
from itertools import product
from pathlib import Path

import pytest

from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.describe import Matrix, events_of, intercept_matrix, matrix, name_of, outcome
from fulcrum.saga.describe import _run as run_at
from fulcrum.saga.messages import EVENTS, Answer
from fulcrum.saga.run import Status, StepStatus
from fulcrum.saga.step import Definition, Step

DEFINITION = DEFINITIONS["fulfillment.v1"]

#: step -> (run status, step status) -> event -> what it does
ACTS: dict[str, dict[tuple[str, str], dict[str, str]]] = {
    "authorize_payment": {
        ("running", "pending"): {
            "CancelRequested": "cancelled",
            "pause": "paused",
            "compensate": "cancelled",
            "terminate": "terminated",
        },
        ("running", "requested"): {
            "PaymentAuthorized": "send ReserveStock",
            "PaymentDeclined": "cancelled",
            "PaymentNotFound": "send AuthorizePayment",
            "DeadlinePassed": "send QueryPayment",
            "CancelRequested": "compensating, send VoidPayment",
            "retry": "send QueryPayment",
            "skip": "send ReserveStock",
            "pause": "paused",
            "compensate": "compensating, send VoidPayment",
            "extend": "step requested",
            "terminate": "terminated",
        },
        ("running", "done"): {
            "HoldExpired": "compensating, send VoidPayment",
            "CancelRequested": "compensating, send VoidPayment",
            "pause": "paused",
            "compensate": "compensating, send VoidPayment",
            "terminate": "terminated",
        },
        ("running", "refused"): {
            "CancelRequested": "cancelled",
            "pause": "paused",
            "compensate": "cancelled",
            "terminate": "terminated",
        },
        ("running", "undo_requested"): {
            "PaymentVoided": "step undone",
            "DeadlinePassed": "send VoidPayment",
            "CancelRequested": "step undo_requested",
            "retry": "send VoidPayment",
            "skip": "step undone",
            "pause": "paused",
            "compensate": "step undo_requested",
            "extend": "step undo_requested",
            "terminate": "terminated",
        },
        ("running", "undone"): {
            "CancelRequested": "cancelled",
            "pause": "paused",
            "compensate": "cancelled",
            "terminate": "terminated",
        },
        ("running", "skipped"): {
            "PaymentAuthorized": "step done",
            "HoldExpired": "compensating, send VoidPayment",
            "CancelRequested": "compensating, send VoidPayment",
            "pause": "paused",
            "compensate": "compensating, send VoidPayment",
            "terminate": "terminated",
        },
        ("compensating", "pending"): {
            "pause": "paused",
            "compensate": "cancelled",
            "terminate": "terminated",
        },
        ("compensating", "requested"): {
            "PaymentAuthorized": "step done",
            "PaymentDeclined": "cancelled",
            "pause": "paused",
            "compensate": "send VoidPayment",
            "terminate": "terminated",
        },
        ("compensating", "done"): {
            "pause": "paused",
            "compensate": "send VoidPayment",
            "terminate": "terminated",
        },
        ("compensating", "refused"): {
            "PaymentAuthorized": "send VoidPayment",
            "pause": "paused",
            "compensate": "cancelled",
            "terminate": "terminated",
        },
        ("compensating", "undo_requested"): {
            "PaymentVoided": "cancelled",
            "DeadlinePassed": "send VoidPayment",
            "retry": "send VoidPayment",
            "skip": "cancelled",
            "pause": "paused",
            "extend": "step undo_requested",
            "terminate": "terminated",
        },
        ("compensating", "undone"): {
            "PaymentAuthorized": "send VoidPayment",
            "pause": "paused",
            "compensate": "cancelled",
            "terminate": "terminated",
        },
        ("compensating", "skipped"): {
            "PaymentAuthorized": "step done",
            "pause": "paused",
            "compensate": "send VoidPayment",
            "terminate": "terminated",
        },
        ("needs_attention", "pending"): {
            "pause": "paused",
            "compensate": "cancelled",
            "terminate": "terminated",
        },
        ("needs_attention", "requested"): {
            "PaymentAuthorized": "step done",
            "PaymentDeclined": "cancelled",
            "pause": "paused",
            "compensate": "compensating, send VoidPayment",
            "terminate": "terminated",
        },
        ("needs_attention", "done"): {
            "pause": "paused",
            "compensate": "compensating, send VoidPayment",
            "terminate": "terminated",
        },
        ("needs_attention", "refused"): {
            "PaymentAuthorized": "send VoidPayment",
            "pause": "paused",
            "compensate": "cancelled",
            "terminate": "terminated",
        },
        ("needs_attention", "undo_requested"): {
            "PaymentVoided": "cancelled",
            "DeadlinePassed": "send VoidPayment",
            "retry": "compensating, send VoidPayment",
            "skip": "cancelled",
            "pause": "paused",
            "extend": "step undo_requested",
            "terminate": "terminated",
        },
        ("needs_attention", "undone"): {
            "PaymentAuthorized": "send VoidPayment",
            "pause": "paused",
            "compensate": "cancelled",
            "terminate": "terminated",
        },
        ("needs_attention", "skipped"): {
            "PaymentAuthorized": "step done",
            "pause": "paused",
            "compensate": "compensating, send VoidPayment",
            "terminate": "terminated",
        },
        ("completed", "pending"): {
            "RetentionPassed": "forget the run",
        },
        ("completed", "requested"): {
            "RetentionPassed": "forget the run",
        },
        ("completed", "done"): {
            "RetentionPassed": "forget the run",
        },
        ("completed", "refused"): {
            "PaymentAuthorized": "send VoidPayment",
            "RetentionPassed": "forget the run",
        },
        ("completed", "undo_requested"): {
            "PaymentVoided": "step undone",
            "DeadlinePassed": "send VoidPayment",
            "retry": "send VoidPayment",
            "skip": "step undone",
            "extend": "step undo_requested",
        },
        ("completed", "undone"): {
            "PaymentAuthorized": "send VoidPayment",
            "RetentionPassed": "forget the run",
        },
        ("completed", "skipped"): {
            "PaymentAuthorized": "step done",
            "RetentionPassed": "forget the run",
        },
        ("cancelled", "pending"): {
            "RetentionPassed": "forget the run",
        },
        ("cancelled", "requested"): {
            "RetentionPassed": "forget the run",
        },
        ("cancelled", "done"): {
            "RetentionPassed": "forget the run",
        },
        ("cancelled", "refused"): {
            "PaymentAuthorized": "send VoidPayment",
            "RetentionPassed": "forget the run",
        },
        ("cancelled", "undo_requested"): {
            "PaymentVoided": "step undone",
            "DeadlinePassed": "send VoidPayment",
            "retry": "send VoidPayment",
            "skip": "step undone",
            "extend": "step undo_requested",
        },
        ("cancelled", "undone"): {
            "PaymentAuthorized": "send VoidPayment",
            "RetentionPassed": "forget the run",
        },
        ("cancelled", "skipped"): {
            "PaymentAuthorized": "step done",
            "RetentionPassed": "forget the run",
        },
        ("paused", "pending"): {
            "CancelRequested": "cancelled",
            "resume": "running",
            "compensate": "cancelled",
            "terminate": "terminated",
        },
        ("paused", "requested"): {
            "PaymentAuthorized": "hold reserve_stock",
            "PaymentDeclined": "cancelled",
            "PaymentNotFound": "hold authorize_payment",
            "CancelRequested": "hold authorize_payment",
            "skip": "hold reserve_stock",
            "resume": "running",
            "compensate": "hold authorize_payment",
            "terminate": "terminated",
        },
        ("paused", "done"): {
            "HoldExpired": "hold authorize_payment",
            "CancelRequested": "hold authorize_payment",
            "resume": "running",
            "compensate": "hold authorize_payment",
            "terminate": "terminated",
        },
        ("paused", "refused"): {
            "PaymentAuthorized": "hold authorize_payment",
            "resume": "compensating",
            "compensate": "cancelled",
            "terminate": "terminated",
        },
        ("paused", "undo_requested"): {
            "PaymentVoided": "cancelled",
            "skip": "cancelled",
            "resume": "compensating",
            "terminate": "terminated",
        },
        ("paused", "undone"): {
            "PaymentAuthorized": "hold authorize_payment",
            "resume": "compensating",
            "compensate": "cancelled",
            "terminate": "terminated",
        },
        ("paused", "skipped"): {
            "PaymentAuthorized": "step done",
            "HoldExpired": "hold authorize_payment",
            "CancelRequested": "hold authorize_payment",
            "resume": "running",
            "compensate": "hold authorize_payment",
            "terminate": "terminated",
        },
        ("terminated", "pending"): {
            "RetentionPassed": "forget the run",
        },
        ("terminated", "requested"): {
            "PaymentAuthorized": "step done",
            "PaymentDeclined": "step refused",
            "RetentionPassed": "forget the run",
        },
        ("terminated", "done"): {
            "PaymentVoided": "step undone",
            "RetentionPassed": "forget the run",
        },
        ("terminated", "refused"): {
            "PaymentAuthorized": "step done",
            "RetentionPassed": "forget the run",
        },
        ("terminated", "undo_requested"): {
            "PaymentVoided": "step undone",
            "RetentionPassed": "forget the run",
        },
        ("terminated", "undone"): {
            "PaymentAuthorized": "step done",
            "RetentionPassed": "forget the run",
        },
        ("terminated", "skipped"): {
            "PaymentAuthorized": "step done",
            "RetentionPassed": "forget the run",
        },
    },
    "reserve_stock": {
        ("running", "pending"): {
            "CancelRequested": "compensating, send VoidPayment",
            "pause": "paused",
            "compensate": "compensating, send VoidPayment",
            "terminate": "terminated",
        },
        ("running", "requested"): {
            "StockReserved": "completed",
            "StockRejected": "compensating, send VoidPayment",
            "DeadlinePassed": "send ReserveStock",
            "CancelRequested": "compensating, send ReleaseStock",
            "retry": "send ReserveStock",
            "skip": "completed",
            "pause": "paused",
            "compensate": "compensating, send ReleaseStock",
            "extend": "step requested",
            "terminate": "terminated",
        },
        ("running", "done"): {
            "HoldExpired": "compensating, send ReleaseStock",
            "CancelRequested": "compensating, send ReleaseStock",
            "pause": "paused",
            "compensate": "compensating, send ReleaseStock",
            "terminate": "terminated",
        },
        ("running", "refused"): {
            "CancelRequested": "compensating, send VoidPayment",
            "pause": "paused",
            "compensate": "compensating, send VoidPayment",
            "terminate": "terminated",
        },
        ("running", "undo_requested"): {
            "StockReleased": "step undone",
            "DeadlinePassed": "send ReleaseStock",
            "CancelRequested": "step undo_requested",
            "retry": "send ReleaseStock",
            "skip": "step undone",
            "pause": "paused",
            "compensate": "step undo_requested",
            "extend": "step undo_requested",
            "terminate": "terminated",
        },
        ("running", "undone"): {
            "CancelRequested": "compensating, send VoidPayment",
            "pause": "paused",
            "compensate": "compensating, send VoidPayment",
            "terminate": "terminated",
        },
        ("running", "skipped"): {
            "StockReserved": "step done",
            "HoldExpired": "compensating, send ReleaseStock",
            "CancelRequested": "compensating, send ReleaseStock",
            "pause": "paused",
            "compensate": "compensating, send ReleaseStock",
            "terminate": "terminated",
        },
        ("compensating", "pending"): {
            "pause": "paused",
            "compensate": "send VoidPayment",
            "terminate": "terminated",
        },
        ("compensating", "requested"): {
            "StockReserved": "step done",
            "StockRejected": "send VoidPayment",
            "pause": "paused",
            "compensate": "send ReleaseStock",
            "terminate": "terminated",
        },
        ("compensating", "done"): {
            "pause": "paused",
            "compensate": "send ReleaseStock",
            "terminate": "terminated",
        },
        ("compensating", "refused"): {
            "StockReserved": "send ReleaseStock",
            "pause": "paused",
            "compensate": "send VoidPayment",
            "terminate": "terminated",
        },
        ("compensating", "undo_requested"): {
            "StockReleased": "send VoidPayment",
            "DeadlinePassed": "send ReleaseStock",
            "retry": "send ReleaseStock",
            "skip": "send VoidPayment",
            "pause": "paused",
            "extend": "step undo_requested",
            "terminate": "terminated",
        },
        ("compensating", "undone"): {
            "StockReserved": "send ReleaseStock",
            "pause": "paused",
            "compensate": "send VoidPayment",
            "terminate": "terminated",
        },
        ("compensating", "skipped"): {
            "StockReserved": "step done",
            "pause": "paused",
            "compensate": "send ReleaseStock",
            "terminate": "terminated",
        },
        ("needs_attention", "pending"): {
            "pause": "paused",
            "compensate": "compensating, send VoidPayment",
            "terminate": "terminated",
        },
        ("needs_attention", "requested"): {
            "StockReserved": "step done",
            "StockRejected": "compensating, send VoidPayment",
            "pause": "paused",
            "compensate": "compensating, send ReleaseStock",
            "terminate": "terminated",
        },
        ("needs_attention", "done"): {
            "pause": "paused",
            "compensate": "compensating, send ReleaseStock",
            "terminate": "terminated",
        },
        ("needs_attention", "refused"): {
            "StockReserved": "send ReleaseStock",
            "pause": "paused",
            "compensate": "compensating, send VoidPayment",
            "terminate": "terminated",
        },
        ("needs_attention", "undo_requested"): {
            "StockReleased": "compensating, send VoidPayment",
            "DeadlinePassed": "send ReleaseStock",
            "retry": "compensating, send ReleaseStock",
            "skip": "compensating, send VoidPayment",
            "pause": "paused",
            "extend": "step undo_requested",
            "terminate": "terminated",
        },
        ("needs_attention", "undone"): {
            "StockReserved": "send ReleaseStock",
            "pause": "paused",
            "compensate": "compensating, send VoidPayment",
            "terminate": "terminated",
        },
        ("needs_attention", "skipped"): {
            "StockReserved": "step done",
            "pause": "paused",
            "compensate": "compensating, send ReleaseStock",
            "terminate": "terminated",
        },
        ("completed", "pending"): {
            "RetentionPassed": "forget the run",
        },
        ("completed", "requested"): {
            "RetentionPassed": "forget the run",
        },
        ("completed", "done"): {
            "RetentionPassed": "forget the run",
        },
        ("completed", "refused"): {
            "StockReserved": "send ReleaseStock",
            "RetentionPassed": "forget the run",
        },
        ("completed", "undo_requested"): {
            "StockReleased": "step undone",
            "DeadlinePassed": "send ReleaseStock",
            "retry": "send ReleaseStock",
            "skip": "step undone",
            "extend": "step undo_requested",
        },
        ("completed", "undone"): {
            "StockReserved": "send ReleaseStock",
            "RetentionPassed": "forget the run",
        },
        ("completed", "skipped"): {
            "StockReserved": "step done",
            "RetentionPassed": "forget the run",
        },
        ("cancelled", "pending"): {
            "RetentionPassed": "forget the run",
        },
        ("cancelled", "requested"): {
            "RetentionPassed": "forget the run",
        },
        ("cancelled", "done"): {
            "RetentionPassed": "forget the run",
        },
        ("cancelled", "refused"): {
            "StockReserved": "send ReleaseStock",
            "RetentionPassed": "forget the run",
        },
        ("cancelled", "undo_requested"): {
            "StockReleased": "step undone",
            "DeadlinePassed": "send ReleaseStock",
            "retry": "send ReleaseStock",
            "skip": "step undone",
            "extend": "step undo_requested",
        },
        ("cancelled", "undone"): {
            "StockReserved": "send ReleaseStock",
            "RetentionPassed": "forget the run",
        },
        ("cancelled", "skipped"): {
            "StockReserved": "step done",
            "RetentionPassed": "forget the run",
        },
        ("paused", "pending"): {
            "CancelRequested": "hold authorize_payment",
            "resume": "running",
            "compensate": "hold authorize_payment",
            "terminate": "terminated",
        },
        ("paused", "requested"): {
            "StockReserved": "completed",
            "StockRejected": "hold authorize_payment",
            "CancelRequested": "hold reserve_stock",
            "skip": "completed",
            "resume": "running",
            "compensate": "hold reserve_stock",
            "terminate": "terminated",
        },
        ("paused", "done"): {
            "HoldExpired": "hold reserve_stock",
            "CancelRequested": "hold reserve_stock",
            "resume": "running",
            "compensate": "hold reserve_stock",
            "terminate": "terminated",
        },
        ("paused", "refused"): {
            "StockReserved": "hold reserve_stock",
            "resume": "compensating",
            "compensate": "hold authorize_payment",
            "terminate": "terminated",
        },
        ("paused", "undo_requested"): {
            "StockReleased": "hold authorize_payment",
            "skip": "hold authorize_payment",
            "resume": "compensating",
            "terminate": "terminated",
        },
        ("paused", "undone"): {
            "StockReserved": "hold reserve_stock",
            "resume": "compensating",
            "compensate": "hold authorize_payment",
            "terminate": "terminated",
        },
        ("paused", "skipped"): {
            "StockReserved": "step done",
            "HoldExpired": "hold reserve_stock",
            "CancelRequested": "hold reserve_stock",
            "resume": "running",
            "compensate": "hold reserve_stock",
            "terminate": "terminated",
        },
        ("terminated", "pending"): {
            "RetentionPassed": "forget the run",
        },
        ("terminated", "requested"): {
            "StockReserved": "step done",
            "StockRejected": "step refused",
            "RetentionPassed": "forget the run",
        },
        ("terminated", "done"): {
            "StockReleased": "step undone",
            "RetentionPassed": "forget the run",
        },
        ("terminated", "refused"): {
            "StockReserved": "step done",
            "RetentionPassed": "forget the run",
        },
        ("terminated", "undo_requested"): {
            "StockReleased": "step undone",
            "RetentionPassed": "forget the run",
        },
        ("terminated", "undone"): {
            "StockReserved": "step done",
            "RetentionPassed": "forget the run",
        },
        ("terminated", "skipped"): {
            "StockReserved": "step done",
            "RetentionPassed": "forget the run",
        },
    },
}


@cache
def told_of(definition: str, step: str) -> Matrix:
    """What the code says."""
    return matrix(DEFINITIONS[definition], DEFINITIONS[definition].step(step))


@pytest.mark.parametrize("step", ACTS)
@pytest.mark.parametrize(("status", "at"), list(product(Status, StepStatus)))
def test_every_event_in_every_state_does_what_the_table_says(step: str, status: str, at: str) -> None:
    """No pair of state and event is missing, and none does more than it should."""
    row = told_of(DEFINITION.name, step)[Status(status), StepStatus(at)]

    acting = {event: done for event, done in row.items() if not done.startswith("ignored: ")}
    assert acting == ACTS[step].get((status, at), {})
    assert row.keys() == {name_of(event) for event in events_of(DEFINITION.step(step))}


#: What acts in the whole fulfilment, in the same shape with a state as ``running / requested``.
#: ``python tests/unit/test_saga_matrix.py`` writes it anew.
GOLDEN = Path(__file__).parent / "golden" / "fulfillment_v2.json"
WHOLE = DEFINITIONS["fulfillment.v2"]


def acting_of(step: Step) -> dict[str, dict[str, str]]:
    """What acts at a step of the whole fulfilment; what only ignores is left out."""
    told = {}
    for (status, at), row in matrix(WHOLE, step).items():
        acts = {event: done for event, done in row.items() if not done.startswith("ignored: ")}
        if acts:
            told[f"{status} / {at}"] = acts
    return told


@pytest.mark.parametrize("step", WHOLE.steps, ids=lambda step: step.name)
def test_the_whole_fulfilment_does_what_its_table_says(step: Step) -> None:
    """Every event at every step, in every state."""
    assert acting_of(step) == json.loads(GOLDEN.read_text())[step.name]


#: While the courier is asked to stop: what a yes does, and what the step does that the run waits for.
INTERCEPTING = {
    "create_delivery": ("compensating, send CancelPackJob", "send HandOverParcel"),
    "hand_over": ("compensating, send CancelPackJob", "send ConsumeStock"),
    "consume_stock": ("compensating, send RestockStock", "send TrackDelivery"),
    "deliver": ("compensating, send RestockStock", "completed"),
}


@pytest.mark.parametrize("at", INTERCEPTING)
def test_a_request_to_stop_is_a_race_that_is_decided_once(at: str) -> None:
    """A yes turns the run round, a no and a second cancellation do not, silence asks again."""
    told = intercept_matrix(WHOLE, WHOLE.step("create_delivery"), Status.RUNNING)[at]
    stopped, done = INTERCEPTING[at]

    assert told["DeliveryCancelled"] == stopped
    assert told["DeliveryNotCancelled"] == "goes on"
    assert told["DeadlinePassed"] == "send CancelDelivery"
    assert told["CancelRequested"] == "ignored: already_intercepting"
    assert told["done"] == done
    assert told["refused"].startswith("compensating, send ")


@pytest.mark.parametrize("at", INTERCEPTING)
def test_a_paused_run_holds_what_the_answer_asks_for(at: str) -> None:
    """And its deadlines stand still."""
    told = intercept_matrix(WHOLE, WHOLE.step("create_delivery"), Status.PAUSED)[at]

    assert told["DeliveryCancelled"].startswith("hold ")
    assert told["DeliveryNotCancelled"] == "goes on"
    assert told["DeadlinePassed"].startswith("ignored: ")
    assert told["CancelRequested"] == "ignored: already_intercepting"


ROWS = [(DEFINITION, step) for step in DEFINITION.steps] + [(WHOLE, step) for step in WHOLE.steps]


@pytest.mark.parametrize(("definition", "row"), ROWS, ids=lambda each: each.name)
@pytest.mark.parametrize(("status", "at"), list(product(Status, StepStatus)))
def test_what_is_ignored_says_why(definition: Definition, row: Step, status: str, at: str) -> None:
    """The reason names what the event said and where the run was."""
    gone = at in (StepStatus.REFUSED, StepStatus.UNDO_REQUESTED, StepStatus.UNDONE)
    paused = status == Status.PAUSED
    going = (Status.COMPENSATING if gone else Status.RUNNING) if paused else status
    undoing = going in (Status.COMPENSATING, Status.NEEDS_ATTENTION)
    final = Status(status).final
    not_awaited = "already_final" if final else "step_not_awaited"
    reasons = {
        kind.__name__: f"{role}_while_{going}_{at}"
        for role in ("done", "refused", "progress", "undone", "undo_refused", "not_found")
        if (kind := getattr(row, role)) is not None
    }
    reasons |= {
        "DeadlinePassed": "stale_deadline",
        "HoldExpired": "hold_not_needed",
        "CancelRequested": "already_compensating" if undoing else "already_final",
        "RetentionPassed": "still_needed",
        "IntentCreated": "already_started",
        "retry": "paused" if paused else not_awaited,
        "skip": not_awaited,
        "pause": "already_paused" if paused else "already_final",
        "resume": "already_final" if final else "not_paused",
        "compensate": _no_compensation(going),
        "extend": "paused" if paused else not_awaited,
        "terminate": "already_final",
    }
    if at == StepStatus.REQUESTED and definition.needed_of(row) and going == Status.RUNNING:
        reasons["skip"] = "incomplete_result"
    for event, done in told_of(definition.name, row.name)[Status(status), StepStatus(at)].items():
        if done.startswith("ignored: "):
            assert done == f"ignored: {reasons[event]}"


def _no_compensation(status: str) -> str:
    """Why nothing is undone: it is over, or what can be undone is being undone."""
    if Status(status).final:
        return "already_final"
    return "already_compensating" if status == Status.COMPENSATING else "nothing_to_undo"


@pytest.mark.parametrize("definition", DEFINITIONS)
@pytest.mark.parametrize("kind", [event for event in EVENTS if issubclass(event, Answer)])
def test_answer_that_no_step_waits_for_is_ignored(definition: str, kind: type[Answer]) -> None:
    """A definition has no use for some answers, such as those to a capture: the timeline says so."""
    used = [kind in events_of(step) for step in DEFINITIONS[definition].steps]
    if any(used):
        return
    step = DEFINITIONS[definition].steps[0]
    for status, at in product(Status, StepStatus):
        assert outcome(run_at(DEFINITIONS[definition], step, status, at), kind, step) == (
            "ignored: not_in_definition"
        )


if __name__ == "__main__":
    told = {step.name: acting_of(step) for step in WHOLE.steps}
    GOLDEN.write_text(json.dumps(told, indent=1) + "\n")
