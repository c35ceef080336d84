"""The orchestrator as tests of many workflows play it: by its own rules, fed with what intake has stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from intake import Api
from orchestrated import project, told
from sqlalchemy import func, select

from fulcrum.operations.requests import Request, WorkflowFilter
from fulcrum.saga.messages import Event
from fulcrum.store.database import Database, Row
from fulcrum.web.relations import intents, requests
from fulcrum.web.stream import intent_created, request_event

_LOOK_EVERY = 0.05


async def decided_upon(db: Database, *workflow_ids: str) -> None:
    """Bring the read model up to what the rules say to everything that was asked of the workflows."""
    for workflow_id in workflow_ids:
        intent = await db.one(select(intents).where(intents.c.workflow_id == workflow_id))
        assert intent is not None
        asked = select(requests).where(requests.c.workflow_id == workflow_id).order_by(requests.c.sequence)
        rows: list[Mapping[str, Any]] = list(await db.all(asked))
        events: list[Event] = [intent_created(intent), *(request_event(row) for row in rows)]
        await project(db, told(events))


async def started(api: Api, db: Database, count: int) -> tuple[str, list[str]]:
    """Workflows that wait for their payment, oldest first, and the tenant that has no others."""
    tenant = f"t{uuid4().hex[:8]}"
    ids = [await api.accept(tenant=tenant) for _ in range(count)]
    await decided_upon(db, *ids)
    return tenant, ids


async def asked_of(db: Database, workflow_ids: list[str]) -> list[Row]:
    """Every request that is stored about the workflows."""
    return await db.all(select(requests).where(requests.c.workflow_id.in_(workflow_ids)))


def wish(verb: str, ids: list[str], **changes: Any) -> Request:
    """An operation of a test that is its own runner."""
    return Request(f"workflow.{verb}", "ana", "because", ids=ids, workflows=WorkflowFilter(), **changes)


@asynccontextmanager
async def deciding(db: Database) -> AsyncIterator[None]:
    """Whatever is asked of any workflow is decided upon soon."""
    task = asyncio.create_task(_decide_for_ever(db))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _decide_for_ever(db: Database) -> None:
    known: dict[str, int] = {}
    counted = select(requests.c.workflow_id, func.count().label("n")).group_by(requests.c.workflow_id)
    while True:
        for row in await db.all(counted):
            if known.get(row["workflow_id"]) != row["n"]:
                await decided_upon(db, row["workflow_id"])
                known[row["workflow_id"]] = row["n"]
        await asyncio.sleep(_LOOK_EVERY)
