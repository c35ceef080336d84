"""Does the check of the journal see what an orchestrator that lost its memory would do?"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from intents import NOON, WORKFLOW, intent_created

from fulcrum.agents.journal import record
from fulcrum.doctor.in_journal import Partition, Place, Told, fold, unaccounted
from fulcrum.saga import identity
from fulcrum.saga.decide import Decision, decide
from fulcrum.saga.messages import (
    CancelRequested,
    DeadlinePassed,
    DecisionMade,
    Event,
    Line,
    PaymentAuthorized,
    StockReserved,
)
from fulcrum.wire.codec import offline_codec

CODEC = offline_codec()

Story = tuple[list[DecisionMade], dict[Told, tuple[Event, Place]]]


@pytest.fixture
def told() -> Story:
    """The journal of a workflow that completed, and its events, as a sound orchestrator leaves them."""
    events: list[Event] = [
        intent_created(),
        PaymentAuthorized(
            event_id="e0000000-0000-5000-8000-000000000002",
            workflow_id=WORKFLOW,
            sequence=1,
            occurred_at=NOON + timedelta(seconds=1),
            command_id=identity.command_id(WORKFLOW, "authorize_payment", "AuthorizePayment", 1),
            authorization_id="auth-1",
            amount_minor=1250,
            currency="EUR",
        ),
        StockReserved(
            event_id="e0000000-0000-5000-8000-000000000003",
            workflow_id=WORKFLOW,
            sequence=1,
            occurred_at=NOON + timedelta(seconds=2),
            command_id=identity.command_id(WORKFLOW, "reserve_stock", "ReserveStock", 1),
            lines=(Line("tea-01", 2),),
            expires_at=None,
        ),
    ]
    run, journal = None, []
    for offset, event in enumerate(events):
        outcome = decide(run, event)
        assert isinstance(outcome, Decision)
        topic = f"fulcrum.{event.stream}"
        trace = f"00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033{offset:02}-01"
        journal.append(
            record(outcome, event, CODEC.encode, topic=topic, partition=3, offset=offset, traceparent=trace)
        )
        run = outcome.run
    assert journal[-1].status == "completed"
    return journal, {(event.event_id, event.sequence): (event, _place(event)) for event in events}


def _place(event: Event) -> Place:
    return f"fulcrum.{event.stream}", 3, 7


def found(told: Story) -> list[tuple[str, str]]:
    """What is wrong with the journal: check and detail."""
    wrong, _ = fold(*told, CODEC.decode)
    assert {violation.subject for violation in wrong} <= {WORKFLOW}
    return [(violation.check, violation.detail) for violation in wrong]


def test_a_sound_journal_holds(told: Story) -> None:
    """Every decision is the one that the rules make."""
    wrong, first = fold(*told, CODEC.decode)

    assert wrong == []
    assert first == told[0]


def test_a_journal_of_an_older_release_holds(told: Story) -> None:
    """It did not say when a run ended, nor what a person had asked for and why."""
    journal, events = told
    cancel = CancelRequested(
        event_id="e0000000-0000-5000-8000-000000000004",
        workflow_id=WORKFLOW,
        sequence=2,
        occurred_at=NOON + timedelta(seconds=3),
        reason="too late",
        actor="ana",
    )
    run = None
    for event, _ in events.values():
        outcome = decide(run, event)
        assert isinstance(outcome, Decision)
        run = outcome.run
    ignored = decide(run, cancel)
    assert isinstance(ignored, Decision)
    made = record(ignored, cancel, CODEC.encode, topic="fulcrum.intents", partition=3, offset=3)
    assert (made.cause.verb, made.cause.reason) == ("cancel", "too late")
    older = replace(made, finished_at=None, cause=replace(made.cause, verb=None, reason=None))
    journal = [*journal[:2], replace(journal[2], finished_at=None), older]
    events = {**events, (cancel.event_id, cancel.sequence): (cancel, _place(cancel))}

    assert found((journal, events)) == []


def test_repeats_are_no_fault_and_are_left_out(told: Story) -> None:
    """After a crash a decision is written again; it counts once."""
    journal, events = told

    assert fold([journal[0], *journal, *journal[1:]], events, CODEC.decode) == ([], journal)


def test_a_repeat_that_says_something_else_is_seen(told: Story) -> None:
    """Two decisions under one version: a state was lost and decided anew."""
    journal, events = told
    other = replace(journal[1], reason="something else")

    assert found(([*journal, other], events)) == [
        ("a repeated decision says the same", "version 2 differs"),
    ]


def test_a_hole_is_seen(told: Story) -> None:
    """A decision that never came to Kafka."""
    journal, events = told

    assert found(([journal[0], journal[2]], events)) == [
        ("the journal is dense and in order", "version 3 after 1"),
    ]
    assert found((journal[1:], events)) == [("the journal is dense and in order", "version 2 after 0")]


def test_a_run_that_rises_again_is_seen(told: Story) -> None:
    """A completed run is running once more."""
    journal, events = told
    again = replace(journal[1], version=4)

    assert found(([*journal, again], events))[0] == ("a final status never changes", "completed to running")


@pytest.mark.parametrize(
    ("version", "changes"),
    [
        (1, {"commands": ()}),
        (2, {"status": "completed"}),
        (3, {"status": "cancelled"}),
        (3, {"tenant": "another"}),
    ],
)
def test_a_decision_that_the_rules_do_not_make_is_seen(
    told: Story, version: int, changes: dict[str, object]
) -> None:
    """A command that was not given, another status, the data of another run."""
    journal, events = told
    journal[version - 1] = replace(journal[version - 1], **changes)  # type: ignore[arg-type]

    assert found((journal, events))[0][0] == "every decision is what the rules say"


def test_a_command_with_another_body_is_seen(told: Story) -> None:
    """What leaves must be what was decided, byte for byte of its meaning."""
    journal, events = told
    command = journal[0].commands[0]
    body = replace(CODEC.decode(command.body), amount_minor=1)  # type: ignore[type-var, call-arg]
    journal[0] = replace(journal[0], commands=(replace(command, body=CODEC.encode(body)),))  # type: ignore[arg-type]

    assert found((journal, events))[0][0] == "every decision is what the rules say"


def test_a_decision_without_its_event_is_seen(told: Story) -> None:
    """A decision names an event that is not in Kafka."""
    journal, events = told
    del events[(journal[1].cause.event_id, 1)]

    assert found((journal, events)) == [
        (
            "every decision is what the rules say",
            "version 2: its event e0000000-0000-5000-8000-000000000002 is not in Kafka",
        )
    ]


# --- nothing is lost ------------------------------------------------------------------------------


def test_an_event_that_was_never_decided_on_is_lost(told: Story) -> None:
    """An event that the orchestrator skipped, unless it lies in the dead-letter topic."""
    journal, events = told
    partition = Partition(events, {WORKFLOW: journal[:2]})

    (lost,) = unaccounted(partition, set())

    assert lost.subject == "e0000000-0000-5000-8000-000000000003"
    assert lost.detail == "StockReserved fulcrum.inventory/3@7"
    assert unaccounted(partition, {("fulcrum.inventory", 3, 7)}) == []
    assert unaccounted(Partition(events, {WORKFLOW: journal}), set()) == []


def test_an_unreadable_record_must_be_put_aside() -> None:
    """Bytes that nobody can read are in the dead-letter topic, or they were dropped."""
    place = ("fulcrum.payments", 1, 5)
    partition = Partition(unreadable=[place])

    assert [v.subject for v in unaccounted(partition, set())] == ["fulcrum.payments/1@5"]
    assert unaccounted(partition, {place}) == []


def test_a_timer_that_nobody_needed_is_not_lost(told: Story) -> None:
    """A deadline that fired beside another timer, or after the end, needs no decision; a live run's does."""
    journal, events = told
    late = DeadlinePassed(
        event_id="e0000000-0000-5000-8000-000000000009",
        workflow_id=WORKFLOW,
        sequence=1,
        occurred_at=NOON,
        step="reserve_stock",
        command_id=identity.command_id(WORKFLOW, "reserve_stock", "ReserveStock", 1),
        deadline_at=NOON,
    )
    fired = {**events, (late.event_id, 1): (late, _place(late))}
    running = journal[:2]
    timed = replace(running[1], cause=replace(running[1].cause, stream="timers"))

    def lost(decisions: list[DecisionMade]) -> list[str]:
        found = unaccounted(Partition(fired, {WORKFLOW: decisions}), set())
        return [v.subject for v in found if v.subject == late.event_id]

    assert lost(running) == [late.event_id]
    assert lost([running[0], timed]) == []
    assert lost(journal) == []
