"""Does the demonstration tell what happened, and notice when it is not what it should be?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from fulcrum.cli.stories import STORIES, Story
from fulcrum.cli.telling import Check, compare, line_of
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.web.intent_bodies import IntentBody

COMPLETES = STORIES[0]
TWICE = next(story for story in STORIES if story.posts == 2)


def seen(story: Story, **changes: Any) -> dict[str, Any]:
    """What the API and the provider tell of a story that went as it should, but for ``changes``."""
    stocked = 10 if story.stocked else 0
    return {
        "workflow": {
            "status": story.status,
            "steps": [{"name": name, "status": status} for name, status in story.steps.items()],
        },
        "answers": ["w"] * story.posts,
        "effects": list(story.effects),
        "stock": {
            "available": stocked - story.held - story.left,
            "reserved": story.held,
            "consumed": story.left,
            "received": stocked,
        },
        **changes,
    }


def differing(checks: list[Check]) -> list[str]:
    """What the checks complain about."""
    return [check.what for check in checks if not check.held]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_a_story_can_be_told(story: Story) -> None:
    """Its intent is one that intake takes, and it expects an end of every step of its definition."""
    IntentBody.model_validate_json(json.dumps(story.body("tea")))

    assert {step.name for step in DEFINITIONS[story.definition].steps} == story.steps.keys()


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_a_story_that_went_well_differs_in_nothing(story: Story) -> None:
    """All checks hold."""
    assert differing(compare(story, **seen(story))) == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"workflow": {"status": "cancelled", "steps": seen(COMPLETES)["workflow"]["steps"]}}, "ends"),
        ({"workflow": {"status": "completed", "steps": []}}, "steps"),
        ({"effects": ["authorize", "authorize"]}, "at the provider"),
        ({"stock": {"available": 10, "reserved": 0, "consumed": 0, "received": 10}}, "stock"),
        ({"stock": {"available": 7, "reserved": 2, "consumed": 0, "received": 9}}, "stock"),
        ({"stock": {"available": 7, "reserved": 2, "consumed": 1, "received": 10}}, "stock"),
    ],
)
def test_each_difference_is_told(changes: Mapping[str, Any], complaint: str) -> None:
    """Another end, other steps, a second charge, stock not held, a unit lost, a unit too many gone."""
    assert differing(compare(COMPLETES, **seen(COMPLETES, **changes))) == [complaint]


def test_a_second_workflow_for_one_key_is_told() -> None:
    """One Idempotency-Key, two answers: that must be one workflow."""
    assert differing(compare(TWICE, **seen(TWICE, answers=["w", "other"]))) == ["2 posts"]


def test_a_workflow_that_was_never_seen_is_told() -> None:
    """Nothing came from the API: a difference, not a traceback."""
    assert differing(compare(COMPLETES, **seen(COMPLETES, workflow={}))) == ["ends", "steps"]


def test_a_transition_is_one_line() -> None:
    """Time since the intent, event, status, step, commands and reason."""
    entry = {
        "at": "2026-03-01T12:00:01.250000Z",
        "cause": {"type": "StockRejected"},
        "status": "compensating",
        "step": "authorize_payment",
        "commands": [{"type": "VoidPayment"}],
        "reason": "reserve_stock: out_of_stock",
    }

    line = line_of("no-stock", "2026-03-01T12:00:00.000000Z", entry).plain

    assert line.split() == [
        "no-stock",
        *("+", "1.250", "s"),
        "StockRejected",
        "compensating",
        "authorize_payment",
        *("→", "VoidPayment"),
        *("(reserve_stock:", "out_of_stock)"),
    ]
