"""What became of an intent: one workflow, from cache, read model or intake."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import bindparam, select

from fulcrum.errors import Unavailable
from fulcrum.readmodel import queries
from fulcrum.readmodel.cache import READ_WITHIN
from fulcrum.readmodel.projection import FINAL, RunRow, timestamp, to_json
from fulcrum.readmodel.view import Freshness, View, answer
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.run import StepStatus
from fulcrum.web.answers import WaitingOn, WorkflowWhy
from fulcrum.web.bodies import WorkflowPath, WorkflowQuery
from fulcrum.web.operation import Answer, Call
from fulcrum.web.problem import RETRY_AFTER, Problem
from fulcrum.web.relations import intents
from fulcrum.web.services import Services
from fulcrum.web.waiting import look_until
from fulcrum.web.why import find_why

#: Seconds that an answer waits for the attempts.
_ATTEMPTS_WITHIN = 0.5
_INTENT = select(intents).where(intents.c.workflow_id == bindparam("workflow_id"))


async def show_workflow(
    services: Services, call: Call, *, path: WorkflowPath, query: WorkflowQuery
) -> Answer:
    """Show a workflow with its timeline.

    An accepted intent is found at once: until its first decision is projected, with version 0 and the
    status ``accepted``.
    """
    call.workflow_id = path.workflow_id
    view, freshness = await look_until(
        lambda: find_view(services, path.workflow_id, query.min_version),
        lambda found: found[0].version >= query.min_version,
    )
    if view.version < query.min_version:
        raise Problem(
            "not-yet",
            f"The workflow is at version {view.version}, not yet at min_version={query.min_version}.",
            headers={"Retry-After": str(RETRY_AFTER)},
        )
    attempts = await _attempts(services, path.workflow_id)
    waiting = await find_why(services, view, attempts)
    shown = None if view.status in FINAL else WaitingOn(**asdict(waiting)).model_dump_json()
    return Answer(answer(view, freshness, attempts, shown, datetime.now(UTC)))


async def explain_workflow(services: Services, call: Call, *, path: WorkflowPath) -> Answer:
    """Tell in one sentence what a workflow waits for, since when, and what happens next."""
    call.workflow_id = path.workflow_id
    view, _ = await find_view(services, path.workflow_id, 0)
    waiting = await find_why(services, view, await _attempts(services, path.workflow_id))
    told = {"workflow_id": view.workflow_id, "status": view.status, "version": view.version}
    return Answer(WorkflowWhy(**told, **asdict(waiting)))


async def find_view(services: Services, workflow_id: str, min_version: int) -> tuple[View, Freshness]:
    """The newest view that can be had now; Problem when there is none."""
    cached = await services.cache.get(workflow_id)
    if cached is not None and cached.view.version >= min_version:
        return cached.view, Freshness("cache", cached.as_of)
    now = datetime.now(UTC)
    view = await queries.find_run(services.db, workflow_id)
    if view is not None:
        if services.cache.usable:
            await services.cache.put_many([view], within=READ_WITHIN)
        return view, Freshness("database", now)
    intent = await services.db.one(_INTENT, {"workflow_id": workflow_id})
    if intent is None:
        raise Problem("not-found", f"There is no workflow {workflow_id}; check the id.")
    return accepted_view(intent), Freshness("intake", now)


async def _attempts(services: Services, workflow_id: str) -> list[dict[str, Any]] | None:
    """What the workers kept of its commands; None without Postgres, which a cached view can do without."""
    if not services.checks()["postgres"]:
        return None
    try:
        async with asyncio.timeout(_ATTEMPTS_WITHIN):
            return await queries.find_attempts(services.db, workflow_id)
    except (Unavailable, TimeoutError):
        return None


def accepted_view(intent: Mapping[str, Any]) -> View:
    """The view of an intent about which nothing is decided yet."""
    run = RunRow(
        workflow_id=intent["workflow_id"],
        intent_id=intent["intent_id"],
        tenant=intent["tenant"],
        customer_ref=intent["customer_ref"],
        definition=intent["definition"],
        status="accepted",
        version=0,
        reason=None,
        lines=intent["lines"],
        amount_minor=intent["amount_minor"],
        currency=intent["currency"],
        correlation_id=intent["correlation_id"],
        started_at=timestamp(intent["accepted_at"]),
        updated_at=timestamp(intent["accepted_at"]),
        finished_at=None,
        steps=pending_steps(intent["definition"]),
        step=None,
        promised_at=_moment(intent.get("promised_at")),
        holds=intent.get("holds") or [],
        intercept=None,
    )
    return View(intent["workflow_id"], 0, "accepted", to_json(run))


def _moment(promised: datetime | None) -> str | None:
    return None if promised is None else timestamp(promised)


def pending_steps(definition: str) -> list[dict[str, Any]]:
    """The steps of a workflow about which nothing is decided yet."""
    known = DEFINITIONS.get(definition)
    nothing = dict.fromkeys(("command_id", "deadline_at", "finished_at", "reason", "expires_at"))
    return [
        {"name": step.name, "status": str(StepStatus.PENDING), "attempt": 0, "late": 0, **nothing}
        for step in (known.steps if known else ())
    ]
