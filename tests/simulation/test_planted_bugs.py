"""Would the simulation find a fault in what it simulates? Each known bug is planted, and must be found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fulcrum.saga import answers, definitions, moves, pause, verbs
from fulcrum.saga import decide as deciding
from fulcrum.saga.decide import Duplicate, decide
from fulcrum.saga.run import MAY_STAND, StepStatus
from fulcrum.saga.sent import Sent
from fulcrum.saga.step import Fill, Step
from fulcrum.simulation import orchestrator
from fulcrum.simulation.campaign import run_worlds
from fulcrum.simulation.clock import Clock
from fulcrum.simulation.faults import parse
from fulcrum.simulation.inventory import InventoryWorker
from fulcrum.simulation.participant import Participant
from fulcrum.simulation.payment import PaymentWorker

Plant = Callable[[pytest.MonkeyPatch], None]


def a_duplicate_is_skipped(patch: pytest.MonkeyPatch) -> None:
    """State written, process dies, the redelivery is deduplicated: the command is never sent."""

    def skipping(*given: Any) -> Any:
        outcome = decide(*given)
        return Duplicate(replace(outcome.run, unsent=())) if isinstance(outcome, Duplicate) else outcome

    patch.setattr(orchestrator, "decide", skipping)


def a_decision_proves_those_before_it(patch: pytest.MonkeyPatch) -> None:
    """After a restart only the newest decision is sent, and counts as proof of all."""
    due = Sent.due
    patch.setattr(Sent, "due", lambda self, run: due(self, run)[-1:])


def a_decision_overtakes_its_state(_: pytest.MonkeyPatch) -> None:
    """Kafka takes the decision, the process dies, and the state was not taken: a fault that can be chosen."""


def a_release_leaves_no_fence(patch: pytest.MonkeyPatch) -> None:
    """A reservation that comes after its release is made."""
    release = InventoryWorker._release

    def unfenced(self: InventoryWorker, command: Any) -> None:
        release(self, command)
        del self.reservations[command.workflow_id]

    patch.setattr(InventoryWorker, "_release", unfenced)


def a_void_leaves_no_fence(patch: pytest.MonkeyPatch) -> None:
    """An authorization that comes after its void is carried out."""
    void = PaymentWorker._void

    def unfenced(self: PaymentWorker, command: Any) -> Any:
        yield from void(self, command)
        del self._payments[command.workflow_id]

    patch.setattr(PaymentWorker, "_void", unfenced)


def a_repeated_command_is_carried_out_again(patch: pytest.MonkeyPatch) -> None:
    """A worker without an inbox."""
    patch.setattr(Participant, "repeat", lambda *_: False)


def a_run_completes_on_a_lapsed_hold(patch: pytest.MonkeyPatch) -> None:
    """Only the timer says that a hold has lapsed, and it may come after the last answer."""
    patch.setattr(moves, "_has_lapsed", lambda *_: False)


def no_timer_fires(patch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a parked command waits for ever."""
    patch.setattr(Clock, "changed", lambda *_: None)


def a_pause_holds_nothing_back(patch: pytest.MonkeyPatch) -> None:
    """The run is called paused, and its commands leave."""
    hold_back = pause.hold_back
    patch.setattr(
        deciding, "hold_back", lambda made, holds: replace(hold_back(made, holds), commands=made.commands)
    )


def a_skipped_step_is_not_undone(patch: pytest.MonkeyPatch) -> None:
    """Whoever skips a step is taken at their word that nothing happened."""
    patch.setattr(moves, "MAY_STAND", MAY_STAND - {StepStatus.SKIPPED})


def a_terminated_run_forgets_what_it_asked_for(patch: pytest.MonkeyPatch) -> None:
    """A step that has not answered is taken for one that did not happen, and its late answer is not noted."""
    terminate = verbs._ACTS[verbs.Verb.TERMINATE]

    def forgetful(*given: Any) -> Any:
        made = terminate(*given)
        if isinstance(made, str):
            return made
        asked = (step for step in made.run.steps if step.status == StepStatus.REQUESTED)
        forgotten = made.run
        for step in asked:
            forgotten = forgotten.with_step(replace(step, status=StepStatus.PENDING))
        return replace(made, run=forgotten)

    patch.setitem(verbs._ACTS, verbs.Verb.TERMINATE, forgetful)


def a_lapse_is_ignored(patch: pytest.MonkeyPatch) -> None:
    """Only the clock says that a hold has lapsed, and it says so only to a run that goes forward."""
    roles = answers._roles

    def unheard(definition: str) -> Any:
        told = {
            answer: [each for each in found if each[1] != "lapsed"]
            for answer, found in roles(definition).items()
        }
        return {answer: steps for answer, steps in told.items() if steps}

    patch.setattr(answers, "_roles", unheard)


def what_is_short_is_paid(patch: pytest.MonkeyPatch) -> None:
    """The whole amount is captured, whatever was packed."""
    patch.setattr(definitions, "captured", lambda amount_minor, *_: amount_minor)


def silence_behind_the_pivot_undoes(patch: pytest.MonkeyPatch) -> None:
    """A step there counts as failed after its patience, as any other."""
    patch.setattr(Step, "gives_up", lambda self, late: late >= self.patience)


def a_refused_undo_counts_as_done(patch: pytest.MonkeyPatch) -> None:
    """The money that the provider keeps is taken for given back."""
    patch.setattr(
        answers, "_undo_refused", lambda run, step, event: moves.undone(run, step, event.occurred_at)
    )


def lost_goods_are_sold_again(patch: pytest.MonkeyPatch) -> None:
    """Whatever does not arrive is taken for back on its shelf."""
    rows = definitions.DEFINITIONS["fulfillment.v2"]
    patch.setattr(answers, "_roles", answers._roles.__wrapped__)
    sold = Fill("deliver", "undamaged", of=lambda _: True, needed=False)
    steps = [
        replace(row, fills={**row.fills, "undamaged": sold}) if row.name == "consume_stock" else row
        for row in rows.steps
    ]
    patch.setitem(definitions.DEFINITIONS, rows.name, replace(rows, steps=tuple(steps)))


BUGS: dict[Plant, tuple[str, str]] = {
    a_duplicate_is_skipped: ("crash=0.02", "a decision reaches Kafka"),
    a_decision_proves_those_before_it: ("crash=0.03,cancel=0.9", "a decision reaches Kafka"),
    a_decision_overtakes_its_state: ("crash=0.03,cancel=0.9,torn=1", "decisions unique"),
    a_release_leaves_no_fence: ("reorder=0.5,cancel=0.9", "an undo leaves a fence"),
    a_void_leaves_no_fence: ("reorder=0.5,cancel=0.9", "an undo leaves a fence"),
    a_repeated_command_is_carried_out_again: ("duplicate=0.1", "one answer per command id"),
    a_run_completes_on_a_lapsed_hold: ("expiry=0.5,delay=0.1", "no run completes on a lapsed hold"),
    no_timer_fires: ("parked=0.05", "liveness"),
    a_pause_holds_nothing_back: ("operator=0.9", "nothing leaves a paused run"),
    a_skipped_step_is_not_undone: ("operator=0.9,shortage=0.5", "nothing held for a cancelled run"),
    a_terminated_run_forgets_what_it_asked_for: ("operator=0.9", "a terminated run shows what stands"),
    a_lapse_is_ignored: ("operator=0.9,expiry=0.9", "a terminated run shows what stands"),
    what_is_short_is_paid: ("short=0.5", "captured is what was packed"),
    silence_behind_the_pivot_undoes: ("silence=1", "silence undoes nothing"),
    a_refused_undo_counts_as_done: ("unrefunded=0.9,cancel=0.5", "nothing held for a cancelled run"),
    lost_goods_are_sold_again: ("parcel=0.9", "only goods that are back"),
}


@pytest.mark.parametrize("plant", BUGS, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found_and_replays(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The violation names the broken promise; its world alone, by its seed, shows the same schedule."""
    faults, invariant = BUGS[plant]
    plant(monkeypatch)

    failure = run_worlds(1, 5000, parse(faults)).failure

    assert failure is not None
    assert failure.invariant.startswith(invariant), (failure.invariant, failure.detail)
    assert run_worlds(failure.seed, failure.workflows, parse(faults)).failure == failure
