"""What ``fulcrum wf`` prints of an operator's request, and how it ends: accepted, refused, undecided."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import Result
from decisions import history
from intake import intake_process
from intents import intent_body
from orchestrated import arrived, project, told
from typer.testing import CliRunner

from fulcrum.cli import workflow
from fulcrum.errors import Conflict, NotFound, Rejected
from fulcrum.saga.messages import CancelRequested, DecisionMade, IntentCreated, OperatorRequested
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.wire.codec import open_codec

Run = Callable[..., Result]
WHY = ("--reason", "because", "--actor", "ana")


@pytest.fixture(scope="module")
def address(settings: Settings) -> Iterator[str]:
    """A running intake."""
    with intake_process(settings) as url:
        yield url


@pytest.fixture
def run(address: str) -> Run:
    """``fulcrum wf`` with these arguments."""

    def invoke(*arguments: str, **options: Any) -> Result:
        given = CliRunner(env={"FULCRUM_API": address, "COLUMNS": "200"})
        return given.invoke(workflow.app, arguments, **options)

    return invoke


@pytest.fixture
def started(run: Run, settings: Settings) -> str:
    """A workflow whose first decision can be read."""
    workflow_id = run("start", "-f", "-", input=json.dumps(intent_body())).stdout.strip()
    decide(settings, workflow_id, 1)
    return workflow_id


def decide(settings: Settings, workflow_id: str, count: int) -> None:
    """Play the orchestrator and the projector for the first ``count`` events of the workflow."""

    async def play() -> None:
        codec = await open_codec(settings, (IntentCreated, CancelRequested, OperatorRequested))
        await bring(told(await arrived(settings, codec, workflow_id, count)))

    async def bring(made: list[DecisionMade]) -> None:
        db = await Database.open(settings.postgres_dsn, size=1)
        await project(db, made)
        await db.close()

    asyncio.run(play())


def ended(settings: Settings, run: Run) -> str:
    """A workflow that is completed."""
    workflow_id = run("start", "-f", "-", input=json.dumps(intent_body())).stdout.strip()

    async def bring() -> None:
        db = await Database.open(settings.postgres_dsn, size=1)
        await project(db, history(workflow_id))
        await db.close()

    asyncio.run(bring())
    return workflow_id


def test_undecided_request_is_told_and_its_repeat_tells_the_outcome(
    run: Run, started: str, settings: Settings
) -> None:
    """Exit code 8 at first; the same key later prints the decision and asks for nothing new."""
    asked = ("terminate", started, *WHY, "--idempotency-key", str(uuid4()), "--wait", "0")
    first = run(*asked)
    assert (first.exit_code, "stored, but not decided" in first.stderr) == (8, True), first.output
    decide(settings, started, 2)
    again = run(*asked)
    assert again.exit_code == 0, again.output
    for part in ("terminate", "accepted", "terminated", "stands", "authorize_payment"):
        assert part in again.stdout, again.stdout
    shown = run("show", started).stdout
    assert "by ana, because" in shown, shown
    assert "LEFT STANDING" in shown, shown


def test_refusal_ends_with_its_own_exit_code(run: Run, settings: Settings) -> None:
    """5, and the reason is printed."""
    seen = run("pause", ended(settings, run), *WHY)
    assert (seen.exit_code, "refused: already_final" in seen.stdout) == (5, True), seen.output


@pytest.mark.parametrize(
    ("arguments", "told_of"),
    [
        (("retry",), ("would be accepted", "QueryPayment to payment")),
        (("pause",), ("would be accepted", "paused")),
        (("compensate", "--step", "authorize_payment"), ("compensating", "VoidPayment to payment")),
        (("extend", "--seconds", "600"), ("would be accepted", "running")),
        (("cancel",), ("would be accepted", "VoidPayment to payment")),
    ],
)
def test_dry_run_prints_what_would_follow(
    run: Run, started: str, arguments: tuple[str, ...], told_of: tuple[str, ...]
) -> None:
    """And leaves the workflow as it is."""
    verb, *options = arguments
    seen = run(verb, started, *options, *WHY, "--dry-run")
    assert seen.exit_code == 0, seen.output
    for part in told_of:
        assert part in seen.stdout, seen.stdout
    assert len(json.loads(run("show", started, "-o", "json").stdout)["timeline"]) == 1


def test_dry_run_that_would_be_refused_ends_like_a_refusal(run: Run, started: str) -> None:
    """So that a script can ask before it acts; as JSON the whole answer is there."""
    seen = run("resume", started, *WHY, "--dry-run", "-o", "json")
    told_of = json.loads(seen.stdout)
    assert (seen.exit_code, told_of["refused"], told_of["dry_run"]) == (5, "not_paused", True)


def test_skip_reads_its_result_from_a_file(run: Run, started: str, tmp_path: Path) -> None:
    """A result that the step could not have answered is named; one that is no JSON too."""
    file = tmp_path / "result.json"
    file.write_text('{"authorization_id": "till-1"}')
    seen = run("skip", started, *WHY, "--result", str(file), "--dry-run")
    assert (seen.exit_code, "ReserveStock to inventory" in seen.stdout) == (0, True), seen.output
    file.write_text('{"colour": "red"}')
    wrong = run("skip", started, *WHY, "--result", str(file), "--dry-run")
    assert isinstance(wrong.exception, Rejected)
    assert "authorization_id" in str(wrong.exception)
    file.write_text("{")
    assert isinstance(run("skip", started, *WHY, "--result", str(file)).exception, Rejected)


def test_unknown_workflow_and_reused_key_have_their_exit_codes(run: Run, started: str) -> None:
    """NotFound is 3, Conflict is 5."""
    assert isinstance(run("pause", str(uuid4()), *WHY).exception, NotFound)
    asked = (started, *WHY, "--idempotency-key", str(uuid4()), "--wait", "0")
    run("pause", *asked)
    assert isinstance(run("retry", *asked).exception, Conflict)
