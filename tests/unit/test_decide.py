"""What does an event mean to a run?

Long, because every walk through the states is written out as a story.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from intents import WORKFLOW, intent_created
from plausible import plausible

from fulcrum.saga import identity
from fulcrum.saga.decide import Decision, Duplicate, Undeliverable, decide
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.messages import (
    EVENTS,
    DeadlinePassed,
    Event,
    IntentCreated,
    Line,
    PaymentAuthorized,
    PaymentDeclined,
    PaymentNotFound,
    PaymentVoided,
    StepCommand,
    StockConfirmed,
    StockExpired,
    StockNotConfirmed,
    StockRejected,
    StockReleased,
    StockReserved,
)
from fulcrum.saga.run import Status, StepStatus, Unsent, WorkflowRun

START = datetime(2026, 1, 1, tzinfo=UTC)


def intent(definition: str = "fulfillment.v1") -> IntentCreated:
    """An accepted intent for two units of one SKU."""
    return intent_created(occurred_at=START, definition=definition, amount_minor=1999)


class Script:
    """Feeds events to a run the way services would, numbering each stream."""

    def __init__(self, definition: str = "fulfillment.v1") -> None:
        self.run: WorkflowRun | None = None
        self.decisions: list[Decision] = []
        self.feed(intent(definition))

    def feed(self, event: Event) -> Decision:
        """Decide and keep the state."""
        decision = decide(self.run, event)
        assert isinstance(decision, Decision), decision
        self.run = decision.run
        self.decisions.append(decision)
        return decision

    @property
    def asked(self) -> StepCommand:
        """The command that left last."""
        return [command for decision in self.decisions for command in decision.commands][-1]

    def answer(self, kind: type[Event], **own: object) -> Decision:
        """The service's answer to the command that left last."""
        assert self.run is not None
        defaults: dict[type[Event], dict[str, object]] = {
            PaymentAuthorized: {"authorization_id": "auth-1", "amount_minor": 1999, "currency": "EUR"},
            PaymentDeclined: {"reason": "card_declined"},
            PaymentVoided: {"authorization_id": "auth-1"},
            PaymentNotFound: {"asked_command_id": self.decisions[0].commands[0].command_id},
            StockReserved: {"lines": (Line("sku-1", 2),), "expires_at": None},
            StockRejected: {"reason": "out_of_stock", "short": ()},
            StockReleased: {"lines": (Line("sku-1", 2),)},
            StockConfirmed: {"lines": (Line("sku-1", 2),)},
            StockNotConfirmed: {"reason": "expired"},
            StockExpired: {"lines": (Line("sku-1", 2),)},
        }
        command = self.asked
        common = {
            "event_id": identity.event_id(command.command_id, kind.__name__),
            "workflow_id": WORKFLOW,
            "sequence": self.run.seen.get(kind.stream, 0) + 1,
            "occurred_at": START + timedelta(seconds=self.run.version),
            "command_id": command.command_id,
        }
        return self.feed(plausible(kind, **{**common, **defaults.get(kind, {}), **own}))

    def deadline(self, step: str) -> Decision:
        """The deadline of ``step`` passes."""
        assert self.run is not None
        due = self.run.step(step).deadline_at
        assert due is not None
        return self.feed(
            DeadlinePassed(
                event_id=identity.timer_id(WORKFLOW, "deadline", step, due),
                workflow_id=WORKFLOW,
                sequence=self.run.seen.get("timers", 0) + 1,
                occurred_at=due + timedelta(seconds=1),
                step=step,
                command_id=self.asked.command_id,
                deadline_at=due,
            )
        )


def commands(script: Script) -> list[str]:
    """The names of all commands that left, in order."""
    return [type(c).__name__ for decision in script.decisions for c in decision.commands]


def test_every_step_done_completes_the_run() -> None:
    """Authorised, then reserved: completed, and the version is dense."""
    script = Script()
    script.answer(PaymentAuthorized)
    done = script.answer(StockReserved)

    assert commands(script) == ["AuthorizePayment", "ReserveStock"]
    assert [d.run.version for d in script.decisions] == [1, 2, 3]
    assert done.run.status == Status.COMPLETED
    assert done.run.finished_at == START + timedelta(seconds=2)


def test_a_refused_first_step_leaves_nothing_to_undo() -> None:
    """A declined card cancels at once: a refusal leaves nothing behind."""
    script = Script()
    end = script.answer(PaymentDeclined)

    assert commands(script) == ["AuthorizePayment"]
    assert end.run.status == Status.CANCELLED
    assert end.run.reason == "authorize_payment: card_declined"


def test_missing_stock_gives_the_payment_back() -> None:
    """Undoing starts one step before the refusal and ends cancelled."""
    script = Script()
    script.answer(PaymentAuthorized)
    undoing = script.answer(StockRejected)
    assert undoing.run.status == Status.COMPENSATING
    end = script.answer(PaymentVoided)

    assert commands(script) == ["AuthorizePayment", "ReserveStock", "VoidPayment"]
    assert end.run.status == Status.CANCELLED
    assert [s.status for s in end.run.steps] == [StepStatus.UNDONE, StepStatus.REFUSED]


def test_another_definition_is_another_order() -> None:
    """reserve_first.v1 holds stock first and releases it when the card is declined."""
    script = Script("reserve_first.v1")
    script.answer(StockReserved)
    script.answer(PaymentDeclined)
    end = script.answer(StockReleased)

    assert commands(script) == ["ReserveStock", "AuthorizePayment", "ReleaseStock"]
    assert end.run.status == Status.CANCELLED


def test_a_run_does_not_complete_on_a_hold_that_has_lapsed() -> None:
    """The last answer says by its own time that the payment lapsed, however late the timer is."""
    script = Script()
    authorized = script.answer(PaymentAuthorized, expires_at=START + timedelta(seconds=2))
    assert authorized.run.status == Status.RUNNING
    late = script.answer(StockReserved, occurred_at=START + timedelta(seconds=2))

    assert (late.run.status, late.run.reason) == (Status.COMPENSATING, "authorize_payment: hold_expired")
    assert commands(script)[-1] == "ReleaseStock"


def test_a_command_carries_what_the_intent_says() -> None:
    """Fields beyond the common ones are the intent's fields of the same name."""
    script = Script()
    command = script.asked

    assert (command.step, command.attempt, command.issued_at) == ("authorize_payment", 1, START)
    assert getattr(command, "payment_method") == "pay_ok"  # noqa: B009
    assert getattr(command, "amount_minor") == 1999  # noqa: B009


def test_a_command_that_is_sent_again_is_the_same_to_the_last_field() -> None:
    """A worker takes an id with another body for a forgery, so not even the time of issue may differ."""
    script = Script()
    (hold,) = script.decisions[0].commands
    for _ in range(2):
        script.deadline("authorize_payment")
        script.answer(PaymentNotFound)
        assert script.asked == hold
    script.answer(PaymentAuthorized)
    reserve = script.asked
    script.deadline("reserve_stock")
    assert script.asked == reserve
    script.answer(StockRejected)
    void = script.asked
    for _ in range(2):
        script.deadline("authorize_payment")
        assert script.asked == void
    assert commands(script)[-3:] == ["VoidPayment"] * 3


def test_a_repeated_event_is_a_duplicate_with_the_unsent_decisions() -> None:
    """What was decided and not proven sent stays in the state, so a repeat can emit it again."""
    script = Script()
    assert script.run is not None
    kept = script.run.with_unsent(Unsent(version=1, record=b"d1"), sent_through=0)

    again = decide(kept, intent())

    assert isinstance(again, Duplicate)
    assert again.run.unsent == (Unsent(version=1, record=b"d1"),)


def test_what_is_proven_sent_leaves_the_state() -> None:
    """The next write trims what the broker has acknowledged."""
    script = Script()
    assert script.run is not None
    run = script.run.with_unsent(Unsent(version=1, record=b"d1"), sent_through=0)
    run = run.with_unsent(Unsent(version=2, record=b"d2"), sent_through=1)

    assert [u.version for u in run.unsent] == [2]


def test_a_gap_in_a_stream_is_kept_aside() -> None:
    """An event whose predecessor is missing must not be applied."""
    script = Script()
    event = PaymentDeclined(
        event_id="e", workflow_id=WORKFLOW, sequence=2, occurred_at=START, command_id="c", reason="x"
    )

    assert decide(script.run, event) == Undeliverable("gap in stream payments: expected 1, got 2")


def test_an_answer_without_a_run_is_kept_aside() -> None:
    """No run, no guess."""
    event = PaymentDeclined(
        event_id="e", workflow_id=WORKFLOW, sequence=1, occurred_at=START, command_id="c", reason="x"
    )

    assert decide(None, event) == Undeliverable("no such workflow run")


def test_an_unknown_definition_is_kept_aside() -> None:
    """The orchestrator may be older than the intake that accepted the intent."""
    assert decide(None, intent("fulfillment.v9")) == Undeliverable("unknown definition 'fulfillment.v9'")


def test_a_stale_command_is_ignored_aloud() -> None:
    """An answer to a command that this run did not send changes nothing but the version."""
    script = Script()
    assert script.run is not None
    event = PaymentAuthorized(
        event_id="e",
        workflow_id=WORKFLOW,
        sequence=1,
        occurred_at=START,
        command_id="someone-else",
        authorization_id="a",
        amount_minor=1,
        currency="EUR",
    )
    decision = decide(script.run, event)

    assert isinstance(decision, Decision)
    assert decision.ignored == "stale_command"
    assert decision.run.version == script.run.version + 1
    assert decision.run.steps == script.run.steps


@pytest.mark.parametrize("definition", DEFINITIONS)
@pytest.mark.parametrize(("status", "kind"), list(product(Status, EVENTS)))
def test_every_pair_of_status_and_event_has_a_result(
    definition: str, status: Status, kind: type[Event]
) -> None:
    """decide is total: no pair of status and event raises, and a final status never changes."""
    script = Script(definition)
    assert script.run is not None
    paused_from = Status.RUNNING if status is Status.PAUSED else None
    run = replace(script.run, status=status, paused_from=paused_from)
    if kind is IntentCreated:
        event: Event = replace(intent(definition), sequence=run.seen["intents"] + 1)
    else:
        event = replace(_answer_to(script.asked, kind), sequence=run.seen.get(kind.stream, 0) + 1)
    outcome = decide(run, event)

    assert isinstance(outcome, Decision)
    if status.final:
        assert outcome.run.status == status
        assert outcome.ignored or status is Status.TERMINATED
    if status in (Status.PAUSED, Status.TERMINATED):
        assert not outcome.commands


def _answer_to(command: StepCommand, kind: type[Event]) -> Event:
    """An event of ``kind`` that answers ``command``, with any plausible content."""
    given = {"command_id": command.command_id, "asked_command_id": command.command_id, "step": command.step}
    return plausible(kind, **given)


@given(choices=st.lists(st.sampled_from(["done", "refused", "repeat"]), max_size=12))
@pytest.mark.parametrize("definition", DEFINITIONS)
def test_every_walk_ends_with_nothing_standing_or_everything_done(
    definition: str, choices: list[str]
) -> None:
    """Whatever is answered and repeated, a run ends completed with all done or cancelled with none."""
    script = Script(definition)
    answers: dict[type[StepCommand] | None, tuple[type[Event], type[Event]]] = {}
    for step in DEFINITIONS[definition].steps:
        answers[step.do] = (step.done, step.refused)
        if step.undone is not None:
            answers[step.undo] = (step.undone, step.undone)
    plan = iter([*choices, *["done"] * 16])
    while script.run is not None and not Status(script.run.status).final:
        choice = next(plan)
        if choice == "repeat":
            assert isinstance(decide(script.run, intent(definition)), Duplicate)
            continue
        done, refused = answers[type(script.asked)]
        script.answer(done if choice == "done" else refused)

    assert script.run is not None
    standing = [s.name for s in script.run.steps if s.status in (StepStatus.DONE, StepStatus.REQUESTED)]
    expected = [s.name for s in script.run.steps] if script.run.status == Status.COMPLETED else []
    assert standing == expected
