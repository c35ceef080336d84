"""What does each operator's verb do to a run whose hold lapses unless a later step keeps it?"""

from __future__ import annotations

from datetime import timedelta

import pytest
from test_decide import START
from test_verbs import LATER, PATIENCE, Operated, names

from fulcrum.saga import timers
from fulcrum.saga.decide import Decision
from fulcrum.saga.messages import (
    ConfirmStock,
    HoldExpired,
    PaymentAuthorized,
    PaymentVoided,
    StockConfirmed,
    StockExpired,
    StockNotConfirmed,
    StockReleased,
    StockReserved,
)
from fulcrum.saga.run import Status, StepStatus
from fulcrum.saga.verbs import Verb, standing

LAPSES = LATER + timedelta(days=1)
ALL = ("reserve_stock", "authorize_payment", "confirm_stock")
WEEK = timedelta(days=7)


class Held(Operated):
    """A run of ``reserve_first.v2``."""

    def __init__(self) -> None:
        super().__init__("reserve_first.v2")
        self.hold = self.asked.command_id

    def reserved(self) -> Held:
        """Its stock is held until LAPSES."""
        self.answer(StockReserved, expires_at=LAPSES)
        return self

    def confirming(self) -> Held:
        """Its stock is held, its payment is authorised, and the confirmation is out."""
        self.reserved().answer(PaymentAuthorized)
        return self

    def expire(self) -> Decision:
        """The inventory says that the hold has lapsed."""
        return self.answer_to(self.hold, StockExpired, expires_at=LAPSES)


# --- retry ----------------------------------------------------------------------------------------


def test_retry_of_a_keeper_sends_the_same_confirmation() -> None:
    """Nobody can be asked about it, and whoever has confirmed answers as before."""
    run = Held().confirming()
    confirm = run.asked
    assert isinstance(confirm, ConfirmStock)
    assert run.ask("retry").commands == (confirm,)
    assert run.ask("retry", step="confirm_stock").commands == (confirm,)
    assert run.answer(StockConfirmed).run.status == Status.COMPLETED


def test_a_keeper_is_not_retried_once_the_run_is_undone() -> None:
    """Its answer would change nothing: undoing what it keeps undoes it."""
    run = Held().confirming()
    run.ask("compensate")
    assert run.ask("retry", step="confirm_stock").ignored == "step_not_awaited"
    assert names(run.ask("retry")) == ["VoidPayment"]


# --- skip -----------------------------------------------------------------------------------------


def test_a_skipped_keeper_confirms_nothing() -> None:
    """The run completes, and still says when the hold lapses, until the late answer says that it does not."""
    run = Held().confirming()
    confirm = run.asked.command_id
    assert run.ask("skip", step="confirm_stock").run.status == Status.COMPLETED
    assert run.statuses == [StepStatus.DONE, StepStatus.DONE, StepStatus.SKIPPED]
    assert run.state.step("reserve_stock").expires_at == LAPSES
    run.answer_to(confirm, StockConfirmed)
    assert (run.state.status, run.statuses) == (Status.COMPLETED, [StepStatus.DONE] * 3)
    assert run.state.step("reserve_stock").expires_at is None


def test_a_keeper_cannot_be_skipped_past_the_end_of_the_hold() -> None:
    """No run completes on stock that others may have by now."""
    run = Held().confirming()
    late = run.ask("skip", occurred_at=LAPSES)
    assert (late.run.status, late.run.reason) == (Status.COMPENSATING, "reserve_stock: hold_expired")
    assert names(late) == ["VoidPayment"]


def test_a_hold_that_lapses_behind_a_skipped_keeper_is_in_the_timeline() -> None:
    """The run has completed, and the operator answers for it; the lapse says why it changes nothing."""
    run = Held().confirming()
    run.ask("skip")
    lapsed = run.expire()
    assert (lapsed.ignored, lapsed.run.status) == ("lapsed_while_completed_done", Status.COMPLETED)


def test_a_skipped_hold_is_confirmed_like_any_other_and_undone_when_there_was_none() -> None:
    """The confirmation asks the inventory itself, so a word that was wrong does not complete the run."""
    run = Held()
    run.ask("skip", result=f'{{"expires_at": "{LAPSES.isoformat()}"}}')
    assert run.state.step("reserve_stock").expires_at == LAPSES
    run.answer(PaymentAuthorized)
    refused = run.answer(StockNotConfirmed)
    assert (refused.run.reason, names(refused)) == ("confirm_stock: expired", ["VoidPayment"])
    assert names(run.answer(PaymentVoided)) == ["ReleaseStock"]
    assert run.answer(StockReleased).run.status == Status.CANCELLED


def test_the_late_answer_of_a_skipped_hold_says_when_it_lapses() -> None:
    """From then on its timer runs, and the confirmation ends it."""
    run = Held()
    run.ask("skip")
    assert run.state.step("reserve_stock").expires_at is None
    run.answer_to(run.hold, StockReserved, expires_at=LAPSES)
    due = [timer for timer in timers._timers(run.state, WEEK) if timer.event is HoldExpired]
    assert [timer.due for timer in due] == [LAPSES]
    run.answer(PaymentAuthorized)
    assert run.answer(StockConfirmed).run.status == Status.COMPLETED
    assert run.state.step("reserve_stock").expires_at is None


def test_skipping_the_release_ends_its_keeper_too() -> None:
    """Whoever gave the stock back by hand gave back what was confirmed."""
    run = Held().confirming()
    run.ask("compensate")
    run.answer(PaymentVoided)
    ended = run.ask("skip", step="reserve_stock")
    assert (ended.run.status, run.statuses) == (Status.CANCELLED, [StepStatus.UNDONE] * 3)
    assert run.state.step("reserve_stock").skipped_by == "ana"


# --- pause and resume -----------------------------------------------------------------------------


@pytest.mark.parametrize("confirming", [False, True])
def test_a_hold_that_expires_in_a_pause_has_the_void_held(confirming: bool) -> None:
    """The fact is taken; the undo leaves with the resume, and the confirmation does not leave any more."""
    run = Held().reserved()
    run.ask("pause")
    if confirming:
        run.answer(PaymentAuthorized)
        assert run.state.step("confirm_stock").held
    lapsed = run.expire()
    assert (lapsed.run.status, lapsed.run.paused_from, names(lapsed)) == ("paused", "compensating", [])
    assert [step.name for step in run.state.steps if step.held] == ["authorize_payment"]
    assert names(run.ask("resume")) == ["VoidPayment"]
    assert run.answer(PaymentVoided).run.status == Status.CANCELLED


def test_a_pause_while_undoing_does_not_lose_the_release() -> None:
    """The confirmation that is out gets no deadline by the resume."""
    run = Held().confirming()
    run.ask("compensate")
    run.ask("pause")
    assert names(run.answer(PaymentVoided)) == []
    assert names(run.ask("resume")) == ["ReleaseStock"]
    assert run.state.step("confirm_stock").deadline_at is None
    assert run.answer(StockReleased).run.status == Status.CANCELLED


def test_a_confirmation_that_a_pause_held_leaves_with_the_resume() -> None:
    """As it was decided."""
    run = Held().reserved()
    run.ask("pause")
    run.answer(PaymentAuthorized)
    assert names(run.ask("resume")) == ["ConfirmStock"]
    assert run.answer(StockConfirmed).run.status == Status.COMPLETED


# --- compensate -----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [None, "confirm_stock", "authorize_payment"])
def test_compensate_needs_no_undo_of_a_keeper(step: str | None) -> None:
    """A keeper behind the named step is not passed over: it ends with what it keeps."""
    run = Held().confirming()
    assert names(run.ask("compensate", step=step)) == ["VoidPayment"]
    assert (run.state.undo_from, run.state.step("confirm_stock").deadline_at) == (None, None)
    assert names(run.answer(PaymentVoided)) == ["ReleaseStock"]
    ended = run.answer(StockReleased)
    assert (ended.run.status, run.statuses) == (Status.CANCELLED, [StepStatus.UNDONE] * 3)


def test_compensate_from_the_kept_step_leaves_the_payment_and_ends_the_keeper() -> None:
    """What stands is the payment alone, and the run says so."""
    run = Held().confirming()
    assert names(run.ask("compensate", step="reserve_stock")) == ["ReleaseStock"]
    ended = run.answer(StockReleased)
    assert ended.run.status == Status.NEEDS_ATTENTION
    assert run.statuses == [StepStatus.UNDONE, StepStatus.DONE, StepStatus.UNDONE]
    assert names(run.ask("compensate")) == ["VoidPayment"]
    assert run.answer(PaymentVoided).run.status == Status.CANCELLED


@pytest.mark.parametrize("answer", [StockConfirmed, StockNotConfirmed])
def test_the_late_answer_of_a_keeper_does_not_hold_up_the_undoing(
    answer: type[StockConfirmed] | type[StockNotConfirmed],
) -> None:
    """Whatever it says, the stock is released."""
    run = Held().confirming()
    confirm = run.asked.command_id
    run.ask("compensate")
    void = run.asked.command_id
    assert names(run.answer_to(confirm, answer)) == []
    assert names(run.answer_to(void, PaymentVoided)) == ["ReleaseStock"]
    assert run.answer(StockReleased).run.status == Status.CANCELLED


def test_a_hold_that_expires_while_undoing_does_not_stand_when_the_run_is_terminated() -> None:
    """Nobody gives it up, and nobody has to."""
    run = Held().confirming()
    run.ask("compensate")
    run.expire()
    assert standing(run.ask("terminate").run) == ("authorize_payment",)


# --- extend, terminate, cancel --------------------------------------------------------------------


def test_extend_gives_a_keeper_more_time_and_the_hold_none() -> None:
    """When it lapses is the inventory's to say."""
    run = Held().confirming()
    extended = run.ask("extend", seconds=7200, occurred_at=LATER)
    assert extended.run.step("confirm_stock").deadline_at == LATER + timedelta(hours=2)
    assert extended.run.step("reserve_stock").expires_at == LAPSES


def test_terminate_shows_a_hold_until_it_lapses_by_itself() -> None:
    """It is left standing with its time; once the inventory says that it has lapsed, it stands no more."""
    run = Held().confirming()
    ended = run.ask("terminate")
    assert standing(ended.run) == ALL
    assert ended.run.step("reserve_stock").expires_at == LAPSES
    lapsed = run.expire()
    assert (lapsed.run.status, lapsed.ignored, names(lapsed)) == (Status.TERMINATED, None, [])
    assert standing(lapsed.run) == ("authorize_payment",)
    assert lapsed.run.step("reserve_stock").reason == "hold_expired"


def test_a_confirmation_that_comes_after_the_termination_makes_the_hold_last() -> None:
    """What is left standing does not lapse any more."""
    run = Held().confirming()
    confirm = run.asked.command_id
    run.ask("terminate")
    noted = run.answer_to(confirm, StockConfirmed)
    assert standing(noted.run) == ALL
    assert noted.run.step("reserve_stock").expires_at is None


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb is not Verb.RESUME])
def test_a_run_that_waits_for_its_confirmation_takes_every_verb(verb: Verb) -> None:
    """None is refused, and after none of them does an unanswered confirmation move the run by itself."""
    run = Held().confirming()
    asked = run.ask(verb, seconds=7200, occurred_at=START + timedelta(minutes=1))
    assert asked.ignored is None
    if verb in (Verb.RETRY, Verb.EXTEND):
        for _ in range(PATIENCE):
            run.deadline("confirm_stock")
        assert run.state.reason == "confirm_stock: no_answer"
    else:
        assert run.state.step("confirm_stock").deadline_at is None
