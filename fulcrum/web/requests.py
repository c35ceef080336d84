"""Somebody wants something done to a workflow: the wish goes behind the intent on its stream.

The orchestrator decides, and meanwhile the workflow moves on. So what is told is the decision itself, if the
read model shows it soon enough.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import bindparam, select, update
from sqlalchemy.dialects.postgresql import insert

from fulcrum.readmodel import queries
from fulcrum.readmodel.queries import Answered
from fulcrum.store import outbox
from fulcrum.store.audit import enter
from fulcrum.web.operation import KEY_HEADER, Call
from fulcrum.web.problem import FieldError, Problem
from fulcrum.web.relations import INTAKE, intents, requests
from fulcrum.web.services import Services
from fulcrum.web.stream import CANCEL
from fulcrum.web.waiting import look_until

log = structlog.get_logger()

# The lock is held to the commit, and the outbox row is written with the commit: the numbers of one workflow
# leave in their order.
_LOCK = (
    select(intents.c.tenant, intents.c.last_sequence)
    .where(intents.c.workflow_id == bindparam("workflow_id"))
    .with_for_update()
)
_FIRST = select(requests).where(
    requests.c.workflow_id == bindparam("workflow_id"),
    requests.c.event_id == bindparam("event_id"),
)
_INSERT = insert(requests)
_COUNT = (
    update(intents)
    .where(intents.c.workflow_id == bindparam("workflow"))
    .values(last_sequence=bindparam("sequence"))
)


#: What the audit keeps of a request beside its verb and its reason.
_AUDITED = ("step", "seconds", "signal", "payload")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for and why; the fields are those of ``OperatorRequested``.

    ``signal`` and ``payload`` are the name and the payload of a ``SignalReceived``.
    """

    verb: str
    reason: str
    step: str | None = None
    result: str | None = None
    seconds: int | None = None
    signal: str | None = None
    payload: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """The request as it is kept; ``replayed`` when it came before."""

    event_id: str
    replayed: bool


async def tenant_of(services: Services, workflow_id: str) -> str:
    """Whose workflow it is; Problem when intake has no such intent."""
    intent = await services.db.one(
        select(intents.c.tenant).where(intents.c.workflow_id == bindparam("workflow_id")),
        {"workflow_id": workflow_id},
    )
    if intent is None:
        raise _unknown(workflow_id)
    return str(intent["tenant"])


async def store_request(services: Services, call: Call, wish: Wish, actor: str, event_id: str) -> Stored:
    """Store the request with its event, or recognise it by its id."""
    assert call.workflow_id is not None
    workflow = {"workflow_id": call.workflow_id}
    stream = services.stream
    async with services.db.transaction() as tx:
        intent = await tx.one(_LOCK, workflow)
        if intent is None:
            raise _unknown(call.workflow_id)
        asked: dict[str, Any] = {
            **workflow,
            **asdict(wish),
            "sequence": intent["last_sequence"] + 1,
            "event_id": event_id,
            "actor": actor,
            "correlation_id": call.correlation_id,
            "requested_at": datetime.now(UTC),
        }
        first = await tx.one(_FIRST, {**workflow, "event_id": event_id})
        if first is None:
            await tx.execute(_INSERT, asked)
            await tx.execute(_COUNT, {"workflow": call.workflow_id, "sequence": asked["sequence"]})
            await outbox.add(tx, INTAKE, [stream.requested(asked, call.traceparent)])
            told = {name: asked[name] for name in _AUDITED if asked[name] is not None}
            await enter(tx, call.act, "began", after={"request": event_id, **told})
    if first is None:
        log.info("workflow.requested", workflow_id=call.workflow_id, verb=wish.verb, actor=actor)
    elif (differing := _differing(first, wish)) is not None:
        raise _key_reused(wish, differing)
    return Stored(event_id, first is not None)


async def await_decision(services: Services, workflow_id: str, event_id: str) -> Answered | None:
    """What was decided upon the request, when that can be seen soon enough."""
    return await look_until(
        lambda: queries.find_decision(services.db, workflow_id, event_id), lambda found: found is not None
    )


def _differing(first: dict[str, Any], wish: Wish) -> str | None:
    """In which field the first request under this key was another."""
    return next((name for name, value in asdict(wish).items() if first[name] != value), None)


def _key_reused(wish: Wish, differing: str) -> Problem:
    what = "reason" if wish.verb == CANCEL else differing
    detail = f"This {KEY_HEADER} came before with another {what}; repeat that one, or use a new key."
    return Problem("key-reused", detail, [FieldError("header", KEY_HEADER, detail)])


def _unknown(workflow_id: str) -> Problem:
    return Problem("not-found", f"Intake has no intent of workflow {workflow_id}; check the id.")
