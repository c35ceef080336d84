"""Does ``decide`` keep its promises for any events in any order, also those that no service would send?

Long, because one state machine has a rule for every kind of event.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from intents import intent_created
from plausible import plausible

from fulcrum.saga import identity, timers
from fulcrum.saga.decide import Decision, Duplicate, Forget, Undeliverable, decide
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.messages import (
    EVENTS,
    Answer,
    CancelRequested,
    Event,
    IntentCreated,
    OperatorRequested,
    QueryPayment,
    SignalReceived,
    StepCommand,
    TimerFired,
)
from fulcrum.saga.moves import find_step
from fulcrum.saga.run import MAY_STAND, Status, StepStatus, WorkflowRun
from fulcrum.saga.signals import HOLDS
from fulcrum.saga.verbs import MIGRATE, Verb
from fulcrum.simulation.environment import START

INTENT = identity.intent_id("simulation", "machine")
WORKFLOW = identity.workflow_id(INTENT)
RETENTION = timedelta(days=1)
ANSWERS = [kind for kind in EVENTS if issubclass(kind, Answer)]
TIMERS = [kind for kind in EVENTS if issubclass(kind, TimerFired)]
UNDONE = {step.undone for definition in DEFINITIONS.values() for step in definition.steps}
STEPS = [
    "authorize_payment",
    "reserve_stock",
    "confirm_stock",
    *(step.name for step in DEFINITIONS["fulfillment.v2"].steps[2:]),
    "no_such_step",
]
RESULTS = [
    None,
    "{}",
    '{"expires_at": "2026-01-01T01:00:00Z"}',
    "[]",
    "?",
    '{"lines": [{"sku": "tea-01", "quantity": 1}], "parcels": 1}',
    '{"tracking_number": "T9"}',
    *(json.dumps({"definition": name}) for name in DEFINITIONS),
]
MOMENTS = st.integers(0, 7200).map(lambda seconds: START + timedelta(seconds=seconds))


def make(kind: type[Event], **given: Any) -> Event:
    """An event of ``kind``; what is not given is plausible."""
    return plausible(kind, **{"workflow_id": WORKFLOW, "occurred_at": START, **given})


class Deciding(RuleBasedStateMachine):
    """One run. Every rule is an event; what its service or its clock would do is no limit."""

    def __init__(self) -> None:
        super().__init__()
        self.run: WorkflowRun | None = None
        self.before: WorkflowRun | None = None
        self.taken: list[Event] = []
        self.commands: dict[str, StepCommand] = {}
        self.undone: set[str] = set()
        self.left: tuple[StepCommand, ...] = ()

    @initialize(
        definition=st.sampled_from([*sorted(DEFINITIONS), "fulfillment.v2"]),
        holds=st.sampled_from([(), (), ("address",), ("fraud", "operator")]),
    )
    def begin(self, definition: str, holds: tuple[str, ...]) -> None:
        """The intent comes first on its stream."""
        told = {"workflow_id": WORKFLOW, "occurred_at": START}
        self.take(intent_created(**told, definition=definition, holds=holds))

    # --- events -------------------------------------------------------------------------------

    @rule(
        kind=st.sampled_from(ANSWERS),
        which=st.integers(0, 30),
        now=MOMENTS,
        lapses=st.none() | MOMENTS,
        good=st.booleans(),
    )
    def answer(
        self, kind: type[Event], which: int, now: datetime, lapses: datetime | None, good: bool
    ) -> None:
        """Any answer to any command that ever left, the newest first, or to one that did not."""
        known = [*reversed(self.commands), "no-command-of-this-run"]
        command = known[min(which, len(known) - 1)]
        own = {"undamaged": good, "state": "cancelled" if good else "returning", "waits_until": now}
        self.send(kind, occurred_at=now, command_id=command, expires_at=lapses, **own)

    @rule(now=MOMENTS, lapses=st.none() | MOMENTS, good=st.booleans())
    def obey(self, now: datetime, lapses: datetime | None, good: bool) -> None:
        """The answer that the command which left last asks for."""
        if not self.commands:
            return
        command = list(self.commands.values())[-1]
        step = DEFINITIONS[self.state.definition].step(command.step)
        kinds = {
            step.do: step.done if good else step.refused,
            step.undo: step.undone,
            step.query: step.not_found,
        }
        kind = kinds[type(command)]
        assert kind is not None
        self.send(kind, occurred_at=now, command_id=command.command_id, expires_at=lapses)

    @rule(times=st.integers(2, 9), now=MOMENTS)
    def go_well(self, times: int, now: datetime) -> None:
        """Nothing happens but what was asked for."""
        for _ in range(times):
            self.obey(now, None, True)

    @rule(which=st.sampled_from(STEPS[:-1]), now=MOMENTS)
    def happen_after_all(self, which: str, now: datetime) -> None:
        """A step's effect is told of when nobody waits for it any more."""
        step = find_step(self.state, which)
        if step is None or (state := self.state.step(which)).command_id is None:
            return
        still = (Status.RUNNING, Status.TERMINATED)
        gone = state.status in (StepStatus.REFUSED, StepStatus.UNDONE) and self.going not in still
        self.send(step.done, occurred_at=now, command_id=state.command_id)
        if gone and step.undo is not None:
            assert self.state.step(which).status == StepStatus.UNDO_REQUESTED, "a late effect is undone"

    @rule(late=st.integers(0, 60))
    def fire(self, late: int) -> None:
        """The clock fires what is due next."""
        timer = timers.next_timer(self.state, RETENTION)
        if timer is not None:
            self.take(timers.fire(self.state, timer, timer.due + timedelta(seconds=late)))

    @rule(late=st.integers(0, 60), times=st.integers(2, 12))
    def wait(self, late: int, times: int) -> None:
        """Nobody answers for a long time."""
        for _ in range(times):
            self.fire(late)

    @rule(
        kind=st.sampled_from(TIMERS),
        step=st.sampled_from(STEPS),
        due=MOMENTS,
        now=MOMENTS,
        real=st.booleans(),
    )
    def fire_wrongly(self, kind: type[Event], step: str, due: datetime, now: datetime, real: bool) -> None:
        """A timer that stands in no state, or that the clock has no reason to fire."""
        own = {"deadline_at": due, "expires_at": due, "finished_at": due}
        if real and find_step(self.state, step) is not None:
            state = self.state.step(step)
            stands = {
                "deadline_at": state.deadline_at,
                "expires_at": state.expires_at,
                "finished_at": self.state.finished_at,
            }
            own |= {name: moment for name, moment in stands.items() if moment is not None}
        self.send(kind, occurred_at=now, step=step, command_id="c", **own)

    @rule(now=MOMENTS)
    def cancel(self, now: datetime) -> None:
        """Somebody cancels, maybe again."""
        self.send(CancelRequested, occurred_at=now)

    @rule(
        verb=st.sampled_from([*Verb, MIGRATE, "no_such_verb"]),
        step=st.none() | st.sampled_from(STEPS),
        now=MOMENTS,
        result=st.sampled_from(RESULTS),
        seconds=st.none() | st.integers(-1, 7200),
    )
    def request(
        self, verb: str, step: str | None, now: datetime, result: str | None, seconds: int | None
    ) -> None:
        """An operator asks for anything, about any step."""
        own = {"verb": verb, "step": step, "result": result, "seconds": seconds}
        self.send(OperatorRequested, occurred_at=now, **own)

    @rule(
        now=MOMENTS,
        name=st.sampled_from(["hold", "release", "no_such_signal"]),
        hold=st.sampled_from([*HOLDS, "no_such_hold"]),
    )
    def tell(self, now: datetime, name: str, hold: str) -> None:
        """Somebody has a reason to wait, or none any more."""
        self.send(SignalReceived, occurred_at=now, name=name, payload=json.dumps({"hold": hold}))

    @rule(now=MOMENTS)
    def wake(self, now: datetime) -> None:
        """A run that is held is let go: whatever was held leaves then, and nothing else, and not before."""
        held = sorted(step.name for step in self.state.steps if step.held)
        asked = self.state.intercept
        stop = [asked.step] if asked is not None and asked.held else []
        for hold in self.state.held_by:
            assert self.state.status == Status.PAUSED
            payload = json.dumps({"hold": hold})
            self.send(SignalReceived, occurred_at=now, name="release", payload=payload)
            last = self.state.status != Status.PAUSED
            assert sorted(command.step for command in self.left) == (sorted([*held, *stop]) if last else [])

    @rule(which=st.integers(0, 30))
    def repeat(self, which: int) -> None:
        """An event that was taken comes again: the state stays, and what it decided is named."""
        event = self.taken[which % len(self.taken)]
        known = self.state
        again = decide(known, event)

        assert again == Duplicate(known)

    @rule(kind=st.sampled_from(EVENTS), ahead=st.integers(1, 3))
    def leave_a_gap(self, kind: type[Event], ahead: int) -> None:
        """An event whose predecessor is missing is not applied."""
        if kind is IntentCreated:
            event: Event = replace(self.state.intent, sequence=self.next_of(kind) + ahead)
        else:
            event = make(
                kind,
                sequence=self.next_of(kind) + ahead,
                command_id="c",
                step=STEPS[0],
                deadline_at=START,
                finished_at=START,
                expires_at=START,
            )
        assert isinstance(decide(self.state, event), Undeliverable)

    @rule()
    def accept_again(self) -> None:
        """A second intent on the stream changes nothing."""
        known = self.state
        self.take(replace(known.intent, sequence=self.next_of(IntentCreated)))
        assert self.state.steps == known.steps

    # --- what each step must keep -------------------------------------------------------------

    @invariant()
    def a_run_that_moves_waits_for_somebody(self) -> None:
        """Running waits for one command's answer, compensating for one undo's: both have a deadline."""
        waiting = {
            status: [step for step in self.state.steps if step.status == status] for status in StepStatus
        }
        match Status(self.state.status):
            case Status.RUNNING:
                (step,) = waiting[StepStatus.REQUESTED]
                assert step.deadline_at is not None
            case Status.COMPENSATING:
                assert [s for s in waiting[StepStatus.UNDO_REQUESTED] if s.deadline_at is not None]
            case Status.NEEDS_ATTENTION:
                assert self.state.reason
                assert MAY_STAND & {StepStatus(step.status) for step in self.state.steps}
            case Status.PAUSED | Status.TERMINATED:
                assert not [step for step in self.state.steps if step.deadline_at is not None]

    @invariant()
    def only_a_pause_holds_back(self) -> None:
        """A paused run knows what it goes on with; a command waits for a resume only where one can come."""
        paused = self.state.status == Status.PAUSED
        assert paused == (self.state.paused_from is not None)
        assert paused == bool(self.state.holds)
        assert paused or not [step for step in self.state.steps if step.held]
        asked = self.state.intercept
        assert asked is None or self.going == Status.RUNNING
        assert asked is None or paused == (asked.deadline_at is None)
        assert asked is None or paused or not asked.held
        if paused:
            assert self.going not in (Status.PAUSED, Status.COMPLETED, Status.CANCELLED, Status.TERMINATED)

    @invariant()
    def the_end_says_the_truth(self) -> None:
        """Completed: every step is done or skipped. Cancelled: none stands, except what is being undone."""
        statuses = {StepStatus(step.status) for step in self.state.steps}
        if self.state.status == Status.COMPLETED:
            assert statuses <= {StepStatus.DONE, StepStatus.SKIPPED}
        if self.state.status == Status.CANCELLED:
            assert not statuses & (MAY_STAND - {StepStatus.UNDO_REQUESTED})
            assert self.state.reason
        if self.state.status == Status.TERMINATED:
            assert self.state.reason

    @precondition(lambda self: self.before is not None)
    @invariant()
    def terminal_states_never_change(self) -> None:
        """Also not by an effect that came late and is undone."""
        assert self.before is not None
        if Status(self.before.status).final:
            assert self.state.status == self.before.status
            assert self.state.finished_at == self.before.finished_at

    # --- how an event is taken ----------------------------------------------------------------

    @property
    def state(self) -> WorkflowRun:
        """The run."""
        assert self.run is not None
        return self.run

    @property
    def going(self) -> Status:
        """What the run would be doing if it were not paused."""
        return Status(self.state.paused_from or self.state.status)

    def next_of(self, kind: type[Event]) -> int:
        """The next sequence of the stream of ``kind``."""
        return self.state.seen.get(kind.stream, 0) + 1

    def send(self, kind: type[Event], **given: Any) -> None:
        """The next event on its stream."""
        self.take(make(kind, sequence=self.next_of(kind), **given))

    def take(self, event: Event) -> None:
        """Decide, and check what holds of every decision."""
        before = self.run
        outcome = decide(before, event)
        assert outcome == decide(before, event)
        if isinstance(outcome, Forget):
            self.check_forgotten(event)
            return
        assert isinstance(outcome, Decision), outcome
        after = outcome.run
        assert after.version == (before.version + 1 if before is not None else 1)
        assert after.seen[event.stream] == event.sequence
        if outcome.ignored and before is not None:
            unchanged = {"version": before.version, "seen": before.seen, "updated_at": before.updated_at}
            assert replace(after, **unchanged) == before
            assert not outcome.commands
        self.left = outcome.commands
        assert not outcome.commands or after.status not in (Status.PAUSED, Status.TERMINATED)
        for command in outcome.commands:
            self.check_command(command)
        if isinstance(event, Answer):
            self.check_answer(event, outcome)
        if before is not None and not Status(before.status).final and Status(after.status).final:
            self.check_end(after, event.occurred_at)
        for state in after.steps if before is not None else ():
            began = before.step(state.name).status != state.status == StepStatus.UNDO_REQUESTED
            assert not (began and state.late), "an undo has its full patience"
        self.before, self.run = before, after
        self.taken.append(event)

    def check_command(self, command: StepCommand) -> None:
        """One id is one command; an undo that was answered, or an old query, is never meant again."""
        known = self.commands.get(command.command_id)
        assert command.command_id not in self.undone
        assert known is None or replace(known, issued_at=START) == replace(command, issued_at=START)
        assert known is None or not isinstance(command, QueryPayment)
        # The one that left last stands last.
        self.commands[self.commands.pop(command.command_id, command).command_id] = command

    def check_answer(self, event: Answer, decision: Decision) -> None:
        """Only what the run has asked last of a step is heard."""
        assert self.run is not None
        asked = {
            command
            for step in self.run.steps
            for command in (step.command_id, step.undo_command_id, step.query_command_id)
        }
        asked |= {self.run.intercept.command_id} if self.run.intercept is not None else set()
        assert event.command_id in asked or decision.ignored
        if type(event) in UNDONE and not decision.ignored:
            self.undone.add(event.command_id)

    def check_end(self, run: WorkflowRun, now: datetime) -> None:
        """A run ends with nothing left to undo, unless it is given up, and with every hold standing."""
        assert run.finished_at == now
        assert run.status == Status.TERMINATED or not run.awaits_undo
        if run.status == Status.COMPLETED:
            assert all(step.expires_at is None or step.expires_at > now for step in run.steps)

    def check_forgotten(self, event: Event) -> None:
        """Only a finished run is forgotten, and only when nothing of it is still being undone."""
        assert isinstance(event, timers.RetentionPassed)
        assert Status(self.state.status).final
        assert not self.state.awaits_undo
        assert isinstance(decide(None, event), Forget)


Deciding.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestDeciding = Deciding.TestCase
