"""Does each kind of intent end as it must, by HTTP and by the command line?"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

import pytest
from client import Client
from endings import assert_all_ended, assert_stock
from stories import COMPLETES, STORIES, Story
from system import System

from fulcrum.cli.roles import ROLES

_WITHIN = 30.0


@pytest.mark.parametrize("story", STORIES, ids=[story.name for story in STORIES])
async def test_a_story_ends_as_it_must(system: System, client: Client, story: Story) -> None:
    """Status, steps, commands, stock and the provider's effects are exactly the story's."""
    shelf = await client.stocked(3)
    posted = await client.post_all([story], shelf)

    await assert_all_ended(client, posted, system.psp, _WITHIN)
    await assert_stock(client, shelf, posted)


async def test_one_key_is_one_workflow(system: System, client: Client) -> None:
    """Posted five times at once with one key: one workflow, one authorisation, the first answer for all."""
    shelf = await client.stocked(5)
    posted = await asyncio.gather(*(client.post(COMPLETES, shelf.full, key=shelf.full) for _ in range(5)))

    assert len({item.workflow_id for item in posted}) == 1
    assert {item.answer.json["accepted_at"] for item in posted} == {posted[0].answer.json["accepted_at"]}
    await assert_all_ended(client, posted[:1], system.psp, _WITHIN)
    await assert_stock(client, shelf, posted[:1])


async def test_one_key_with_another_body_is_refused(client: Client) -> None:
    """A key names one intent for ever: another body under it is a conflict."""
    shelf = await client.stocked(1)
    first = await client.post(COMPLETES, shelf.full)
    other = COMPLETES.body(shelf.full) | {"amount_minor": 1}

    answer = await client.call("POST", "/v1/intents", other, {"Idempotency-Key": first.key})

    assert answer.status == 409
    assert answer.headers["Content-Type"].startswith("application/problem+json")


async def test_an_accepted_intent_can_be_read_at_once(client: Client) -> None:
    """Whatever is projected by then: an accepted intent is never 404."""
    shelf = await client.stocked(1)
    posted = await client.post(COMPLETES, shelf.full)

    view = await client.workflow(posted.workflow_id)

    assert view["workflow_id"] == posted.workflow_id
    assert view["freshness"]["source"] in ("intake", "database", "cache")


async def test_the_command_line_starts_and_shows_a_workflow(system: System, client: Client) -> None:
    """``wf start --wait`` ends with 0 on completion, and ``wf show`` prints what the API says."""
    shelf = await client.stocked(1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "intent.json"
        file.write_text(json.dumps(COMPLETES.body(shelf.full)))
        started = await asyncio.to_thread(
            system.cli, "wf", "start", "-f", str(file), "--idempotency-key", shelf.full, "--wait"
        )
    assert started.returncode == 0, started.stderr + started.stdout
    again = await client.post(COMPLETES, shelf.full, key=shelf.full)
    shown = await asyncio.to_thread(system.cli, "wf", "show", again.workflow_id, "-o", "json")

    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["status"] == "completed"
    assert json.loads(shown.stdout)["workflow_id"] == again.workflow_id


async def test_the_command_line_watches_a_workflow_to_its_end(system: System, client: Client) -> None:
    """``wf watch ID`` prints each transition once and ends with 0 on completion."""
    shelf = await client.stocked(1)
    posted = await client.post(COMPLETES, shelf.full)
    watched = await asyncio.to_thread(
        system.cli, "wf", "watch", posted.workflow_id, "-o", "ndjson", "--timeout", "45"
    )

    assert watched.returncode == 0, watched.stderr
    versions = [json.loads(line)["version"] for line in watched.stdout.splitlines()]
    assert versions == list(range(1, (await client.workflow(posted.workflow_id))["version"] + 1))


async def test_the_command_line_says_that_every_role_is_ready(system: System) -> None:
    """``health`` finds each role where ``FULCRUM_ROLES`` says, and each server."""
    told = await asyncio.to_thread(system.cli, "health", "-o", "json")

    assert told.returncode == 0, told.stdout + told.stderr
    roles = {row["name"] for row in json.loads(told.stdout) if row["kind"] == "role"}
    assert roles == set(ROLES)


async def test_the_orchestrators_own_table_agrees(system: System, client: Client) -> None:
    """The Faust views show the run, its list by status, and the table, as the query API does."""
    shelf = await client.stocked(1)
    posted = await client.post(COMPLETES, shelf.full)
    await client.until_final([posted], _WITHIN)
    agents = system.role("agents").url

    one = await client.call("GET", f"{agents}/runs/{posted.workflow_id}")
    many = await client.call("GET", f"{agents}/runs?status=completed")
    overview = await client.call("GET", f"{agents}/runs/overview")
    tables = await client.call("GET", f"{agents}/table/")

    assert one.json["status"] == "completed"
    assert one.json["version"] == (await client.workflow(posted.workflow_id))["version"]
    assert posted.workflow_id in [run["workflow_id"] for run in many.json["runs"]]
    assert overview.json["runs"] >= 1
    assert [table["name"] for table in tables.json] == ["workflow_runs"]
