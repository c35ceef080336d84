"""What does every event do in every state? The table is the specification; the code is held against it.

What is not in the table is ignored, with the reason that the last test spells out. The steps before the one
that is looked at are done, those behind it are pending, and every time in the state has come.
"""

from __future__ import annotations

from itertools import product

import pytest

from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.describe import _run as run_at
from fulcrum.saga.describe import events_of, matrix, outcome
from fulcrum.saga.messages import EVENTS, Answer
from fulcrum.saga.run import Status, StepStatus

DEFINITION = DEFINITIONS["fulfillment.v1"]

#: step -> (run status, step status) -> event -> what it does
ACTS: dict[str, dict[tuple[str, str], dict[str, str]]] = {
    "authorize_payment": {
        ("running", "pending"): {
            "CancelRequested": "cancelled",
        },
        ("running", "requested"): {
            "PaymentAuthorized": "send ReserveStock",
            "PaymentDeclined": "cancelled",
            "PaymentNotFound": "send AuthorizePayment",
            "DeadlinePassed": "send QueryPayment",
            "CancelRequested": "compensating, send VoidPayment",
        },
        ("running", "done"): {
            "HoldExpired": "compensating, send VoidPayment",
            "CancelRequested": "compensating, send VoidPayment",
        },
        ("running", "refused"): {
            "CancelRequested": "cancelled",
        },
        ("running", "undo_requested"): {
            "PaymentVoided": "step undone",
            "DeadlinePassed": "send VoidPayment",
            "CancelRequested": "step undo_requested",
        },
        ("running", "undone"): {
            "CancelRequested": "cancelled",
        },
        ("compensating", "refused"): {
            "PaymentAuthorized": "send VoidPayment",
        },
        ("compensating", "undo_requested"): {
            "PaymentVoided": "cancelled",
            "DeadlinePassed": "send VoidPayment",
        },
        ("compensating", "undone"): {
            "PaymentAuthorized": "send VoidPayment",
        },
        ("needs_attention", "refused"): {
            "PaymentAuthorized": "send VoidPayment",
        },
        ("needs_attention", "undo_requested"): {
            "PaymentVoided": "cancelled",
            "DeadlinePassed": "send VoidPayment",
        },
        ("needs_attention", "undone"): {
            "PaymentAuthorized": "send VoidPayment",
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
        },
        ("completed", "undone"): {
            "PaymentAuthorized": "send VoidPayment",
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
        },
        ("cancelled", "undone"): {
            "PaymentAuthorized": "send VoidPayment",
            "RetentionPassed": "forget the run",
        },
    },
    "reserve_stock": {
        ("running", "pending"): {
            "CancelRequested": "compensating, send VoidPayment",
        },
        ("running", "requested"): {
            "StockReserved": "completed",
            "StockRejected": "compensating, send VoidPayment",
            "DeadlinePassed": "send ReserveStock",
            "CancelRequested": "compensating, send ReleaseStock",
        },
        ("running", "done"): {
            "HoldExpired": "compensating, send ReleaseStock",
            "CancelRequested": "compensating, send ReleaseStock",
        },
        ("running", "refused"): {
            "CancelRequested": "compensating, send VoidPayment",
        },
        ("running", "undo_requested"): {
            "StockReleased": "step undone",
            "DeadlinePassed": "send ReleaseStock",
            "CancelRequested": "step undo_requested",
        },
        ("running", "undone"): {
            "CancelRequested": "compensating, send VoidPayment",
        },
        ("compensating", "refused"): {
            "StockReserved": "send ReleaseStock",
        },
        ("compensating", "undo_requested"): {
            "StockReleased": "send VoidPayment",
            "DeadlinePassed": "send ReleaseStock",
        },
        ("compensating", "undone"): {
            "StockReserved": "send ReleaseStock",
        },
        ("needs_attention", "refused"): {
            "StockReserved": "send ReleaseStock",
        },
        ("needs_attention", "undo_requested"): {
            "StockReleased": "compensating, send VoidPayment",
            "DeadlinePassed": "send ReleaseStock",
        },
        ("needs_attention", "undone"): {
            "StockReserved": "send ReleaseStock",
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
        },
        ("completed", "undone"): {
            "StockReserved": "send ReleaseStock",
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
        },
        ("cancelled", "undone"): {
            "StockReserved": "send ReleaseStock",
            "RetentionPassed": "forget the run",
        },
    },
}


@pytest.mark.parametrize("step", ACTS)
@pytest.mark.parametrize(("status", "at"), list(product(Status, StepStatus)))
def test_every_event_in_every_state_does_what_the_table_says(step: str, status: str, at: str) -> None:
    """No pair of state and event is missing, and none does more than it should."""
    row = matrix(DEFINITION, DEFINITION.step(step))[Status(status), StepStatus(at)]

    acting = {event: done for event, done in row.items() if not done.startswith("ignored: ")}
    assert acting == ACTS[step].get((status, at), {})
    assert row.keys() == {event.__name__ for event in events_of(DEFINITION.step(step))}


@pytest.mark.parametrize("step", ACTS)
@pytest.mark.parametrize(("status", "at"), list(product(Status, StepStatus)))
def test_what_is_ignored_says_why(step: str, status: str, at: str) -> None:
    """The reason names what the event said and where the run was."""
    row = DEFINITION.step(step)
    undoing = status in (Status.COMPENSATING, Status.NEEDS_ATTENTION)
    reasons = {
        row.done.__name__: f"done_while_{status}_{at}",
        row.refused.__name__: f"refused_while_{status}_{at}",
        row.undone.__name__ if row.undone else "": f"undone_while_{status}_{at}",
        row.not_found.__name__ if row.not_found else "": f"not_found_while_{status}_{at}",
        "DeadlinePassed": "stale_deadline",
        "HoldExpired": "hold_not_needed",
        "CancelRequested": "already_compensating" if undoing else "already_final",
        "RetentionPassed": "still_needed",
        "IntentCreated": "already_started",
    }
    for event, done in matrix(DEFINITION, row)[Status(status), StepStatus(at)].items():
        if done.startswith("ignored: "):
            assert done == f"ignored: {reasons[event]}"


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
