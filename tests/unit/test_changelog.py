"""Runs that were started under earlier releases finish under their rules, whatever release reads them.

``golden/changelog/<n>.<state>.bin`` is what a release with version n of the state's schema left in the
changelog of a run of fulfillment.v1: an Avro body, written by that release. The files are never changed.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from plausible import plausible

from fulcrum.saga import identity
from fulcrum.saga.decide import Decision, Duplicate, decide
from fulcrum.saga.messages import (
    CancelRequested,
    Event,
    IntentCreated,
    OperatorRequested,
    PaymentAuthorized,
    PaymentVoided,
    StockReleased,
    StockReserved,
)
from fulcrum.saga.run import WorkflowRun
from fulcrum.wire.codec import offline_codec
from fulcrum.wire.history import committed
from fulcrum.wire.schemas import fullname

CHANGELOG = sorted((Path(__file__).parent / "golden" / "changelog").glob("*.bin"))
NAME = fullname(WorkflowRun)
ANSWERS: dict[str, type[Event]] = {
    "AuthorizePayment": PaymentAuthorized,
    "ReserveStock": StockReserved,
    "VoidPayment": PaymentVoided,
    "ReleaseStock": StockReleased,
}


def read(path: Path) -> WorkflowRun:
    """The state, as today's orchestrator reads it from its changelog."""
    number = int(path.name.split(".")[0])
    codec = offline_codec()
    codec.add_reader(4711, json.dumps(committed().versions(NAME)[number - 1].schema))
    run = codec.decode(b"\x00" + (4711).to_bytes(4, "big") + path.read_bytes())
    assert isinstance(run, WorkflowRun)
    return run


class Continued:
    """A run that goes on: each event is the next one of its stream."""

    def __init__(self, path: Path) -> None:
        self.run = read(path)
        out = [step for step in self.run.steps if step.status == "requested"]
        self.out: list[tuple[str, str]] = [(_COMMANDS[step.name], str(step.command_id)) for step in out]
        self.sent: list[str] = []

    def feed(self, kind: type[Event], **own: Any) -> Decision:
        """Decide and keep the state; what leaves waits for its answer."""
        made = plausible(
            kind,
            workflow_id=self.run.workflow_id,
            sequence=self.run.seen.get(kind.stream, 0) + 1,
            occurred_at=self.run.updated_at + timedelta(seconds=1),
            **own,
        )
        decision = decide(self.run, made)
        assert isinstance(decision, Decision), decision
        self.run = decision.run
        self.out = [(type(c).__name__, c.command_id) for c in decision.commands] or self.out
        self.sent += [type(c).__name__ for c in decision.commands]
        return decision

    def answer_all(self) -> WorkflowRun:
        """Answer well whatever is out, until nothing is."""
        while self.run.finished_at is None:
            command, command_id = self.out.pop()
            self.feed(ANSWERS[command], command_id=command_id)
        return self.run


_COMMANDS = {"authorize_payment": "AuthorizePayment", "reserve_stock": "ReserveStock"}
_PAUSED = [path for path in CHANGELOG if "paused" in path.name]
_RUNNING = [path for path in CHANGELOG if path not in _PAUSED]


def _name(path: Path) -> str:
    return path.stem


def test_every_earlier_release_has_left_something() -> None:
    """One file at least of each version of the schema but the newest, which nobody has released."""
    versions = {int(path.name.split(".")[0]) for path in CHANGELOG}
    assert versions >= set(range(1, len(committed().versions(NAME))))


@pytest.mark.parametrize("path", _RUNNING, ids=_name)
def test_run_of_an_earlier_release_is_carried_to_its_end(path: Path) -> None:
    """Under its own definition: the steps that it has not begun are asked for, and it completes."""
    run = Continued(path)
    assert run.answer_all().status == "completed"
    assert [step.status for step in run.run.steps] == ["done", "done"]
    assert run.run.definition == "fulfillment.v1"


@pytest.mark.parametrize("path", _RUNNING, ids=_name)
def test_run_of_an_earlier_release_is_undone(path: Path) -> None:
    """What may have happened is undone in reverse order, by the commands of that release."""
    run = Continued(path)
    begun = [step.name for step in run.run.steps if step.status != "pending"]
    run.feed(CancelRequested, reason="changed my mind")
    assert run.answer_all().status == "cancelled"
    undo = {"authorize_payment": "VoidPayment", "reserve_stock": "ReleaseStock"}
    assert run.sent == [undo[name] for name in reversed(begun)]


@pytest.mark.parametrize("path", _PAUSED, ids=_name)
def test_pause_of_an_earlier_release_is_the_operators_hold(path: Path) -> None:
    """Nothing knew of holds then; a resume lets it go on."""
    run = Continued(path)
    assert run.run.held_by == ("operator",)
    run.feed(OperatorRequested, verb="resume")
    assert run.answer_all().status == "completed"


@pytest.mark.parametrize("path", CHANGELOG, ids=_name)
def test_intent_that_comes_again_is_a_repeat(path: Path) -> None:
    """Terms, promise and holds say nothing in it: it is the intent that it was."""
    run = read(path)
    assert isinstance(run.intent, IntentCreated)
    assert (run.intent.terms, run.intent.promised_at, run.intent.holds) == ((), None, ())
    assert run.intent.event_id == identity.event_id(run.intent.intent_id, "IntentCreated")
    assert isinstance(decide(run, run.intent), Duplicate)
