"""Whoever asks many workflows may die at any time: nobody is asked twice, and no item is lost."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from deciding import asked_of, deciding, started, wish
from eventually import eventually_async
from intake import free_port, running_intake
from operated import operating
from sqlalchemy import delete, update

from fulcrum.operations import asked, store
from fulcrum.operations.moves import Next, Work
from fulcrum.operations.relations import ITEMS, OPERATIONS
from fulcrum.operations.requests import Request, WorkflowFilter, asked_id
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.web.bulk import asker
from fulcrum.web.services import Services

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENDS_WITHIN = 30.0


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def nothing_under_way(db: Database) -> None:
    """No operation of another test."""
    await db.execute(delete(ITEMS))
    await db.execute(delete(OPERATIONS))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def services(settings: Settings) -> AsyncIterator[Services]:
    """What an intake asks workflows by."""
    opened = Services(settings)
    await opened.open()
    yield opened
    await opened.close()


async def done(db: Database, operation: str) -> None:
    """Wait until the operation has ended."""

    async def is_done() -> bool:
        return bool((await store.get_operation(db, operation))["state"] == "done")

    await eventually_async(is_done, within=ENDS_WITHIN, state=lambda: store.get_operation(db, operation))


@pytest.mark.parametrize("was_asked", [False, True])
async def test_item_of_a_dead_runner_is_asked_again_under_its_id(
    settings: Settings, db: Database, services: Services, was_asked: bool
) -> None:
    """It died with the item begun, before or after it asked: the next one asks, and one request counts."""
    async with running_intake(settings) as api:
        _, (workflow_id,) = await started(api, db, 1)
    made, _ = await store.create(db, wish("pause", [workflow_id]))
    await db.execute(update(OPERATIONS).values(state="running", lease_epoch=1))
    work = await asked.begin(db, made["id"], 1, 1.0)
    assert isinstance(work, Work)
    assert await asked.begin(db, made["id"], 1, 1.0) is Next.WAIT
    ask = asker(services)
    if was_asked:
        await ask(work.operation, work.item)
    async with deciding(db), operating(db, settings, ask=ask):
        await done(db, made["id"])
    (request,) = await asked_of(db, [workflow_id])
    assert request["event_id"] == asked_id(made["id"], workflow_id)
    (item,), _ = await store.list_items(db, made["id"])
    assert (item["state"], item["outcome"]) == ("succeeded", "paused")


_INTAKE = """
import asyncio, json, sys
from fulcrum.settings import Settings
from fulcrum.web.app import serve_intake

settings = Settings.model_validate(json.loads(sys.argv[1]))
asyncio.run(serve_intake(settings, asyncio.Event()))
"""


async def test_killed_process_asks_nobody_twice(settings: Settings, db: Database, services: Services) -> None:
    """kill -9 in the middle, twice: the next process ends it, and the counts add up at every look."""
    async with running_intake(settings) as api:
        tenant, ids = await started(api, db, 40)
    request = Request("workflow.pause", "ana", "because", workflows=WorkflowFilter(tenant=tenant), rate=30.0)
    made, _ = await store.create(db, request)

    async def beyond(count: int) -> bool:
        row = await store.get_operation(db, made["id"])
        assert row["total"] == row["succeeded"] + row["failed"] + row["skipped"] + row["pending"] == 40
        return bool(row["succeeded"] >= count)

    async with deciding(db):
        for count in (5, 15):
            given = settings.model_copy(update={"http_port": free_port()})
            text = json.dumps(given.model_dump(mode="json", exclude_none=True))
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _INTAKE, text, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                await eventually_async(
                    lambda count=count: beyond(count),
                    within=ENDS_WITHIN,
                    state=lambda: store.get_operation(db, made["id"]),
                )
            finally:
                process.kill()
                await process.wait()
        assert not await beyond(40)
        async with operating(db, settings, ask=asker(services)):
            await done(db, made["id"])
    row = await store.get_operation(db, made["id"])
    assert (row["succeeded"], row["failed"], row["skipped"]) == (40, 0, 0)
    found = await asked_of(db, ids)
    assert Counter(each["workflow_id"] for each in found) == dict.fromkeys(ids, 1)
