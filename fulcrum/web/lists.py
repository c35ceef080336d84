"""Which workflows are there: pages of a list, newest first, by filters that an index answers."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from fulcrum.readmodel import lists
from fulcrum.readmodel.lists import STATUSES, Filter, Position
from fulcrum.readmodel.milestones import late_by
from fulcrum.saga.run import Status
from fulcrum.settings import Settings
from fulcrum.store.database import StatementTimeout
from fulcrum.web.answers import ListFreshness, WorkflowPage
from fulcrum.web.bodies import WorkflowPath, WorkflowsQuery
from fulcrum.web.operation import Answer, Call
from fulcrum.web.problem import RETRY_AFTER, FieldError, Problem
from fulcrum.web.services import Services

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


async def list_workflows(services: Services, call: Call, *, query: WorkflowsQuery) -> Answer:
    """List workflows, newest first.

    Filters go together as an index can answer them: `status` (or `paused`, `attention`) with `tenant`,
    `definition` or `step`; `tenant` with `step`; `sku` by itself; the start times with each. An intent whose
    workflow has not been projected yet may be missing for a moment.
    """
    chosen = _filter(query, datetime.now(UTC))
    told = lists.fingerprint(query.model_dump(exclude={"cursor", "limit"}, exclude_none=True).items())
    after = _position(query.cursor, told) if query.cursor else None
    as_of = datetime.now(UTC)
    with in_time(services.settings):
        found = await lists.page_of_runs(
            services.db,
            chosen,
            after=after,
            limit=query.limit + 1,
            within=services.settings.list_timeout,
        )
    items = [{**run, "late_by": late_by(run, as_of)} for run in found[: query.limit]]
    more = len(found) > query.limit
    cursor = _cursor(items[-1], told) if more else None
    freshness = ListFreshness(source="database", as_of=as_of)
    return Answer(WorkflowPage(items=items, next_cursor=cursor, freshness=freshness))


@contextmanager
def in_time(settings: Settings) -> Iterator[None]:
    """Answer with a problem when Postgres takes longer than a list may."""
    try:
        yield
    except StatementTimeout as error:
        raise Problem(
            "too-slow",
            f"Postgres was not done within list_timeout={settings.list_timeout:g} s; ask for less, by "
            "started_after or one more filter, or have FULCRUM_LIST_TIMEOUT raised.",
            headers={"Retry-After": str(RETRY_AFTER)},
        ) from error


def _filter(query: WorkflowsQuery, now: datetime) -> Filter:
    """What is asked for; Problem when nothing can fulfil it or no index answers it."""
    chosen = Filter(
        statuses=_statuses(query),
        step=query.step,
        tenant=query.tenant,
        definition=query.definition,
        sku=query.sku,
        after=query.started_after,
        before=_before(query, now),
    )
    if not chosen.statuses:
        _refuse("status", "status, paused and attention exclude each other as given; leave one of them out.")
    if chosen.index is None:
        names = " and ".join(sorted(chosen.names))
        _refuse(sorted(chosen.names)[0], f"{names} together are in no index; {lists.remedy(chosen)}.")
    return chosen


def _statuses(query: WorkflowsQuery) -> frozenset[str]:
    statuses = STATUSES if query.status is None else frozenset({query.status})
    for flag, status in ((query.paused, Status.PAUSED), (query.attention, Status.NEEDS_ATTENTION)):
        if flag is not None:
            named = {str(status)}
            statuses = statuses & named if flag == "true" else statuses - named
    return statuses


def _before(query: WorkflowsQuery, now: datetime) -> datetime | None:
    moment = query.started_before
    if query.older_than is None:
        return moment
    age = timedelta(**{_UNITS[query.older_than[-1]]: int(query.older_than[:-1])})
    return now - age if moment is None else min(moment, now - age)


def _refuse(name: str, detail: str) -> NoReturn:
    raise Problem("invalid-parameter", detail, [FieldError("parameter", name, detail)])


def _cursor(last: Mapping[str, Any], told: str) -> str:
    """The place after ``last`` in the list ``told``, in a form that invites nobody to build one."""
    place = f"{last['started_at']} {last['workflow_id']} {told}"
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _position(cursor: str, told: str) -> Position:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        started_at, workflow_id, of_list = text.split(" ")
        position = Position(
            datetime.fromisoformat(started_at), WorkflowPath(workflow_id=workflow_id).workflow_id
        )
    except (binascii.Error, ValueError):
        _refuse("cursor", "cursor is no next_cursor of a page; leave it out to begin.")
    if of_list != told:
        _refuse("cursor", "cursor is of a list with other filters; give the same again, or no cursor.")
    return position
