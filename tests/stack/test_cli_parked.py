"""``fulcrum parked`` and ``fulcrum op`` against a running API: what they do, print, and end with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import typer
from click.testing import Result
from intake import intake_process
from operated import park_rows
from typer.testing import CliRunner

from fulcrum.cli import operation, parked
from fulcrum.errors import Conflict, NotFound, Rejected
from fulcrum.settings import Settings
from fulcrum.store.database import Database

Run = Callable[..., Result]
WHO = ("--reason", "the provider is back", "--actor", "ana")


@pytest.fixture(scope="module")
def address(settings: Settings) -> Iterator[str]:
    """A running intake."""
    with intake_process(settings) as url:
        yield url


@pytest.fixture
def run(address: str) -> Run:
    """Run a command against the API; what it raises is in the result."""

    def invoke(app: typer.Typer, *arguments: str, **options: Any) -> Result:
        return CliRunner(env={"FULCRUM_API": address, "COLUMNS": "250"}).invoke(app, arguments, **options)

    return invoke


@pytest.fixture
def group(settings: Settings) -> str:
    """A group with three messages."""
    fingerprint = uuid4().hex[:12]

    async def park() -> None:
        db = await Database.open(settings.postgres_dsn, size=1)
        await park_rows(db, 3, fingerprint=fingerprint)
        await db.close()

    asyncio.run(park())
    return fingerprint


def listed(run: Run, group: str, status: str) -> list[Any]:
    """The messages of a group that have a status."""
    seen = run(parked.app, "list", "--group", group, "--status", status, "-o", "json")
    return list(json.loads(seen.stdout))


def test_group_is_listed_and_noted(run: Run, group: str) -> None:
    """``groups`` shows the cause with its counts; ``note`` keeps what is known about it."""
    noted = run(parked.app, "note", group, "stock is being counted", "--owner", "ben", "--actor", "ana")
    assert noted.exit_code == 0, noted.output
    shown = run(parked.app, "groups").stdout
    assert group in shown
    assert "stock is being counted" in shown
    rows = json.loads(run(parked.app, "groups", "--service", "inventory", "-o", "json").stdout)
    assert [row["waiting"] for row in rows if row["fingerprint"] == group] == [3]


def test_dry_run_tells_and_does_nothing(run: Run, group: str) -> None:
    """The plan is printed, and the messages wait as before."""
    plan = json.loads(run(parked.app, "replay", "--group", group, "--dry-run", *WHO, "-o", "json").stdout)
    assert (plan["matched"], plan["total"], plan["excluded"]) == (3, 3, {})
    assert (
        len(json.loads(run(parked.app, "list", "--group", group, "--status", "parked", "-o", "json").stdout))
        == 3
    )


def test_group_is_replayed_and_watched(run: Run, group: str) -> None:
    """``--wait`` follows the operation to its end; ``op show --items`` tells what became of each message."""
    done = run(parked.app, "replay", "--group", group, "--wait", *WHO, "-o", "json")
    assert done.exit_code == 0, done.output
    ended = json.loads(done.stdout)
    assert (ended["state"], ended["succeeded"], ended["pending"]) == ("done", 3, 0)
    items = json.loads(run(operation.app, "show", ended["id"], "--items", "-o", "json").stdout)
    assert [item["outcome"] for item in items] == ["sent"] * 3
    assert ended["id"] in run(operation.app, "list", "--state", "done").stdout
    assert "the provider is back" in run(operation.app, "show", ended["id"]).stdout
    again = run(parked.app, "replay", "--group", group, *WHO)
    assert isinstance(again.exception, Conflict)


def test_slow_operation_is_paused_resumed_and_aborted(run: Run, group: str) -> None:
    """``watch`` gives up in time with exit code 8; an aborted operation ends it with exit code 1."""
    begun = run(parked.app, "replay", "--group", group, "--rate", "0.01", *WHO, "-o", "ndjson")
    chosen = json.loads(begun.stdout)["id"]
    assert run(operation.app, "watch", chosen, "--timeout", "0.1").exit_code == 8
    for act, state in (("pause", "paused"), ("resume", "running"), ("abort", "aborted")):
        assert f"replay {state}" in run(operation.app, act, chosen, *WHO).stdout
    assert run(operation.app, "watch", chosen).exit_code == 1
    assert isinstance(run(operation.app, "resume", chosen, *WHO).exception, Conflict)
    assert isinstance(run(operation.app, "show", str(uuid4())).exception, NotFound)


def test_one_message_is_discarded_and_restored(run: Run, group: str) -> None:
    """With an id one message is meant; its new status is printed."""
    chosen = listed(run, group, "parked")[0]["id"]
    assert run(parked.app, "discard", chosen, *WHO).stdout == f"{chosen} discarded\n"
    assert run(parked.app, "restore", chosen, *WHO).stdout == f"{chosen} parked\n"


def test_nothing_is_taken_without_being_named(run: Run, group: str) -> None:
    """A bare act selects nothing, and an id beside a selection is refused."""
    assert isinstance(run(parked.app, "discard", *WHO).exception, Rejected)
    both = run(parked.app, "discard", str(uuid4()), "--group", group, *WHO)
    assert isinstance(both.exception, Rejected)


def test_edit_is_refused_while_it_is_off(run: Run, group: str, tmp_path: Path) -> None:
    """The error names the setting; a patch that is no JSON is told before anything is asked."""
    patch = tmp_path / "patch.json"
    patch.write_text('[{"op": "replace", "path": "/lines/0/quantity", "value": 2}]')
    chosen = listed(run, group, "parked")[0]
    refused = run(parked.app, "edit", chosen["id"], "--patch", str(patch), *WHO)
    assert "FULCRUM_PARKED_EDIT" in str(refused.exception)
    patch.write_text("no JSON")
    assert "--patch" in str(run(parked.app, "edit", chosen["id"], "--patch", str(patch), *WHO).exception)


def test_terminal_is_asked_before_a_selection_is_taken(
    run: Run, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal the plan is shown and a no ends it; a program, and ``--yes``, are not asked."""
    for module in ("parked_acts", "consent"):
        monkeypatch.setattr(f"fulcrum.cli.{module}.on_terminal", lambda: True)
    refused = run(parked.app, "discard", "--group", group, *WHO, input="n\n")
    assert refused.exit_code == 2
    assert "discard 3 messages" in refused.output
    assert len(listed(run, group, "parked")) == 3
    done = run(parked.app, "discard", "--group", group, "--yes", "--wait", *WHO)
    assert done.exit_code == 0, done.output
    assert (
        len(
            json.loads(
                run(parked.app, "list", "--status", "discarded", "--group", group, "-o", "json").stdout
            )
        )
        == 3
    )
