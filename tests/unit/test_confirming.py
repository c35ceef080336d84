"""A hold that lapses unless it is confirmed: what its expiry and its confirmation mean to a run."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from intents import WORKFLOW, intent_created

from fulcrum.saga import timers
from fulcrum.saga.decide import Decision, decide
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.describe import matrix
from fulcrum.saga.messages import (
    CancelRequested,
    Event,
    PaymentAuthorized,
    PaymentDeclined,
    PaymentVoided,
    StockConfirmed,
    StockExpired,
    StockNotConfirmed,
    StockReserved,
)
from fulcrum.saga.run import Status, StepStatus, WorkflowRun

DEFINITION = DEFINITIONS["reserve_first.v2"]
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LAPSES = NOON + timedelta(hours=1)

VOID = "compensating, send VoidPayment"
PAUSE_OR_END = {"pause": "paused", "terminate": "terminated"}
#: What people may ask for while nothing is awaited of a step: in a run that goes forward, undoes, is paused.
FORWARD = {**PAUSE_OR_END, "CancelRequested": VOID, "compensate": VOID}
UNDOING = {**PAUSE_OR_END, "compensate": "send VoidPayment"}
STUCK = {**PAUSE_OR_END, "compensate": VOID}
RESUMED = {"compensate": "hold authorize_payment", "terminate": "terminated", "resume": "compensating"}
HELD = {**RESUMED, "CancelRequested": "hold authorize_payment", "resume": "running"}
FORGET = {"RetentionPassed": "forget the run"}
NOTED = {"StockConfirmed": "step done"}

#: (run status, step status) -> event -> what it does, at confirm_stock
CONFIRMING = {
    **{("running", str(at)): FORWARD for at in StepStatus},
    **{("compensating", str(at)): UNDOING for at in StepStatus},
    **{("needs_attention", str(at)): STUCK for at in StepStatus},
    **{("paused", str(at)): HELD for at in StepStatus},
    **{("paused", at): RESUMED for at in ("refused", "undo_requested", "undone")},
    **{(str(status), str(at)): FORGET for status in Status if status.final for at in StepStatus},
    ("running", "requested"): {
        **FORWARD,
        "StockConfirmed": "completed",
        "StockNotConfirmed": VOID,
        "DeadlinePassed": "send ConfirmStock",
        "retry": "send ConfirmStock",
        "skip": "completed",
        "extend": "step requested",
    },
    ("running", "done"): {**FORWARD, "HoldExpired": VOID},
    ("running", "skipped"): {**FORWARD, **NOTED, "HoldExpired": VOID},
    ("compensating", "requested"): {**UNDOING, **NOTED, "StockNotConfirmed": "send VoidPayment"},
    ("compensating", "skipped"): {**UNDOING, **NOTED},
    ("needs_attention", "requested"): {**STUCK, **NOTED, "StockNotConfirmed": VOID},
    ("needs_attention", "skipped"): {**STUCK, **NOTED},
    ("paused", "requested"): {
        **HELD,
        "StockConfirmed": "completed",
        "StockNotConfirmed": "hold authorize_payment",
        "skip": "completed",
    },
    ("paused", "done"): {**HELD, "HoldExpired": "hold authorize_payment"},
    ("paused", "skipped"): {**HELD, **NOTED, "HoldExpired": "hold authorize_payment"},
    ("completed", "undo_requested"): {},
    ("completed", "skipped"): {**FORGET, **NOTED},
    ("cancelled", "undo_requested"): {},
    ("cancelled", "skipped"): {**FORGET, **NOTED},
    ("terminated", "requested"): {**FORGET, **NOTED, "StockNotConfirmed": "step refused"},
    ("terminated", "refused"): {**FORGET, **NOTED},
    ("terminated", "undone"): {**FORGET, **NOTED},
    ("terminated", "skipped"): {**FORGET, **NOTED},
}


def walk(*events: tuple[type[Event], datetime]) -> list[Decision]:
    """A run from its intent through ``events``, each of them about the step that it belongs to."""
    made = [decide(None, intent_created(occurred_at=NOON, definition=DEFINITION.name))]
    for kind, now in events:
        last = made[-1]
        assert isinstance(last, Decision)
        made.append(decide(last.run, told(last.run, kind, now)))
    assert all(isinstance(each, Decision) for each in made)
    return made  # type: ignore[return-value]


def told(run: WorkflowRun, kind: type[Event], now: datetime) -> Event:
    """An event of ``kind`` that is the next one of its stream."""
    answers = ((s.name, (s.done, s.refused, s.undone, s.lapsed)) for s in DEFINITION.steps)
    step = next((name for name, kinds in answers if kind in kinds), "reserve_stock")
    state = run.step(step)
    values = {
        "event_id": f"{kind.__name__} {run.version}",
        "workflow_id": WORKFLOW,
        "sequence": run.seen.get(kind.stream, 0) + 1,
        "occurred_at": now,
        "command_id": state.undo_command_id if kind is PaymentVoided else state.command_id,
        "authorization_id": "auth-1",
        "amount_minor": 1,
        "currency": "EUR",
        "lines": (),
        "expires_at": LAPSES if kind in (StockReserved, StockExpired) else None,
        "reason": "expired",
        "actor": "someone",
    }
    return kind(**{field.name: values[field.name] for field in fields(kind)})


@pytest.mark.parametrize(("status", "at"), list(product(Status, StepStatus)))
def test_what_every_event_does_to_a_confirmation(status: str, at: str) -> None:
    """A step without an undo of its own is never undone itself; a final run only notes and forgets."""
    row = matrix(DEFINITION, DEFINITION.step("confirm_stock"))[Status(status), StepStatus(at)]
    acting = {event: done for event, done in row.items() if not done.startswith("ignored: ")}
    assert acting == CONFIRMING[status, at]


def test_a_confirmed_hold_does_not_lapse() -> None:
    """Only the reservation's own row tells whether it was in time, so the clock's time is forgotten."""
    late = LAPSES + timedelta(seconds=5)
    done = walk((StockReserved, NOON), (PaymentAuthorized, NOON), (StockConfirmed, late))[-1]
    assert done.run.status == Status.COMPLETED
    assert done.run.step("reserve_stock").expires_at is None


def test_an_expiry_undoes_the_rest_and_not_the_hold() -> None:
    """The stock is back already: nothing is released, and the authorization is voided."""
    made = walk((StockReserved, NOON), (PaymentAuthorized, NOON), (StockExpired, LAPSES))[-1]
    assert [type(command).__name__ for command in made.commands] == ["VoidPayment"]
    assert made.run.step("reserve_stock").status == StepStatus.UNDONE
    assert made.run.reason == "reserve_stock: hold_expired"


def test_an_expiry_while_the_payment_is_asked_for_undoes_the_payment() -> None:
    """An authorization that was not answered may have happened."""
    made = walk((StockReserved, NOON), (StockExpired, LAPSES))[-1]
    assert [type(command).__name__ for command in made.commands] == ["VoidPayment"]


def test_a_refused_confirmation_undoes_everything() -> None:
    """Nobody holds the lines: the run ends as if they had been refused at once."""
    made = walk((StockReserved, NOON), (PaymentAuthorized, NOON), (StockNotConfirmed, NOON))[-1]
    assert made.run.status == Status.COMPENSATING
    assert made.run.reason == "confirm_stock: expired"


@pytest.mark.parametrize("late", [StockConfirmed, StockNotConfirmed])
def test_a_confirmation_of_a_cancelled_run_is_not_waited_for(late: type[Event]) -> None:
    """It is noted and moves nothing any more, so no timer goes on firing for it."""
    made = walk((StockReserved, NOON), (PaymentAuthorized, NOON), (CancelRequested, NOON), (late, NOON))
    assert (made[-1].run.status, made[-1].commands) == (Status.COMPENSATING, ())
    assert made[-1].run.step("confirm_stock").deadline_at is None
    due = timers.next_timer(made[-1].run, timedelta(days=7))
    assert due is not None
    assert due.step == "authorize_payment"


def test_an_expiry_while_undoing_leaves_nothing_to_release() -> None:
    """The stock is back already: the run ends with the answer to the void that is out."""
    made = walk(
        (StockReserved, NOON), (CancelRequested, NOON), (StockExpired, LAPSES), (PaymentVoided, LAPSES)
    )
    assert [step.status for step in made[-2].run.steps] == ["undone", "undo_requested", "pending"]
    assert made[-2].commands == made[-1].commands == ()
    assert made[-1].run.status == Status.CANCELLED


def test_an_expiry_beside_its_release_is_ignored() -> None:
    """The release that is out is answered too, and moves the run on."""
    made = walk(
        (StockReserved, NOON),
        (PaymentDeclined, NOON),
        (StockExpired, LAPSES),
    )[-1]
    assert made.ignored == "lapsed_while_compensating_undo_requested"
