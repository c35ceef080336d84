"""The same is asked of many workflows: each is asked once, and ends with what it decided."""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from deciding import asked_of, deciding, started, wish
from decisions import history
from eventually import eventually_async
from intake import Api, Seen
from orchestrated import project
from sqlalchemy import delete

from fulcrum.operations import asked, store
from fulcrum.operations.control import control
from fulcrum.operations.relations import ITEMS, OPERATIONS
from fulcrum.operations.requests import asked_id
from fulcrum.store.database import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHO = {"actor": "ana", "reason": "the provider is away"}
ENDS_WITHIN = 30.0


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def nothing_under_way(db: Database) -> None:
    """No operation of another test."""
    await db.execute(delete(ITEMS))
    await db.execute(delete(OPERATIONS))


async def start(api: Api, verb: str, selection: dict[str, Any], **more: Any) -> Seen:
    """Ask for an operation."""
    body = {"kind": f"workflow.{verb}", "selection": selection, **WHO, **more}
    return await api.post("/v1/operations", body, str(uuid4()))


async def ended(api: Api, operation: str, *states: str) -> dict[str, Any]:
    """The operation once it stands in one of ``states``; its counts add up at every look."""

    async def look() -> dict[str, Any] | None:
        seen: dict[str, Any] = (await api.get(f"/v1/operations/{operation}")).body
        counts = [seen[name] for name in ("succeeded", "failed", "skipped", "pending")]
        assert seen["total"] == sum(counts)
        return seen if seen["state"] in (states or ("done",)) else None

    found = await eventually_async(
        look, within=ENDS_WITHIN, state=lambda: api.get(f"/v1/operations/{operation}")
    )
    assert found is not None
    return found


async def items(api: Api, operation: str) -> list[dict[str, Any]]:
    """The items in their order."""
    found: list[dict[str, Any]] = (await api.get(f"/v1/operations/{operation}/items")).body["items"]
    return found


# --- plan -----------------------------------------------------------------------------------------


async def test_plan_counts_what_is_taken_and_why_the_rest_is_not(api: Api, db: Database) -> None:
    """Ended ones, unknown ones and those of another operation are left out; nothing is stored or asked."""
    _, ids = await started(api, db, 3)
    over = await api.accept()
    await project(db, history(over))
    await store.create(db, wish("pause", ids[:1]))
    chosen = {"ids": [*ids, over, str(uuid4())]}
    seen = await start(api, "retry", chosen, dry_run=True, limit=1)
    assert seen.status == 200, seen.text
    assert (seen.body["matched"], seen.body["total"]) == (5, 1)
    assert seen.body["excluded"] == {
        "already completed": 1,
        "in another operation": 1,
        "does not exist": 1,
        "beyond the limit": 1,
    }
    assert await asked_of(db, ids) == []


@pytest.mark.parametrize(
    ("selection", "matched"),
    [
        ({"status": "running"}, 2),
        ({"step": "authorize_payment"}, 2),
        ({"step": "reserve_stock"}, 0),
        ({"definition": "fulfillment.v1"}, 2),
        ({"older_than": 0}, 2),
        ({"older_than": 3600}, 0),
        ({"status": "paused"}, 0),
    ],
)
async def test_filters_select_together(
    api: Api, db: Database, selection: dict[str, Any], matched: int
) -> None:
    """All that is given must hold: here each with the tenant that only these two have."""
    tenant, _ = await started(api, db, 2)
    seen = await start(api, "terminate", {"tenant": tenant, **selection}, dry_run=True)
    assert seen.body["matched"] == matched, seen.text


async def test_everything_is_no_selection(api: Api) -> None:
    """Nobody means to terminate all there is, so an empty selection is refused."""
    seen = await start(api, "terminate", {})
    assert (seen.status, seen.body["errors"][0]["pointer"]) == (422, "#/selection")


# --- apply ----------------------------------------------------------------------------------------


async def test_each_workflow_ends_with_what_it_decided(api: Api, db: Database) -> None:
    """Paused are those that the plan froze, under ids of their items; a later one is left alone."""
    tenant, ids = await started(api, db, 40)
    seen = await start(api, "pause", {"tenant": tenant})
    assert seen.status == 202, seen.text
    late = await api.accept(tenant=tenant)
    async with deciding(db):
        done = await ended(api, seen.body["id"])
    assert (done["matched"], done["succeeded"], done["failed"], done["skipped"]) == (40, 40, 0, 0)
    found = await items(api, done["id"])
    assert {(item["workflow_id"], item["message_id"]) for item in found} == {
        (each, asked_id(done["id"], each)) for each in ids
    }
    assert {(item["state"], item["outcome"]) for item in found} == {("succeeded", "paused")}
    assert Counter(row["workflow_id"] for row in await asked_of(db, [*ids, late])) == dict.fromkeys(ids, 1)
    shown = (await api.get(f"/v1/workflows/{ids[0]}")).body
    cause = shown["timeline"][-1]["cause"]
    assert (shown["status"], cause["actor"], cause["reason"]) == ("paused", "ana", WHO["reason"])


async def test_refusal_is_a_failure_with_its_reason(api: Api, db: Database) -> None:
    """A step that is not waited for is not retried: the workflow's own word is the outcome."""
    tenant, _ = await started(api, db, 2)
    seen = await start(api, "retry", {"tenant": tenant}, arguments={"step": "reserve_stock"})
    async with deciding(db):
        done = await ended(api, seen.body["id"])
    assert (done["succeeded"], done["failed"]) == (0, 2)
    assert [item["outcome"] for item in await items(api, done["id"])] == [
        "step_not_awaited",
        "step_not_awaited",
    ]


async def test_what_ended_meanwhile_is_skipped(api: Api, db: Database) -> None:
    """It was selected, but when its turn comes there is nothing to ask."""
    _, (first, second) = await started(api, db, 2)
    made, _ = await store.create(db, wish("pause", [first, second], rate=0.5))
    await project(db, [each for each in history(second) if each.version > 1])
    async with deciding(db):
        done = await ended(api, made["id"])
    assert (done["succeeded"], done["skipped"]) == (1, 1)
    assert [item["outcome"] for item in await items(api, made["id"])] == ["paused", "already completed"]
    assert [row["workflow_id"] for row in await asked_of(db, [first, second])] == [first]


async def test_canary_that_is_refused_stops_the_rest(api: Api, db: Database) -> None:
    """The rest is not asked; who resumes it has seen why."""
    tenant, ids = await started(api, db, 3)
    seen = await start(api, "retry", {"tenant": tenant}, arguments={"step": "reserve_stock"}, canary=1)
    async with deciding(db):
        held = await ended(api, seen.body["id"], "stopped")
        assert (held["failed"], held["pending"]) == (1, 2)
        assert held["why"] == "1 of 1 canaries failed or parked again"
        assert len(await asked_of(db, ids)) == 1
        await control(db, held["id"], "resume", "ana", "I know")
        done = await ended(api, held["id"])
    assert done["failed"] == 3


async def test_aborted_operation_waits_for_those_it_has_asked(api: Api, db: Database) -> None:
    """Their outcome is still seen; those that were not asked are skipped."""
    _, ids = await started(api, db, 40)
    made, _ = await store.create(db, wish("pause", ids))

    async def all_open() -> bool:
        return len(await asked_of(db, ids)) == asked.MOST_OPEN

    await eventually_async(all_open, within=ENDS_WITHIN, state=lambda: asked_of(db, ids))
    await control(db, made["id"], "abort", "ana", "enough")

    async def settled() -> bool:
        seen: dict[str, Any] = (await api.get(f"/v1/operations/{made['id']}")).body
        return bool(seen["pending"] == 0)

    async with deciding(db):
        await eventually_async(settled, within=ENDS_WITHIN, state=lambda: store.get_operation(db, made["id"]))
    row = await store.get_operation(db, made["id"])
    assert (row["state"], row["succeeded"], row["skipped"]) == ("aborted", asked.MOST_OPEN, 8)
    assert len(await asked_of(db, ids)) == asked.MOST_OPEN
