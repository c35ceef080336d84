"""Messages that no worker could handle: seen, sent again, or given up."""

from __future__ import annotations

import base64

from fulcrum.commands import parking
from fulcrum.errors import Rejected
from fulcrum.store.database import Row
from fulcrum.web.answers import ParkedMessage, ParkedPage, ParkedSummary
from fulcrum.web.bodies import OperatorBody, ParkedPath, ParkedQuery
from fulcrum.web.operation import Answer, Call
from fulcrum.web.problem import FieldError, Problem
from fulcrum.web.services import Services


async def list_parked(services: Services, call: Call, *, query: ParkedQuery) -> Answer:
    """List parked messages, newest first."""
    try:
        rows, cursor = await parking.list_parked(services.db, query.status, query.cursor, query.limit)
    except Rejected as error:
        raise Problem(
            "invalid-parameter", str(error), [FieldError("parameter", "cursor", str(error))]
        ) from error
    return Answer(ParkedPage(items=[ParkedSummary(**row) for row in rows], next_cursor=cursor))


async def show_parked(services: Services, call: Call, *, path: ParkedPath) -> Answer:
    """Show a parked message with its bytes, headers and error."""
    return _whole(await parking.get_parked(services.db, path.parked_id), call)


async def replay_parked(services: Services, call: Call, *, path: ParkedPath, body: OperatorBody) -> Answer:
    """Send a parked message to its service again.

    It keeps its id, so that what it did already is not done twice; its attempts are counted anew.
    """
    publisher = await services.publisher()
    row = await parking.replay(services.db, publisher, path.parked_id, body.actor, body.reason)
    return _whole(row, call)


async def discard_parked(services: Services, call: Call, *, path: ParkedPath, body: OperatorBody) -> Answer:
    """Decide that a parked message is not needed. It stays in the list."""
    row = await parking.discard(services.db, path.parked_id, body.actor, body.reason)
    return _whole(row, call)


def _whole(row: Row, call: Call) -> Answer:
    call.workflow_id = row["workflow_id"]
    return Answer(ParkedMessage(**{**row, "body": base64.b64encode(row["body"]).decode()}))
