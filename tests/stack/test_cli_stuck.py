"""``fulcrum stuck`` and ``fulcrum wf why``: what they print, and how they end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer
from click.testing import Result
from decisions import decision
from eventually import eventually
from intake import intake_process
from stuck import IMPATIENT, new_id, overdue, running, watched
from typer.testing import CliRunner

from fulcrum.cli import stuck, workflow
from fulcrum.errors import NotFound, Rejected
from fulcrum.saga.messages import DecisionMade
from fulcrum.settings import Settings

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def looking(settings: Settings) -> Settings:
    """Settings of an intake that looks all the time, on an empty system."""
    mine = settings.model_copy(update={**IMPATIENT, "stuck_interval": 0.2})
    bring(mine)
    return mine


@pytest.fixture(scope="module")
def address(looking: Settings) -> Iterator[str]:
    """That intake."""
    with intake_process(looking) as url:
        yield url


@pytest.fixture
def run(address: str, looking: Settings) -> Run:
    """Run a command against the API, on an empty system."""
    bring(looking)

    def invoke(app: typer.Typer, *arguments: str, **options: Any) -> Result:
        return CliRunner(env={"FULCRUM_API": address, "COLUMNS": "250"}).invoke(app, arguments, **options)

    return invoke


def bring(settings: Settings, *decisions: DecisionMade) -> None:
    """Empty the system, then bring the read model up to ``decisions``."""

    async def act() -> None:
        async with watched(settings) as seen:
            if decisions:
                await seen.brought(*decisions)

    asyncio.run(act())


def listed(run: Run, count: int) -> list[dict[str, Any]]:
    """The rows of the list once there are so many."""

    def rows() -> list[list[dict[str, Any]]]:
        found = json.loads(run(stuck.app, "list", "-o", "json").stdout)
        return [found] if len(found) == count else []

    return eventually(rows, within=20)[0]


def test_a_workflow_that_does_not_move_is_listed_with_what_to_type(run: Run, looking: Settings) -> None:
    """With --fail the exit code is 10, whether or not another rule is asked for."""
    workflow_id = new_id()
    bring(looking, overdue(workflow_id))
    (row,) = listed(run, 1)
    assert (row["workflow_id"], row["rule"]) == (workflow_id, "past_deadline")
    shown = run(stuck.app, "list", "--fail")
    assert shown.exit_code == 10
    assert workflow_id in shown.stdout
    assert "past_deadline" in shown.stdout
    assert run(stuck.app, "list").exit_code == 0
    assert run(stuck.app, "list", "--rule", "past_deadline", "--fail").exit_code == 10
    other = run(stuck.app, "list", "--rule", "unanswered", "--fail")
    assert (other.exit_code, "every workflow moves" in other.stderr) == (0, True)


def test_paused_workflows_are_listed_and_fail_nothing(run: Run, looking: Settings) -> None:
    """They are where a person wants them."""
    bring(looking, decision(2, workflow_id=new_id(), status="paused", steps=running(new_id()).steps))
    (row,) = listed(run, 1)
    assert row["rule"] == "paused"
    assert run(stuck.app, "list", "--fail").exit_code == 0
    assert run(stuck.app, "list", "--rule", "paused", "--fail").exit_code == 0


def test_an_alarm_on_a_later_page_still_fails(run: Run, looking: Settings) -> None:
    """The first page may be full of paused workflows."""
    paused = [
        decision(2, workflow_id=new_id(), status="paused", steps=running(new_id()).steps) for _ in range(2)
    ]
    bring(looking, *paused, overdue(new_id()))
    listed(run, 3)
    shown = run(stuck.app, "list", "--limit", "1", "--fail")
    assert (shown.exit_code, "more: --cursor" in shown.stderr) == (10, True)


def test_an_empty_list_says_so(run: Run) -> None:
    """And is no failure."""
    shown = run(stuck.app, "list", "--fail")
    assert (shown.exit_code, shown.stderr.strip()) == (0, "every workflow moves")


def test_an_unknown_rule_is_refused_with_the_known_ones(run: Run) -> None:
    """The message is the API's."""
    refused = run(stuck.app, "list", "--rule", "tired").exception
    assert isinstance(refused, Rejected)
    assert "past_deadline" in str(refused)


def test_why_is_one_sentence(run: Run, looking: Settings) -> None:
    """Alone, in what is shown of the workflow, and as JSON."""
    workflow_id = new_id()
    bring(looking, running(workflow_id))
    told = run(workflow.app, "why", workflow_id)
    assert told.exit_code == 0
    assert told.stdout.startswith("why  waiting on StockReserved; answer due ")
    assert "next  ReserveStock is sent again" in told.stdout
    assert "why  waiting on StockReserved" in run(workflow.app, "show", workflow_id).stdout
    as_json = json.loads(run(workflow.app, "why", workflow_id, "-o", "json").stdout)
    assert (as_json["workflow_id"], as_json["waits_for"]) == (workflow_id, "StockReserved")


def test_why_of_nothing_is_not_found(run: Run) -> None:
    """As of any other question about it."""
    assert isinstance(run(workflow.app, "why", new_id()).exception, NotFound)
