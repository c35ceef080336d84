"""What does a workflow wait for, from all that this process can see of it at present?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, bindparam, func, select

from fulcrum.attention.reading import count_others, parked_of
from fulcrum.commands.policy import tries
from fulcrum.errors import Unavailable
from fulcrum.readmodel.awaited import awaited
from fulcrum.readmodel.projection import FINAL
from fulcrum.readmodel.view import View
from fulcrum.readmodel.why import Facts, Why, why
from fulcrum.store.database import Row
from fulcrum.store.statements import lasting
from fulcrum.web.relations import requests
from fulcrum.web.services import Services

#: Seconds that an answer waits for what is beside the view.
_WITHIN = 0.5
#: Who has waited for less is not compared with others.
_COMPARED_AFTER = timedelta(seconds=5)
_UNDECIDED = lasting(
    select(
        func.coalesce(requests.c.signal, requests.c.verb).label("verb"),
        requests.c.actor,
        requests.c.requested_at,
    )
    .where(
        requests.c.workflow_id == bindparam("workflow_id"),
        requests.c.sequence > bindparam("seen", type_=BigInteger),
    )
    .order_by(requests.c.sequence)
)


async def find_why(services: Services, view: View, attempts: Sequence[Mapping[str, Any]] | None) -> Why:
    """What the workflow of ``view`` waits for. Without Postgres as much as the view itself tells."""
    run = json.loads(view.run)
    entries = [json.loads(view.entries[version]) for version in sorted(view.entries)]
    now = datetime.now(UTC)
    parked: Sequence[Row] = ()
    undecided: Sequence[Row] = ()
    others = 0
    if view.status not in FINAL and services.checks()["postgres"]:
        try:
            async with asyncio.timeout(_WITHIN):
                parked = await parked_of(services.db, view.workflow_id)
                seen = {"workflow_id": view.workflow_id, "seen": _seen(entries)}
                undecided = await services.db.all(_UNDECIDED, seen)
                others = await _others(services, run, now)
        except (Unavailable, TimeoutError):
            pass
    return why(
        Facts(
            now=now,
            run=run,
            entries=entries,
            attempts=attempts or (),
            parked=parked,
            requests=undecided,
            others=others,
            tries=tries(services.settings.retry_limit),
        )
    )


def _seen(entries: Sequence[Mapping[str, Any]]) -> int:
    """How far the workflow has read intake's stream: the intent is 1, requests come behind it."""
    causes = (entry["cause"] for entry in entries)
    return max((cause["sequence"] for cause in causes if cause["stream"] == "intents"), default=1)


async def _others(services: Services, run: Mapping[str, Any], now: datetime) -> int:
    waiting = awaited(run)
    moved = datetime.fromisoformat(run["updated_at"])
    if waiting is None or now - moved < _COMPARED_AFTER:
        return 0
    return await count_others(services.db, waiting.commands[0], run["workflow_id"])
