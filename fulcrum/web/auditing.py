"""Who is accountable for a request that changes something, and what is kept of one that was refused?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import structlog

from fulcrum.errors import FulcrumError, Retryable
from fulcrum.store.audit import Act, Outcome, enter
from fulcrum.web.problem import Problem
from fulcrum.web.services import Services

if TYPE_CHECKING:
    from fulcrum.web.operation import Call

log = structlog.get_logger()

#: Of one that does not say who asks.
UNNAMED = "unnamed"
_WITHIN = 2.0
_DETAIL_MOST = 500


def act_of(audited: str, call: Call, path: Mapping[str, str], arguments: Mapping[str, Any]) -> Act:
    """What the request does, as far as it says so itself; its target is what its path names."""
    body = arguments.get("body")
    return Act(
        actor=getattr(body, "actor", None) or arguments.get("actor") or UNNAMED,
        source="api",
        action=audited,
        target_kind=audited.partition(".")[0],
        target="/".join(path.values()),
        reason=getattr(body, "reason", None),
        request_id=call.correlation_id,
    )


@asynccontextmanager
async def refusals_entered(services: Services, call: Call) -> AsyncIterator[None]:
    """Enter what the handler refuses, or fails at, under the act of ``call``.

    One that may succeed later is not ended by that: what it began stays begun.
    """
    try:
        yield
    except Retryable:
        raise
    except Problem as error:
        if call.act is not None and not error.kind.retryable:
            # The key stands for another act, which this refusal does not end.
            other = error.code == "key-reused"
            act = replace(call.act, id=str(uuid4())) if other else call.act
            await end(services, act, "refused", detail=error.detail)
        raise
    except FulcrumError as error:
        await end(services, call.act, "refused", detail=str(error))
        raise
    except Exception as error:
        await end(services, call.act, "failed", detail=type(error).__name__)
        raise


async def end(
    services: Services,
    act: Act | None,
    outcome: Outcome,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    detail: str | None = None,
) -> None:
    """Enter how ``act`` ended. What was done stays done, so without Postgres it stays begun in the audit."""
    try:
        async with asyncio.timeout(_WITHIN):
            told = detail[:_DETAIL_MOST].replace("\x00", "") if detail else None
            await enter(services.db, act, outcome, before=before, after=after, detail=told)
    except (Retryable, TimeoutError) as error:
        log.warning("audit.not_ended", action=act.action if act else None, error=str(error))
