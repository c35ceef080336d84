"""What does each operator's verb do to a run, move by move?

Long, because every verb is shown where it matters: forward, backward, given up, paused and ended.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from test_decide import START, Script, commands

from fulcrum.saga import timers
from fulcrum.saga.decide import Decision, Forget, decide
from fulcrum.saga.definitions import LONGEST_WAIT
from fulcrum.saga.messages import (
    Event,
    OperatorRequested,
    PaymentAuthorized,
    PaymentDeclined,
    PaymentNotFound,
    PaymentVoided,
    QueryPayment,
    RetentionPassed,
    StockRejected,
    StockReleased,
    StockReserved,
)
from fulcrum.saga.run import Status, StepStatus, WorkflowRun
from fulcrum.saga.verbs import standing, unusable_result

PATIENCE = 10
LATER = datetime(2026, 1, 2, tzinfo=UTC)


class Operated(Script):
    """A run whose operators ask for things."""

    @property
    def state(self) -> WorkflowRun:
        """The run."""
        assert self.run is not None
        return self.run

    def ask(self, verb: str, **own: Any) -> Decision:
        """An operator's request."""
        given = {"reason": "because", "actor": "ana", "occurred_at": LATER, **own}
        return self.feed(
            OperatorRequested(
                event_id=f"request-{self.state.version}",
                workflow_id=self.state.workflow_id,
                sequence=self.state.seen["intents"] + 1,
                verb=verb,
                **given,
            )
        )

    def answer_to(self, command_id: str, kind: type[Event], **own: Any) -> Decision:
        """The answer to a command that left earlier."""
        return self.answer(kind, command_id=command_id, **own)

    def give_up(self, step: str) -> None:
        """Nobody answers until the step has had all its time."""
        for _ in range(PATIENCE):
            self.deadline(step)

    @property
    def statuses(self) -> list[str]:
        """Where the steps stand."""
        return [step.status for step in self.state.steps]

    def step_id(self, step: str) -> str:
        """The id of the step's command."""
        command_id = self.state.step(step).command_id
        assert command_id is not None
        return command_id


def names(decision: Decision) -> list[str]:
    """What left."""
    return [type(command).__name__ for command in decision.commands]


def stuck() -> Operated:
    """A run that needs attention: the stock is short, and nobody answers the void."""
    run = Operated()
    run.answer(PaymentAuthorized)
    run.answer(StockRejected)
    run.give_up("authorize_payment")
    assert run.state.status == Status.NEEDS_ATTENTION
    return run


# --- retry ----------------------------------------------------------------------------------------


def test_retry_asks_what_became_of_a_step_and_never_does_it_twice() -> None:
    """The command keeps its id; each query is a new one, also beside those of passed deadlines."""
    run = Operated()
    first = run.asked
    run.deadline("authorize_payment")
    queries = {run.asked.command_id}
    for _ in range(3):
        asked = run.ask("retry")
        (query,) = asked.commands
        assert isinstance(query, QueryPayment)
        assert query.asked_command_id == first.command_id
        assert asked.run.step("authorize_payment").deadline_at > LATER
        queries.add(query.command_id)
    assert len(queries) == 4
    run.answer(PaymentNotFound)
    assert run.asked == first


def test_retry_of_a_step_that_nobody_can_be_asked_about_sends_the_same_command() -> None:
    """To the last field, for the worker answers as before."""
    run = Operated()
    run.answer(PaymentAuthorized)
    reserve = run.asked
    run.ask("retry", step="reserve_stock")
    assert run.asked == reserve


def test_retry_of_an_undo_that_was_given_up_is_a_new_attempt() -> None:
    """Another id, its full patience, and the run moves on with the answer to it."""
    run = stuck()
    before = run.state.step("authorize_payment")
    decision = run.ask("retry")
    after = run.state.step("authorize_payment")
    assert (decision.run.status, names(decision)) == (Status.COMPENSATING, ["VoidPayment"])
    assert (after.attempt, after.late, after.reason) == (before.attempt + 1, 0, None)
    assert after.undo_command_id != before.undo_command_id
    assert run.answer(PaymentVoided).run.status == Status.CANCELLED


def test_retry_picks_the_undo_that_was_given_up() -> None:
    """Of two undos that are out, the one that nobody answers; or the one that is named."""
    run = stuck()
    run.ask("compensate")
    late = run.answer_to(run.step_id("reserve_stock"), StockReserved)
    assert names(late) == ["ReleaseStock"]
    run.give_up("authorize_payment")
    assert names(run.ask("retry")) == ["VoidPayment"]
    assert names(run.ask("retry", step="reserve_stock")) == ["ReleaseStock"]


# --- skip -----------------------------------------------------------------------------------------


def test_skip_goes_on_as_if_the_step_had_answered() -> None:
    """The result and who gave it stay with the step."""
    run = Operated()
    result = '{"authorization_id": "till-1"}'
    decision = run.ask("skip", result=result)
    step = run.state.step("authorize_payment")
    assert names(decision) == ["ReserveStock"]
    assert (step.status, step.skipped_by, step.result) == (StepStatus.SKIPPED, "ana", result)
    assert step.deadline_at is None
    assert run.answer(StockReserved).run.status == Status.COMPLETED


def test_a_skipped_step_may_have_happened_and_is_undone_with_the_others() -> None:
    """Nobody knows what became of its command."""
    run = Operated()
    run.ask("skip")
    assert names(run.answer(StockRejected)) == ["VoidPayment"]
    assert run.answer(PaymentVoided).run.status == Status.CANCELLED


@pytest.mark.parametrize("ended", [False, True])
def test_the_late_answer_of_a_skipped_step_makes_it_done(ended: bool) -> None:
    """What it holds counts from then on, also once the run has completed."""
    run = Operated()
    hold = run.asked.command_id
    run.ask("skip")
    if ended:
        run.answer(StockReserved)
    late = run.answer_to(hold, PaymentAuthorized, expires_at=LATER)
    step = late.run.step("authorize_payment")
    assert (step.status, step.skipped_by, step.expires_at) == (StepStatus.DONE, "ana", LATER)
    assert (late.ignored, names(late)) == (None, [])
    assert late.run.status == (Status.COMPLETED if ended else Status.RUNNING)


def test_the_result_says_when_a_skipped_hold_lapses() -> None:
    """A run does not complete on it, as on any other."""
    run = Operated()
    run.ask("skip", result='{"expires_at": "2026-01-01T00:00:01Z"}', occurred_at=START)
    lapsed = run.answer(StockReserved, occurred_at=START + timedelta(seconds=5))
    assert (lapsed.run.status, lapsed.run.reason) == (Status.COMPENSATING, "authorize_payment: hold_expired")


@pytest.mark.parametrize("result", ["?", "[]", '{"colour": "red"}', '{"expires_at": "soon"}', "1" * 5000])
def test_a_result_that_no_answer_could_have_is_refused(result: str) -> None:
    """The run stays as it was, and says why."""
    run = Operated()
    before = run.state.steps
    assert run.ask("skip", result=result).ignored == "unusable_result"
    assert run.state.steps == before
    assert unusable_result(PaymentAuthorized, result)


def test_an_undo_that_is_skipped_counts_as_done() -> None:
    """Whoever undid it by hand lets the run go on with the step before; the step shows who said so."""
    run = Operated("reserve_first.v1")
    run.answer(StockReserved)
    run.ask("compensate")
    run.give_up("authorize_payment")
    decision = run.ask("skip")
    assert names(decision) == ["ReleaseStock"]
    assert decision.run.status == Status.COMPENSATING
    assert run.state.step("authorize_payment").skipped_by == "ana"
    assert run.answer(StockReleased).run.status == Status.CANCELLED


def test_an_undo_has_no_result() -> None:
    """It would be of no use to anybody."""
    assert stuck().ask("skip", result="{}").ignored == "undo_has_no_result"


# --- pause and resume -----------------------------------------------------------------------------


def test_a_paused_run_takes_answers_and_sends_nothing() -> None:
    """The command is decided on and held; the resume sends it as it was decided, with its time anew."""
    run = Operated()
    paused = run.ask("pause")
    assert (paused.run.status, paused.run.paused_from) == (Status.PAUSED, Status.RUNNING)
    answered = run.answer(PaymentAuthorized)
    assert (answered.status_before, answered.run.status, names(answered)) == (
        Status.PAUSED,
        Status.PAUSED,
        [],
    )
    assert run.state.step("reserve_stock").held
    resumed = run.ask("resume")
    (reserve,) = resumed.commands
    assert (resumed.status_before, resumed.run.status) == (Status.PAUSED, Status.RUNNING)
    assert reserve.issued_at == answered.run.updated_at
    assert resumed.run.step("reserve_stock").deadline_at == LATER + timedelta(seconds=30)
    assert run.answer(StockReserved).run.status == Status.COMPLETED


def test_a_pause_stops_deadlines_and_a_resume_gives_them_anew() -> None:
    """A timer that was on its way is stale; what was sent before the pause is not sent again."""
    run = Operated()
    run.deadline("authorize_payment")
    timer = timers.next_timer(run.state, timedelta(days=1))
    assert timer is not None
    run.ask("pause")
    assert timers.next_timer(run.state, timedelta(days=1)) is None
    assert run.feed(timers.fire(run.state, timer, timer.due)).ignored == "stale_deadline"
    resumed = run.ask("resume")
    assert names(resumed) == []
    assert resumed.run.step("authorize_payment").deadline_at == LATER + timedelta(seconds=120)


def test_a_pause_while_undoing_does_not_lose_the_undo() -> None:
    """The next undo is held, and leaves with the resume."""
    run = Operated("reserve_first.v1")
    run.answer(StockReserved)
    run.ask("compensate")
    run.ask("pause")
    held = run.answer(PaymentVoided)
    assert (names(held), run.statuses) == ([], [StepStatus.UNDO_REQUESTED, StepStatus.UNDONE])
    resumed = run.ask("resume")
    assert (resumed.run.status, names(resumed)) == (Status.COMPENSATING, ["ReleaseStock"])
    assert run.answer(StockReleased).run.status == Status.CANCELLED


def test_a_run_that_needed_attention_still_does_after_a_pause() -> None:
    """Its undo has had its time; only a retry gives it more."""
    run = stuck()
    run.ask("pause")
    resumed = run.ask("resume")
    assert (resumed.run.status, names(resumed)) == (Status.NEEDS_ATTENTION, [])
    assert resumed.run.step("authorize_payment").deadline_at is None


def test_a_run_may_complete_while_it_is_paused() -> None:
    """The last answer leads to no command, so there is nothing to hold back."""
    run = Operated()
    run.answer(PaymentAuthorized)
    run.ask("pause")
    done = run.answer(StockReserved)
    assert (done.status_before, done.run.status, done.run.paused_from) == ("paused", "completed", None)


def test_a_hold_that_lapses_in_a_pause_has_its_undo_held() -> None:
    """A fact is taken as it comes; what follows of it leaves with the resume."""
    run = Operated()
    run.answer(PaymentAuthorized, expires_at=LATER)
    run.ask("pause")
    timer = timers.next_timer(run.state, timedelta(days=1))
    assert timer is not None
    lapsed = run.feed(timers.fire(run.state, timer, LATER))
    assert (lapsed.run.status, lapsed.run.paused_from, names(lapsed)) == ("paused", "compensating", [])
    assert names(run.ask("resume")) == ["ReleaseStock"]


@pytest.mark.parametrize(
    ("verb", "reason"), [("pause", "already_paused"), ("retry", "paused"), ("extend", "paused")]
)
def test_what_a_paused_run_cannot_do(verb: str, reason: str) -> None:
    """It says that it is paused."""
    run = Operated()
    run.ask("pause")
    assert run.ask(verb, seconds=60).ignored == reason


# --- compensate -----------------------------------------------------------------------------------


def test_compensate_undoes_everything_that_may_have_happened() -> None:
    """Last step first, with a reason that says it was forced."""
    run = Operated()
    run.answer(PaymentAuthorized)
    forced = run.ask("compensate", reason="fraud")
    assert (forced.run.reason, names(forced)) == ("compensation forced: fraud", ["ReleaseStock"])
    run.answer(StockReleased)
    assert run.answer(PaymentVoided).run.status == Status.CANCELLED


def test_compensate_from_an_earlier_step_leaves_the_later_one_and_says_so() -> None:
    """What stands behind it is not touched: the run is not cancelled, it needs attention."""
    run = Operated()
    run.answer(PaymentAuthorized)
    reserve = run.asked.command_id
    assert names(run.ask("compensate", step="authorize_payment")) == ["VoidPayment"]
    assert run.state.step("reserve_stock").deadline_at is None
    assert run.answer(PaymentVoided).run.status == Status.NEEDS_ATTENTION
    noted = run.answer_to(reserve, StockReserved)
    assert (noted.run.status, run.statuses) == ("needs_attention", [StepStatus.UNDONE, StepStatus.DONE])
    assert names(run.ask("compensate")) == ["ReleaseStock"]
    assert run.answer(StockReleased).run.status == Status.CANCELLED


def test_a_refusal_of_the_step_that_was_passed_over_ends_the_run() -> None:
    """Nothing stands any more."""
    run = Operated()
    run.answer(PaymentAuthorized)
    reserve = run.asked.command_id
    run.ask("compensate", step="authorize_payment")
    run.answer(PaymentVoided)
    assert run.answer_to(reserve, StockRejected).run.status == Status.CANCELLED


def test_compensate_goes_past_an_undo_that_was_given_up() -> None:
    """The earlier steps are undone; the stuck one is still shown, and its late answer ends the run."""
    run = Operated()
    run.answer(PaymentAuthorized)
    run.ask("compensate")
    release = run.asked.command_id
    run.give_up("reserve_stock")
    assert names(run.ask("compensate", step="authorize_payment")) == ["VoidPayment"]
    assert run.answer(PaymentVoided).run.status == Status.NEEDS_ATTENTION
    assert run.answer_to(release, StockReleased).run.status == Status.CANCELLED


def test_two_undos_that_were_given_up_are_retried_one_after_the_other() -> None:
    """After the first is answered the run needs attention again, because of the second."""
    run = Operated()
    run.answer(PaymentAuthorized)
    run.ask("compensate")
    run.give_up("reserve_stock")
    run.ask("compensate", step="authorize_payment")
    run.give_up("authorize_payment")
    assert names(run.ask("compensate")) == ["ReleaseStock"]
    assert run.answer(StockReleased).run.status == Status.NEEDS_ATTENTION
    assert names(run.ask("retry")) == ["VoidPayment"]
    assert run.answer(PaymentVoided).run.status == Status.CANCELLED


def test_compensate_again_changes_nothing() -> None:
    """What can be undone is being undone."""
    run = Operated()
    run.ask("compensate")
    assert run.ask("compensate").ignored == "already_compensating"


# --- extend ---------------------------------------------------------------------------------------


def test_extend_gives_a_step_a_later_deadline() -> None:
    """The timer that was planned before is stale."""
    run = Operated()
    decision = run.ask("extend", seconds=7200, occurred_at=START)
    assert decision.run.step("authorize_payment").deadline_at == START + timedelta(hours=2)
    assert names(decision) == []
    assert run.ask("extend", seconds=60, occurred_at=START).ignored == "deadline_not_later"


@pytest.mark.parametrize("seconds", [None, 0, -5, 10**18])
def test_an_extension_without_a_sensible_time_is_refused(seconds: int | None) -> None:
    """Also one that no calendar could hold."""
    assert Operated().ask("extend", seconds=seconds).ignored == "unusable_seconds"


def test_an_undo_that_was_given_up_has_no_deadline_to_extend() -> None:
    """A retry gives it time."""
    assert stuck().ask("extend", seconds=int(LONGEST_WAIT.total_seconds())).ignored == "no_deadline"


# --- terminate ------------------------------------------------------------------------------------


def test_terminate_leaves_standing_what_was_done_and_shows_it() -> None:
    """Nothing leaves and nothing is waited for; late answers are noted."""
    run = Operated()
    run.answer(PaymentAuthorized)
    reserve = run.asked.command_id
    ended = run.ask("terminate", reason="by hand")
    assert (ended.run.status, ended.run.reason, names(ended)) == ("terminated", "terminated: by hand", [])
    assert standing(ended.run) == ("authorize_payment", "reserve_stock")
    noted = run.answer_to(reserve, StockRejected)
    assert (noted.ignored, standing(noted.run)) == (None, ("authorize_payment",))
    assert noted.run.status == Status.TERMINATED


def test_an_effect_that_comes_after_the_termination_is_noted_and_not_undone() -> None:
    """Also of a step that had been undone, and while an undo was out."""
    run = Operated()
    hold = run.asked.command_id
    run.ask("compensate")
    run.ask("terminate")
    assert names(run.answer(PaymentVoided)) == []
    assert standing(run.state) == ()
    late = run.answer_to(hold, PaymentAuthorized)
    assert (names(late), standing(late.run)) == ([], ("authorize_payment",))


def test_an_undo_that_was_skipped_and_comes_after_the_termination_is_noted() -> None:
    """The reservation and its release were both on their way; what stands is what the last of them says."""
    run = Operated()
    run.answer(PaymentAuthorized)
    reserve = run.asked.command_id
    run.ask("compensate")
    release = run.asked.command_id
    run.ask("skip", step="reserve_stock")
    run.ask("terminate")
    assert standing(run.answer_to(reserve, StockReserved).run) == ("authorize_payment", "reserve_stock")
    assert standing(run.answer_to(release, StockReleased).run) == ("authorize_payment",)


def test_a_terminated_run_is_forgotten_like_any_other() -> None:
    """An undo that was out keeps it no longer."""
    run = Operated()
    run.ask("compensate")
    run.ask("terminate")
    timer = timers.next_timer(run.state, timedelta(days=7))
    assert timer is not None
    assert timer.event is RetentionPassed
    assert isinstance(decide(run.state, timers.fire(run.state, timer, timer.due)), Forget)


@pytest.mark.parametrize("verb", ["retry", "skip", "pause", "resume", "compensate", "extend", "terminate"])
@pytest.mark.parametrize("end", ["completed", "cancelled", "terminated"])
def test_a_run_that_has_ended_refuses_every_verb(verb: str, end: str) -> None:
    """It says that it has ended."""
    run = Operated()
    if end == "completed":
        run.answer(PaymentAuthorized)
        run.answer(StockReserved)
    elif end == "cancelled":
        run.answer(PaymentDeclined)
    else:
        run.ask("terminate")
    assert run.state.status == end
    assert run.ask(verb, seconds=60).ignored == "already_final"


def test_the_undo_of_a_late_effect_can_be_retried_after_the_end() -> None:
    """The run stays cancelled; what came late must still be undone."""
    run = Operated()
    hold = run.asked.command_id
    run.ask("compensate")
    run.answer(PaymentVoided)
    run.answer_to(hold, PaymentAuthorized)
    run.give_up("authorize_payment")
    retried = run.ask("retry")
    assert (retried.run.status, names(retried)) == (Status.CANCELLED, ["VoidPayment"])
    assert commands(run).count("VoidPayment") > 2


# --- all ------------------------------------------------------------------------------------------


def test_what_nobody_knows_is_ignored_aloud() -> None:
    """A verb of a newer release, and a step of another definition."""
    run = Operated()
    assert run.ask("dance").ignored == "unknown_verb"
    assert run.ask("retry", step="pack_order").ignored == "not_in_definition"
    assert run.ask("retry", step="reserve_stock").ignored == "step_not_awaited"
