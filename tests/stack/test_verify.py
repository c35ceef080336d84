"""A comparison of generations: it names what differs, in which row and which column, and nothing else."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
from projecting import (
    WITHIN,
    held,
    journal_of,
    last_generation,
    projector,
    rows,
    started,
    stories,
    until_projected,
)

from fulcrum.errors import Conflict, NotFound
from fulcrum.readmodel import control, rebuild
from fulcrum.readmodel.verify import Difference, verify
from fulcrum.settings import Settings

WORKFLOWS = 200


@pytest.fixture(scope="module")
def workflow_ids(settings: Settings) -> Iterator[list[str]]:
    """Workflows that the live generation holds, with the projector at work."""
    told = stories(WORKFLOWS)
    with journal_of(settings) as journal, projector(settings):
        journal.record(told)
        until_projected(settings, told)
        yield sorted(held(settings))


@pytest.fixture
def schema(settings: Settings, workflow_ids: list[str]) -> Iterator[str]:
    """Where a ready generation lies."""
    built = rebuild.rebuild(settings, None, lambda _: None, threading.Event())
    yield built.schema
    control.abort(settings)


def test_planted_differences_are_found_and_named(
    settings: Settings, schema: str, workflow_ids: list[str]
) -> None:
    """A changed column, a missing entry and a row too many are told, each with what is wrong about it."""
    changed, missing, added = workflow_ids[3], workflow_ids[50], "ffffffff-0000-5000-8000-000000000000"
    rows(settings, f"UPDATE {schema}.workflow_runs SET status = 'x' WHERE workflow_id = %s", [changed])
    rows(settings, f"DELETE FROM {schema}.timeline WHERE workflow_id = %s AND version = 2", [missing])
    copied = f"""
        CREATE TEMP TABLE copied AS SELECT * FROM {schema}.workflow_runs LIMIT 1;
        UPDATE copied SET workflow_id = '{added}';
        INSERT INTO {schema}.workflow_runs SELECT * FROM copied
        """
    rows(settings, copied)
    found = verify(settings, None, 20)
    assert set(found.differences) == {
        Difference("workflow_runs", changed, None, "status"),
        Difference("workflow_runs", added, None, "added"),
        Difference("timeline", missing, 2, "missing"),
    }
    assert [(each.relation, each.live, each.new, each.buckets) for each in found.compared] == [
        ("workflow_runs", WORKFLOWS, WORKFLOWS + 1, 2),
        ("timeline", 3 * WORKFLOWS, 3 * WORKFLOWS - 1, 1),
        ("run_keys", 4 * WORKFLOWS, 4 * WORKFLOWS, 0),
    ]


def test_only_so_many_are_named(settings: Settings, schema: str, workflow_ids: list[str]) -> None:
    """A generation that is all wrong is told in as many rows as were asked for."""
    rows(settings, f"UPDATE {schema}.workflow_runs SET tenant = 'other'")
    found = verify(settings, None, 7)
    assert len(found.differences) == 7
    assert {difference.what for difference in found.differences} == {"tenant"}


def test_sample_finds_a_difference_that_is_everywhere(
    settings: Settings, schema: str, workflow_ids: list[str]
) -> None:
    """A few workflows at random are enough for a fault of the fold, with far less to read."""
    rows(settings, f"UPDATE {schema}.timeline SET reason = 'other' WHERE version = 1")
    found = verify(settings, 10, 100)
    assert 5 <= len(found.differences) <= 10
    assert {(each.relation, each.version, each.what) for each in found.differences} == {
        ("timeline", 1, "reason")
    }
    assert all(each.live <= 40 for each in found.compared)


def test_command_ends_with_ten_when_generations_differ(
    settings: Settings, schema: str, workflow_ids: list[str]
) -> None:
    """Exit code 0 and then 10; the output says the same as the exit code."""
    right = started(settings, "verify", "workflows", "-o", "json")
    output, said = right.communicate(timeout=WITHIN)
    assert right.returncode == 0, said
    assert json.loads(output)["same"] is True
    rows(settings, f"DELETE FROM {schema}.workflow_runs WHERE workflow_id = %s", [workflow_ids[0]])
    wrong = started(settings, "verify", "workflows")
    output, said = wrong.communicate(timeout=WITHIN)
    assert wrong.returncode == 10, said
    assert workflow_ids[0] in output
    assert "missing" in output


def test_status_tells_every_generation(settings: Settings, schema: str, workflow_ids: list[str]) -> None:
    """State, number of decisions and lag, the live one's too."""
    shown = started(settings, "status", "workflows", "-o", "json")
    output, said = shown.communicate(timeout=WITHIN)
    assert shown.returncode == 0, said
    told = {row["status"]: row for row in json.loads(output)}
    assert told["live"]["lag"] == told["ready"]["lag"] == 0
    assert told["ready"]["generation"] == last_generation(settings)["generation"]
    assert told["ready"]["at_work"] is False


def test_unknown_projection_is_named(settings: Settings) -> None:
    """The error says which there is; the exit code is that of a thing that is not there."""
    unknown = started(settings, "status", "workflow")
    _, said = unknown.communicate(timeout=WITHIN)
    assert unknown.returncode == 3
    assert "there is workflows" in said


def test_nothing_in_work_cannot_be_verified(settings: Settings, workflow_ids: list[str]) -> None:
    """Without a generation there is nothing to compare; one that is not ready is refused."""
    with pytest.raises(NotFound, match="begins one"):
        verify(settings, None, 1)
    stopping = threading.Event()
    stopping.set()
    rebuild.rebuild(settings, None, lambda _: None, stopping)
    with pytest.raises(Conflict, match="not ready"):
        verify(settings, None, 1)
    control.abort(settings)
