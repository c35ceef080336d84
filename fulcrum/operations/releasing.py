"""Who let a parked key of an outbox go on, when and why? It is an operation that is done at once."""

from __future__ import annotations

import base64
from uuid import uuid4

import structlog
from sqlalchemy import func, insert

from fulcrum.operations.relations import OPERATIONS
from fulcrum.operations.requests import Request
from fulcrum.operations.store import entry, get_operation
from fulcrum.store.audit import Act, enter
from fulcrum.store.database import Database, Row
from fulcrum.store.release import release

log = structlog.get_logger()


async def release_key(
    db: Database, outbox: str, key: bytes, actor: str, reason: str, audited: Act | None = None
) -> Row:
    """Let ``key`` of ``outbox`` go on; the operation. NotFound when it is not parked.

    Its items are rows of the outbox and no parked messages, so ``arguments`` lists them by their event ids.
    """
    request = Request("release", actor, reason)
    request.check()
    async with db.transaction() as tx:
        events = await release(tx, outbox, key)
        number, chosen = len(events), str(uuid4())
        selection = {"outbox": outbox, "key": base64.urlsafe_b64encode(key).decode()}
        values = {
            "id": chosen, "fingerprint": request.fingerprint(), "kind": "release", "state": "done",
            "actor": actor, "reason": reason, "selection": selection, "arguments": {"event_ids": events},
            "canary": 0, "matched": number, "excluded": {}, "total": number, "succeeded": number,
            "pending": 0, "history": [entry("create", actor, reason)],
            "started_at": func.clock_timestamp(), "finished_at": func.clock_timestamp(),
        }  # fmt: skip
        await tx.execute(insert(OPERATIONS).values(values))
        await enter(tx, audited, "done", after={"operation": chosen, "events": number})
        row = await get_operation(tx, chosen)
    log.info("outbox.key_released", outbox=outbox, rows=number, operation=chosen)
    return row
