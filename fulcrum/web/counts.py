"""How many workflows are there, of each status and each tenant?"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from fulcrum.readmodel.counts import count_runs
from fulcrum.readmodel.lists import STATUSES
from fulcrum.web.answers import ListFreshness, Shape
from fulcrum.web.bodies import LARGEST_PAGE, PAGE, Parameters, Tenant
from fulcrum.web.lists import in_time
from fulcrum.web.operation import Answer, Call
from fulcrum.web.services import Services


class CountsQuery(Parameters):
    """Whose workflows are counted."""

    tenant: Annotated[Tenant | None, Field(description="Only those of this tenant.")] = None
    after: Annotated[
        Tenant | None, Field(description="Tenants behind this one: the next_after of the page before.")
    ] = None
    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE, description="Tenants on a page.")] = PAGE


class StatusCounts(Shape):
    """So many workflows, and of each status so many; every status is there."""

    total: int
    by_status: dict[str, int]


class TenantCounts(StatusCounts):
    """The workflows of one tenant."""

    tenant: str


class CountsFreshness(ListFreshness):
    """When they were counted. ``epoch`` grows with each swap of generations."""

    epoch: int


class WorkflowCounts(StatusCounts):
    """How many workflows there are: all that are projected, counted one by one."""

    tenants: list[TenantCounts]
    """In the order of their names."""
    next_after: str | None
    """Give it as ``after`` to get the next tenants; null when there are no others."""
    freshness: CountsFreshness


async def count_workflows(services: Services, call: Call, *, query: CountsQuery) -> Answer:
    """Count the workflows of each status and tenant.

    The counts are exact and of one moment: those of the tenants add up to the whole. An intent whose workflow
    has not been projected yet may be missing for a moment.
    """
    as_of = datetime.now(UTC)
    with in_time(services.settings):
        counts = await count_runs(
            services.db,
            tenant=query.tenant,
            after=query.after,
            most=query.limit,
            within=services.settings.list_timeout,
        )
    tenants = [TenantCounts(tenant=tenant, **_of(each)) for tenant, each in counts.by_tenant.items()]
    freshness = CountsFreshness(source="database", as_of=as_of, epoch=counts.epoch)
    return Answer(
        WorkflowCounts(
            **_of(counts.by_status),
            tenants=tenants,
            next_after=tenants[-1].tenant if counts.more else None,
            freshness=freshness,
        )
    )


def _of(counted: Mapping[str, int]) -> dict[str, object]:
    by_status = {status: counted.get(status, 0) for status in sorted(STATUSES | counted.keys())}
    return {"total": sum(counted.values()), "by_status": by_status}
