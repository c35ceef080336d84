"""Whoever changes something leaves a row that says who, what, why and how it ended, and nobody removes it.

Long, because every route that writes has its act here.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from commandbus import reserve
from deciding import decided_upon, deciding, started
from intake import Api, Seen
from operated import park_rows
from sqlalchemy import select, text
from typer.testing import CliRunner

from fulcrum.cli import projection
from fulcrum.cli.audit import app as audit_app
from fulcrum.readmodel.relations import WORKFLOWS
from fulcrum.settings import Settings
from fulcrum.store.audit import AUDIT, Act
from fulcrum.store.database import Database, Row
from fulcrum.web import waiting
from fulcrum.web.relations import receipts
from fulcrum.web.routes import ROUTES
from fulcrum.wire.codec import open_codec

pytestmark = pytest.mark.asyncio(loop_scope="module")

OPERATOR = {"actor": "ana", "reason": "because"}
ASKED = {"X-Actor": "ana"}
#: Does what a route is for and returns what was answered, and the target of its rows.
Done = Callable[[Api, Database, Settings], Awaitable[tuple[Seen, str]]]


async def rows_about(db: Database, target: str, action: str | None = None) -> list[Row]:
    """The rows about a target, oldest first."""
    query = select(AUDIT).where(AUDIT.c.target == target).order_by(AUDIT.c.at)
    return await db.all(query if action is None else query.where(AUDIT.c.action == action))


def verb(name: str, **more: Any) -> Done:
    """Ask a workflow of one's own, and see what it decided."""

    async def do(api: Api, db: Database, settings: Settings) -> tuple[Seen, str]:
        _, (workflow_id,) = await started(api, db, 1)
        if name == "resume":
            await api.post(f"/v1/workflows/{workflow_id}/pause", {"reason": "first"}, "p")
            await decided_upon(db, workflow_id)
        body = {"reason": "because", **more}
        return await api.post(f"/v1/workflows/{workflow_id}/{name}", body, str(uuid4()), ASKED), workflow_id

    return do


def parked(name: str) -> Done:
    """Act on a parked message of one's own."""

    async def do(api: Api, db: Database, settings: Settings) -> tuple[Seen, str]:
        command = reserve()
        codec = await open_codec(settings)
        (parked_id,) = await park_rows(db, 1, body=codec.encode(command), message_id=command.command_id)
        if name == "restore":
            await api.post(f"/v1/parked/{parked_id}/discard", OPERATOR)
        body: dict[str, Any] = dict(OPERATOR)
        if name == "edit":
            body["patch"] = [{"op": "replace", "path": "/lines/0/quantity", "value": 1}]
        return await api.post(f"/v1/parked/{parked_id}/{name}", body), parked_id

    return do


def operation(name: str) -> Done:
    """Act on an operation that stands still."""

    async def do(api: Api, db: Database, settings: Settings) -> tuple[Seen, str]:
        await park_rows(db, 2, fingerprint=(group := uuid4().hex[:12]))
        body = {"kind": "discard", "selection": {"group": group}, **OPERATOR, "rate": 0.01}
        made = await api.post("/v1/operations", body)
        place = f"/v1/operations/{made.body['id']}"
        if name == "resume":
            await api.post(f"{place}/pause", OPERATOR)
        return await api.post(f"{place}/{name}", OPERATOR), made.body["id"]

    return do


async def create(api: Api, db: Database, settings: Settings) -> tuple[Seen, str]:
    """An operation on a message of one's own."""
    ids = await park_rows(db, 1)
    seen = await api.post("/v1/operations", {"kind": "discard", "selection": {"ids": ids}, **OPERATOR})
    return seen, seen.body["id"]


async def note(api: Api, db: Database, settings: Settings) -> tuple[Seen, str]:
    """A note on a group of one's own."""
    await park_rows(db, 1, fingerprint=(group := uuid4().hex[:12]))
    body = {"actor": "ana", "note": "INC-88", "owner": "bo"}
    return await api.post(f"/v1/parked-groups/{group}/note", body), group


async def receive(api: Api, db: Database, settings: Settings) -> tuple[Seen, str]:
    """Goods of a SKU of one's own."""
    sku = f"tea-{uuid4().hex[:8]}"
    body = {"quantity": 3, "reference": "lorry 7"}
    return await api.post(f"/v1/stock/{sku}/receipts", body, "k", ASKED), sku


_STOPPED = """
    INSERT INTO payments.outbox_parked (shard, id, event_id, topic, key, headers, value, created_at, error)
    VALUES (0, 1, gen_random_uuid(), 't', :key, '{}', 'v', now(), 'no')"""


async def release(api: Api, db: Database, settings: Settings) -> tuple[Seen, str]:
    """A key of an outbox that has stopped."""
    key = uuid4().hex
    await db.execute(text(_STOPPED).bindparams(key=key.encode()))
    named = base64.urlsafe_b64encode(key.encode()).decode()
    seen = await api.post(f"/v1/parked-keys/payments/{named}/release", OPERATOR)
    return seen, f"payments/{named}"


WRITES: dict[str, Done] = {
    "workflow.retry": verb("retry"),
    "workflow.skip": verb("skip", step="authorize_payment"),
    "workflow.pause": verb("pause"),
    "workflow.resume": verb("resume"),
    "workflow.compensate": verb("compensate"),
    "workflow.extend": verb("extend", seconds=3600),
    "workflow.terminate": verb("terminate"),
    "workflow.cancel": verb("cancel"),
    "workflow.signal": verb("signals/hold", hold="fraud"),
    "stock.receive": receive,
    "parked.replay": parked("replay"),
    "parked.discard": parked("discard"),
    "parked.restore": parked("restore"),
    "parked.edit": parked("edit"),
    "group.note": note,
    "key.release": release,
    "operation.create": create,
    "operation.pause": operation("pause"),
    "operation.resume": operation("resume"),
    "operation.abort": operation("abort"),
}


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request waits for as long as the test needs."""
    monkeypatch.setattr(waiting, "WAIT_MOST", 20.0)


@pytest.fixture(scope="module")
def settings(settings: Settings) -> Settings:
    """An intake that allows everything."""
    return settings.model_copy(update={"parked_edit": True})


# --- what is entered ------------------------------------------------------------------------------


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("row", [row for row in ROUTES if row.method != "GET"], ids=lambda row: row.name)
async def test_every_writing_route_leaves_its_row(
    api: Api, db: Database, settings: Settings, row: Any
) -> None:
    """Who, what, why, under which request, and that it is done. A new route needs its line in WRITES."""
    if row.path == "/v1/intents":
        assert row.audited is None  # business: an intent has its own relation, and its journal
        return
    async with deciding(db):
        seen, target = await WRITES[row.audited](api, db, settings)
    assert seen.status < 300, seen.text
    found = await rows_about(db, target, row.audited)
    assert found, f"{row.audited} left nothing"
    last = found[-1]
    assert (last["actor"], last["source"], last["outcome"]) == ("ana", "api", "done")
    assert last["request_id"] == seen.headers["X-Correlation-Id"]
    assert last["target_kind"] == row.audited.partition(".")[0]
    assert {each["act"] for each in found} == {last["act"]}
    assert [each["outcome"] for each in found] in (["done"], ["began", "done"])
    assert last["after"]
    if row.audited not in ("stock.receive", "group.note"):
        assert last["reason"] == "because"


@pytest.mark.usefixtures("patient")
async def test_row_tells_what_was_before_and_after(api: Api, db: Database, settings: Settings) -> None:
    """Of a workflow: its status and version, as the decision made them."""
    async with deciding(db):
        _, workflow_id = await WRITES["workflow.pause"](api, db, settings)
    began, done = await rows_about(db, workflow_id)
    assert (began["before"], began["outcome"]) == (None, "began")
    assert (done["before"], done["after"]) == ({"status": "running"}, {"status": "paused", "version": 2})


@pytest.mark.usefixtures("patient")
async def test_refusal_of_a_workflow_is_entered_with_its_reason(api: Api, db: Database) -> None:
    """It was asked, and said no."""
    async with deciding(db):
        _, (workflow_id,) = await started(api, db, 1)
        await api.post(f"/v1/workflows/{workflow_id}/resume", {"reason": "x"}, "k")
    assert [(row["outcome"], row["detail"]) for row in await rows_about(db, workflow_id)] == [
        ("began", None),
        ("refused", "not_paused"),
    ]


async def test_what_is_not_decided_yet_began(api: Api, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row came with the request; a repeat that sees the decision enters the end, once."""
    monkeypatch.setattr(waiting, "WAIT_MOST", 0.05)
    _, (workflow_id,) = await started(api, db, 1)
    place = f"/v1/workflows/{workflow_id}/pause"
    assert (await api.post(place, {"reason": "x"}, "k")).status == 202
    assert [row["outcome"] for row in await rows_about(db, workflow_id)] == ["began"]
    await decided_upon(db, workflow_id)
    for _ in range(2):
        assert (await api.post(place, {"reason": "x"}, "k")).status == 200
    assert [row["outcome"] for row in await rows_about(db, workflow_id)] == ["began", "done"]


async def test_reused_key_ends_no_other_act(api: Api, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an act of its own, which was refused."""
    monkeypatch.setattr(waiting, "WAIT_MOST", 0.05)
    _, (workflow_id,) = await started(api, db, 1)
    await api.post(f"/v1/workflows/{workflow_id}/pause", {"reason": "x"}, "k")
    assert (await api.post(f"/v1/workflows/{workflow_id}/retry", {"reason": "x"}, "k")).status == 409
    began, refused = await rows_about(db, workflow_id)
    assert (began["outcome"], refused["outcome"], refused["action"]) == ("began", "refused", "workflow.retry")
    assert began["act"] != refused["act"]


async def test_rehearsal_leaves_no_row(api: Api, db: Database) -> None:
    """It changes nothing."""
    _, (workflow_id,) = await started(api, db, 1)
    seen = await api.post(f"/v1/workflows/{workflow_id}/pause", {"reason": "x", "dry_run": True}, "k")
    assert seen.status == 200, seen.text
    assert await rows_about(db, workflow_id) == []


async def test_what_is_refused_is_entered(api: Api, db: Database) -> None:
    """Also what reached nothing: somebody tried."""
    unknown = str(uuid4())
    assert (await api.post(f"/v1/operations/{unknown}/abort", OPERATOR)).status == 404
    (row,) = await rows_about(db, unknown)
    assert (row["outcome"], row["detail"]) == ("refused", f"operation {unknown} does not exist")


async def test_write_and_row_are_one(api: Api, db: Database) -> None:
    """Where the audit cannot be written, nothing is changed."""
    sku = f"tea-{uuid4().hex[:8]}"
    await db.execute(text("ALTER TABLE ops.audit RENAME TO audit_away"))
    try:
        seen = await api.post(f"/v1/stock/{sku}/receipts", {"quantity": 1, "reference": "r"}, "k")
        assert seen.status == 500, seen.text
    finally:
        await db.execute(text("ALTER TABLE ops.audit_away RENAME TO audit"))
    assert await db.one(select(receipts).where(receipts.c.sku == sku)) is None


# --- append only ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement", ["UPDATE ops.audit SET actor = 'nobody'", "DELETE FROM ops.audit", "TRUNCATE ops.audit"]
)
async def test_rows_are_neither_changed_nor_removed(settings: Settings, statement: str) -> None:
    """Not even by their owner, who would have to take the trigger away first."""
    connection = psycopg2.connect(settings.postgres_dsn)
    try:
        with connection.cursor() as cursor, pytest.raises(psycopg2.Error, match=r"ops\.audit only grows"):
            cursor.execute(statement)
    finally:
        connection.close()


# --- list -----------------------------------------------------------------------------------------


async def entered(db: Database, actor: str, count: int) -> None:
    """Rows of one actor, all at the same time but the last."""
    for number in range(count):
        act = Act(actor, "cli", "test.act", "test", f"{actor}-{number}", None, "r")
        at = text("timestamptz '2026-03-01 12:00Z'") if number < count - 1 else text("clock_timestamp()")
        await db.execute(act.row("done").values(at=at))


async def test_list_is_read_page_by_page(api: Api, db: Database) -> None:
    """Newest first; with equal times nothing is lost and nothing comes twice."""
    actor = f"a{uuid4().hex[:8]}"
    await entered(db, actor, 7)
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        seen = await api.get(f"/v1/audit?actor={actor}&limit=3" + (f"&cursor={cursor}" if cursor else ""))
        assert seen.status == 200, seen.text
        found += [item["target"] for item in seen.body["items"]]
        cursor = seen.body["next_cursor"]
    assert found[0] == f"{actor}-6"
    assert sorted(found) == [f"{actor}-{number}" for number in range(7)]


async def test_list_is_narrowed(api: Api, db: Database) -> None:
    """By target and by time."""
    actor = f"a{uuid4().hex[:8]}"
    await entered(db, actor, 3)
    by_target = (await api.get(f"/v1/audit?target={actor}-1")).body["items"]
    assert [item["actor"] for item in by_target] == [actor]
    late = (await api.get(f"/v1/audit?actor={actor}&since=2026-03-02T00:00:00Z")).body["items"]
    assert [item["target"] for item in late] == [f"{actor}-2"]
    seen = await api.get("/v1/audit?cursor=nonsense")
    assert (seen.status, seen.body["code"]) == (400, "invalid-parameter")


async def test_terminal_lists_the_audit(api: Api, db: Database) -> None:
    """For programs too; a cursor is told on the side."""
    actor = f"a{uuid4().hex[:8]}"
    await entered(db, actor, 2)
    runner = CliRunner(env={"FULCRUM_API": api.address, "COLUMNS": "250"})

    def invoke(*arguments: str) -> Any:
        return runner.invoke(audit_app, ["list", "--actor", actor, *arguments])

    shown = await asyncio.to_thread(invoke)
    assert (shown.exit_code, shown.stdout.count(f"{actor}-")) == (0, 2), shown.output
    page = await asyncio.to_thread(invoke, "--limit", "1", "-o", "ndjson")
    assert f'"target":"{actor}-1"' in page.stdout
    assert "more: --cursor" in page.stderr


# --- what the terminal does by itself -------------------------------------------------------------


async def test_change_of_the_projection_is_entered(
    settings: Settings, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it began, and that it was refused and why: there is no generation in work."""
    for name, value in settings.model_dump(mode="json", exclude_none=True).items():
        monkeypatch.setitem(os.environ, f"FULCRUM_{name.upper()}", str(value))
    arguments = ["swap", WORKFLOWS, "--reason", "because", "--actor", "ana"]
    result = await asyncio.to_thread(CliRunner().invoke, projection.app, arguments)
    assert result.exit_code != 0
    began, refused = await rows_about(db, WORKFLOWS)
    assert (began["outcome"], refused["outcome"]) == ("began", "refused")
    assert (began["actor"], began["source"], began["action"]) == ("ana", "cli", "projection.swap")
    assert (refused["reason"], refused["act"]) == ("because", began["act"])
    assert refused["detail"] == str(result.exception)
