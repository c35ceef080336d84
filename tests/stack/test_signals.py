"""Signals over HTTP: stored once, decided, seen by readers; and what an intent agrees on reaches the saga."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from deciding import asked_of, decided_upon, deciding
from intake import Api, Seen, sent
from typer.testing import CliRunner

from fulcrum.cli.workflow import app as wf
from fulcrum.saga.messages import IntentCreated, LineTerms, SignalReceived
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.web import waiting
from fulcrum.wire.codec import open_codec

pytestmark = pytest.mark.asyncio(loop_scope="module")

V2 = {"definition": "fulfillment.v2"}


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request waits for as long as the test needs."""
    monkeypatch.setattr(waiting, "WAIT_MOST", 20.0)


async def signal(api: Api, workflow_id: str, name: str, hold: str, key: str = "", **more: Any) -> Seen:
    """Tell a workflow something."""
    body = {"reason": "looked odd", "hold": hold, **more}
    path = f"/v1/workflows/{workflow_id}/signals/{name}"
    return await api.post(path, body, key or str(uuid4()), {"X-Actor": "ana"})


@pytest.mark.usefixtures("patient")
async def test_holds_come_and_go(api: Api, db: Database) -> None:
    """Several at once; the workflow goes on with the last, and readers see which are left."""
    workflow_id = await api.accept(**V2)
    async with deciding(db):
        first = await signal(api, workflow_id, "hold", "fraud")
        assert (first.status, first.body["outcome"], first.body["status"]) == (200, "accepted", "paused")
        assert (first.body["verb"], first.body["status_before"]) == ("hold", "running")
        assert (await signal(api, workflow_id, "hold", "address")).body["status"] == "paused"
        again = await signal(api, workflow_id, "hold", "fraud")
        assert (again.body["outcome"], again.body["refused"]) == ("refused", "already_held")
        shown = (await api.get(f"/v1/workflows/{workflow_id}")).body
        assert shown["holds"] == ["address", "fraud"]
        assert shown["waiting_on"]["sentence"].startswith("held for address, fraud")
        assert shown["timeline"][1]["cause"]["verb"] == "hold fraud"
        assert (await signal(api, workflow_id, "release", "fraud")).body["status"] == "paused"
        assert (await signal(api, workflow_id, "release", "address")).body["status"] == "running"
    assert (await api.get(f"/v1/workflows/{workflow_id}")).body["holds"] == []


@pytest.mark.usefixtures("patient")
async def test_signal_under_one_key_is_one_signal(api: Api, db: Database, settings: Settings) -> None:
    """Stored and sent once, behind the intent; the key with another hold is refused."""
    workflow_id = await api.accept(**V2)
    async with deciding(db):
        first = await signal(api, workflow_id, "hold", "fraud", "k")
        again = await signal(api, workflow_id, "hold", "fraud", "k")
    assert again.body == first.body
    assert again.headers["Idempotency-Replayed"] == "true"
    other = await signal(api, workflow_id, "hold", "address", "k")
    assert (other.status, other.body["code"]) == (409, "key-reused")
    (row,) = await asked_of(db, [workflow_id])
    assert (row["verb"], row["signal"], row["payload"]) == ("signal", "hold", '{"hold":"fraud"}')
    codec = await open_codec(settings)
    _, event = [codec.decode(record.value()) for record in await sent(settings, workflow_id)]
    assert isinstance(event, SignalReceived)
    assert (event.sequence, event.event_id) == (2, row["event_id"])
    assert (event.actor, event.reason) == ("ana", "looked odd")


async def test_rehearsal_of_a_signal_stores_nothing(api: Api, db: Database) -> None:
    """It tells what would follow."""
    workflow_id = await api.accept(**V2)
    await decided_upon(db, workflow_id)
    seen = await signal(api, workflow_id, "hold", "fraud", dry_run=True)
    assert (seen.status, seen.body["outcome"], seen.body["status"]) == (200, "accepted", "paused")
    refused = await signal(api, workflow_id, "release", "fraud", dry_run=True)
    assert refused.body["refused"] == "not_held"
    assert await asked_of(db, [workflow_id]) == []


@pytest.mark.parametrize(
    ("name", "hold", "status", "place"),
    [("hold", "mood", 422, {"pointer": "#/hold"}), ("ship", "fraud", 400, {"parameter": "name"})],
)
async def test_unknown_signal_or_hold_is_refused(
    api: Api, db: Database, name: str, hold: str, status: int, place: dict[str, str]
) -> None:
    """With what there is."""
    workflow_id = await api.accept(**V2)
    seen = await signal(api, workflow_id, name, hold)
    assert seen.status == status
    (error,) = seen.body["errors"]
    assert error.items() >= place.items()
    assert "use one of" in error["detail"]


async def test_what_an_intent_agrees_on_reaches_the_saga(api: Api, db: Database, settings: Settings) -> None:
    """Terms, promise and holds are in the event and in what readers see."""
    agreed = {
        "lines": [
            {"sku": "tea-01", "quantity": 2, "unit_price_minor": 500, "on_short": "cancel_line"},
            {"sku": "cup", "quantity": 1},
        ],
        "promised_at": "2026-03-04T12:00:00+02:00",
        "holds": ["fraud"],
    }
    workflow_id = await api.accept(**V2, **agreed)
    accepted = (await api.get(f"/v1/workflows/{workflow_id}")).body
    assert (accepted["status"], accepted["holds"]) == ("accepted", ["fraud"])
    assert accepted["late_by"] > 0
    codec = await open_codec(settings)
    (event,) = [codec.decode(record.value()) for record in await sent(settings, workflow_id)]
    assert isinstance(event, IntentCreated)
    assert event.terms == (LineTerms(500, "cancel_line"), LineTerms(0, "cancel_order"))
    await decided_upon(db, workflow_id)
    shown = (await api.get(f"/v1/workflows/{workflow_id}")).body
    assert (shown["status"], shown["holds"]) == ("paused", ["fraud"])
    assert shown["promised_at"] == "2026-03-04T10:00:00.000000Z"
    assert [each["name"] for each in shown["milestones"]] == [
        "accepted", "paid", "reserved", "packed", "shipped", "delivered",
    ]  # fmt: skip
    listed = (await api.get("/v1/workflows?definition=fulfillment.v2&status=paused&limit=1")).body["items"][0]
    assert (listed["workflow_id"], listed["holds"], listed["late_by"] > 0) == (workflow_id, ["fraud"], True)


@pytest.mark.usefixtures("patient")
async def test_terminal_signals(api: Api, db: Database) -> None:
    """And prints what was decided."""
    workflow_id = await api.accept(**V2)
    runner = CliRunner(env={"FULCRUM_API": api.address})
    told = ["signal", workflow_id, "hold", "--hold", "fraud", "--reason", "odd", "-o", "ndjson"]
    async with deciding(db):
        result = await asyncio.to_thread(runner.invoke, wf, told)
    assert result.exit_code == 0, result.stderr
    assert '"status":"paused"' in result.stdout
    shown = await asyncio.to_thread(runner.invoke, wf, ["show", workflow_id])
    assert "held for  fraud" in shown.stdout
    assert "reached  accepted" in shown.stdout
