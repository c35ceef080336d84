"""``fulcrum lag``, ``queue`` and ``events``: what they show of real servers, and how they end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import typer
from click.testing import Result
from eventually import eventually
from intake import records_of, running_intake
from typer.testing import CliRunner

from fulcrum.cli import events, lag, queue
from fulcrum.commands.publisher import CommandPublisher
from fulcrum.commands.topology import Topology
from fulcrum.errors import Rejected, Unavailable
from fulcrum.settings import Settings

Run = Callable[..., Result]


@pytest.fixture
def run(settings: Settings, namespace: Mapping[str, str]) -> Run:
    """Run a command on the servers of the module; what it raises is in the result."""
    env = {**namespace, "COLUMNS": "200"}

    def invoke(app: typer.Typer, *arguments: str, **more: str) -> Result:
        return CliRunner(env={**env, **more}).invoke(app, arguments)

    return invoke


@pytest.fixture(scope="module")
def accepted(settings: Settings) -> list[str]:
    """Two workflows whose intents are on Kafka, which nobody reads."""

    async def accept() -> list[str]:
        async with running_intake(settings) as api:
            found = [await api.accept() for _ in range(2)]
            for workflow_id in found:
                await asyncio.to_thread(_sent, settings, workflow_id)
            return found

    return asyncio.run(accept())


def _sent(settings: Settings, workflow_id: str) -> None:
    """Wait until the intent is on Kafka."""
    eventually(lambda: records_of(settings, workflow_id), within=20)


@pytest.fixture(scope="module")
def bus(settings: Settings) -> str:
    """The queues, with one unreadable message on that of the payment service; its id."""
    message_id = str(uuid4())

    async def publish() -> None:
        publisher = await CommandPublisher.open(settings, "test")
        await publisher.publish("payment", b"nothing", {}, message_id, "AuthorizePayment")
        await publisher.close()

    asyncio.run(publish())
    return message_id


def _single(command: Callable[..., Any]) -> typer.Typer:
    app = typer.Typer()
    app.command()(command)
    return app


def _lines(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, (result.stderr, result.exception)
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_tail_tells_each_event_with_its_place(run: Run, accepted: list[str]) -> None:
    """ndjson has the decoded event, a type and a workflow narrow it down."""
    rows = _lines(run(events.app, "tail", "--from", "beginning", "--no-follow", "-o", "ndjson"))
    assert {row["workflow_id"] for row in rows} == set(accepted)
    assert {row["type"] for row in rows} == {"IntentCreated"}
    assert all(row["event"]["currency"] and row["topic"].endswith(".intents") for row in rows)
    narrow = ("--workflow", accepted[1], "--type", "IntentCreated", "--stream", "intents")
    (row,) = _lines(run(events.app, "tail", "--from", "beginning", "--no-follow", "-o", "ndjson", *narrow))
    assert row["event"]["workflow_id"] == accepted[1]


def test_tail_stops_after_a_count(run: Run, accepted: list[str]) -> None:
    """A line for people names time, place, type and workflow."""
    result = run(events.app, "tail", "--from", "beginning", "--count", "1")
    assert result.exit_code == 0
    (line,) = result.stdout.splitlines()
    assert "IntentCreated" in line
    assert any(workflow_id in line for workflow_id in accepted)


def test_tail_begins_at_a_time(run: Run, accepted: list[str]) -> None:
    """What is older is left out; nothing found is no error."""
    later = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    result = run(events.app, "tail", "--from", later, "--no-follow", "-o", "json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])
    assert result.exit_code == 0
    earlier = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    found = json.loads(run(events.app, "tail", "--from", earlier, "--no-follow", "-o", "json").stdout)
    assert {row["workflow_id"] for row in found} == set(accepted)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(("--stream", "orders"), "--stream"), (("--from", "noon"), "--from"), (("-o", "json"), "--no-follow")],
)
def test_tail_refuses_what_it_cannot_use(run: Run, arguments: tuple[str, ...], named: str) -> None:
    """The error names the option and what to give instead."""
    result = run(events.app, "tail", *arguments)
    assert isinstance(result.exception, Rejected)
    assert named in str(result.exception)


def test_lag_counts_what_waits(run: Run, accepted: list[str]) -> None:
    """Both intents wait for the orchestrator; nothing waits for the projector."""
    app = _single(lag.lag)
    rows = _lines(run(app, "-o", "ndjson"))
    by_group: dict[str, int] = {}
    for row in rows:
        by_group[row["group"]] = by_group.get(row["group"], 0) + row["lag"]
        assert row["lag"] == row["end"] - row["offset"]
    assert [behind for group, behind in by_group.items() if group.endswith("-orchestrator")] == [2]
    assert [behind for group, behind in by_group.items() if group.endswith("-projector")] == [0]


def test_lag_above_the_bound_is_exit_code_10(run: Run, accepted: list[str]) -> None:
    """For a check in a script; the group is named."""
    app = _single(lag.lag)
    result = run(app, "--fail-above", "1")
    assert result.exit_code == 10
    assert "-orchestrator 2" in result.stderr
    assert run(app, "--fail-above", "2").exit_code == 0


def test_queue_list_shows_depth_and_consumers(run: Run, settings: Settings, bus: str) -> None:
    """The message waits, with nobody to take it."""
    rows = {row["queue"]: row for row in _lines(run(queue.app, "list", "-o", "ndjson"))}
    names = Topology(settings.namespace)
    waiting = rows[names.queue("payment")]
    assert (waiting["ready"], waiting["consumers"]) == (1, 0)
    assert rows[names.queue("inventory")]["ready"] == 0
    assert names.retry("1s") in rows
    assert run(queue.app, "list", "--fail-above", "0").exit_code == 10


def test_queue_list_without_a_management_api_leaves_out_what_it_tells(run: Run, bus: str) -> None:
    """What is unacknowledged is unknown then, and not zero."""
    env = {"FULCRUM_RABBITMQ_MANAGEMENT_URL": ""}
    rows = _lines(run(queue.app, "list", "-o", "ndjson", **env))
    assert {row["unacked"] for row in rows} == {None}


def test_queue_list_says_that_the_management_api_is_away(run: Run, bus: str) -> None:
    """The error names the setting."""
    result = run(queue.app, "list", FULCRUM_RABBITMQ_MANAGEMENT_URL="http://127.0.0.1:9")
    assert isinstance(result.exception, Unavailable)
    assert "FULCRUM_RABBITMQ_MANAGEMENT_URL" in str(result.exception)
