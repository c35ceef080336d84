"""What holds a run, and what lets it go? Reasons come and go by signals; the operator's is one of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from fulfilment import Fulfilment

from fulcrum.saga.decide import Decision, decide
from fulcrum.saga.messages import (
    OrderPacked,
    PaymentAuthorized,
    PaymentReversed,
    SignalReceived,
    StockConsumed,
    StockReserved,
)
from fulcrum.saga.run import Status
from fulcrum.saga.signals import HOLDS, SIGNALS, unusable_payload

ADDRESS, FRAUD = '{"hold": "address"}', '{"hold": "fraud"}'


def test_a_held_run_takes_answers_and_sends_nothing() -> None:
    """Until the reason is gone."""
    run = Fulfilment()
    held = run.signal("hold", ADDRESS)
    assert (held.run.status, held.run.held_by, held.run.paused_from) == ("paused", ("address",), "running")
    assert run.answer(PaymentAuthorized).commands == ()
    released = run.signal("release", ADDRESS)
    assert (released.run.status, released.run.holds) == (Status.RUNNING, ())
    assert [command.step for command in released.commands] == ["reserve_stock"]


def test_a_run_goes_on_when_its_last_hold_is_released() -> None:
    """Several at once are told apart, and stand in the order of the alphabet."""
    run = Fulfilment()
    run.signal("hold", FRAUD)
    assert run.signal("hold", ADDRESS).run.holds == ("address", "fraud")
    assert run.signal("release", FRAUD).run.status == Status.PAUSED
    assert run.run.holds == ("address",)
    assert run.signal("release", ADDRESS).run.status == Status.RUNNING


def test_an_intent_may_start_held() -> None:
    """Nothing leaves; the first command goes out when the last reason is gone."""
    run = Fulfilment(holds=("fraud", "address"))
    assert (run.sent, run.run.status, run.run.holds) == ([], Status.PAUSED, ("address", "fraud"))
    assert run.decisions[0].status_before is None
    run.signal("release", FRAUD)
    assert run.sent == []
    run.signal("release", ADDRESS)
    assert run.names == ["AuthorizePayment"]
    assert run.answer(PaymentAuthorized).run.status == Status.RUNNING


def test_a_run_that_starts_held_can_be_cancelled() -> None:
    """What was never sent may still be undone: the provider refuses it from then on."""
    run = Fulfilment(holds=("fraud",))
    assert run.cancel().run.status == Status.PAUSED
    run.signal("release", FRAUD)
    assert run.names == ["ReversePayment"]
    assert run.answer(PaymentReversed).run.status == Status.CANCELLED


def test_a_pause_is_a_hold_of_the_operator() -> None:
    """It stands beside others, and a resume takes away nothing else."""
    run = Fulfilment()
    run.signal("hold", ADDRESS)
    assert run.ask("pause").run.holds == ("address", "operator")
    assert run.ask("pause").ignored == "already_paused"
    assert run.ask("resume").run.holds == ("address",)
    assert run.ask("resume").ignored == "held_by_others"
    assert run.signal("release", ADDRESS).run.status == Status.RUNNING
    assert run.ask("resume").ignored == "not_paused"


def test_a_pause_may_be_released_by_a_signal() -> None:
    """It is the same hold."""
    run = Fulfilment()
    run.ask("pause")
    assert run.signal("release", '{"hold": "operator"}').run.status == Status.RUNNING


def test_a_state_from_before_there_were_holds_is_the_operators() -> None:
    """It is paused and names no reason: an operator did it."""
    run = Fulfilment()
    paused = replace(run.ask("pause").run, holds=())
    assert paused.held_by == ("operator",)
    run = Fulfilment()
    run._run = paused
    assert run.signal("hold", FRAUD).run.holds == ("fraud", "operator")
    run._run = paused
    assert run.ask("resume").run.status == Status.RUNNING


def test_what_happens_meanwhile_does_not_lose_the_holds() -> None:
    """Not an answer, not a request that is ignored."""
    run = Fulfilment()
    run.signal("hold", FRAUD)
    run.signal("hold", ADDRESS)
    run.answer(PaymentAuthorized)
    run.ask("extend", seconds=60)
    run.answer(StockReserved)
    assert run.run.holds == ("address", "fraud")


def test_a_run_that_ends_is_held_no_more() -> None:
    """Terminated, or with its last answer."""
    run = Fulfilment().through(OrderPacked)
    run.signal("hold", FRAUD)
    ended = run.ask("terminate")
    assert (ended.run.status, ended.run.holds, ended.run.held_by) == (Status.TERMINATED, (), ())


@pytest.mark.parametrize("name", SIGNALS)
def test_a_repeated_signal_is_ignored(name: str) -> None:
    """Once is enough, and the timeline says so."""
    run = Fulfilment()
    run.signal("hold", ADDRESS)
    if name == "release":
        run.signal("hold", FRAUD)
        run.signal("release", ADDRESS)
    again = run.signal(name, ADDRESS)
    assert again.ignored == {"hold": "already_held", "release": "not_held"}[name]
    assert again.commands == ()


BAD = [
    ("approve", ADDRESS, "unknown_signal"),
    ("hold", "?", "unusable_payload"),
    ("hold", "[]", "unusable_payload"),
    ("hold", "{}", "unusable_payload"),
    ("hold", '{"hold": "weather"}', "unusable_payload"),
    ("hold", '{"hold": ["address"]}', "unusable_payload"),
    ("release", '{"hold": "address", "until": "noon"}', "unusable_payload"),
]


@pytest.mark.parametrize(("name", "payload", "reason"), BAD)
def test_a_signal_that_says_nothing_known_is_ignored(name: str, payload: str, reason: str) -> None:
    """With the reason; whoever takes it in can tell before."""
    run = Fulfilment()
    before = run.run.steps
    assert run.signal(name, payload).ignored == reason
    assert (run.run.steps, run.run.status) == (before, Status.RUNNING)
    assert unusable_payload(name, payload) is not None


@pytest.mark.parametrize(("name", "hold"), list(product(SIGNALS, HOLDS)))
def test_what_a_signal_may_say(name: str, hold: str) -> None:
    """Every known hold can come and go."""
    assert unusable_payload(name, f'{{"hold": "{hold}"}}') is None


@pytest.mark.parametrize(("status", "name"), list(product(Status, SIGNALS)))
def test_a_signal_has_a_result_in_every_status(status: Status, name: str) -> None:
    """A final status stays, any other may be held, and nothing leaves but what a release lets go."""
    run = Fulfilment().through(StockConsumed).run
    paused: dict[str, Any] = (
        {"paused_from": Status.RUNNING, "holds": ("address",)} if status is Status.PAUSED else {}
    )
    event = SignalReceived(
        event_id="e",
        workflow_id=run.workflow_id,
        sequence=run.seen["intents"] + 1,
        occurred_at=run.updated_at,
        name=name,
        payload=FRAUD if name == "hold" else ADDRESS,
        actor="ana",
        reason="checked",
    )
    told = decide(replace(run, status=status, **paused), event)
    assert isinstance(told, Decision)
    assert told.commands == ()
    if status.final:
        assert (told.ignored, told.run.status) == ("already_final", status)
    elif name == "hold":
        assert (told.ignored, told.run.status) == (None, Status.PAUSED)
    elif status is Status.PAUSED:
        assert told.run.status == Status.RUNNING
    else:
        assert (told.ignored, told.run.status) == ("not_held", status)
