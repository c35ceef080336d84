"""Would the simulation find a fault in what it simulates? Each known bug is planted, and must be found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fulcrum.saga import decide as deciding
from fulcrum.saga.decide import Duplicate, decide
from fulcrum.saga.sent import Sent
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
    patch.setattr(deciding, "_has_lapsed", lambda *_: False)


def no_timer_fires(patch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a parked command waits for ever."""
    patch.setattr(Clock, "changed", lambda *_: None)


BUGS: dict[Plant, tuple[str, str]] = {
    a_duplicate_is_skipped: ("crash=0.02", "a decision reaches Kafka"),
    a_decision_proves_those_before_it: ("crash=0.03,cancel=0.9", "a decision reaches Kafka"),
    a_decision_overtakes_its_state: ("crash=0.03,cancel=0.9,torn=1", "decisions unique"),
    a_release_leaves_no_fence: ("reorder=0.5,cancel=0.9", "an undo leaves a fence"),
    a_void_leaves_no_fence: ("reorder=0.5,cancel=0.9", "an undo leaves a fence"),
    a_repeated_command_is_carried_out_again: ("duplicate=0.1", "one answer per command id"),
    a_run_completes_on_a_lapsed_hold: ("expiry=0.5,delay=0.1", "no run completes on a lapsed hold"),
    no_timer_fires: ("parked=0.05", "liveness"),
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
