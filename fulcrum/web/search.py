"""What is this id, and which workflows does it belong to?"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

from sqlalchemy import bindparam, select

from fulcrum.readmodel import search as searching
from fulcrum.readmodel.milestones import late_by
from fulcrum.readmodel.search import Found
from fulcrum.web import answers
from fulcrum.web.answers import ListFreshness, SearchResult
from fulcrum.web.bodies import UUID_PATTERN, SearchQuery
from fulcrum.web.lists import in_time
from fulcrum.web.operation import Answer, Call
from fulcrum.web.relations import intents
from fulcrum.web.services import Services
from fulcrum.web.workflows import accepted_view

_MOST = 50
_IS_UUID = re.compile(UUID_PATTERN + r"(?<!\n)")
_INTENT = select(intents).where(intents.c.workflow_id.in_((bindparam("workflow_id"), bindparam("of_intent"))))


async def search(services: Services, call: Call, *, query: SearchQuery) -> Answer:
    """Find workflows by any id that belongs to them.

    By the id of a workflow, an intent, a command or an event, by a correlation id, a `customer_ref` or a SKU:
    the newest 50, each with what the text is to it. An accepted intent is found at once.
    """
    as_of = datetime.now(UTC)
    with in_time(services.settings):
        found = await searching.find(
            services.db, query.q, limit=_MOST + 1, within=services.settings.list_timeout
        )
    source = ListFreshness(source="database", as_of=as_of)
    if not found:
        found = await _accepted(services, query.q.lower())
        source = ListFreshness(source="intake" if found else "database", as_of=as_of)
    items = [
        answers.Found.model_validate(
            {
                "what": each.what,
                "version": each.version,
                "workflow": {**each.workflow, "late_by": late_by(each.workflow, as_of)},
            }
        )
        for each in found[:_MOST]
    ]
    return Answer(SearchResult(q=query.q, items=items, more=len(found) > _MOST, freshness=source))


async def _accepted(services: Services, text: str) -> list[Found]:
    """An intent that is accepted and not projected yet."""
    if not _IS_UUID.match(text):
        return []
    own = {"workflow_id": text, "of_intent": searching.workflow_of(text)}
    intent = await services.db.one(_INTENT, own)
    if intent is None:
        return []
    what = "workflow_id" if intent["workflow_id"] == text else "intent_id"
    return [Found(what, None, json.loads(accepted_view(intent).run))]
