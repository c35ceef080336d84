"""When does the projector put a decision aside?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from intents import NOON

from fulcrum.agents import projector as module
from fulcrum.agents.projector import Projector
from fulcrum.errors import Unavailable
from fulcrum.settings import Settings


class _Event:
    """Knows whether it was acknowledged."""

    acked = False

    def ack(self) -> None:
        self.acked = True


async def _written(
    monkeypatch: pytest.MonkeyPatch, mishaps: list[Exception], count: int = 1
) -> tuple[list[str], list[bool]]:
    """What was put aside and what was acknowledged, when writing raises ``mishaps``, one a try."""
    aside: list[str] = []
    items = [(_Event(), SimpleNamespace(decided_at=NOON)) for _ in range(count)]
    projector = Projector(cast("Any", None), Settings(), cast("Any", None))

    async def apply(_: Any) -> None:
        if mishaps:
            raise mishaps.pop(0)

    async def dead_letter(_app: Any, _topics: Any, _event: Any, reason: str, _by: str) -> None:
        aside.append(reason)

    monkeypatch.setattr(projector, "_apply", apply)
    monkeypatch.setattr(module, "dead_letter", dead_letter)
    monkeypatch.setattr(module, "_BACKOFF_FIRST", 0.001)
    await projector._write(cast("Any", items))
    return aside, [event.acked for event, _ in items]


async def test_one_strange_error_puts_nothing_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is dying says many things."""
    assert await _written(monkeypatch, [ValueError("half an answer")]) == ([], [True])
    outage = [ValueError("half an answer"), Unavailable("away"), Unavailable("away")]
    assert await _written(monkeypatch, [*outage]) == ([], [True])


async def test_a_decision_that_fails_again_is_put_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the last reason, and nothing is acknowledged as written."""
    aside, acked = await _written(monkeypatch, [ValueError("no"), ValueError("no, really")])
    assert (aside, acked) == (["ValueError: no, really"], [False])


async def test_the_others_of_a_batch_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is halved until the culprit stands alone."""
    refusals: list[Exception] = [ValueError(str(number)) for number in range(3)]
    aside, acked = await _written(monkeypatch, refusals, count=2)
    assert (aside, acked) == (["ValueError: 2"], [False, True])
