"""How long each transition took, told from a timeline alone."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

from decisions import NOON, decision

from fulcrum.readmodel.latency import timed
from fulcrum.readmodel.projection import project, to_json
from fulcrum.saga import identity
from fulcrum.saga.messages import DecisionMade, IssuedCommand

PAY, RESERVE = str(uuid4()), str(uuid4())


def command(command_id: str, type_: str) -> IssuedCommand:
    """A command of the first attempt."""
    told = {"service": "payment", "step": "s", "attempt": 1, "deadline_at": None, "body": b""}
    return IssuedCommand(command_id=command_id, type=type_, **told)  # type: ignore[arg-type]


def at(version: int, after: float, cause: dict[str, str], *commands: IssuedCommand) -> DecisionMade:
    """A decision ``after`` seconds, because of an event with the fields ``cause``."""
    made = decision(version, decided_at=NOON + timedelta(seconds=after), commands=commands)
    return replace(made, cause=replace(made.cause, **cause))


def answer(command_id: str, type_: str) -> dict[str, str]:
    """The fields of an event that answers the command."""
    return {"type": type_, "event_id": identity.event_id(command_id, type_), "stream": "payments"}


def read(*told: DecisionMade) -> list[dict[str, Any]]:
    """The timeline with its times."""
    return [json.loads(text) for text in timed(to_json(project(made).entry) for made in told)]


def test_transition_is_timed_from_its_command_and_from_the_one_before() -> None:
    """The late answer counts from the decision that sent its command, over what came between."""
    entries = read(
        at(1, 0, {"stream": "intents"}, command(PAY, "AuthorizePayment")),
        at(2, 30, {"stream": "timers"}, command(RESERVE, "QueryPayment")),
        at(3, 30.25, answer(PAY, "PaymentAuthorized")),
    )
    assert [entry["since_previous_ms"] for entry in entries] == [None, 30_000, 250]
    assert [entry["since_command_ms"] for entry in entries] == [None, None, 30_250]
    assert entries[2]["answered"] == {
        "command_id": PAY,
        "type": "AuthorizePayment",
        "attempt": 1,
        "version": 1,
    }


def test_command_that_is_sent_again_counts_from_its_first_sending() -> None:
    """Who waits for the answer has waited since then."""
    entries = read(
        at(1, 0, {"stream": "intents"}, command(PAY, "AuthorizePayment")),
        at(2, 10, {"stream": "timers"}, command(PAY, "AuthorizePayment")),
        at(3, 11, answer(PAY, "PaymentDeclined")),
    )
    assert (entries[2]["since_command_ms"], entries[2]["answered"]["version"]) == (11_000, 1)


def test_answer_to_nothing_that_was_sent_has_no_command() -> None:
    """A part of a timeline, or an event of a foreign command, is told without a guess."""
    (entry,) = read(at(5, 0, answer(PAY, "PaymentVoided")))
    assert (entry["answered"], entry["since_command_ms"], entry["since_previous_ms"]) == (None, None, None)
