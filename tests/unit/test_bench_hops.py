"""Where does a benchmark say that a workflow's time went?"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from decisions import NOON, WORKFLOW, decision

from bench.hops import Written, tell
from fulcrum.saga.messages import Cause, IssuedCommand, StockReserved

COMMAND = "c0ffee00-0000-5000-8000-000000000001"


def after(milliseconds: float) -> datetime:
    """So long after noon."""
    return NOON + timedelta(milliseconds=milliseconds)


def unseen() -> Cause:
    """An event that was sent before the run."""
    return replace(decision().cause, offset=3)


def asked() -> Written:
    """The decision that issued the command, 10 ms after noon."""
    command = IssuedCommand(
        command_id=COMMAND,
        type="ReserveStock",
        service="inventory",
        step="reserve_stock",
        attempt=1,
        deadline_at=None,
        body=b"",
    )
    return Written(
        ("fulcrum.decisions", 4), 0, after(10).timestamp(), decision(2, cause=unseen(), commands=(command,))
    )


def answered(occurred: float, sent: float) -> Written:
    """The answer, and when it was sent to Kafka."""
    event = StockReserved(
        event_id="e0000000-0000-5000-8000-000000000001",
        workflow_id=WORKFLOW,
        sequence=1,
        occurred_at=after(occurred),
        command_id=COMMAND,
        lines=(),
        expires_at=None,
    )
    return Written(("fulcrum.inventory", 4), 17, after(sent).timestamp(), event)


def test_every_hop_is_told() -> None:
    """From decision to service, in it, from its answer to Kafka, and from there to the next decision."""
    ended = Written(("fulcrum.decisions", 4), 1, after(24).timestamp(), decision(3))

    hops = tell([asked(), answered(occurred=17, sent=19), ended], {COMMAND: after(13)})

    assert {name: [round(s * 1000) for s in seconds] for name, seconds in hops.items()} == {
        "decision in Kafka to inventory": [3],
        "inventory to its answer": [4],
        "inventory: event to Kafka": [2],
        "event in Kafka to decision in Kafka": [5],
    }


@pytest.mark.parametrize("received", [{}, {COMMAND: NOON}], ids=["not in an inbox", "issued before"])
def test_what_began_before_the_run_is_left_out(received: dict[str, datetime]) -> None:
    """Half of a hop says nothing about it."""
    unknown = Written(("fulcrum.decisions", 4), 1, after(24).timestamp(), decision(3, cause=unseen()))

    hops = tell([answered(occurred=17, sent=19), unknown], received)

    assert list(hops) == ["inventory: event to Kafka"]
