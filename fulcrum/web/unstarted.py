"""Which accepted intents have no workflow yet? In the shape of a workflow about which nothing is decided."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import bindparam, select

from fulcrum.readmodel.relations import workflow_runs
from fulcrum.store.database import Database, Row
from fulcrum.store.relations import time_column
from fulcrum.web.relations import intents
from fulcrum.web.workflows import pending_steps

#: The oldest of them.
_MOST = 1000
_UNSTARTED = (
    select(intents.c.workflow_id, intents.c.definition, intents.c.accepted_at)
    .outerjoin(workflow_runs, workflow_runs.c.workflow_id == intents.c.workflow_id)
    .where(
        intents.c.check_at.is_not(None),
        intents.c.accepted_at < bindparam("before", type_=time_column()),
        workflow_runs.c.workflow_id.is_(None),
    )
    .order_by(intents.c.check_at)
    .limit(_MOST)
)


async def find_unstarted(db: Database, before: datetime) -> list[Row]:
    """Those that were accepted before then."""
    return [
        {
            "workflow_id": row["workflow_id"],
            "definition": row["definition"],
            "status": "accepted",
            "started_at": row["accepted_at"],
            "updated_at": row["accepted_at"],
            "finished_at": None,
            "steps": pending_steps(row["definition"]),
        }
        for row in await db.all(_UNSTARTED, {"before": before})
    ]
