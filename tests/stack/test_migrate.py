"""Live workflows are moved to another definition: those before the first difference, each accounted for."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from deciding import asked_of, decided_upon, deciding, started, wish
from decisions import history
from eventually import eventually_async
from intake import Api
from orchestrated import authorized, project, told
from sqlalchemy import select
from typer.testing import CliRunner

from fulcrum.cli.definition import app
from fulcrum.operations import store
from fulcrum.operations.requests import Request, WorkflowFilter
from fulcrum.readmodel.relations import workflow_runs
from fulcrum.saga.definitions import CONFIRM_STOCK, DEFINITIONS, HOLD_STOCK, Definition
from fulcrum.store.database import Database
from fulcrum.web.relations import intents
from fulcrum.web.stream import intent_created

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOURCE, TARGET = "fulfillment.v1", "held.v1"
ENDS_WITHIN = 30.0


@pytest.fixture
def another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A definition that begins like fulfillment.v1 and holds stock otherwise."""
    first = DEFINITIONS[SOURCE].steps[0]
    monkeypatch.setitem(DEFINITIONS, TARGET, Definition(TARGET, (first, HOLD_STOCK, CONFIRM_STOCK)))


def moving(tenant: str, **changes: Any) -> Request:
    """An operation on the workflows of a tenant."""
    arguments = {"result": json.dumps({"definition": TARGET})}
    chosen = WorkflowFilter(tenant=tenant, definition=SOURCE)
    return replace(wish("migrate", [], arguments=arguments), workflows=chosen, **changes)


async def paid(db: Database, workflow_id: str) -> None:
    """The payment is authorised, so the workflow waits for its stock."""
    intent = await db.one(select(intents).where(intents.c.workflow_id == workflow_id))
    assert intent is not None
    await project(db, told([intent_created(intent)], (authorized,)))


@pytest.mark.usefixtures("another")
async def test_those_before_the_difference_are_moved(api: Api, db: Database) -> None:
    """The rest is counted with the reason; total is succeeded, failed, skipped and pending together."""
    tenant, ids = await started(api, db, 6)
    for workflow_id in ids[:2]:
        await paid(db, workflow_id)
    await project(db, [replace(made, tenant=tenant) for made in history(ids[2])])
    planned = await store.plan(db, moving(tenant))
    assert (planned.matched, planned.included) == (6, 3)
    assert planned.excluded == {"past_the_difference": 2, "already completed": 1}
    assert await asked_of(db, ids) == []
    async with deciding(db):
        row, _ = await store.create(db, moving(tenant))

        async def ended() -> dict[str, Any] | None:
            seen: dict[str, Any] = (await api.get(f"/v1/operations/{row['id']}")).body
            assert seen["total"] == sum(seen[name] for name in ("succeeded", "failed", "skipped", "pending"))
            return seen if seen["state"] == "done" else None

        seen = await eventually_async(ended, within=ENDS_WITHIN)
    assert seen is not None
    assert (seen["total"], seen["succeeded"], seen["pending"]) == (3, 3, 0)
    under = select(workflow_runs.c.definition).where(workflow_runs.c.tenant == tenant)
    assert Counter(each["definition"] for each in await db.all(under)) == {TARGET: 3, SOURCE: 3}
    anew = replace(moving(tenant), workflows=WorkflowFilter(tenant=tenant))
    assert (await store.plan(db, anew)).excluded == {
        "past_the_difference": 2,
        "already completed": 1,
        "under it already": 3,
    }


@pytest.mark.usefixtures("another")
async def test_what_is_being_undone_is_left_out(api: Api, db: Database) -> None:
    """Its undo belongs to the rules that it began with."""
    tenant, (workflow_id,) = await started(api, db, 1)
    await api.post(f"/v1/workflows/{workflow_id}/cancel", {"reason": "no"}, "c")
    await decided_upon(db, workflow_id)
    assert (await store.plan(db, moving(tenant))).excluded == {"already compensating": 1}


async def test_terminal_tells_what_cannot_be_moved(api: Api, db: Database) -> None:
    """The two differ from the first step on, so nothing that has begun can go from one to the other."""
    tenant, _ = await started(api, db, 2)
    runner = CliRunner(env={"FULCRUM_API": api.address})
    common = ["migrate", "--from", SOURCE, "--to", "fulfillment.v2", "--where", f"tenant={tenant}"]
    told_why = [*common, "--reason", "new rules", "-o", "ndjson"]
    looked = await asyncio.to_thread(runner.invoke, app, [*told_why, "--dry-run"])
    assert looked.exit_code == 0, looked.stderr
    assert '"matched":2,"total":0,"excluded":{"past_the_difference":2}' in looked.stdout
    seen = await api.post(
        "/v1/operations",
        {
            "kind": "workflow.migrate",
            "selection": {"tenant": tenant, "definition": SOURCE},
            "arguments": {"definition": "fulfillment.v2"},
            "actor": "ana",
            "reason": "new rules",
        },
        str(uuid4()),
    )
    assert (seen.status, seen.body["code"]) == (409, "conflict")
