"""``fulcrum wf``, ``parked`` and ``stock`` against a running API: what they print, and how they end.

Long, because every command that asks the API is tried on the same one.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import typer
from click.testing import Result
from decisions import decision, history, step
from eventually import eventually
from intake import free_port, intake_process
from intents import intent_body
from sqlalchemy import text
from typer.testing import CliRunner

from fulcrum.cli import api, parked, stock, workflow
from fulcrum.commands.attempts import AttemptLog, attempt_row
from fulcrum.commands.delivery import ATTEMPT
from fulcrum.commands.retry import Kind
from fulcrum.errors import Conflict, NotFound, Rejected, Unavailable
from fulcrum.readmodel import store
from fulcrum.saga.messages import DecisionMade
from fulcrum.settings import Settings
from fulcrum.store.database import Database

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def address(settings: Settings) -> Iterator[str]:
    """A running intake."""
    with intake_process(settings) as url:
        yield url


@pytest.fixture
def run(address: str) -> Run:
    """Run a command against the API; what it raises is in the result."""

    def invoke(app: typer.Typer, *arguments: str, **options: Any) -> Result:
        return CliRunner(env={"FULCRUM_API": address, "COLUMNS": "200"}).invoke(app, arguments, **options)

    return invoke


@pytest.fixture
def intent_file(tmp_path: Path) -> str:
    """A file with an intent."""
    file = tmp_path / "intent.json"
    file.write_text(json.dumps(intent_body()))
    return str(file)


def apply(settings: Settings, told: list[DecisionMade]) -> None:
    """Bring the read model up to ``told``."""

    async def write() -> None:
        db = await Database.open(settings.postgres_dsn, size=1)
        async with db.transaction() as tx:
            await store.apply(tx, told)
        await db.close()

    asyncio.run(write())


def test_start_prints_the_workflow(run: Run, intent_file: str) -> None:
    """The id on stdout and nothing else; a repeat of the key starts nothing and says so."""
    key = str(uuid4())
    first = run(workflow.app, "start", "-f", intent_file, "--idempotency-key", key)
    again = run(workflow.app, "start", "-f", intent_file, "--idempotency-key", key)
    assert (first.exit_code, again.exit_code) == (0, 0), first.stderr
    assert first.stdout == again.stdout
    assert len(first.stdout.strip()) == 36
    assert "nothing new was started" in again.stderr
    assert "nothing new" not in first.stderr


def test_start_reads_standard_input_and_makes_a_key(run: Run) -> None:
    """``-f -`` reads the intent; without a key one is made and told on stderr."""
    seen = run(workflow.app, "start", "-f", "-", "-o", "json", input=json.dumps(intent_body()))
    assert json.loads(seen.stdout)["status"] == "accepted"
    assert "idempotency key" in seen.stderr


def test_start_with_a_used_key_is_a_conflict(run: Run, intent_file: str) -> None:
    """Another body under the key ends in Conflict, which is exit code 5."""
    key = str(uuid4())
    run(workflow.app, "start", "-f", intent_file, "--idempotency-key", key)
    other = json.dumps(intent_body(amount_minor=1))
    seen = run(workflow.app, "start", "-f", "-", "--idempotency-key", key, input=other)
    assert isinstance(seen.exception, Conflict)


def test_start_tells_every_fault_of_the_intent(run: Run) -> None:
    """A bad intent ends in an error that names each field."""
    seen = run(workflow.app, "start", "-f", "-", input=json.dumps(intent_body(currency="?", tenant="")))
    assert isinstance(seen.exception, Rejected)
    assert "currency" in str(seen.exception)
    assert "tenant" in str(seen.exception)


@pytest.mark.parametrize("content", [None, "{"])
def test_start_names_the_file_that_it_cannot_use(run: Run, tmp_path: Path, content: str | None) -> None:
    """A file that is missing or no JSON is named."""
    file = tmp_path / "intent.json"
    if content is not None:
        file.write_text(content)
    seen = run(workflow.app, "start", "-f", str(file))
    assert isinstance(seen.exception, Rejected)
    assert str(file) in str(seen.exception)


def test_show_prints_head_and_timeline(run: Run, settings: Settings) -> None:
    """The table names what was ordered, each step and each event; values in brackets are no markup."""
    told = history(customer_ref="[red]c[/red]")
    apply(settings, told)
    seen = run(workflow.app, "show", told[0].workflow_id)
    assert seen.exit_code == 0
    for part in (
        told[0].workflow_id,
        "completed",
        "2 x tea-01",
        "reserve_stock",
        "StockReserved",
        "[red]c[/red]",
    ):
        assert part in seen.stdout, seen.stdout


def keep_attempts(settings: Settings, told: DecisionMade, *endings: dict[str, Any]) -> None:
    """Store attempts of a command of the workflow, as its worker does."""

    async def write() -> None:
        db = await Database.open(settings.postgres_dsn, size=1)
        log = AttemptLog(db, "inventory")
        common = {
            "command_id": str(uuid4()),
            "workflow_id": told.workflow_id,
            "service": "inventory",
            "type": "ReserveStock",
            "step": "reserve_stock",
            "worker": "inventory-1",
            "started_at": datetime.now(UTC),
        }
        for number, ending in enumerate(endings, 1):
            await log.keep([attempt_row({ATTEMPT: str(number)}, **{**common, **ending})])
        await log.close()
        await db.close()

    asyncio.run(write())


def test_show_prints_attempts_between_the_transitions(run: Run, settings: Settings) -> None:
    """Each attempt tells its number, kind, error, worker and when the next is due; JSON has them all."""
    told = history()
    apply(settings, told)
    away = {"outcome": "retried", "error": Unavailable("[b]away[/b]"), "kind": Kind.TRANSIENT, "due_in": 60.0}
    keep_attempts(settings, told[1], away, {"outcome": "succeeded"})
    seen = run(workflow.app, "show", told[0].workflow_id)
    assert seen.exit_code == 0, seen.output
    failed, succeeded = (line for line in seen.stdout.splitlines() if "attempt" in line)
    assert "ReserveStock        attempt 1 failed (transient) after" in failed
    assert "on inventory-1: Unavailable: [b]away[/b], next 20" in failed
    assert "attempt 2 succeeded" in succeeded
    shown = json.loads(run(workflow.app, "show", told[0].workflow_id, "-o", "json").stdout)
    assert [each["outcome"] for each in shown["attempts"]] == ["retried", "succeeded"]
    assert shown["attempts"][0]["next_due"].endswith("Z")


def test_show_json_is_the_answer_untouched(run: Run, settings: Settings) -> None:
    """JSON on stdout is what the API said, brackets and all."""
    told = history(customer_ref="[red]c[/red]")
    apply(settings, told)
    shown = json.loads(run(workflow.app, "show", told[0].workflow_id, "-o", "json").stdout)
    assert (shown["customer_ref"], len(shown["timeline"])) == ("[red]c[/red]", 3)


def test_show_of_an_unknown_workflow_is_not_found(run: Run) -> None:
    """NotFound is exit code 3."""
    assert isinstance(run(workflow.app, "show", str(uuid4())).exception, NotFound)


def test_show_of_a_malformed_id_is_refused(run: Run) -> None:
    """Whatever is given as an id stays one segment of the path."""
    seen = run(workflow.app, "show", "../stock/x")
    assert isinstance(seen.exception, Rejected)
    assert "workflow_id" in str(seen.exception)


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("cancelled", 1), ("running", 8)])
def test_follow_ends_by_how_the_workflow_ends(run: Run, settings: Settings, status: str, code: int) -> None:
    """Each event once, as a line; 0 for completed, 1 for cancelled, 8 when it takes too long."""
    told = history()
    apply(settings, [*told[:2], decision(3, workflow_id=told[0].workflow_id, status=status)])
    seen = run(workflow.app, "show", told[0].workflow_id, "--follow", "--timeout", "0.5", "-o", "ndjson")
    assert seen.exit_code == code, seen.stderr
    assert [json.loads(line)["version"] for line in seen.stdout.splitlines()] == [1, 2, 3]


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("cancelled", 1), ("running", 8)])
@pytest.mark.parametrize("form", ["ndjson", "json"])
def test_watch_follows_one_to_its_end(
    run: Run, settings: Settings, status: str, code: int, form: str
) -> None:
    """Each transition once, from the stream; 0 for completed, 1 for cancelled, 8 when it takes too long."""
    told = history()
    workflow_id = told[0].workflow_id
    apply(settings, [*told[:2], decision(3, workflow_id=workflow_id, status=status)])
    seen = run(workflow.app, "watch", workflow_id, "--timeout", "2", "-o", form)
    assert seen.exit_code == code, seen.output
    shown = [json.loads(line) for line in seen.stdout.splitlines()] if form == "ndjson" else None
    assert [each["version"] for each in shown or json.loads(seen.stdout)] == [1, 2, 3]
    assert status in seen.stderr
    again = run(workflow.app, "watch", workflow_id, "--after", "3", "--timeout", "1", "-o", form)
    assert (again.exit_code, again.stdout.strip()) == (code, "[]" if form == "json" else "")


def test_watch_goes_on_over_a_restart_of_intake(settings: Settings, tmp_path: Path) -> None:
    """What is decided while intake is away is told afterwards; nothing is told twice."""
    told, port, out = history(), free_port(), tmp_path / "told"
    workflow_id = told[0].workflow_id
    apply(settings, told[:1])

    def versions() -> list[int]:
        return [json.loads(line)["version"] for line in out.read_text().splitlines()]

    env = {**os.environ, "FULCRUM_API": f"http://127.0.0.1:{port}"}
    command = [sys.executable, "-m", "fulcrum", "wf", "watch", workflow_id, "-o", "ndjson", "--timeout", "60"]
    with out.open("w") as stdout, intake_process(settings, port):
        watching = subprocess.Popen(command, env=env, stdout=stdout, stderr=subprocess.PIPE, text=True)
        try:
            eventually(lambda: versions() == [1], within=20, state=versions)
        except BaseException:
            watching.kill()
            raise
    try:
        assert watching.poll() is None
        apply(settings, told[1:2])
        with intake_process(settings, port):
            eventually(lambda: versions() == [1, 2], within=20, state=versions)
            apply(settings, told[2:])
            _, stderr = watching.communicate(timeout=20)
    finally:
        watching.kill()
        watching.wait()
    assert (watching.returncode, versions()) == (0, [1, 2, 3]), stderr
    assert "the stream is lost" in stderr


def test_watch_of_what_is_not_there_is_told(run: Run) -> None:
    """NotFound for an unknown workflow; without an id, one document has no end."""
    assert isinstance(run(workflow.app, "watch", str(uuid4())).exception, NotFound)
    assert isinstance(run(workflow.app, "watch", "-o", "json").exception, Rejected)


def test_api_answers_as_it_came_and_ends_by_its_status(run: Run, settings: Settings) -> None:
    """Pages are put together; a problem goes to stderr, with the code of its class."""
    apply(settings, [decision(1, workflow_id=str(uuid4()), status="terminated") for _ in range(3)])
    app = typer.Typer()
    app.command()(api.api)
    narrowed = ("-f", "status=terminated", "-f", "limit=1")
    first = json.loads(run(app, "GET", "/v1/workflows", *narrowed).stdout)
    assert (len(first["items"]), bool(first["next_cursor"])) == (1, True)
    pages = run(app, "GET", "/v1/workflows", *narrowed, "--paginate", "-o", "ndjson")
    rows = [json.loads(line) for line in pages.stdout.splitlines()]
    assert len({row["workflow_id"] for row in rows}) == len(rows) >= 3
    missing = run(app, "GET", f"/v1/workflows/{uuid4()}")
    assert (missing.exit_code, missing.stdout, json.loads(missing.stderr)["status"]) == (3, "", 404)
    assert run(app, "GET", "/v1/workflows", "-f", "limit=0").exit_code == 1


def test_api_posts_what_fields_say(run: Run) -> None:
    """Numbers are numbers; a key that came with another body is a conflict, exit code 5."""
    app = typer.Typer()
    app.command()(api.api)
    post = ("POST", f"/v1/stock/sku-{uuid4()}/receipts", "-H", "Idempotency-Key: k1", "-f", "reference=r")
    assert run(app, *post, "-f", "quantity=5", "-o", "json").exit_code == 0
    assert run(app, *post, "-f", "quantity=6").exit_code == 5


def test_list_takes_every_filter(run: Run, settings: Settings) -> None:
    """What each option asks for is what is shown; the next page is reached with the same filters."""
    tenant = f"t{uuid4().hex[:8]}"
    steps = (step("authorize_payment"), step(status="requested"))
    told = [
        decision(1, workflow_id=str(uuid4()), tenant=tenant, status=status, steps=steps)
        for status in ("running", "paused", "needs_attention")
    ]
    apply(settings, told)
    for options, count in (
        ((), 3),
        (("--status", "running"), 1),
        (("--paused",), 1),
        (("--not-paused",), 2),
        (("--attention",), 1),
        (("--no-attention", "--not-paused"), 1),
        (("--step", "reserve_stock"), 3),
        (("--older-than", "1h"), 3),
        (("--started-after", "2026-03-02T00:00:00Z"), 0),
        (("--started-before", "2026-03-02T00:00:00Z"), 3),
    ):
        seen = run(workflow.app, "list", "--tenant", tenant, *options, "-o", "ndjson")
        assert seen.exit_code == 0, seen.exception
        assert len(seen.stdout.splitlines()) == count, options
    assert "leave a filter out" in run(workflow.app, "list", "--sku", tenant).stderr
    first = run(workflow.app, "list", "--tenant", tenant, "--limit", "2", "-o", "ndjson")
    cursor = first.stderr.split("--cursor ")[1].strip()
    rest = run(workflow.app, "list", "--tenant", tenant, "--cursor", cursor, "-o", "ndjson")
    shown = [json.loads(line)["workflow_id"] for line in (first.stdout + rest.stdout).splitlines()]
    assert sorted(shown) == sorted(made.workflow_id for made in told)
    other = run(workflow.app, "list", "--cursor", cursor)
    assert isinstance(other.exception, Rejected)
    assert "other filters" in str(other.exception)


def test_list_refuses_filters_without_an_index(run: Run) -> None:
    """The error names what may be asked instead."""
    seen = run(workflow.app, "list", "--sku", "tea-01", "--tenant", "acme")
    assert isinstance(seen.exception, Rejected)
    assert "give only sku, or only tenant" in str(seen.exception)


def test_find_says_what_an_id_is(run: Run, settings: Settings) -> None:
    """One line a workflow, with what the id is to it; an id of nothing is NotFound, exit code 3."""
    name = f"order-{uuid4()}"
    told = history(correlation_id=name)
    apply(settings, told)
    seen = run(workflow.app, "find", name)
    assert seen.exit_code == 0, seen.exception
    assert "correlation_id" in seen.stdout
    assert told[0].workflow_id in seen.stdout
    (item,) = json.loads(run(workflow.app, "find", name, "-o", "json").stdout)["items"]
    assert (item["what"], item["workflow"]["status"]) == ("correlation_id", "completed")
    assert isinstance(run(workflow.app, "find", str(uuid4())).exception, NotFound)


def test_cancel_prints_what_became_of_it(run: Run, settings: Settings) -> None:
    """One that is being undone is a success and told; a completed one is Conflict, exit code 5."""
    accepted = [
        json.loads(
            run(workflow.app, "start", "-f", "-", "-o", "json", input=json.dumps(intent_body())).stdout
        )
        for _ in range(2)
    ]
    ids = [body["workflow_id"] for body in accepted]
    apply(settings, [decision(1, workflow_id=ids[0], status="cancelled", reason="[b]x[/b]")])
    apply(settings, history(ids[1]))
    seen = run(workflow.app, "cancel", ids[0], "--reason", "called off", "--actor", "ana")
    assert (seen.exit_code, "cancelled" in seen.stdout, "[b]x[/b]" in seen.stdout) == (0, True, True)
    assert "being undone already" in seen.stderr
    seen = run(workflow.app, "cancel", ids[1], "--reason", "called off")
    assert isinstance(seen.exception, Conflict)
    assert "completed" in str(seen.exception)
    assert isinstance(run(workflow.app, "cancel", str(uuid4()), "--reason", "x").exception, NotFound)


def test_cancel_says_when_nothing_is_decided_yet(run: Run) -> None:
    """Without an orchestrator the request is stored; the user is told how to follow it."""
    started = run(workflow.app, "start", "-f", "-", "-o", "json", input=json.dumps(intent_body()))
    workflow_id = json.loads(started.stdout)["workflow_id"]
    seen = run(workflow.app, "cancel", workflow_id, "--reason", "called off", "-o", "json")
    assert seen.exit_code == 0
    assert json.loads(seen.stdout)["decided"] is False
    assert f"fulcrum wf show {workflow_id} --follow" in seen.stderr
    assert isinstance(run(workflow.app, "cancel", workflow_id, "--reason", "").exception, Rejected)


def test_show_names_who_cancelled_and_why(run: Run, settings: Settings) -> None:
    """The line of the timeline has the actor and the reason; a request that was ignored has no reason."""
    told = history()
    for version, ignored in ((3, None), (4, "already_final")):
        made = decision(
            version,
            workflow_id=told[0].workflow_id,
            status="cancelled",
            reason="cancelled: off",
            ignored=ignored,
        )
        told[version - 1 :] = [replace(made, cause=replace(made.cause, type="CancelRequested", actor="ana"))]
    apply(settings, told)
    shown = run(workflow.app, "show", told[0].workflow_id).stdout
    assert "by ana, cancelled: off;" in shown, shown
    assert "by ana; ignored: already_final" in shown, shown


def test_list_pages_by_cursor(run: Run, settings: Settings) -> None:
    """JSON is an array; where it goes on is told on stderr and leads to the rest."""
    apply(settings, [decision(1, workflow_id=str(uuid4()), status="compensating") for _ in range(3)])
    first = run(workflow.app, "list", "--status", "compensating", "--limit", "2", "-o", "json")
    cursor = first.stderr.split("--cursor ")[1].strip()
    rest = run(workflow.app, "list", "--status", "compensating", "--cursor", cursor, "-o", "ndjson")
    ids = {row["workflow_id"] for row in json.loads(first.stdout)}
    ids |= {json.loads(line)["workflow_id"] for line in rest.stdout.splitlines()}
    assert len(ids) == 3


def test_empty_list_is_an_empty_array(run: Run) -> None:
    """Nothing found is no error."""
    seen = run(workflow.app, "list", "--tenant", "nobody", "-o", "json")
    assert (seen.exit_code, json.loads(seen.stdout)) == (0, [])


def test_unknown_status_is_refused(run: Run) -> None:
    """The error names those that exist."""
    seen = run(workflow.app, "list", "--status", "done")
    assert "needs_attention" in str(seen.exception)


def test_api_that_is_away_is_unavailable() -> None:
    """Unavailable, exit code 7, with the address and how to name another."""
    seen = CliRunner(env={"FULCRUM_API": "http://127.0.0.1:1"}).invoke(workflow.app, ["list"])
    assert isinstance(seen.exception, Unavailable)
    assert "http://127.0.0.1:1" in str(seen.exception)
    assert "FULCRUM_API" in str(seen.exception)


def test_address_that_is_none_is_refused() -> None:
    """A host without a scheme is told, not tried."""
    seen = CliRunner(env={"FULCRUM_API": "localhost:8080"}).invoke(workflow.app, ["list"])
    assert isinstance(seen.exception, Rejected)
    assert "localhost:8080" in str(seen.exception)


def test_stock_is_received_and_shown(run: Run, settings: Settings) -> None:
    """``receive`` answers once the command is safe; ``show`` prints what inventory has."""
    sku = f"sku-{uuid4()}"
    seen = run(stock.app, "receive", sku, "5", "--reference", "delivery 1", "-o", "json")
    assert json.loads(seen.stdout)["quantity"] == 5
    assert isinstance(run(stock.app, "show", sku).exception, NotFound)

    async def count() -> None:
        db = await Database.open(settings.postgres_dsn, size=1)
        await db.execute(text("INSERT INTO inventory.stock VALUES (:sku, 5, 0, 0, 1)"), {"sku": sku})
        await db.close()

    asyncio.run(count())
    assert json.loads(run(stock.app, "show", sku, "-o", "json").stdout)["available"] == 5
    assert sku in run(stock.app, "show", sku).stdout


def test_parked_message_is_listed_shown_and_discarded(run: Run, settings: Settings) -> None:
    """A message is found in the list, shown, given up once, and then refuses a replay."""
    parked_id = str(uuid4())
    statement = text(
        "INSERT INTO ops.parked_messages (id, service, message_id, type, queue, reason, error_class, error,"
        " fingerprint, attempts, headers, body) VALUES (:id, 'payment', 'm-1', 'VoidPayment', 'q', 'corrupt',"
        " 'Corrupt', 'no [bold]schema[/bold]', 'f', 1, '{}', 'x')"
    )

    async def park() -> None:
        db = await Database.open(settings.postgres_dsn, size=1)
        await db.execute(statement, {"id": parked_id})
        await db.close()

    asyncio.run(park())
    listed = json.loads(run(parked.app, "list", "--status", "parked", "-o", "json").stdout)
    assert parked_id in [row["id"] for row in listed]
    assert "no [bold]schema[/bold]" in run(parked.app, "list").stdout
    assert "no [bold]schema[/bold]" in run(parked.app, "show", parked_id).stdout
    done = run(parked.app, "discard", parked_id, "--reason", "not needed", "--actor", "ana")
    assert (done.exit_code, done.stdout) == (0, f"{parked_id} discarded\n")
    again = run(parked.app, "replay", parked_id, "--reason", "after all", "--actor", "bo")
    assert isinstance(again.exception, Conflict)
    assert "not needed" in str(again.exception)
